"""The bytes between client and server, read and written by hand."""

import base64
import hashlib
import json
import struct
import tracemalloc
from contextlib import suppress

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.records import as_table

shapes = st.tuples(st.integers(0, 40), st.integers(1, 3), st.integers(1, 40))
batches = shapes.flatmap(lambda shape: arrays(np.uint8, shape))


def some_rows(count: int, chunks: int = 1, width: int = 8) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, chunks, width), dtype=np.uint8)


def ids_for(rows: np.ndarray) -> np.ndarray:
    return np.cumsum(np.arange(1, len(rows) + 1), dtype=np.int64) * 1_234_567_890


def blocks_of(ids: np.ndarray, rows: np.ndarray, size: int) -> list[wire.Block]:
    return [(ids[at : at + size], rows[at : at + size]) for at in range(0, len(ids), size)]


def test_path_quotes_every_part() -> None:
    path = wire.path(wire.KB_BIND, org_id="o", kb_id="a/b", context_id="c?d")
    assert path == "/v1/exec_context/o/a%2Fb/bind/c%3Fd"


@given(batches)
def test_base64_round_trip(rows: np.ndarray) -> None:
    _, chunks, width = rows.shape
    encoded = wire.encode_rows(rows)
    assert all(len(base64.b64decode(text)) == width for row in encoded for text in row)
    assert np.array_equal(wire.decode_rows(encoded, chunks=chunks, width=width), rows)


def test_minimal_width_known_answers() -> None:
    """The strings of the original client: 813663356430, 258 and 0, without leading zero bytes."""
    decoded = wire.decode_rows([["DoYdcr0="], ["AgE="], [""]], chunks=1, width=6)
    values = [int.from_bytes(row.tobytes(), "little") for row in decoded[:, 0]]
    assert values == [813663356430, 258, 0]


@pytest.mark.parametrize(
    ("index", "named"),
    [
        ([["AAAAAAAAAAA="], ["AAAAAAAAAAA=", "AA=="]], "chunks[1].index: expected 1 ciphertexts, got 2"),
        ([[]], "chunks[0].index: expected 1 ciphertexts, got 0"),
        ([["AAAAAAAAAAA"]], "chunks[0].index[0]: not valid base64"),
        ([["AAAA\nAAAAAAA="]], "chunks[0].index[0]: not valid base64"),
        ([["ä"]], "chunks[0].index[0]: not valid base64"),
        ([[7]], "chunks[0].index[0]: expected a base64 string"),
        (["AA=="], "chunks[0].index: expected a list"),
        ([None], "chunks[0].index: expected a list"),
        ([["AAAAAAAAAAAA"]], "chunks[0].index[0]: 9 bytes, a ciphertext has at most 8"),
    ],
)
def test_base64_refusals_name_the_string(index: list[list[str]], named: str) -> None:
    with pytest.raises(InputError) as refused:
        wire.decode_rows(index, chunks=1, width=8, field="chunks[{row}].index")
    assert str(refused.value).startswith(named)


@given(batches, st.integers(1, 7))
def test_msgpack_round_trip(rows: np.ndarray, size: int) -> None:
    count, chunks, width = rows.shape
    ids = ids_for(rows)
    body = b"".join(wire.pack_distances(count, chunks, width, blocks_of(ids, rows, size)))
    read_ids, read_rows, _ = wire.unpack_distances(body, wire.MSGPACK, chunks=chunks, width=width)
    assert np.array_equal(read_ids, ids) and np.array_equal(read_rows, rows)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
@pytest.mark.parametrize("chunks", [1, 2, 16])
def test_msgpack_is_what_any_reader_reads(count: int, chunks: int) -> None:
    rows = some_rows(count, chunks, 3)
    ids = ids_for(rows)
    body = b"".join(wire.pack_distances(count, chunks, 3, blocks_of(ids, rows, 10_000)))
    expected = [[[one.tobytes() for one in row], int(number)] for number, row in zip(ids, rows, strict=True)]
    assert msgpack.unpackb(body, raw=False) == expected


