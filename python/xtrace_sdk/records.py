"""Tables of records: the few opaque bytes that a client stores beside each vector.

A table is a ``uint8`` array ``(N, width)``: the first byte of a row is the record's length, 0 for none, the
record follows, the rest is zero. A table of width 0 holds no records at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LONGEST: Final = 160
"""Bytes of the longest record."""

Table = NDArray[np.uint8]


def as_table(records: Sequence[bytes]) -> Table:
    """Records, ``b""`` for none -> table, as wide as the longest needs."""
    longest = max(map(len, records), default=0)
    if longest == 0:
        return np.zeros((len(records), 0), np.uint8)
    data = b"".join(bytes([len(record)]) + record.ljust(longest, b"\0") for record in records)
    return np.frombuffer(data, np.uint8).reshape(len(records), 1 + longest)


def joined(tables: Sequence[Table]) -> Table:
    """Tables one after the other, as wide as the widest."""
    if len(tables) == 1:
        return tables[0]
    width = max((table.shape[1] for table in tables), default=0)
    whole = np.zeros((sum(map(len, tables)), width), np.uint8)
    at = 0
    for table in tables:
        whole[at : at + len(table), : table.shape[1]] = table
        at += len(table)
    return whole


def lengths(table: Table) -> NDArray[np.intp]:
    """Table -> length of each record (N,)."""
    if not table.shape[1]:
        return np.zeros(len(table), np.intp)
    return table[:, 0].astype(np.intp)


def malformed(table: Table) -> bool:
    """Whether a row claims more bytes than there are, or than a record may have, or does not end in zeros."""
    if not table.shape[1]:
        return False
    width = table.shape[1] - 1
    if width > LONGEST or (table[:, 0] > width).any():
        return True
    after = np.arange(width) >= table[:, :1]
    return bool((table[:, 1:][after] != 0).any())
