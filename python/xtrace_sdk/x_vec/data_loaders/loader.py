"""Documents and their vectors become encrypted chunks on a server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from xtrace_sdk.arguments import listed
from xtrace_sdk.errors import InputError
from xtrace_sdk.x_vec.crypto.authenticated import write_records
from xtrace_sdk.x_vec.crypto.bits import binarise
from xtrace_sdk.x_vec.crypto.core_client import positive
from xtrace_sdk.x_vec.manifests import Manifests, ManifestSource
from xtrace_sdk.x_vec.utils.background import gather, in_thread
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.xtrace_types import (
    Chunk,
    DocumentCollection,
    EncryptedChunk,
    EncryptedDB,
    EncryptedIndex,
)

if TYPE_CHECKING:
    from xtrace_sdk._core import Progress
    from xtrace_sdk.integrations.uploads import UploadReport
    from xtrace_sdk.manifests import Keeper
    from xtrace_sdk.x_vec.crypto.authenticated import RecordKeys
    from xtrace_sdk.x_vec.crypto.core_client import CorePaillierClient
    from xtrace_sdk.x_vec.utils.execution_context_writer import WriteOnlyClient, WriterContext
    from xtrace_sdk.x_vec.utils.pins import Pins

_EMBEDDINGS_AT_ONCE: Final = 8


class ChunkStore(ManifestSource, Protocol):
    """Where chunks go: the calls of ``XTraceIntegration`` that this module makes."""

    async def register_public_context(self, data: Mapping[str, Any], context_id: str) -> None: ...
    async def store_db(
        self,
        db: Any,
        index: Any,
        kb_id: str,
        context_id: str,
        concurrent: bool = False,
        *,
        report: UploadReport | None = None,
        progress: Progress | None = None,
        keeper: Keeper | None = None,
    ) -> list[Any]: ...
    async def update_chunks(
        self,
        index_updates: Any,
        chunk_updates: Any,
        context_id: str,
        kb_id: str,
        *,
        keeper: Keeper | None = None,
    ) -> list[Any]: ...
    async def delete_chunks(
        self, chunk_ids: Sequence[int], kb_id: str, *, keeper: Keeper | None = None
    ) -> dict[str, Any]: ...
    async def delete_chunks_by_meta(
        self,
        kb_id: str,
        context_id: str,
        meta_filter: Any,
        dry_run: bool = False,
        *,
        keeper: Keeper | None = None,
    ) -> dict[str, Any]: ...
    def keep(self, context_id: str, keeper: Keeper) -> None: ...


class DataLoader:
    """Encrypts documents and stores them in a knowledge base, for the owner of a context or for a writer.

    Chunks with a ``chunk_id`` or a ``key`` replace what was stored under it; others are new. On the first
    upload the public part of the context, never the secret key, is registered with the server.

    With the authenticated encoding every change also keeps the manifest of the knowledge base right, by which
    searches notice rows that are missing, foreign or old (docs/security.md).

    Args:
        execution_context: what to encrypt with.
        integration: the server.
        manifest: keep manifests. Without them, or with a writer's context, which cannot, a knowledge base may
            have any number of writers, and nobody notices what the server leaves out.
        pins: what this device remembers of manifests; by default in the system's folder for such things.
        leaving: a context that the knowledge base is being migrated from: its manifests are kept, too, when
            chunks move over.
    """

    def __init__(
        self,
        execution_context: ExecutionContext | WriterContext,
        integration: ChunkStore,
        *,
        manifest: bool = True,
        pins: Pins | None = None,
        leaving: ExecutionContext | None = None,
    ) -> None:
        self.execution_context = execution_context
        self.integration = integration
        self._manifests: Manifests | None = None
        if manifest and isinstance(execution_context, ExecutionContext):
            self._manifests = Manifests.of(execution_context, integration, pins, leaving)

    async def load_data_from_memory(
        self,
        chunks: DocumentCollection,
        vectors: Sequence[Any] | NDArray[Any] | Awaitable[Any],
        disable_progress: bool = False,
    ) -> tuple[EncryptedIndex, EncryptedDB]:
        """Encrypt documents with their vectors; nothing is sent.

        Args:
            chunks: dicts with ``chunk_content``; ``meta_data``, ``name``, ``chunk_id``, ``key`` may follow.
            vectors: one per chunk: sequences of numbers or awaitables of them, or one array (N, dimension).
                An element counts as 1 when it is greater than 0.
            disable_progress: show no progress bar.

        Returns the encrypted vectors and the encrypted chunks. Raises InputError naming the chunk or vector,
        DimensionMismatchError for a vector of another dimension than the context's.
        """
        chunks = _counted(chunks, "chunks")
        resolved = await _resolve(vectors, len(chunks))
        plain = _checked(chunks)
        context = self.execution_context

        def encrypt(progress: Progress) -> tuple[EncryptedIndex, EncryptedDB]:
            bits = binarise(resolved, context.embed_len(), "vectors")
            if isinstance(context, ExecutionContext) and context.records is None:
                rows = context.homomorphic.encrypt_to_array(bits, progress=progress)
                return EncryptedIndex(rows), [
                    self._sealed(chunk, context.aes.encrypt(chunk["chunk_content"])) for chunk in plain
                ]
            keys = cast("RecordKeys", context.records)
            client = cast("CorePaillierClient | WriteOnlyClient", context.homomorphic)
            epoch = keys.epoch
            rows, nonces = client.encrypt_records(bits, epoch=epoch, progress=progress)
            db = []
            for chunk, record in zip(plain, write_records(nonces, epoch, keys.writer), strict=True):
                sealed = self._sealed(chunk, keys.seal(chunk["chunk_content"], record))
                sealed["record"] = record
                db.append(sealed)
            return EncryptedIndex(rows), db

        return await in_thread(encrypt, "Encrypting", len(plain), quiet=disable_progress)

    async def load_data_from_memory_batch(
        self,
        chunks: DocumentCollection,
        vectors: Sequence[Any] | NDArray[Any] | Awaitable[Any],
        disable_progress: bool = False,
    ) -> tuple[EncryptedIndex, EncryptedDB]:
        """The same as `load_data_from_memory`, which always works on whole batches."""
        return await self.load_data_from_memory(chunks, vectors, disable_progress)

    async def dump_db(
        self,
        db: EncryptedDB,
        index: EncryptedIndex | Sequence[Sequence[Any]],
        kb_id: str,
        concurrent: bool = False,
        *,
        report: UploadReport | None = None,
        progress: Progress | None = None,
    ) -> list[Any]:
        """Store what `load_data_from_memory` returned; the server's answers, one per batch.

        A chunk with a ``chunk_id`` replaces the one that has it, a chunk with a ``key`` the one with that key
        if there is one; all others are new. `concurrent` sends several batches at a time, unless a manifest
        is kept, where each change follows from the one before. `report` records which new chunks were stored:
        given again with the same data after a failure, it continues there.
        `progress(done, total)` counts chunks.
        """
        answers, _ids = await self._store(db, index, kb_id, concurrent, report, progress)
        return answers

    async def ingest(
        self,
        chunks: Iterable[Chunk] | AsyncIterable[Chunk],
        embed: Callable[[list[str]], Awaitable[Any]],
        kb_id: str,
        *,
        batch_size: int = 1000,
        total: int | None = None,
        disable_progress: bool = False,
    ) -> list[int]:
        """Embed, encrypt and store any number of chunks, holding at most three batches in memory.

        While one batch is uploaded, the next one is embedded and encrypted.

        Args:
            chunks: as for `load_data_from_memory`; a blocking iterator runs in a worker thread.
            embed: contents -> vectors (N, dimension), for example ``embedding.bin_embed_many``.
            kb_id: the knowledge base.
            batch_size: chunks embedded and encrypted at a time.
            total: number of chunks, for the progress bar.
            disable_progress: show no progress bar.

        Returns the ids, in the order of `chunks`. After a failure (whose note says how many chunks were
        stored) chunks with a ``key`` can simply be ingested again.
        """
        ids: list[int] = []
        read = 0
        uploading: asyncio.Task[None] | None = None
        with tqdm(total=total, desc="Storing", unit=" chunks", disable=disable_progress) as bar:

            async def upload(index: EncryptedIndex, db: EncryptedDB) -> None:
                ids.extend((await self._store(db, index, kb_id))[1])
                bar.update(len(db))

            try:
                async with aclosing(_batches(chunks, positive(batch_size, "batch_size"))) as batches:
                    async for batch in batches:
                        contents = [chunk["chunk_content"] for chunk in _checked(batch, read)]
                        vectors = await embed(contents)
                        index, db = await self.load_data_from_memory(batch, vectors, disable_progress=True)
                        read += len(batch)
                        if uploading is not None:
                            await uploading
                        uploading = asyncio.create_task(upload(index, db))
                if uploading is not None:
                    await uploading
            except BaseException as error:
                if uploading is not None:
                    if not isinstance(error, Exception):
                        uploading.cancel()  # the caller was cancelled and does not want to wait
                    await asyncio.gather(uploading, return_exceptions=True)
                error.add_note(f"{len(ids)} chunks were stored")
                raise
        return ids

    async def upsert_one(self, chunk: Chunk, vector: Any, kb_id: str) -> list[Any]:
        """Store one chunk, replacing the one with the same ``chunk_id`` or ``key`` if it carries one."""
        if not isinstance(chunk, Mapping):
            raise InputError(f"chunk: expected a dict, got {type(chunk).__name__}")
        index, db = await self.load_data_from_memory([chunk], [vector], disable_progress=True)
        return await self.dump_db(db, index, kb_id)

    async def update_chunks(
        self, chunk_updates: Sequence[Chunk], vectors: Sequence[Any] | NDArray[Any], kb_id: str
    ) -> list[Any]:
        """Replace contents, vectors and metadata of the chunks that the items' ``chunk_id`` name."""
        for number, chunk in enumerate(_checked(_counted(chunk_updates, "chunk_updates"))):
            if chunk.get("chunk_id") is None:
                raise InputError(f"chunk_updates[{number}]: chunk_id is missing")
        index, db = await self.load_data_from_memory(chunk_updates, vectors, disable_progress=True)
        return await self.dump_db(db, index, kb_id)

    async def delete_chunks(self, chunk_ids: Sequence[int], kb_id: str) -> dict[str, Any]:
        """Delete chunks by their ids; absent ids are ignored. Has ``deleted_count``."""
        return await self.integration.delete_chunks(chunk_ids, kb_id, keeper=self._manifests)

    async def delete_chunks_by_key(self, keys: Sequence[str], kb_id: str) -> dict[str, Any]:
        """Delete the chunks with these keys; absent ones are ignored. Has ``deleted_count``."""
        context_id = self.execution_context.id
        if self._manifests is None:
            condition = {"key": {"$in": listed(keys, "keys")}}
            return await self.integration.delete_chunks_by_meta(kb_id, context_id, condition)
        found = await self.integration.look_up_manifest(kb_id, context_id, keys=keys)
        return await self.delete_chunks([row.chunk_id for row in found.rows], kb_id)

    async def delete_chunks_by_meta(self, meta_filter: Mapping[str, Any] | str, kb_id: str) -> dict[str, Any]:
        """Delete the chunks whose metadata matches, which is the server's word. Has ``deleted_count``."""
        return await self.integration.delete_chunks_by_meta(
            kb_id, self.execution_context.id, meta_filter, keeper=self._manifests
        )

    async def _store(
        self,
        db: EncryptedDB,
        index: EncryptedIndex | Sequence[Sequence[Any]],
        kb_id: str,
        concurrent: bool = False,
        report: UploadReport | None = None,
        progress: Progress | None = None,
    ) -> tuple[list[Any], list[int]]:
        """Update the chunks with an id and insert the others -> (answers, ids in the order of `db`)."""
        db = _counted(db, "db")
        if not isinstance(index, EncryptedIndex):
            index = listed(index, "index")
        if len(db) != len(index):
            raise InputError(f"index: {len(index)} encrypted vectors for {len(db)} chunks")
        context = self.execution_context
        # The server multiplies modulo n**2, so it needs the public key. The integration asks it only once.
        await self.integration.register_public_context(context.public_part(), context.id)
        if self._manifests is not None:
            self.integration.keep(context.id, self._manifests)
        known = [number for number, chunk in enumerate(db) if chunk.get("chunk_id") is not None]
        if not known:
            answers = await self.integration.store_db(
                db,
                index,
                kb_id,
                context.id,
                concurrent,
                report=report,
                progress=progress,
                keeper=self._manifests,
            )
            return answers, _inserted(answers)
        new = sorted(set(range(len(db))).difference(known))
        answers = await self.integration.update_chunks(
            _pick(index, known), [db[number] for number in known], context.id, kb_id, keeper=self._manifests
        )
        ids = {number: db[number]["chunk_id"] for number in known}

        def both(done: int, _total: int) -> None:
            if progress is not None:
                progress(len(known) + done, len(db))

        both(0, 0)
        if new:
            inserted = await self.integration.store_db(
                [db[number] for number in new],
                _pick(index, new),
                kb_id,
                context.id,
                concurrent,
                report=report,
                progress=both,
                keeper=self._manifests,
            )
            ids |= dict(zip(new, _inserted(inserted), strict=False))
            answers += inserted
        return answers, [ids[number] for number in sorted(ids)]

    @staticmethod
    def _sealed(chunk: Chunk, content: bytes) -> EncryptedChunk:
        sealed: EncryptedChunk = {
            "chunk_content": content,
            "meta_data": chunk.get("meta_data", {}),
            "name": chunk.get("name", ""),
        }
        if "chunk_id" in chunk:
            sealed["chunk_id"] = chunk["chunk_id"]
        if "key" in chunk:
            sealed["key"] = chunk["key"]
        return sealed