def test_general_msgpack_is_read() -> None:
    """Other servers: short ids, any width, padding, further elements in a row."""
    body = msgpack.packb([[[b"\x01"], 1], [[b"\x02\x03\0\0\0\0"], 70_000, {"later": True}]])
    ids, rows, _ = wire.unpack_distances(body, "application/x-msgpack; charset=binary", chunks=1, width=4)
    assert ids.tolist() == [1, 70_000]
    assert rows.tolist() == [[[1, 0, 0, 0]], [[2, 3, 0, 0]]]


def test_json_integers_are_read() -> None:
    body = json.dumps([[[258, 1], 9]]).encode()
    ids, rows, _ = wire.unpack_distances(body, wire.JSON, chunks=2, width=2)
    assert ids.tolist() == [9] and rows.tolist() == [[[2, 1], [1, 0]]]


@given(batches, st.integers(1, 7))
def test_columns_round_trip(rows: np.ndarray, size: int) -> None:
    count, chunks, width = rows.shape
    ids = ids_for(rows)
    pieces = wire.pack_columns(ids, chunks, width, [rows[at : at + size] for at in range(0, count, size)])
    body = b"".join(pieces)
    read_ids, read_rows, _ = wire.unpack_distances(body, wire.COLUMNS, chunks=chunks, width=width)
    assert np.array_equal(read_ids, ids) and np.array_equal(read_rows, rows)


@given(batches, st.integers(1, 60), st.integers(1, 4), st.integers(0, 3))
def test_columns_are_read_while_they_arrive(rows: np.ndarray, size: int, fewest: int, more: int) -> None:
    count, chunks, width = rows.shape
    ids = ids_for(rows)
    whole = b"".join(wire.pack_columns(ids, chunks, width, [rows]))
    reader, body = wire.ColumnsReader(chunks, width), bytearray()
    taken = [wire.Distances(ids[:0], rows[:0], np.empty((0, 0), np.uint8))]
    for at in range(0, len(whole), size):
        body += whole[at : at + size]
        while len((block := reader.take(body, fewest, fewest + more)).ids):
            taken.append(block)
            got = sum(len(one.ids) for one in taken)
            assert fewest <= len(block.ids) <= fewest + more or got == count
    reader.finish(body)
    assert np.array_equal(np.concatenate([block[0] for block in taken]), ids)
    assert np.array_equal(np.concatenate([block[1] for block in taken]), rows)


def test_columns_by_hand() -> None:
    rows = np.array([[[1, 2]], [[3, 4]]], dtype=np.uint8)
    body = b"".join(wire.pack_columns(np.array([5, 6]), 1, 2, [rows]))
    assert body == struct.pack("<4sIIIQQqq", b"XTC1", 1, 2, 0, 2, 0, 5, 6) + bytes([1, 2, 3, 4])


def test_columns_are_not_copied() -> None:
    rows = some_rows(3)
    body = b"".join(wire.pack_columns(np.array([1, 2, 3]), 1, 8, [rows]))
    ids, read, _ = wire.unpack_distances(body, wire.COLUMNS, chunks=1, width=8)
    assert np.shares_memory(read, np.frombuffer(body, np.uint8))
    assert np.shares_memory(ids, np.frombuffer(body, np.uint8))


marks = st.lists(st.binary(max_size=160), max_size=20) | st.lists(
    st.binary(min_size=29, max_size=29), max_size=20
)


def taken_apart(table: np.ndarray) -> list[bytes]:
    return [row[1 : 1 + row[0]].tobytes() if row.size else b"" for row in table]


@given(marks, st.integers(1, 7))
def test_records_round_trip_in_every_form(records: list[bytes], size: int) -> None:
    table = as_table(records)
    rows = some_rows(len(records), 2, 3)
    ids = ids_for(rows)
    blocks = blocks_of(ids, rows, size)
    for body, kind in (
        (b"".join(wire.pack_distances(len(ids), 2, 3, blocks, table)), wire.MSGPACK),
        (b"".join(wire.pack_columns(ids, 2, 3, [part for _, part in blocks], table)), wire.COLUMNS),
    ):
        read = wire.unpack_distances(body, kind, chunks=2, width=3)
        assert np.array_equal(read.ids, ids) and np.array_equal(read.products, rows)
        assert taken_apart(read.records) == records


