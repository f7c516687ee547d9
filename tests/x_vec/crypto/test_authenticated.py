"""The authenticated encoding: its construction written down a second time, its laws, and what it refuses."""

import copy
import hashlib
import json
import os
import pickle
import re
from binascii import a2b_base64, b2a_base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrace_sdk import _core
from xtrace_sdk.errors import DecryptionError, InputError, IntegrityError, NotLoadedError
from xtrace_sdk.records import as_table
from xtrace_sdk.x_vec.crypto import authenticated
from xtrace_sdk.x_vec.crypto.authenticated import RecordKeys, Records, WriterKeys, read_records, write_records

DIMENSIONS = [1, 48, 128, 129, 256, 600]  # one prime, both, three chunks
ROOT = {1: b"1" * 32, 2: b"2" * 32}


def subkey(label: bytes, epoch: int) -> bytes:
    if epoch not in ROOT:
        raise DecryptionError("no such epoch")
    return hashlib.sha256(ROOT[epoch] + label).digest()


def keys_of_owner(epoch: int = 1) -> RecordKeys:
    return RecordKeys.of_owner(subkey, lambda: epoch)


def named(writer: str, epoch: int = 1) -> RecordKeys:
    """The keys of a writer, which has its own secret and nobody else's."""
    owner = keys_of_owner()
    return WriterKeys(owner._secret(epoch, writer.encode()), epoch, writer, bytes(32))


@pytest.fixture(scope="module")
def client_of(make_client):
    """A client of one key for vectors of any dimension, by (dimension, keys)."""
    made = make_client("paillier_lookup", 48)

    def other(dimensions, keys):
        client = type(made)(skip_key_gen=True, allow_insecure=True)
        client.load_stringified_keys(made.stringify_pk(), made.stringify_sk())
        client.load_config({**json.loads(made.stringify_config()), "embed_len": dimensions})
        client.use_records(keys)
        return client

    return other


def random_bits(seed, *shape):
    return np.random.default_rng(seed).integers(0, 2, shape, dtype=np.uint8)


def search(client, query, rows):
    return _core.Multiplier(client.public_key.n_squared).products(query.rows, rows)


def framed(*parts: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts)


def number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def plaintext(n, secret, label, epoch, writer, bits, chunk, chunk_len, nonce):
    """s P(x) + F mod n, as docs/security.md says."""

    def function(label, dimensions, chunk, nonce):
        text = framed(secret, label, number(epoch), writer, number(dimensions), number(chunk), nonce)
        size = (n.bit_length() + 7) // 8 + 16
        return int.from_bytes(hashlib.shake_256(text).digest(size), "little") % n

    part = bits[chunk * chunk_len : (chunk + 1) * chunk_len]
    packed = sum(int(bit) * 4 ** (len(part) - 1 - place) for place, bit in enumerate(part))
    return (function(b"scale", 0, 0, b"") * packed + function(label, len(bits), chunk, nonce)) % n


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_plaintexts_are_what_the_documentation_says(client_of, dimensions) -> None:
    keys = named("a writer", 2)
    client = client_of(dimensions, keys)
    bits = random_bits(1, 3, dimensions)
    rows, nonces = client.encrypt_records(bits)
    query = client.encrypt_query(bits[0])
    secret, n = keys._secret(2, b"a writer"), client.public_key.n
    decoder = _core.HammingDecoder(client._key, dimensions)
    for label, encrypted, beside in [(b"vec", rows, nonces), (b"qry", query.rows[None], query.nonce[None])]:
        for row, vector, nonce in zip(encrypted, bits, beside, strict=False):
            expected = [
                plaintext(n, secret, label, 2, b"a writer", vector, chunk, client.key_len, nonce.tobytes())
                for chunk in range(client.chunk_num)
            ]
            assert decoder.decrypt(row) == expected


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_distances_are_exact(client_of, dimensions) -> None:
    client = client_of(dimensions, keys_of_owner())
    bits, query_bits = random_bits(2, 40, dimensions), random_bits(3, dimensions)
    rows, nonces = client.encrypt_records(bits)
    assert nonces.shape == (40, 24) and nonces.dtype == np.uint8 and len(np.unique(nonces, axis=0)) == 40
    query = client.encrypt_query(query_bits)
    distances = client.decode_records(search(client, query, rows), nonces, query)
    assert distances.dtype == np.int32
    assert distances.tolist() == (bits ^ query_bits).sum(axis=1).tolist()


def test_nothing_to_decode(client_of) -> None:
    client = client_of(48, keys_of_owner())
    query = client.encrypt_query(random_bits(0, 48))
    rows, nonces = client.encrypt_records(np.empty((0, 48), np.uint8))
    assert client.decode_records(rows, nonces, query).shape == (0,)
    table = read_records(np.empty((0, 0), np.uint8))
    assert client.decode_records(rows, table, query).shape == (0,)


