"""The in-memory index of one knowledge base under one execution context, and the search over it.

An index is a sequence of immutable blocks, each holding its chunk ids in ascending order beside one
contiguous array of ciphertexts; the blocks' ranges of ids do not overlap. Changing the index replaces the
blocks concerned and then, in one assignment, the sequence. A search takes the sequence once and therefore
sees one state from beginning to end, whatever is written meanwhile, without a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk import _core
from xtrace_sdk.errors import InputError
from xtrace_sdk.records import Table, joined, lengths

# One call of the core costs a fixed 20 to 50 µs (the query's matrix, the threads), an append copies at most
# one block: both are under one per cent at this size.
_BLOCK_BYTES = 4 << 20

Ids = NDArray[np.int64]
Rows = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    ids: Ids
    rows: Rows
    records: Table

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.rows.nbytes + self.records.nbytes

    def __getitem__(self, at: slice | NDArray[Any]) -> _Block:
        return _Block(self.ids[at], self.rows[at], self.records[at])


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One state of an index, to search at leisure: `ids` (N,) ascending, and the blocks with their rows."""

    ids: Ids
    _parts: tuple[tuple[_Block, NDArray[np.intp] | None], ...]
    _multiplier: _core.Multiplier

    def records(self) -> Table:
        """The table of records of `ids`."""
        return joined(
            [
                block.records if selected is None else block.records[selected]
                for block, selected in self._parts
            ]
        )

    def products(self, query: Rows, out: Rows | None = None) -> Iterator[Rows]:
        """query (chunks, width) -> its products with the rows of `ids`, in order, block by block.

        With `out` (N, chunks, width) the pieces are slices of it, else arrays of their own.
        """
        at = 0
        for block, selected in self._parts:
            rows = block.rows if selected is None else block.rows[selected]
            end = at + len(rows)
            yield self._multiplier.products(query, rows, out=None if out is None else out[at:end])
            at = end