@given(marks)
def test_a_record_is_the_third_element(records: list[bytes]) -> None:
    rows = some_rows(len(records), 1, 3)
    body = b"".join(wire.pack_distances(len(rows), 1, 3, [(ids_for(rows), rows)], as_table(records)))
    for entry, record in zip(msgpack.unpackb(body, raw=False), records, strict=True):
        assert entry[2:] == ([record] if record else [])


def test_columns_with_records_by_hand() -> None:
    rows = np.array([[[1, 2]], [[3, 4]]], dtype=np.uint8)
    body = b"".join(wire.pack_columns(np.array([5, 6]), 1, 2, [rows], as_table([b"", b"ab"])))
    head = struct.pack("<4sIIIQQqq", b"XTC1", 1, 2, 3, 2, 0, 5, 6)
    assert body == head + b"\0\0\0\2ab" + bytes([1, 2, 3, 4])


@pytest.mark.parametrize(
    "table",
    [b"\3ab", b"\1ab", b"\xff" + bytes(160), b"\1" + bytes(161)],
    ids=["short", "rest", "length", "long"],
)
def test_malformed_tables_are_refused(table: bytes) -> None:
    body = struct.pack("<4sIIIQQq", b"XTC1", 1, 1, len(table), 1, 0, 5) + table + b"\1"
    with pytest.raises(InputError, match="a record has a wrong length"):
        wire.unpack_distances(body, wire.COLUMNS, chunks=1, width=1)


def test_records_longer_than_allowed_are_refused() -> None:
    body = msgpack.packb([[[b"\1"], 1, bytes(161)]])
    with pytest.raises(InputError, match="a record has at most 160"):
        wire.unpack_distances(body, wire.MSGPACK, chunks=1, width=1)
    assert wire.decode_record(wire.encode_record(bytes(160)), "r") == bytes(160)
    for text, named in ((wire.encode_record(bytes(161)), "161 bytes"), ("A", "not valid base64")):
        with pytest.raises(InputError, match=f"^r: {named}"):
            wire.decode_record(text, "r")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", wire.MSGPACK),
        (b"\xc1", wire.MSGPACK),
        (msgpack.packb({}), wire.MSGPACK),
        (msgpack.packb([[b"\0", 1]]), wire.MSGPACK),
        (msgpack.packb([[["text"], 1]]), wire.MSGPACK),
        (msgpack.packb([[[b"\0"], -1]]), wire.MSGPACK),
        (msgpack.packb([[[b"\0"], True]]), wire.MSGPACK),
        (msgpack.packb([[[b"\0"], 1 << 63]]), wire.MSGPACK),
        (b"\x91\x92\x91\xc6\0\0\0\x08" + bytes(8) + b"\xcf" + b"\xff" * 8, wire.MSGPACK),
        (msgpack.packb([[[b"\0", b"\0"], 1]]), wire.MSGPACK),
        (msgpack.packb([[[bytes(8) + b"\1"], 1]]), wire.MSGPACK),
        (msgpack.packb([]) + b"\0", wire.MSGPACK),
        (msgpack.packb([[[[]], 1]]), wire.MSGPACK),
        (msgpack.packb([[[b"\1"], []]]), wire.MSGPACK),
        (msgpack.packb([[[b"\1"], 1]])[:-1], wire.MSGPACK),
        (b"\xdd\xff\xff\xff\xff", wire.MSGPACK),
        (b"\x91\xdd\xff\xff\xff\xff\x91\xc4\x01\x01\x01", wire.MSGPACK),
        (b"\x91\x93\x91\xc4\x01\x01\x01" + b"\x91" * 5000, wire.MSGPACK),
        (b"{", wire.JSON),
        (b"\xff", wire.JSON),
        (b"[[[-1], 1]]", wire.JSON),
        (b'[[["1"], 1]]', wire.JSON),
        (b"[[[18446744073709551616], 1]]", wire.JSON),
        (b"XTC1", wire.COLUMNS),
        (b"XTC2" + bytes(28), wire.COLUMNS),
        (struct.pack("<4sIIIQQ", b"XTC1", 2, 8, 0, 0, 0), wire.COLUMNS),
        (struct.pack("<4sIIIQQ", b"XTC1", 1, 8, 0, 1, 0), wire.COLUMNS),
        (struct.pack("<4sIIIQQ", b"XTC1", 1, 8, 0, 2**61, 0), wire.COLUMNS),
        (struct.pack("<4sIIIQQqq", b"XTC1", 1, 8, 0, 1, 0, -1, 1), wire.COLUMNS),
    ],
)
def test_bad_answers_are_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(InputError, match=r"^distances"):
        wire.unpack_distances(body, content_type, chunks=1, width=8)