def test_plain_keys_too(make_client) -> None:
    client = make_client("paillier", 48)
    client.use_records(keys_of_owner())
    bits = random_bits(4, 5, 48)
    rows, nonces = client.encrypt_records(bits)
    query = client.encrypt_query(bits[1])
    expected = (bits ^ bits[1]).sum(axis=1).tolist()
    assert client.decode_records(search(client, query, rows), nonces, query).tolist() == expected


def several(client_of):
    """Rows of the owner and two writers in two epochs, shuffled: (owner, rows, table, bits)."""
    owner = client_of(48, keys_of_owner(2))
    writers = [keys_of_owner(1), keys_of_owner(2), named("w", 1), named("another", 2), named("w", 2)]
    bits = random_bits(5, 5, 4, 48)
    parts, marks = [], []
    for some, keys in zip(bits, writers, strict=True):
        rows, nonces = client_of(48, keys).encrypt_records(some)
        parts.append(rows)
        marks += write_records(nonces, keys.epoch, keys.writer)
    order = np.random.default_rng(6).permutation(20)
    table = as_table([marks[at] for at in order])
    return owner, np.concatenate(parts)[order], table, bits.reshape(20, 48)[order]


def test_several_writers_and_epochs(client_of) -> None:
    owner, rows, table, bits = several(client_of)
    query = owner.encrypt_query(bits[3])
    distances = owner.decode_records(search(owner, query, rows), read_records(table), query)
    assert distances.tolist() == (bits ^ bits[3]).sum(axis=1).tolist()


def test_a_writer_reads_its_own_and_nobody_elses(client_of) -> None:
    """It cannot decrypt either, but even with the key it could not tell others' rows from forged ones."""
    _, rows, table, bits = several(client_of)
    writer = client_of(48, named("w", 2))
    query = writer.encrypt_query(bits[0])
    with pytest.raises(IntegrityError):
        writer.decode_records(search(writer, query, rows), read_records(table), query)


def set_to(array, where, value) -> None:
    array[where] = value


