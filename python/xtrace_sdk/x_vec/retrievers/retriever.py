"""A query becomes a ranked list of chunks, without the server learning either."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.arguments import listed
from xtrace_sdk.errors import ApiError, InputError, IntegrityError
from xtrace_sdk.records import Table, joined
from xtrace_sdk.wire import RECORD, Distances
from xtrace_sdk.x_vec.crypto.authenticated import RecordQuery, altered, has_duplicates, read_records
from xtrace_sdk.x_vec.crypto.bits import binarise
from xtrace_sdk.x_vec.crypto.core_client import positive
from xtrace_sdk.x_vec.manifests import Manifests, ManifestSource
from xtrace_sdk.x_vec.utils.background import gather, in_thread
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.stored_chunks import retired

if TYPE_CHECKING:
    from xtrace_sdk._core import Progress
    from xtrace_sdk.x_vec.crypto.core_client import CorePaillierClient
    from xtrace_sdk.x_vec.utils.pins import Pins

Query = RecordQuery | NDArray[np.uint8]

_SEARCHES_AT_ONCE: Final = 2
_ATTEMPTS: Final = 5
_NOT_FOUND: Final = 404
_PROJECTION: Final = ("chunk_id", "chunk_content", "tag1", "tag2", "tag3", "tag4", "tag5", "facets")


class ChunkSource(ManifestSource, Protocol):
    """What is searched: the calls of ``XTraceIntegration`` that this module makes."""

    async def register_public_context(self, data: Mapping[str, Any], context_id: str) -> None: ...
    def compute_hamming_distances_blocks(
        self,
        query: NDArray[np.uint8],
        context_id: str,
        kb_id: str,
        meta_filter: Any = None,
        range: Any = None,  # noqa: A002  (the documented name)
        *,
        manifests: list[str | None] | None = None,
    ) -> AsyncGenerator[Distances]: ...
    async def get_chunk_by_id(
        self, chunk_ids: Sequence[int], kb_id: str, projection: Sequence[str] | None = None
    ) -> list[dict[str, Any]]: ...


class RankedId(int):
    """A chunk id that a search found, with the record of the vector that ranked there."""

    record: bytes

    def __new__(cls, chunk_id: int, record: bytes) -> Self:
        made = super().__new__(cls, chunk_id)
        made.record = record
        return made

    def __getnewargs__(self) -> tuple[int, bytes]:  # type: ignore[override]
        return int(self), self.record


class Retriever:
    """Searches a knowledge base by encrypted distance and decrypts what was found.

    Distances are decoded while the server's answer still arrives. A server that does not know the context yet
    is told its public part, as by `DataLoader`.

    With the authenticated encoding a search of the whole knowledge base is held against its manifest:
    missing, foreign and old rows are noticed (docs/security.md). A search with a filter cannot be.

    Args:
        execution_context: what to decrypt with.
        integration: the server.
        parallel: accepted for compatibility; decoding always uses all cores.
        manifest: insist on manifests. Without it, for knowledge bases of many writers, what the server leaves
            out goes unnoticed.
        pins: what this device remembers of manifests; by default in the system's folder for such things.
    """

    def __init__(
        self,
        execution_context: ExecutionContext,
        integration: ChunkSource,
        parallel: bool = False,
        *,
        manifest: bool = True,
        pins: Pins | None = None,
    ) -> None:
        self.execution_context = execution_context
        self.integration = integration
        self.parallel = parallel
        self._manifests = Manifests.of(execution_context, integration, pins) if manifest else None

    async def nn_search_for_ids(
        self,
        query_vector: Any,
        k: int = 3,
        kb_id: str = "",
        meta_filter: Mapping[str, Any] | str | None = None,
        range_filter: Sequence[int] | None = None,
        include_scores: bool = False,
    ) -> list[int] | tuple[list[int], list[int]]:
        """Ids of the `k` nearest chunks, nearest first; chunks at the same distance by ascending id.

        Args:
            query_vector: numbers, or an awaitable of them; an element counts as 1 when greater than 0.
            k: how many, at least 1.
            kb_id: the knowledge base.
            meta_filter: only chunks whose metadata match.
            range_filter: only chunks with ``range_filter[0] <= chunk_id <= range_filter[1]``.
            include_scores: return (ids, distances), both of the same length.

        Raises InputError, DimensionMismatchError; IntegrityError if the server's answer was altered, or,
        without filters, is not complete and the latest; with the plain encoding CiphertextError if it is not
        even well formed.
        """
        if inspect.isawaitable(query_vector):
            query_vector = await query_vector
        (found,) = await self._search("query_vector", [query_vector], k, kb_id, meta_filter, range_filter)
        return found if include_scores else found[0]

    async def nn_search_many(
        self,
        query_vectors: Sequence[Any] | NDArray[Any] | Awaitable[Any],
        k: int = 3,
        kb_id: str = "",
        meta_filter: Mapping[str, Any] | str | None = None,
        range_filter: Sequence[int] | None = None,
    ) -> list[tuple[list[int], list[int]]]:
        """(ids, distances) for each of several queries, as `nn_search_for_ids` gives them for one.

        Queries are encrypted together and searched two at a time, so that one answer is decoded while the
        next one arrives.
        """
        if inspect.isawaitable(query_vectors):
            query_vectors = await query_vectors
        return await self._search("query_vectors", query_vectors, k, kb_id, meta_filter, range_filter)

    async def retrieve_and_decrypt(
        self, chunk_ids: Sequence[int], kb_id: str, projection: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The chunks with these ids, decrypted: ``chunk_id``, ``chunk_content`` and ``meta_data`` of each.

        In the order of `chunk_ids`; ids that are not in the knowledge base are left out. With a `projection`
        that leaves it out, there is no ``chunk_content``. Ids as a search gave them (`RankedId`) open the
        content that belongs to the vector that was found, and no other.

        Raises DecryptionError (under the authenticated encoding IntegrityError, also when a chunk was
        replaced since it was found), InputError for an id that is no integer.
        """
        fields = [] if projection is None else listed(projection, "projection")
        wanted = listed(chunk_ids, "chunk_ids")
        if not wanted:
            return []
        fields = fields or list(_PROJECTION)
        if self.execution_context.records is not None:
            fields.append(RECORD)
        ranked = {int(one): one.record for one in wanted if isinstance(one, RankedId)}
        answer = await self.integration.get_chunk_by_id(wanted, kb_id, fields)
        chunks = await in_thread(
            lambda _: {
                chunk["chunk_id"]: self._opened(chunk, ranked.get(chunk["chunk_id"])) for chunk in answer
            },
            "Decrypting",
            len(answer),
        )
        return [chunks[chunk_id] for chunk_id in wanted if chunk_id in chunks]

    @staticmethod
    def format_context(contexts: Sequence[Any]) -> str:
        """Numbered lines, from 0: the contents of `retrieve_and_decrypt`'s chunks, or texts."""
        texts = (
            item["chunk_content"] if isinstance(item, Mapping) else item
            for item in listed(contexts, "contexts")
        )
        return "".join(f"{number}. {text}\n" for number, text in enumerate(texts))

    async def _search(
        self,
        name: str,
        vectors: Any,
        k: int,
        kb_id: str,
        meta_filter: Mapping[str, Any] | str | None,
        range_filter: Sequence[int] | None,
    ) -> list[tuple[list[int], list[int]]]:
        positive(k, "k")
        if not isinstance(kb_id, str) or not kb_id:
            raise InputError("kb_id: expected the id of a knowledge base")
        context = self.execution_context
        bits = binarise(vectors, context.embed_len(), name)
        queries = await in_thread(lambda _: self._encrypted(bits), "Encrypting", len(bits))
        turn = asyncio.Semaphore(_SEARCHES_AT_ONCE)

        async def search(query: Query) -> tuple[list[int], list[int]]:
            async with turn:
                try:
                    found = await self._distances(query, kb_id, meta_filter, range_filter)
                except ApiError as error:
                    if error.status != _NOT_FOUND:
                        raise
                    # The context may be what the server does not know; it is asked about it once at most.
                    await self.integration.register_public_context(context.public_part(), context.id)
                    found = await self._distances(query, kb_id, meta_filter, range_filter)
            ids, distances, table = found
            best = nearest(ids, distances, k)
            if context.records is None:
                return [int(one) for one in ids[best]], [int(one) for one in distances[best]]
            ranked = [RankedId(int(ids[at]), table[at, 1 : 1 + table[at, 0]].tobytes()) for at in best]
            return list(ranked), [int(one) for one in distances[best]]

        return await gather(search(query) for query in queries)

    def _encrypted(self, bits: NDArray[np.uint8]) -> list[Query]:
        client = self.execution_context.homomorphic
        if self.execution_context.records is None:
            return list(client.encrypt_to_array(bits))
        return [cast("CorePaillierClient", client).encrypt_query(one) for one in bits]

    async def _distances(
        self, query: Query, kb_id: str, meta_filter: Any, range_filter: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], Table]:
        """Ids (N,), decoded distances (N,) and records (N, W) of all candidates that can be read."""
        whole = range_filter is None and _matches_everything(meta_filter)
        kept = self._manifests if whole else None
        for _ in range(_ATTEMPTS):
            pin = None if kept is None else await kept.pin(kb_id)
            manifests: list[str | None] = []
            ids, distances, table, present = await self._decoded(
                query, kb_id, meta_filter, range_filter, manifests
            )
            if kept is None:
                break
            # An answer that broke off and was asked for again may be of two states, each of them right.
            if len({*manifests}) <= 1:
                await kept.check(kb_id, pin, manifests[0] if manifests else None, table)
                break
        else:
            raise altered()
        return ids, distances, table[present]

    async def _decoded(
        self, query: Query, kb_id: str, meta_filter: Any, range_filter: Any, manifests: list[str | None]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], Table, NDArray[np.bool_]]:
        """Ids and distances of all candidates that can be read; records of all; which of them can be."""
        ids = [np.empty(0, np.int64)]
        distances = [np.empty(0, np.int32)]
        tables = [np.empty((0, 0), np.uint8)]
        present = [np.empty(0, np.bool_)]
        sent = query.rows if isinstance(query, RecordQuery) else query
        blocks = self.integration.compute_hamming_distances_blocks(
            sent, self.execution_context.id, kb_id, meta_filter, range_filter, manifests=manifests
        )
        sound = True
        async with aclosing(blocks):
            async for block in blocks:
                block = Distances(*block)
                tables.append(block.records)
                readable = self._readable(block)
                found = block
                if not readable.all():
                    found = Distances(block.ids[readable], block.products[readable], block.records[readable])
                try:
                    distances.append(
                        await in_thread(self._decoding(found, query), "Decoding", len(found.ids))
                    )
                except IntegrityError:
                    # Read to the end all the same: where it was altered is not to be seen from outside.
                    sound = False
                    continue
                ids.append(found.ids)
                present.append(readable)
        table = joined(tables)
        if isinstance(query, RecordQuery) and (not sound or has_duplicates(read_records(table).nonces)):
            raise altered()
        return np.concatenate(ids), np.concatenate(distances), table, np.concatenate(present)

    def _readable(self, block: Distances) -> NDArray[np.bool_]:
        """Which rows (N,) do not belong to retired epochs, whose keys are gone."""
        everything = np.ones(len(block.ids), np.bool_)
        if self.execution_context.records is None or not len(block.ids):
            return everything
        try:
            return ~retired(self.execution_context, read_records(block.records).epochs)
        except IntegrityError:
            return everything  # decoding says so

    def _decoding(self, block: Distances, query: Query) -> Callable[[Progress], NDArray[np.int32]]:
        client = self.execution_context.homomorphic
        if isinstance(query, RecordQuery):
            asked = query
            return lambda progress: cast("CorePaillierClient", client).decode_records(
                block.products, read_records(block.records), asked, progress=progress
            )
        return lambda progress: client.decode_from_array(block.products, progress=progress)

    def _opened(self, chunk: dict[str, Any], ranked: bytes | None) -> dict[str, Any]:
        opened = {"chunk_id": chunk["chunk_id"], "meta_data": chunk.get("meta_data", {})}
        if chunk.get("chunk_content") is not None:
            if ranked is not None and chunk.get(RECORD) != ranked:
                raise altered()
            opened["chunk_content"] = self.execution_context.open_content(chunk)
        return opened


def _matches_everything(meta_filter: Any) -> bool:
    """Whether a filter is none, written down in any way."""
    if isinstance(meta_filter, str):
        try:
            meta_filter = json.loads(meta_filter)
        except (ValueError, RecursionError):
            return False  # it is refused when it is sent
    return meta_filter is None or meta_filter == {}


def nearest(ids: NDArray[np.int64], distances: NDArray[np.int32], k: int) -> NDArray[np.intp]:
    """Positions of the `k` smallest (distance, id) pairs, in that order."""
    candidates = np.arange(len(ids))
    if k < len(ids):
        limit = np.partition(distances, k - 1)[k - 1]
        candidates = np.flatnonzero(distances <= limit)
    order = np.lexsort((ids[candidates], distances[candidates]))
    return candidates[order[:k]]