@pytest.mark.parametrize("row", [b"", b"\x91", b"\x92", b"\x92\x91", b"\x93\x91\xc4\x01\x01\x01"])
def test_empty_arrays_are_never_built(row: bytes) -> None:
    """A byte each in the body, and 56 in memory: wherever they stand, they are skipped or refused."""
    count = 300_000
    arrays_of = b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count
    body = b"\x91" + row + arrays_of if row else arrays_of
    tracemalloc.start()
    try:
        with suppress(InputError):
            ids, _, _ = wire.unpack_distances(body, wire.MSGPACK, chunks=1, width=8)
            assert ids.tolist() == [1] and row.startswith(b"\x93")
        assert tracemalloc.get_traced_memory()[1] < 3 * len(body)
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=80), st.sampled_from([wire.MSGPACK, wire.JSON, wire.COLUMNS]))
def test_no_body_crashes_the_reader(body: bytes, content_type: str) -> None:
    try:
        ids, rows, _ = wire.unpack_distances(body, content_type, chunks=1, width=8)
    except InputError:
        return
    assert rows.shape == (ids.size, 1, 8)


def test_error_round_trip() -> None:
    body = json.dumps(wire.error_body(404, "not_found", "no such knowledge base", "r1")).encode()
    assert wire.read_error(body) == ("no such knowledge base", "r1")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"Bad Gateway", "Bad Gateway"),
        (b'{"error": "text"}', "text"),
        (b'{"error": {"message": "inner"}}', "inner"),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
        (b"[" * 100_000, "[" * 500),
    ],
)
def test_any_error_body_gives_a_message(body: bytes, message: str) -> None:
    assert wire.read_error(body) == (message, None)


# Manifests


def test_a_manifest_travels_whole_in_the_header_of_a_write() -> None:
    sealed = bytes(range(89))
    tag = wire.manifest_tag(sealed)
    assert tag == hashlib.sha256(sealed).hexdigest()
    assert wire.manifest_tag(None) == "none"
    for expected in ("none", "0" * 64):
        header = wire.encode_manifest_header("ctx_1.a-b", expected, sealed)
        assert header == f"ctx_1.a-b;{expected};{base64.b64encode(sealed).decode()}"
        assert wire.decode_manifest_header(header) == ("ctx_1.a-b", expected, sealed)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ctx",
        "ctx;none",
        "ctx;none;QQ==;",
        ";none;QQ==",
        "c x;none;QQ==",
        "ctx\n;none;QQ==",
        "c" * 129 + ";none;QQ==",
        "ctx;None;QQ==",
        "ctx;;QQ==",
        f"ctx;{'0' * 63};QQ==",
        f"ctx;{'A' * 64};QQ==",
        "ctx;none;",
        "ctx;none;QQ",
        "ctx;none;Q Q==",
        f"ctx;none;{base64.b64encode(bytes(513)).decode()}",
        f"ctx;{hashlib.sha256(b'A').hexdigest()};QQ==",
    ],
)
def test_a_malformed_manifest_header_is_refused_by_name(value: str) -> None:
    with pytest.raises(InputError, match="x-xtrace-manifest"):
        wire.decode_manifest_header(value)


def test_a_manifest_of_the_greatest_length_is_read() -> None:
    sealed = bytes(range(256)) * 2
    assert wire.decode_manifest(wire.encode_manifest(sealed), "manifest") == sealed