CHANGES = {
    "nonces swapped": lambda rows, table: set_to(table, ([0, 1], slice(6, 30)), table[[1, 0], 6:30]),
    "unknown epoch": lambda rows, table: set_to(table, (3, slice(2, 6)), 9),
    "another epoch": lambda rows, table: set_to(table, (3, 2), 3 - table[3, 2]),
    "record twice": lambda rows, table: set_to(table, 5, table[6]),
    "version": lambda rows, table: set_to(table, (4, 1), 2),
    "cut": lambda rows, table: set_to(table, (4, 0), 28),
    "no record": lambda rows, table: set_to(table, (4, 0), 0),
    "bit": lambda rows, table: set_to(rows, (2, 0, 0), rows[2, 0, 0] ^ 1),
    "zero": lambda rows, table: set_to(rows, 2, 0),
    "out of range": lambda rows, table: set_to(rows, 2, 255),
    "row twice": lambda rows, table: set_to(rows, 7, rows[8]),
    "rows swapped": lambda rows, table: set_to(rows, [7, 8], rows[[8, 7]]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_the_same_error(client_of, name) -> None:
    owner, rows, table, bits = several(client_of)
    query = owner.encrypt_query(bits[0])
    answer, marks = search(owner, query, rows), table.copy()
    CHANGES[name](answer, marks)
    assert not (np.array_equal(answer, search(owner, query, rows)) and np.array_equal(marks, table))
    with pytest.raises(IntegrityError) as refused:
        owner.decode_records(answer, read_records(marks), query)
    assert str(refused.value) == str(authenticated.altered())


def test_invented_writers_cost_no_memory(client_of) -> None:
    keys = keys_of_owner()
    client = client_of(48, keys)
    bits = random_bits(1, 3000, 48)
    rows, nonces = client.encrypt_records(bits)
    query = client.encrypt_query(bits[0])
    products = search(client, query, rows)
    invented = np.array([f"writer {number}".encode() for number in range(len(rows))])
    records = Records(nonces, np.ones(len(rows), np.uint32), invented)
    locked = locked_memory()
    with pytest.raises(IntegrityError):
        client.decode_records(products, records, query)
    assert locked_memory() - locked < 1 << 20  # a page for each would be 12 MB
    assert client.decode_records(products, nonces, query)[0] == 0


def locked_memory() -> int:
    """Bytes that this process has locked; 0 where nobody says."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(re.search(r"VmLck:\s+(\d+) kB", status)[1]) * 1024


def test_the_query_belongs_to_the_answer(client_of) -> None:
    client = client_of(48, keys_of_owner())
    bits = random_bits(7, 4, 48)
    rows, nonces = client.encrypt_records(bits)
    first, second = client.encrypt_query(bits[0]), client.encrypt_query(bits[0])
    assert not np.array_equal(first.nonce, second.nonce)
    with pytest.raises(IntegrityError):
        client.decode_records(search(client, first, rows), nonces, second)
    with pytest.raises(IntegrityError):  # the query left out
        client.decode_records(rows, nonces, first)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.text("wé ", max_size=32)), max_size=12),
)
def test_records_round_trip(origins) -> None:
    nonces = np.frombuffer(os.urandom(24 * len(origins)), np.uint8).reshape(-1, 24)
    marks = [
        write_records(nonces[at : at + 1], epoch, writer)[0] for at, (epoch, writer) in enumerate(origins)
    ]
    read = read_records(as_table(marks))
    assert np.array_equal(read.nonces, nonces) and read.epochs.tolist() == [epoch for epoch, _ in origins]
    assert [name.decode() for name in read.writers.tolist()] == [writer for _, writer in origins]
    groups = [(epoch, writer, np.arange(len(marks))[at]) for epoch, writer, at in read.groups()]
    assert sorted(at for *_, places in groups for at in places) == list(range(len(marks)))
    for epoch, writer, places in groups:
        assert all(origins[at] == (epoch, writer.decode()) for at in places)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=160), min_size=1, max_size=5))
def test_no_bytes_crash_the_reader(marks) -> None:
    try:
        read = read_records(as_table(marks))
    except IntegrityError:
        return
    assert [b"\1" + number(int(e)) + n.tobytes() + w for n, e, w in zip(*read, strict=True)] == marks


def test_names_that_no_record_holds() -> None:
    nonces = np.zeros((1, 24), np.uint8)
    for writer in ("w" * 65, "é" * 33, "a\0", "a\n"):
        with pytest.raises(InputError, match="writer"):
            write_records(nonces, 1, writer)


def test_duplicates() -> None:
    nonces = np.zeros((300, 24), np.uint8)
    nonces[:, 20] = np.arange(300) % 256  # the first bytes agree
    nonces[:, 21] = np.arange(300) // 256
    assert not authenticated.has_duplicates(nonces)
    nonces[17] = nonces[299]
    assert authenticated.has_duplicates(nonces)
    assert not authenticated.has_duplicates(nonces[:0])


def test_contents_belong_to_their_record() -> None:
    keys = keys_of_owner()
    nonces = authenticated.fresh_nonces(2)
    first, second = write_records(nonces, 1, "")
    later, foreign = write_records(nonces[:1], 2, "")[0], write_records(nonces[:1], 1, "w")[0]
    blob = keys.seal("text é", first)
    assert keys.open(blob, first) == "text é" and keys.open(blob.decode(), first) == "text é"
    assert keys.seal("text é", first) != blob
    raw = a2b_base64(blob)
    flipped = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw))]

    for content, record in [
        (blob, second),
        (blob, later),
        (blob, foreign),
        (blob, b""),
        (blob, first[:-1]),
        (blob[:-4], first),
        (b"", first),
        ("ä", first),
        (None, first),
        *((b2a_base64(one, newline=False), first) for one in flipped),
    ]:
        with pytest.raises(IntegrityError) as refused:
            keys.open(content, record)
        assert str(refused.value) == str(authenticated.altered())


def test_a_plain_client_has_no_records(lookup_client) -> None:
    bits = random_bits(8, 1, 48)
    with pytest.raises(NotLoadedError, match="plain"):
        lookup_client.encrypt_records(bits)
    with pytest.raises(NotLoadedError, match="plain"):
        lookup_client.encrypt_query(bits[0])


def test_arguments_are_checked(client_of) -> None:
    client = client_of(48, keys_of_owner())
    query = client.encrypt_query(random_bits(9, 48))
    rows, nonces = client.encrypt_records(random_bits(9, 2, 48))
    for wrong in (nonces[:1], nonces.astype(np.int16), nonces[:, :23]):
        with pytest.raises(InputError, match="nonces"):
            client.decode_records(rows, wrong, query)
    with pytest.raises(InputError, match="rows"):
        client.decode_records(rows[:, :, :-1], nonces, query)
    with pytest.raises(InputError, match="bits"):
        client.encrypt_records(np.full((1, 48), 2))
    with pytest.raises(InputError):
        _core.RecordKey(bytes(31), 0, b"")


def test_secrets_stay_where_they_are(client_of) -> None:
    keys = keys_of_owner()
    query = client_of(48, keys).encrypt_query(random_bits(10, 48))
    for one in (keys, query, keys.own()):
        assert "nonce" not in repr(one) and "bits" not in repr(one)
        for leave in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                leave(one)


def test_one_writer_is_one_group() -> None:
    records = Records.of_writer(authenticated.fresh_nonces(5), 3, "w")
    assert [(epoch, writer) for epoch, writer, _ in records.groups()] == [(3, b"w")]