class CiphertextIndex:
    """Ciphertexts of one knowledge base under one public key, by chunk id.

    Args:
        n_squared: the public modulus squared.
        chunks: ciphertexts per row.

    Memory: the ciphertexts' and records' bytes plus eight bytes per id. Thread-safe.
    """

    def __init__(self, n_squared: int, chunks: int) -> None:
        if chunks < 1:
            raise InputError(f"chunks: expected at least 1, got {chunks}")
        self._multiplier = _core.Multiplier(n_squared)
        self._chunks = chunks
        self._block_rows = max(1, _BLOCK_BYTES // (chunks * self._multiplier.width))
        self._blocks: tuple[_Block, ...] = ()
        self._writing = threading.Lock()

    @property
    def chunks(self) -> int:
        """Ciphertexts per row."""
        return self._chunks

    @property
    def width(self) -> int:
        """Bytes of one ciphertext: ``ceil(bits(n_squared) / 8)``."""
        return self._multiplier.width

    @property
    def nbytes(self) -> int:
        """Bytes held by ciphertexts, records and ids."""
        return sum(block.nbytes for block in self._blocks)

    def __len__(self) -> int:
        return sum(block.ids.size for block in self._blocks)

    def extend(self, ids: Ids, rows: Rows, table: Table | None = None) -> None:
        """Add rows (N, chunks, width) under ids (N,), in any order, with a table of records (N, W).

        Raises InputError for wrong shapes or dtypes, for an id that is there already and for one given twice;
        then nothing is added.
        """
        self.replace(np.empty(0, np.int64), ids, rows, table)

    def remove(self, ids: Ids) -> None:
        """Remove the rows under ids (N,). Unknown ids are left out."""
        self.replace(ids, np.empty(0, np.int64), np.empty((0, self._chunks, self.width), np.uint8))

    def replace(self, removed: Ids, ids: Ids, rows: Rows, table: Table | None = None) -> None:
        """`remove` and then `extend`, as one change: no search sees the state between."""
        removed = _checked_ids(removed)
        new = self._checked(ids, rows, table)
        with self._writing:
            self._blocks = self._changed(removed, new)

    def distances(self, query: Rows, ids: Ids | None = None) -> tuple[Ids, Rows]:
        """query (chunks, width) times every row, or the rows under `ids`: (ids ascending, products).

        The products (N, chunks, width) are encryptions of the sums that decode to Hamming distances. Unknown
        ids are left out. Raises InputError for a query of another shape or dtype.
        """
        query = self.checked_query(query)
        snapshot = self.snapshot(ids)
        products = np.empty((snapshot.ids.size, self._chunks, self.width), dtype=np.uint8)
        for _ in snapshot.products(query, out=products):
            pass
        return snapshot.ids, products

    def snapshot(self, ids: Ids | None = None) -> Snapshot:
        """The present state, of every row or of the rows under `ids`."""
        blocks = self._blocks
        if ids is None:
            ids = np.concatenate([np.empty(0, np.int64), *(block.ids for block in blocks)])
            return Snapshot(ids, tuple((block, None) for block in blocks), self._multiplier)
        wanted = np.unique(_checked_ids(ids))
        parts: list[tuple[_Block, NDArray[np.intp] | None]] = []
        found: list[Ids] = []
        for block in blocks:
            here = _within(block, wanted)
            if not here.size:
                continue
            at = np.searchsorted(block.ids, here)
            selected = at[block.ids[at] == here]
            if selected.size == block.ids.size:
                parts.append((block, None))
            elif selected.size:
                parts.append((block, selected))
            found.append(block.ids[selected])
        return Snapshot(np.concatenate([np.empty(0, np.int64), *found]), tuple(parts), self._multiplier)

    def checked_query(self, query: Rows) -> Rows:
        """`query` as it is if it can be searched for, else InputError."""
        if query.dtype != np.uint8 or query.shape != (self._chunks, self.width):
            raise InputError(
                f"query: expected uint8 ({self._chunks}, {self.width}), got {query.dtype} {query.shape}"
            )
        return np.ascontiguousarray(query)

    def _checked(self, ids: Ids, rows: Rows, table: Table | None) -> _Block:
        """Ids ascending and distinct."""
        ids = _checked_ids(ids)
        expected = (ids.size, self._chunks, self.width)
        if rows.dtype != np.uint8 or rows.shape != expected:
            raise InputError(f"rows: expected uint8 {expected}, got {rows.dtype} {rows.shape}")
        if table is None:
            table = np.empty((ids.size, 0), np.uint8)
        elif table.dtype != np.uint8 or table.ndim != 2 or len(table) != ids.size:
            raise InputError(f"records: expected uint8 ({ids.size}, W), got {table.dtype} {table.shape}")
        new = _Block(ids, rows, table)
        if ids.size > 1 and not (ids[1:] > ids[:-1]).all():
            new = new[np.argsort(ids, kind="stable")]
            twice = np.flatnonzero(new.ids[1:] == new.ids[:-1])
            if twice.size:
                raise InputError(f"ids: {new.ids[twice[0]]} is given twice")
        return new

    def _changed(self, removed: Ids, new: _Block) -> tuple[_Block, ...]:
        """The sequence of blocks after a change; the new ids are ascending and distinct."""
        blocks = self._blocks
        if not blocks:
            return tuple(self._split([new]))
        # A new id belongs to the last block that does not begin after it.
        begins = np.array([block.ids[0] for block in blocks])
        new_at = np.clip(np.searchsorted(begins, new.ids, side="right") - 1, 0, None)
        bounds = np.searchsorted(new_at, np.arange(len(blocks) + 1))
        removed = np.unique(removed)
        result: list[_Block] = []
        open_parts: list[_Block] = []
        open_rows = 0
        for number, block in enumerate(blocks):
            here = new[bounds[number] : bounds[number + 1]]
            merged = self._merged(block, _within(block, removed), here)
            # A changed block takes in the next one when both fit into one: blocks never crumble.
            if open_parts and open_rows + merged.ids.size > self._block_rows:
                result.extend(self._split(open_parts, evenly=True))
                open_parts, open_rows = [], 0
            if merged is block and not open_parts:
                result.append(block)
            elif merged.ids.size:
                open_parts.append(merged)
                open_rows += merged.ids.size
        result.extend(self._split(open_parts))
        return tuple(result)

    def _merged(self, block: _Block, removed: Ids, new: _Block) -> _Block:
        """`block` itself when nothing changes, else a block of any size."""
        kept = block
        if removed.size:
            keep = np.isin(block.ids, removed, assume_unique=True, invert=True)
            if not keep.all():
                kept = block[keep]
        if not new.ids.size:
            return kept
        both = _joined([kept, new])
        if kept.ids.size and new.ids[0] <= kept.ids[-1]:
            both = both[np.argsort(both.ids, kind="stable")]
            twice = np.flatnonzero(both.ids[1:] == both.ids[:-1])
            if twice.size:
                raise InputError(f"ids: {both.ids[twice[0]]} is in the index already")
        return both

    def _split(self, parts: list[_Block], *, evenly: bool = False) -> Iterator[_Block]:
        """Blocks of at most `_block_rows` rows, each owning its memory; full ones first unless `evenly`."""
        if not parts:
            return
        whole = _joined(parts)
        count, size = whole.ids.size, self._block_rows
        if evenly:
            size = -(-count // -(-count // size))
        for at in range(0, count, size):
            block = whole
            if count > size:
                piece = whole[at : at + size]
                block = _Block(piece.ids.copy(), piece.rows.copy(), _narrowed(piece.records))
            for array in (block.ids, block.rows, block.records):
                array.setflags(write=False)
            yield block


def _checked_ids(ids: Ids) -> Ids:
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise InputError(f"ids: expected int64 (N,), got {ids.dtype} {ids.shape}")
    return ids


def _within(block: _Block, ids: Ids) -> Ids:
    """Those of the ascending `ids` that lie in the block's range."""
    low = np.searchsorted(ids, block.ids[0])
    return ids[low : np.searchsorted(ids, block.ids[-1], side="right")]


def _joined(blocks: Sequence[_Block]) -> _Block:
    """The blocks one after the other, in memory of their own."""
    return _Block(
        np.concatenate([block.ids for block in blocks]),
        np.concatenate([block.rows for block in blocks]),
        joined([block.records for block in blocks]).copy(),
    )


def _narrowed(table: Table) -> Table:
    """A copy no wider than its longest record needs."""
    longest = int(lengths(table).max(initial=0))
    return table[:, : longest + 1 if longest else 0].copy()
