"""Ciphertext indexes of the knowledge bases searched last, each following its store.

The store numbers its changes. A search names the number it has to see; an index that is behind reads what
changed since, so that it is right whoever made the change, in this process or another.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from xtrace_sdk.records import as_table
from xtrace_sdk.server.ciphertexts import stored_rows
from xtrace_sdk.server.search import CiphertextIndex, Ids, Snapshot
from xtrace_sdk.server.storage.base import Change, DamagedError, GoneError, PublicContext, Store

log = logging.getLogger("xtrace.server")

_Name = tuple[str, str, int, int]


@dataclass(frozen=True, slots=True)
class State:
    """One state of a knowledge base under a context: rows to search, and the manifest that was in force."""

    rows: Snapshot
    manifest: bytes | None


class _Entry:
    def __init__(self, context: PublicContext) -> None:
        self.index = _empty(context)
        self.manifest: bytes | None = None
        self.sequence = 0
        self.whole = True
        self.following = asyncio.Lock()


class IndexCache:
    """Indexes by knowledge base and context, least recently used first to go above `budget` bytes.

    An index larger than the whole budget serves its search and is dropped.
    """

    def __init__(self, store: Store, budget: int) -> None:
        self._store = store
        self._budget = budget
        self._entries: OrderedDict[_Name, _Entry] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes held by all indexes."""
        return sum(entry.index.nbytes for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    async def snapshot(
        self,
        org_id: str,
        kb_id: str,
        context_id: str,
        context: PublicContext,
        sequence: int,
        ids: Ids | None = None,
    ) -> State:
        """The index at change `sequence` or later, whole or for `ids`."""
        name = (kb_id, context_id, context.n, context.chunks)
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(context)
        self._entries.move_to_end(name)

        async def up_to_date() -> State:
            async with entry.following:
                if entry.sequence < sequence or not entry.whole:
                    entry.whole = False  # as long as changes are half applied
                    await self._follow(entry, org_id, kb_id, context_id, context)
                    entry.whole = True
                return State(await asyncio.to_thread(entry.index.snapshot, ids), entry.manifest)

        # A caller who goes away must not leave a change half applied to the index that others use.
        state = await asyncio.shield(asyncio.create_task(up_to_date()))
        self._evict(name)
        return state

    def forget(self, kb_id: str) -> None:
        """Drop the indexes of a knowledge base that is gone."""
        for name in [name for name in self._entries if name[0] == kb_id]:
            del self._entries[name]

    async def _follow(
        self, entry: _Entry, org_id: str, kb_id: str, context_id: str, context: PublicContext
    ) -> None:
        sequence, left_out = entry.sequence, 0
        if sequence == 0:
            # A first build that broke off left rows behind, and from the beginning nothing is told of
            # chunks that are gone.
            entry.index = _empty(context)
        try:
            async for change in self._store.changes(org_id, kb_id, context_id, sequence):
                left_out += await asyncio.to_thread(_apply, entry.index, context, change)
                sequence, entry.manifest = change.sequence, change.manifest
        except (DamagedError, GoneError):
            if entry.sequence == 0:
                raise
            entry.sequence = 0  # what is gone cannot be told, what is there can
            await self._follow(entry, org_id, kb_id, context_id, context)
            return
        if left_out:
            log.warning("%d stored vectors do not fit their context and are not searched", left_out)
        entry.sequence = sequence

    def _evict(self, just_used: _Name) -> None:
        while self.nbytes > self._budget:
            name = next(iter(self._entries))
            if name == just_used:
                log.warning(
                    "an index of %d bytes is above the memory budget", self._entries[name].index.nbytes
                )
            del self._entries[name]


def _empty(context: PublicContext) -> CiphertextIndex:
    return CiphertextIndex(context.n**2, context.chunks)


def _apply(index: CiphertextIndex, context: PublicContext, change: Change) -> int:
    """Returns the number of vectors that cannot be searched."""
    ids = np.array(change.ids, dtype=np.int64)
    good, rows = stored_rows(change.vectors, context)
    table = as_table([vector.record for vector in change.vectors])[good]
    index.replace(np.concatenate([change.removed, ids]), ids[good], rows, table)
    return int(ids.size - good.sum())