def _inserted(answers: Sequence[Mapping[str, Any]]) -> list[int]:
    return [chunk_id for answer in answers for chunk_id in answer.get("chunk_ids", [])]


def _pick(
    index: EncryptedIndex | Sequence[Sequence[Any]], numbers: list[int]
) -> EncryptedIndex | list[Sequence[Any]]:
    if isinstance(index, EncryptedIndex):
        return EncryptedIndex(index.rows[numbers])
    return [index[number] for number in numbers]


async def _batches(chunks: Iterable[Chunk] | AsyncIterable[Chunk], size: int) -> AsyncGenerator[list[Chunk]]:
    if isinstance(chunks, AsyncIterable):
        batch: list[Chunk] = []
        async for chunk in chunks:
            batch.append(chunk)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch
        return
    if not isinstance(chunks, Iterable):
        raise InputError(f"chunks: expected an iterable, got {type(chunks).__name__}")
    source = iter(chunks)
    while batch := await asyncio.to_thread(lambda: list(islice(source, size))):
        yield batch


def _checked(chunks: Sequence[Chunk], first: int = 0) -> list[Chunk]:
    """The chunks, if each of them is one; `first` is the number of the first in messages."""
    for number, chunk in enumerate(chunks, first):
        if not isinstance(chunk, Mapping):
            raise InputError(f"chunks[{number}]: expected a dict, got {type(chunk).__name__}")
        for name, kind in (("chunk_content", str), ("meta_data", Mapping), ("name", str), ("key", str)):
            if (name in chunk or name == "chunk_content") and not isinstance(chunk.get(name), kind):
                raise InputError(f"chunks[{number}].{name}: expected {kind.__name__}")
    return list(chunks)


