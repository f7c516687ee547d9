import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrace_sdk.errors import IntegrityError
from xtrace_sdk.records import as_table
from xtrace_sdk.x_vec.crypto.manifest import EMPTY, Manifest, ManifestKeys

RECORDS = [os.urandom(29) for _ in range(6)]
LABELS = []


def subkey(label, epoch):
    LABELS.append((label, epoch))
    return hashlib.sha256(label + bytes([epoch])).digest()


@pytest.fixture
def keys():
    return ManifestKeys(subkey, "context")


def test_keys_are_those_of_the_epoch_that_lasts(keys):
    del LABELS[:]
    keys.open(keys.seal(keys.changed(EMPTY, RECORDS, []), "kb"), "kb")
    assert {*LABELS} == {(b"xtrace manifest", 0), (b"xtrace manifest rows", 0)}


def test_the_fingerprint_is_the_sum_of_shake256_of_each_record(keys):
    key = subkey(b"xtrace manifest rows", 0)
    each = [
        hashlib.shake_256(bytes([32]) + key + bytes([len(one)]) + one).digest(32)
        for one in (*RECORDS, b"", b"w" * 93)
    ]
    expected = sum(int.from_bytes(one, "little") for one in each) % 2**256
    assert keys.total(as_table([*RECORDS, b"", b"w" * 93])) == expected


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), max_size=20))
def test_changes_lead_where_all_at_once_does(steps):
    keys = ManifestKeys(subkey, "context")
    manifest, present = EMPTY, []
    for number, (adds, record) in enumerate(steps, 1):
        if adds or not present:
            manifest = keys.changed(manifest, [record], [])
            present.append(record)
        else:
            manifest = keys.changed(manifest, [record], [present.pop()])
            present.append(record)
        assert manifest == Manifest(number, len(present), keys.total(as_table(present)))


def test_no_more_can_go_than_there_is(keys):
    one = keys.changed(EMPTY, RECORDS[:1], [])
    with pytest.raises(IntegrityError):
        keys.changed(one, [], RECORDS[:2])


def test_what_was_sealed_opens_for_its_knowledge_base_alone(keys):
    manifest = keys.changed(Manifest(41, 3, 5), RECORDS, [])
    sealed = keys.seal(manifest, "kb")
    assert len(sealed) == 1 + 12 + 48 + 16  # whatever is in it
    assert keys.open(sealed, "kb") == manifest == keys.open(keys.seal(manifest, "kb"), "kb")
    assert sealed != keys.seal(manifest, "kb")
    for other, kb_id in (
        (keys, "kb2"),
        (ManifestKeys(subkey, "context2"), "kb"),
        (ManifestKeys(lambda label, epoch: subkey(b"x" + label, epoch), "context"), "kb"),
    ):
        with pytest.raises(IntegrityError):
            other.open(sealed, kb_id)


def test_every_altered_bit_and_every_cut_is_refused(keys):
    sealed = keys.seal(Manifest(1, 2, 3), "kb")
    for bit in range(8 * len(sealed)):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            keys.open(bytes(altered), "kb")
    for length in range(len(sealed)):
        with pytest.raises(IntegrityError):
            keys.open(sealed[:length], "kb")
    with pytest.raises(IntegrityError):
        keys.open(sealed + b"\0", "kb")


def test_a_record_longer_than_its_row_is_refused(keys):
    table = as_table(RECORDS[:2]).copy()
    table[1, 0] = 200
    with pytest.raises(IntegrityError):
        keys.total(table)
