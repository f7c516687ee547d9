"""`EncryptedVectorStore`: the vector-store protocol over a server that can read none of it."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from xtrace_sdk import wire
from xtrace_sdk.errors import ConfigurationError, DecryptionError, DimensionMismatchError, IntegrityError
from xtrace_sdk.integrations.errors import NotFoundError
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.stores import checks
from xtrace_sdk.stores.base import Chunk, EmbeddedChunk, RetrievalResult, Vector
from xtrace_sdk.stores.embedded import EmbeddedServer
from xtrace_sdk.stores.sealed import Opened, Tokens, opened, packed, sealed_text
from xtrace_sdk.x_vec.crypto.bits import binarise
from xtrace_sdk.x_vec.crypto.key_provider import KeyProvider
from xtrace_sdk.x_vec.crypto.secrets import Secret
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.pins import Pins

_IDS_AT_ONCE: Final = 1000  # of a look-up, or of a filter
_CHUNKS_AT_ONCE: Final = 256
_ATTEMPTS: Final = 3
_CONTENT: Final = ("chunk_id", "chunk_content")

T = TypeVar("T")


class EncryptedVectorStore(Secret):
    """Search by the sign bits of vectors, encrypted, on a zero-knowledge server. A `VectorStore`.

    A vector's elements count as 1 where greater than 0; the score of a chunk at Hamming distance h is
    ``1 - 2 * h / dimensions``, the cosine of the sign vectors. Contents, ids, metadata and namespaces reach
    the server sealed or as keyed hashes; docs/stores.md says what it can still see.

    A namespace is a knowledge base of its own. To find or create one the integration needs an admin key, and
    its API key is then granted all rights on what was created; with `knowledge_bases` it does without, for
    the namespaces named there. The caller closes the integration.

    Args:
        execution_context: keys and dimension.
        integration: the server.
        knowledge_bases: namespace -> knowledge base id, as `knowledge_base` gives it.
        manifest: notice what the server leaves out or brings back (docs/security.md says where it can be).
        pins: what this device remembers of manifests; by default in the system's folder for such things.
    """

    def __init__(
        self,
        execution_context: ExecutionContext,
        integration: XTraceIntegration,
        *,
        knowledge_bases: Mapping[str, str] | None = None,
        manifest: bool = True,
        pins: Pins | None = None,
    ) -> None:
        self._context = execution_context
        self._dimensions = execution_context.embed_len()
        self._sign_bytes = -(-self._dimensions // 8)
        self._integration = integration
        self._loader = DataLoader(execution_context, integration, manifest=manifest, pins=pins)
        self._retriever = Retriever(execution_context, integration, manifest=manifest, pins=pins)
        self._tokens = Tokens(execution_context)
        self._known = {
            self._tokens.namespace(checks.checked_namespace(namespace)): kb_id
            for namespace, kb_id in (knowledge_bases or {}).items()
        }
        self._creating = asyncio.Lock()
        self._owned = AsyncExitStack()

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        dimensions: int,
        key_provider: KeyProvider,
        key_len: int = 1024,
    ) -> Self:
        """A store in the folder `path`, created if need be, with a server of its own; `close` ends it.

        The folder holds the context (its keys encrypted; without it and the provider's secret the data are
        lost), the server's database, and ``server.log``. `key_len` is that of a new context. One process at a
        time may have the folder open.

        Raises DecryptionError for a wrong secret or a damaged context, DimensionMismatchError when the folder
        was made for other dimensions, ConfigurationError when it is open elsewhere, incomplete, or the server
        does not start.
        """
        checks.checked_dimensions(dimensions)
        folder = Path(path)
        async with AsyncExitStack() as stack:
            stack.callback(os.close, _locked(folder))
            context = await asyncio.to_thread(_context, folder, dimensions, key_provider, key_len)
            stack.callback(context.close)
            server = await asyncio.to_thread(EmbeddedServer, folder / "server", folder / "server.log")
            stack.push_async_callback(asyncio.to_thread, server.stop)
            keys = server.credentials
            integration = XTraceIntegration(
                keys.org_id, keys.api_key, keys.admin_key, api_url=server.url, admin_api_url=server.url
            )
            stack.push_async_callback(integration.close)
            # Beside the data: a copy of the folder, put back, is as good as it was.
            store = cls(context, integration, pins=Pins(folder / "pins"))
            store._owned = stack.pop_all()
        return store

    async def upsert(self, embedded_chunks: Sequence[EmbeddedChunk], namespace: str) -> None:
        """As the protocol says. More than 500 chunks travel in several requests, each stored whole or not."""
        checks.checked_namespace(namespace)
        chunks, vectors = checks.checked_chunks(embedded_chunks, self._dimensions)
        if not chunks:
            return
        bits = binarise(vectors, self._dimensions, "embedded_chunks")
        zero = (vectors == 0).all(axis=1).tolist()
        documents: list[Any] = [
            {
                "chunk_content": sealed_text(one, namespace, packed(row), none),
                "meta_data": self._visible(one.chunk, namespace),
                "key": self._tokens.chunk(namespace, one.chunk.id),
            }
            for one, row, none in zip(chunks, bits, zero, strict=True)
        ]
        index, db = await self._loader.load_data_from_memory(documents, bits, disable_progress=True)
        await self._in(namespace, lambda kb_id: self._loader.dump_db(db, index, kb_id), create=True)

    def _visible(self, chunk: Chunk, namespace: str) -> dict[str, Any]:
        """What the server sees of a chunk beside ciphertexts: tokens, in no telling order."""
        facets = [self._tokens.field(namespace, name, value) for name, value in chunk.metadata.items()]
        return {wire.FACETS: sorted(facets)}

    async def search(
        self,
        query_vector: Vector,
        namespace: str,
        limit: int = 10,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the documented name
    ) -> list[RetrievalResult]:
        """As the protocol says. Contents, vector, distance and filter of every result are checked to fit.

        Raises DecryptionError when they do not: the server passed off one chunk for another. Without a filter
        also when chunks are missing, or of the past.
        """
        checks.checked_namespace(namespace)
        checks.checked_limit(limit)
        query = checks.checked_vector(query_vector, self._dimensions, "query_vector")
        wanted = checks.checked_filter(filter)
        if limit == 0 or not query.any():
            return []
        signs = packed(binarise(query[None], self._dimensions, "query_vector")[0])
        matches = checks.Matcher(wanted)

        async def found(kb_id: str) -> list[RetrievalResult]:
            asked, attempts = limit, 0
            while True:
                ids, distances = await self._nearest(query, asked, kb_id, self._filter(namespace, wanted))
                try:
                    chunks = await self._opened(ids, namespace, kb_id)
                except IntegrityError:  # replaced between search and fetch, or passed off for another
                    attempts += 1
                    if attempts == _ATTEMPTS:
                        raise
                    continue
                hits = [
                    (chunks[chunk_id], distance)
                    for chunk_id, distance in zip(ids, distances, strict=True)
                    if chunk_id in chunks
                ]
                if all(hit.distance(signs) == h and matches(hit.chunk.metadata) for hit, h in hits):
                    results = [
                        RetrievalResult(hit.chunk, 1 - 2 * h / self._dimensions)
                        for hit, h in hits
                        if not hit.zero
                    ]
                    if len(results) >= limit or len(ids) < asked:
                        return results[:limit]
                    asked *= 2  # zero vectors, or chunks deleted meanwhile, took places
                    continue
                # A chunk that was replaced between search and fetch looks the same, but not time after time.
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise DecryptionError("the server's answer is not what was stored and asked for")

        return await self._in(namespace, found) or []

    async def _nearest(
        self, query: Any, k: int, kb_id: str, meta_filter: dict[str, Any] | None
    ) -> tuple[list[int], list[int]]:
        ((ids, distances),) = await self._retriever.nn_search_many([query], k, kb_id, meta_filter)
        return ids, distances

    async def _opened(self, ids: Sequence[int], namespace: str, kb_id: str) -> dict[int, Opened]:
        fetched = await self._retriever.retrieve_and_decrypt(ids, kb_id, _CONTENT)
        return {one["chunk_id"]: opened(one["chunk_content"], namespace, self._sign_bytes) for one in fetched}

    async def delete(self, chunk_ids: Sequence[str], namespace: str) -> None:
        checks.checked_namespace(namespace)
        tokens = [self._tokens.chunk(namespace, one) for one in checks.checked_ids(chunk_ids)]

        async def delete(kb_id: str) -> None:
            for at in range(0, len(tokens), _IDS_AT_ONCE):
                await self._loader.delete_chunks_by_key(tokens[at : at + _IDS_AT_ONCE], kb_id)

        if tokens:
            await self._in(namespace, delete)

    async def delete_namespace(self, namespace: str) -> None:
        """As the protocol says. Needs the admin key."""
        name = self._tokens.namespace(checks.checked_namespace(namespace))
        pinned = self._known.pop(name, None)
        kb_ids = {kb["id"] for kb in await self._integration.list_kbs() if kb["name"] == name}
        for kb_id in kb_ids | ({pinned} if pinned else set()):
            with suppress(NotFoundError):
                await self._integration.delete_kb(kb_id)

    async def get_all_chunks(
        self,
        namespace: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the documented name
    ) -> AsyncIterator[Chunk]:
        """As the protocol says, fetched and decrypted a few hundred at a time; only their numbers are held.

        Chunks that were there at the beginning, less those that are deleted before their turn.
        """
        checks.checked_namespace(namespace)
        wanted = checks.checked_filter(filter)
        matches = checks.Matcher(wanted)

        async def listed(kb_id: str) -> tuple[str, list[int]]:
            condition = self._filter(namespace, wanted) or {}
            rows = await self._integration.meta_search(
                kb_id, condition, self._context.id, projection=["chunk_id"]
            )
            return kb_id, [row["chunk_id"] for row in rows]

        kb_id, ids = await self._in(namespace, listed) or ("", [])
        for at in range(0, len(ids), _CHUNKS_AT_ONCE):
            try:
                page = await self._opened(ids[at : at + _CHUNKS_AT_ONCE], namespace, kb_id)
            except NotFoundError:  # the whole namespace was deleted meanwhile
                return
            for hit in page.values():
                if matches(hit.chunk.metadata):  # else it was replaced meanwhile
                    yield hit.chunk

    async def knowledge_base(self, namespace: str) -> str:
        """Id of a namespace's knowledge base, which is created if there is none. Needs the admin key.

        For granting other API keys rights on it, and for `knowledge_bases`.
        """
        return await self._find(checks.checked_namespace(namespace), create=True) or ""

    async def close(self) -> None:
        """End the server that `open` started and wipe the keys that it read. Without one, nothing."""
        await self._owned.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dimensions={self._dimensions}, {self._integration!r})"

    def _filter(self, namespace: str, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        if not wanted:
            return None
        tokens = [self._tokens.field(namespace, name, value) for name, value in wanted.items()]
        return {wire.FACETS: {"$all": sorted(tokens)}}

    async def _in(
        self, namespace: str, call: Callable[[str], Awaitable[T]], *, create: bool = False
    ) -> T | None:
        """`call` with the namespace's knowledge base; None, and no call, when there is none."""
        again = True
        while True:
            kb_id = await self._find(namespace, create=create)
            if kb_id is None:
                return None
            try:
                await self._integration.register_public_context(self._context.public_part(), self._context.id)
                return await call(kb_id)
            except NotFoundError:
                # Somebody else may have deleted the namespace, and perhaps made it again, since we looked.
                if not (again and self._integration.admin_key):
                    raise
                self._known.pop(self._tokens.namespace(namespace), None)
                again = False

    async def _find(self, namespace: str, *, create: bool) -> str | None:
        name = self._tokens.namespace(namespace)
        if name not in self._known:
            async with self._creating:
                if name not in self._known:
                    await self._look()
                if create and name not in self._known:
                    await self._create(name)
        return self._known.get(name)

    async def _look(self) -> None:
        """Learn the ids of all namespaces. Of two with one name the older counts."""
        kbs = await self._integration.list_kbs()
        for kb in sorted(kbs, key=lambda kb: (kb["createdAt"], kb["id"])):
            self._known.setdefault(kb["name"], kb["id"])

    async def _create(self, name: str) -> None:
        created: str = (await self._integration.create_kb(name))["id"]
        # Its hash is how the server knows an API key.
        key_hash = hashlib.sha256(self._integration.api_key.encode()).hexdigest()
        await self._integration.set_key_permission(key_hash, created, wire.DELETE)
        await self._look()
        if self._known.setdefault(name, created) != created:  # another process was faster
            await self._integration.delete_kb(created)


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock until it is closed. Raises ConfigurationError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"path: {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise ConfigurationError(f"path: {folder} is open in another process or store") from None
    return lock


def _context(folder: Path, dimensions: int, key_provider: KeyProvider, key_len: int) -> ExecutionContext:
    file = folder / "context.json"
    if not file.exists():
        if (folder / "server").exists():
            raise ConfigurationError(f"path: {file} is missing; without it the data here cannot be read")
        return ExecutionContext.create(
            key_provider=key_provider,
            embedding_length=dimensions,
            key_len=key_len,
            path=file,
            encoding="authenticated",
        )
    context = ExecutionContext.load_from_disk(path=file, key_provider=key_provider)
    if context.embed_len() != dimensions:
        raise DimensionMismatchError(
            f"dimensions: {folder} was made for {context.embed_len()}, not for {dimensions}"
        )
    return context
