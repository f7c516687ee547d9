"""Moves a knowledge base from one execution context to another: in place, while it is searched.

A chunk keeps its id, key, name, metadata and time of creation. Its old ciphertext is decrypted to the vector,
so nothing is embedded again. Each batch is one update of the server, which moves its chunks from one context
to the other, all or none. What is left is what the server still has under the old one, so one that was
stopped goes on where it was. Until it is done, `MigratingRetriever` searches both halves.

Whoever writes must use the new context from the beginning: a chunk that is changed under the old one while it
is being moved may keep its old content.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import (
    CiphertextError,
    DecryptionError,
    DimensionMismatchError,
    InputError,
)
from xtrace_sdk.integrations.errors import NotFoundError
from xtrace_sdk.records import as_table
from xtrace_sdk.wire import RECORD
from xtrace_sdk.x_vec.crypto.authenticated import epoch_of, read_records
from xtrace_sdk.x_vec.crypto.core_client import positive
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.manifests import Manifests
from xtrace_sdk.x_vec.retrievers.retriever import ChunkSource, Retriever, nearest
from xtrace_sdk.x_vec.utils.background import in_thread
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.stored_chunks import core_client, stored_content, stored_vectors
from xtrace_sdk.x_vec.utils.xtrace_types import Chunk, EncryptedDB, EncryptedIndex

if TYPE_CHECKING:
    from xtrace_sdk.integrations.answers import Answer
    from xtrace_sdk.integrations.uploads import Batch
    from xtrace_sdk.integrations.xtrace import XTraceIntegration
    from xtrace_sdk.manifests import Change, Keeper, Send
    from xtrace_sdk.x_vec.utils.pins import Pins

_FIELDS: Final = ("chunk_id", "chunk_content", "index", "meta_data", "name", RECORD)
_STORED: Final = ("chunk_id", "chunk_content", "index", RECORD)
_ATTEMPTS: Final = 5


async def migrate(
    old: ExecutionContext,
    new: ExecutionContext,
    integration: XTraceIntegration,
    kb_id: str,
    *,
    batch_size: int = 200,
    progress: Callable[[int, int], None] | None = None,
    manifest: bool = True,
    pins: Pins | None = None,
) -> int:
    """Encrypt everything that `kb_id` has under `old` anew under `new` -> how many chunks were moved.

    Every row is verified: the old one must decrypt to a vector and a content; the new one is decrypted before
    it is sent, and read back afterwards. `progress(done, total)` counts the chunks of this call. The
    manifests of both contexts follow every batch, unless `manifest` is False; `pins` as in `DataLoader`.

    With the same context twice, what earlier key epochs hold, be it the owner's or a writer's, is moved to
    the present one; then they can be retired.

    Raises InputError for a plain context and itself; DimensionMismatchError; CiphertextError, IntegrityError
    or DecryptionError naming a chunk that does not open or was not stored as it was sent; IntegrityError when
    the old manifest lists chunks that the server did not give out. After any error the
    rest is as it was, and this can be called again.
    """
    if old == new and new.encoding == "plain":
        raise InputError("new: is the old context, which has no epochs to move to")
    if old.embed_len() != new.embed_len():
        raise DimensionMismatchError(f"new: has {new.embed_len()} dimensions, the old one {old.embed_len()}")
    positive(batch_size, "batch_size")
    loader = DataLoader(new, integration, manifest=False)
    kept = Manifests.of(new, integration, pins, old) if manifest else None
    await integration.register_public_context(new.public_part(), new.id)
    await integration.register_kb_binding(kb_id, new.id)
    done = total = last = attempts = 0
    while True:
        page = await integration.meta_search_paginated(
            kb_id,
            old.id,
            {"chunk_id": {"$gt": last}},
            projection=["chunk_id"],
            limit=batch_size,
            sort_order="asc",
        )
        ids = [chunk["chunk_id"] for chunk in page["results"]]
        if not ids:
            if manifest and old.records is not None:
                left = Manifests(old, integration, pins)
                await (left.check_empty(kb_id) if old != new else left.check_moved(kb_id, new.epoch))
            return done
        if ids != sorted({*ids}) or ids[0] <= last:
            raise InputError("the server's answer is not sorted by chunk id as it was asked to be")
        total = total or int(page.get("total", 0))
        try:
            done += await _move(old, loader, integration, kb_id, ids, kept)
        except NotFoundError:  # a chunk was deleted meanwhile: the next page is without it
            attempts += 1
            if attempts == _ATTEMPTS:
                raise
            continue
        last, attempts = ids[-1], 0
        if progress is not None:
            progress(done, max(done, total))


async def _move(
    old: ExecutionContext,
    loader: DataLoader,
    integration: XTraceIntegration,
    kb_id: str,
    ids: list[int],
    kept: Manifests | None,
) -> int:
    new = cast("ExecutionContext", loader.execution_context)
    stored = await integration.get_chunk_by_id(ids, kb_id, _FIELDS)
    if old == new:
        stored = [chunk for chunk in stored if epoch_of(chunk.get(RECORD) or b"") != new.epoch]
    if not stored:
        return 0
    plain = await in_thread(lambda _: [_opened(old, chunk) for chunk in stored], "Decrypting", len(stored))
    bits = await in_thread(lambda _: stored_vectors(old, stored), "Decrypting", len(stored))
    index, db = await loader.load_data_from_memory(plain, bits, disable_progress=True)
    await in_thread(lambda _: _check(new, index, db, bits), "Verifying", len(stored))
    keeper = None if kept is None else _Replacing(kept, {chunk.get(RECORD) or b"" for chunk in stored})
    await integration.update_chunks(index, db, new.id, kb_id, keeper=keeper)
    moved = [chunk["chunk_id"] for chunk in plain]
    read = {chunk["chunk_id"]: chunk for chunk in await integration.get_chunk_by_id(moved, kb_id, _STORED)}
    for number, (chunk_id, sealed) in enumerate(zip(moved, db, strict=True)):
        _check_stored(chunk_id, read.get(chunk_id), sealed, index.rows[number])
    return len(moved)


@dataclass(frozen=True)
class _Replacing:
    """A keeper for chunks that were read: the server cannot have let another version be read."""

    keeper: Keeper
    known: Collection[bytes]

    async def write(self, kb_id: str, change: Change, send: Send, batch: Batch | None = None) -> Answer:
        return await self.keeper.write(kb_id, change._replace(known=self.known), send, batch)


def _opened(old: ExecutionContext, chunk: Mapping[str, Any]) -> Chunk:
    meta = chunk.get("meta_data")
    return {
        "chunk_id": chunk["chunk_id"],
        "chunk_content": stored_content(old, chunk),
        "meta_data": meta if meta is not None else {},
        "name": chunk.get("name") or "",
    }


def _check(new: ExecutionContext, index: EncryptedIndex, db: EncryptedDB, bits: NDArray[np.uint8]) -> None:
    """That what is about to be sent decrypts to what was read."""
    if new.records is None:
        same = np.array_equal(core_client(new).decrypt_vectors(index.rows), bits)
    else:
        records = read_records(as_table([sealed["record"] for sealed in db]))
        same = np.array_equal(core_client(new).open_records(index.rows, records), bits)
    if not same:
        raise CiphertextError("a new ciphertext does not decrypt to its vector")
    for sealed in db:
        new.open_content(sealed)


def _check_stored(
    chunk_id: int, stored: Mapping[str, Any] | None, sealed: Mapping[str, Any], row: NDArray[np.uint8]
) -> None:
    """That the server has what it was sent. A chunk that is gone was deleted meanwhile."""
    if stored is None:
        return
    index = [bytes(one) for one in stored.get("index") or []]
    content = stored.get("chunk_content")
    content = content.encode() if isinstance(content, str) else content
    sent = [part.tobytes() for part in row]
    same = len(index) == len(sent) and all(
        one.ljust(len(part), b"\0") == part for one, part in zip(index, sent, strict=True)
    )
    same &= stored.get(RECORD) == sealed.get(RECORD)
    if not same or content != sealed["chunk_content"]:
        raise CiphertextError(f"chunk {chunk_id}: the server does not have what it was sent")


class MigratingRetriever:
    """Searches a knowledge base that is being migrated: its old half first, then its new one.

    In this order no chunk is missed that moves between the two; one that is found twice counts once. Each
    half is held against its own manifest; `manifest` and `pins` as in `Retriever`.
    """

    def __init__(
        self,
        old: ExecutionContext,
        new: ExecutionContext,
        integration: ChunkSource,
        *,
        manifest: bool = True,
        pins: Pins | None = None,
    ) -> None:
        self._halves = (
            Retriever(old, integration, manifest=manifest, pins=pins),
            Retriever(new, integration, manifest=manifest, pins=pins),
        )

    async def nn_search_for_ids(
        self,
        query_vector: Any,
        k: int = 3,
        kb_id: str = "",
        meta_filter: Mapping[str, Any] | str | None = None,
        range_filter: Sequence[int] | None = None,
        include_scores: bool = False,
    ) -> list[int] | tuple[list[int], list[int]]:
        """As `Retriever.nn_search_for_ids`."""
        best: dict[int, tuple[int, int]] = {}  # the id as it was found, and its distance
        for half in self._halves:
            found = await half.nn_search_for_ids(query_vector, k, kb_id, meta_filter, range_filter, True)
            best |= {int(one): (one, distance) for one, distance in zip(*found, strict=True)}
        ids = np.array([*best], np.int64)
        distances = np.array([distance for _, distance in best.values()], np.int32)
        first = nearest(ids, distances, k)
        found_ids = [best[int(one)][0] for one in ids[first]]
        return (found_ids, [int(one) for one in distances[first]]) if include_scores else found_ids

    async def retrieve_and_decrypt(
        self, chunk_ids: Sequence[int], kb_id: str, projection: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """As `Retriever.retrieve_and_decrypt`; each chunk under the context that it is under now."""
        chunks = []
        for chunk_id in chunk_ids:
            for attempt, half in enumerate(reversed(self._halves)):
                try:
                    chunks += await half.retrieve_and_decrypt([chunk_id], kb_id, projection)
                    break
                except DecryptionError:
                    if attempt:
                        raise
        return chunks
