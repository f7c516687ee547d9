"""The in-memory index of one knowledge base under one execution context, and the search over it.

An index is a sequence of immutable blocks, each holding its chunk ids in ascending order beside one
contiguous array of ciphertexts; the blocks' ranges of ids do not overlap. Changing the index replaces the
blocks concerned and then, in one assignment, the sequence. A search takes the sequence once and therefore
sees one state from beginning to end, whatever is written meanwhile, without a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk import _core
from xtrace_sdk.errors import InputError

# One call of the core costs a fixed 20 to 50 µs (the query's matrix, the threads), an append copies at most
# one block: both are under one per cent at this size.
_BLOCK_BYTES = 4 << 20

Ids = NDArray[np.int64]
Rows = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    ids: Ids
    rows: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One state of an index, to search at leisure: `ids` (N,) ascending, and the blocks with their rows."""

    ids: Ids
    _parts: tuple[tuple[_Block, NDArray[np.intp] | None], ...]
    _multiplier: _core.Multiplier

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

    Memory: the ciphertexts' bytes plus eight bytes per id. Thread-safe.
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
        """Bytes held by ciphertexts and ids."""
        return sum(block.ids.nbytes + block.rows.nbytes for block in self._blocks)

    def __len__(self) -> int:
        return sum(block.ids.size for block in self._blocks)

    def extend(self, ids: Ids, rows: Rows) -> None:
        """Add rows (N, chunks, width) under ids (N,), in any order.

        Raises InputError for wrong shapes or dtypes, for an id that is there already and for one given twice;
        then nothing is added.
        """
        ids, rows = self._checked(ids, rows)
        with self._writing:
            self._blocks = self._changed(np.empty(0, np.int64), ids, rows)

    def remove(self, ids: Ids) -> None:
        """Remove the rows under ids (N,). Unknown ids are left out."""
        with self._writing:
            self._blocks = self._changed(_checked_ids(ids), np.empty(0, np.int64), self._no_rows())

    def replace(self, removed: Ids, ids: Ids, rows: Rows) -> None:
        """`remove` and then `extend`, as one change: no search sees the state between."""
        removed = _checked_ids(removed)
        ids, rows = self._checked(ids, rows)
        with self._writing:
            self._blocks = self._changed(removed, ids, rows)

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
            return Snapshot(_joined(blocks), tuple((block, None) for block in blocks), self._multiplier)
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

    def _no_rows(self) -> Rows:
        return np.empty((0, self._chunks, self.width), dtype=np.uint8)

    def _checked(self, ids: Ids, rows: Rows) -> tuple[Ids, Rows]:
        ids = _checked_ids(ids)
        expected = (ids.size, self._chunks, self.width)
        if rows.dtype != np.uint8 or rows.shape != expected:
            raise InputError(f"rows: expected uint8 {expected}, got {rows.dtype} {rows.shape}")
        if ids.size > 1 and not (ids[1:] > ids[:-1]).all():
            order = np.argsort(ids, kind="stable")
            ids, rows = ids[order], rows[order]
            twice = np.flatnonzero(ids[1:] == ids[:-1])
            if twice.size:
                raise InputError(f"ids: {ids[twice[0]]} is given twice")
        return ids, rows

    def _changed(self, removed: Ids, ids: Ids, rows: Rows) -> tuple[_Block, ...]:
        """The sequence of blocks after a change; `ids` are ascending and distinct."""
        blocks = self._blocks
        if not blocks:
            return tuple(self._split([(ids, rows)]))
        # A new id belongs to the last block that does not begin after it.
        begins = np.array([block.ids[0] for block in blocks])
        new_at = np.clip(np.searchsorted(begins, ids, side="right") - 1, 0, None)
        bounds = np.searchsorted(new_at, np.arange(len(blocks) + 1))
        removed = np.unique(removed)
        result: list[_Block] = []
        open_parts: list[tuple[Ids, Rows]] = []
        open_rows = 0
        for number, block in enumerate(blocks):
            new = slice(bounds[number], bounds[number + 1])
            merged = self._merged(block, _within(block, removed), ids[new], rows[new])
            # A changed block takes in the next one when both fit into one: blocks never crumble.
            if open_parts and open_rows + merged.ids.size > self._block_rows:
                result.extend(self._split(open_parts, evenly=True))
                open_parts, open_rows = [], 0
            if merged is block and not open_parts:
                result.append(block)
            elif merged.ids.size:
                open_parts.append((merged.ids, merged.rows))
                open_rows += merged.ids.size
        result.extend(self._split(open_parts))
        return tuple(result)

    def _merged(self, block: _Block, removed: Ids, ids: Ids, rows: Rows) -> _Block:
        """`block` itself when nothing changes, else a block of any size."""
        kept_ids, kept_rows = block.ids, block.rows
        if removed.size:
            keep = np.isin(kept_ids, removed, assume_unique=True, invert=True)
            if not keep.all():
                kept_ids, kept_rows = kept_ids[keep], kept_rows[keep]
        if not ids.size:
            return block if kept_ids is block.ids else _Block(kept_ids, kept_rows)
        both = np.concatenate([kept_ids, ids])
        all_rows = np.concatenate([kept_rows, rows])
        if kept_ids.size and ids[0] <= kept_ids[-1]:
            order = np.argsort(both, kind="stable")
            both = both[order]
            twice = np.flatnonzero(both[1:] == both[:-1])
            if twice.size:
                raise InputError(f"ids: {both[twice[0]]} is in the index already")
            all_rows = all_rows[order]
        return _Block(both, all_rows)

    def _split(self, parts: list[tuple[Ids, Rows]], *, evenly: bool = False) -> Iterator[_Block]:
        """Blocks of at most `_block_rows` rows, each owning its memory; full ones first unless `evenly`."""
        if not parts:
            return
        ids = np.concatenate([part[0] for part in parts])
        rows = np.concatenate([part[1] for part in parts])
        size = self._block_rows
        if evenly:
            size = -(-ids.size // -(-ids.size // size))
        for at in range(0, ids.size, size):
            piece = slice(at, at + size)
            whole = ids.size <= size
            block = _Block(ids if whole else ids[piece].copy(), rows if whole else rows[piece].copy())
            block.ids.setflags(write=False)
            block.rows.setflags(write=False)
            yield block


def _checked_ids(ids: Ids) -> Ids:
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise InputError(f"ids: expected int64 (N,), got {ids.dtype} {ids.shape}")
    return ids


def _within(block: _Block, ids: Ids) -> Ids:
    """Those of the ascending `ids` that lie in the block's range."""
    low = np.searchsorted(ids, block.ids[0])
    return ids[low : np.searchsorted(ids, block.ids[-1], side="right")]


def _joined(blocks: tuple[_Block, ...]) -> Ids:
    return np.concatenate([np.empty(0, np.int64), *(block.ids for block in blocks)])