def _counted(chunks: Any, name: str) -> list[Any]:
    """The chunks as a list of dicts, whatever is in them."""
    for number, chunk in enumerate(counted := listed(chunks, name)):
        if not isinstance(chunk, Mapping):
            raise InputError(f"{name}[{number}]: expected a dict, got {type(chunk).__name__}")
    return counted


async def _resolve(vectors: Any, count: int) -> Any:
    """The vectors themselves: a sequence or array of `count` of them, awaited where need be."""
    if inspect.isawaitable(vectors):
        vectors = await vectors
    if not isinstance(vectors, np.ndarray):
        vectors = listed(vectors, "vectors")
    try:
        if len(vectors) != count:
            raise InputError(f"vectors: got {len(vectors)} for {count} chunks")
        if isinstance(vectors, list) and any(map(inspect.isawaitable, vectors)):
            return await _await_all(vectors)
    finally:
        _close(vectors)
    return vectors


async def _await_all(vectors: list[Any]) -> list[Any]:
    turn = asyncio.Semaphore(_EMBEDDINGS_AT_ONCE)

    async def one(vector: Any) -> Any:
        async with turn:
            return await vector if inspect.isawaitable(vector) else vector

    return await gather(one(vector) for vector in vectors)


def _close(vectors: Iterable[Any]) -> None:
    """Close coroutines that were never awaited; Python would warn of each."""
    if not isinstance(vectors, np.ndarray):
        for vector in vectors:
            if inspect.iscoroutine(vector):
                vector.close()
