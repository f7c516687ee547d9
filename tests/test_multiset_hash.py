"""The fingerprint of a multiset of records, against hashlib."""

from __future__ import annotations

import copy
import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrace_sdk import _core, records
from xtrace_sdk.errors import InputError

KEY = bytes(range(100, 132))


def expected(key: bytes, rows: list[bytes]) -> bytes:
    values = [hashlib.shake_256(bytes([len(key)]) + key + bytes([len(row)]) + row).digest(32) for row in rows]
    return (sum(int.from_bytes(value, "little") for value in values) % 2**256).to_bytes(32, "little")


@given(
    key=st.binary(min_size=32, max_size=32), rows=st.lists(st.binary(max_size=records.LONGEST), max_size=30)
)
def test_sum_of_shake256_of_every_record(key: bytes, rows: list[bytes]) -> None:
    hashed = _core.MultisetHash(key)
    assert hashed.sum(records.as_table(rows)) == expected(key, rows)
    assert hashed.sum(records.as_table(rows[::-1])) == expected(key, rows)


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_many_records_on_any_number_of_threads(threads: int) -> None:
    table = np.random.default_rng(1).integers(0, 256, (5003, 100), dtype=np.uint8)
    table[:, 0] = np.where(np.arange(len(table)) % 50 == 3, 11, 99)
    rows = [bytes(row[1 : 1 + row[0]]) for row in table]
    assert _core.MultisetHash(KEY).sum(table, threads=threads) == expected(KEY, rows)


def test_what_lies_behind_a_record_does_not_count() -> None:
    table = records.as_table([b"one", b"three"])
    changed = table.copy()
    changed[0, 4:] = 7
    assert _core.MultisetHash(KEY).sum(changed) == expected(KEY, [b"one", b"three"])


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)], ids=len)
def test_the_key_has_32_bytes(key: bytes) -> None:
    with pytest.raises(InputError, match="key: expected 32 bytes"):
        _core.MultisetHash(key)


def test_malformed_tables_are_refused() -> None:
    hashed = _core.MultisetHash(KEY)
    table = records.as_table([b"a", b"bc"]).copy()
    table[1, 0] = 3
    with pytest.raises(InputError, match="table: the record of row 1 is longer than the row"):
        hashed.sum(table)
    for wrong in (table[0], table.astype(np.int16), table[:, ::2], [[0]], None):
        with pytest.raises(InputError, match="table: expected a C-contiguous uint8 array"):
            hashed.sum(wrong)
    with pytest.raises(InputError, match="threads"):
        hashed.sum(table, threads=-1)


def test_the_key_stays_where_it_is() -> None:
    hashed = _core.MultisetHash(KEY)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            leak(hashed)
    assert len(repr(hashed)) < 100
