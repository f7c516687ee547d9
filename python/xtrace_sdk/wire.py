"""Request and response bytes: what client and server agree on, and nothing else.

A batch of ciphertexts is one C-contiguous ``uint8`` array ``(N, chunks, width)``, each ciphertext an unsigned
little-endian integer of ``width`` bytes (`ciphertext_width`). It travels in three forms:

``base64``    inside JSON (insert, update, fetch, query). One padded standard-alphabet string per ciphertext.
              Writers send the full width; readers also take fewer bytes, the missing high ones being zero.

``msgpack``   the answer to a search that every client reads::

                  [ [ [bin, ...chunks of them], chunk_id ], ...N of them ]

              A chunk with a record has it as third element (bin). Chunk ids are always written as nine bytes
              (uint 64), so that rows with records of one length have one length.

``columns``   the answer to a search for clients that ask for it (``Accept: application/vnd.xtrace.columns``),
              all integers little-endian, read without a copy::

                  offset 0    4 bytes  b"XTC1"
                         4    uint32   chunks
                         8    uint32   width
                        12    uint32   W, the width of the table of records (`xtrace_sdk.records`), 0 for none
                        16    uint64   N
                        24    uint64   0
                        32    int64[N]              chunk ids, ascending
                  32 + 8*N    uint8[N, W]           records
              32 + (8+W)*N    uint8[N, chunks, width]

A **record** is at most 160 bytes that a client stores beside a vector and gets back with it. The server does
not look into it; inside JSON it is one base64 string.

A **manifest** is at most 512 sealed bytes that a client keeps for each knowledge base and context and
replaces in the transaction of every change of rows. Its **tag** names it: the SHA-256 of the sealed bytes. A
write carries it as the header ``X-XTrace-Manifest: <context id>;<tag in force, or none>;<base64 of the new
one>``; the answer to an unfiltered search has it there as base64 alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgpack
import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InputError
from xtrace_sdk.records import LONGEST, Table, as_table, malformed
from xtrace_sdk.records import lengths as record_lengths

API_KEY_HEADER: Final = "x-api-key"
ADMIN_KEY_HEADER: Final = "x-xtrace-key"
ORG_ID_HEADER: Final = "x-xtrace-org-id"
IDEMPOTENCY_KEY_HEADER: Final = "idempotency-key"
REQUEST_ID_HEADER: Final = "x-request-id"
MANIFEST_HEADER: Final = "x-xtrace-manifest"
MANIFEST_TAG_HEADER: Final = "x-xtrace-manifest-tag"

JSON: Final = "application/json"
MSGPACK: Final = "application/x-msgpack"
COLUMNS: Final = "application/vnd.xtrace.columns"

# Data plane. The server's routes and the client's addresses are both made from these.
CHUNKS: Final = "/v1/chunk/{org_id}"
CHUNKS_META: Final = "/v1/chunk/meta/{org_id}"
CHUNKS_META_PAGE: Final = "/v1/chunk/meta/page/{org_id}"
CHUNKS_BY_META: Final = "/v1/chunk/by-meta/{org_id}"
HAMMING: Final = "/v1/compute_hamming/{org_id}"
CHANGES: Final = "/v1/changes/{org_id}"
MANIFESTS: Final = "/v1/manifests/{org_id}"
CONTEXTS: Final = "/v1/exec_context/{org_id}"
CONTEXT: Final = "/v1/exec_context/{org_id}/{context_id}"
KB_CONTEXTS: Final = "/v1/exec_context/{org_id}/{kb_id}/context"
CONTEXT_KBS: Final = "/v1/exec_context/{org_id}/{context_id}/kb"
KB_BIND: Final = "/v1/exec_context/{org_id}/{kb_id}/bind/{context_id}"
# Admin plane, relative to the admin base URL (``…/api``); the server also answers without ``/api``.
KBS: Final = "/v1/kbs"
KB: Final = "/v1/kbs/{kb_id}"
KEYS: Final = "/v1/keys"
KEY_PERMISSIONS: Final = "/v1/keys/{key_hash}/permissions"
KEY_PERMISSION: Final = "/v1/keys/{key_hash}/permissions/{kb_id}"
KEY_REVOKE: Final = "/v1/keys/{key_hash}/status/revoke"
HEALTH: Final = "/health"
HEALTH_DETAILED: Final = "/health/detailed"

TAGS: Final = ("tag1", "tag2", "tag3", "tag4", "tag5")
FACETS: Final = "facets"
RECORD: Final = "record"
PROJECTIONS: Final = ("chunk_id", "chunk_content", "index", RECORD, "name", "meta_data", "key", *TAGS, FACETS)

CONTEXT_ID: Final = r"[A-Za-z0-9_.-]{1,128}"
MANIFEST_LONGEST: Final = 512  # bytes, sealed
NO_MANIFEST: Final = "none"  # the tag where there is none

# Rights of an API key on a knowledge base: cumulative bits.
READ: Final = 1
WRITE: Final = 3
DELETE: Final = 7

_TAG: Final = re.compile(r"[0-9a-f]{64}")
_COLUMNS_MAGIC: Final = b"XTC1"
_COLUMNS_HEADER: Final = 32
# First bytes of msgpack's unsigned integers (fixint, uint 8 to 64) and binary data (bin 8 to 32).
_MSGPACK_BINARY: Final = (b"\xc4", b"\xc5", b"\xc6")
_MSGPACK_SCALARS: Final = frozenset(
    bytes([kind]) for kind in (*range(0x80), *range(0xC4, 0xC7), *range(0xCC, 0xD0))
)


def path(template: str, **parts: str) -> str:
    """Fill a path template of this module, quoting every part (a slash in an id becomes ``%2F``)."""
    return template.format(**{name: quote(part, safe="") for name, part in parts.items()})


def ciphertext_width(n_squared: int) -> int:
    """Bytes of one ciphertext: ``ceil(bits(n_squared) / 8)``."""
    return (n_squared.bit_length() + 7) // 8


# base64 inside JSON


def encode_rows(rows: NDArray[np.uint8]) -> list[list[str]]:
    """Ciphertexts (N, chunks, width) -> N lists of `chunks` base64 strings, each of full width."""
    count, chunks, width = rows.shape
    data = rows.tobytes()
    strings = [
        b2a_base64(data[start : start + width], newline=False).decode("ascii")
        for start in range(0, count * chunks * width, width)
    ]
    return [strings[start : start + chunks] for start in range(0, count * chunks, chunks)]


def decode_rows(
    index: Sequence[Sequence[str]], *, chunks: int, width: int, field: str = "index[{row}]"
) -> NDArray[np.uint8]:
    """N lists of `chunks` base64 strings -> ciphertexts (N, chunks, width), writable.

    `field` names a row in messages; ``{row}`` in it is replaced by the row's number. Raises InputError
    naming the first string that is not base64 or longer than `width` bytes, or the first row that does not
    have `chunks` strings.
    """
    try:
        if all(len(row) == chunks for row in index):
            raw = [a2b_base64(text, strict_mode=True) for row in index for text in row]
            if all(len(one) == width for one in raw):
                return _as_rows(bytearray().join(raw), len(index), chunks, width)
    except (Base64Error, TypeError, ValueError):
        pass  # the careful reader below finds out which string it is
    raw = [one for number, row in enumerate(index) for one in _decode_row(row, chunks, width, field, number)]
    return _as_rows(bytearray().join(raw), len(index), chunks, width)


def _decode_row(row: Any, chunks: int, width: int, field: str, number: int) -> list[bytes]:
    name = field.format(row=number)
    if isinstance(row, str) or not isinstance(row, Sequence):
        raise InputError(f"{name}: expected a list of {chunks} base64 strings")
    if len(row) != chunks:
        raise InputError(f"{name}: expected {chunks} ciphertexts, got {len(row)}")
    decoded = []
    for position, text in enumerate(row):
        if not isinstance(text, str):
            raise InputError(f"{name}[{position}]: expected a base64 string")
        try:
            one = a2b_base64(text, strict_mode=True)
        except (Base64Error, ValueError):
            raise InputError(f"{name}[{position}]: not valid base64") from None
        if len(one) > width:
            raise InputError(f"{name}[{position}]: {len(one)} bytes, a ciphertext has at most {width}")
        decoded.append(one.ljust(width, b"\0"))
    return decoded


def _as_rows(data: bytearray, count: int, chunks: int, width: int) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8).reshape(count, chunks, width)


def encode_record(record: bytes) -> str:
    """A record as it stands in JSON."""
    return b2a_base64(record, newline=False).decode("ascii")


def decode_record(text: str, field: str) -> bytes:
    """A record out of JSON. Raises InputError when it is not base64, or too long."""
    try:
        record = a2b_base64(text, strict_mode=True)
    except (Base64Error, ValueError):
        raise InputError(f"{field}: not valid base64") from None
    if len(record) > LONGEST:
        raise InputError(f"{field}: {len(record)} bytes, a record has at most {LONGEST}")
    return record


def manifest_tag(sealed: bytes | None) -> str:
    """The tag of a manifest, `NO_MANIFEST` for None: the SHA-256 of its sealed bytes in hex."""
    return NO_MANIFEST if sealed is None else hashlib.sha256(sealed).hexdigest()


def encode_manifest(sealed: bytes) -> str:
    """A sealed manifest as it stands in JSON and in the header of an answer."""
    return b2a_base64(sealed, newline=False).decode("ascii")


def decode_manifest(text: str, field: str) -> bytes:
    """A sealed manifest out of JSON or a header. Raises InputError unless it is base64 of 1 to 512 bytes."""
    try:
        sealed = a2b_base64(text, strict_mode=True)
    except (Base64Error, ValueError):
        raise InputError(f"{field}: not valid base64") from None
    if not 1 <= len(sealed) <= MANIFEST_LONGEST:
        raise InputError(f"{field}: {len(sealed)} bytes, a manifest has 1 to {MANIFEST_LONGEST}")
    return sealed


def encode_manifest_header(context_id: str, expected: str, sealed: bytes) -> str:
    """The header of a write: `sealed` takes the place of the manifest with the tag `expected`."""
    return f"{context_id};{expected};{encode_manifest(sealed)}"


def decode_manifest_header(value: str) -> tuple[str, str, bytes]:
    """(context id, expected tag, sealed manifest) of a write's header. Raises InputError."""
    parts = value.split(";")
    if len(parts) != 3 or not re.fullmatch(CONTEXT_ID, parts[0]):
        raise InputError(f"{MANIFEST_HEADER}: expected <context id>;<tag in force or none>;<base64>")
    expected = checked_manifest_tag(parts[1], MANIFEST_HEADER)
    sealed = decode_manifest(parts[2], MANIFEST_HEADER)
    if expected == manifest_tag(sealed):
        raise InputError(f"{MANIFEST_HEADER}: the manifest is the one that it is to replace")
    return parts[0], expected, sealed


def checked_manifest_tag(tag: str, field: str) -> str:
    """`tag` as it is if it can be that of a manifest, or of none. Raises InputError."""
    if tag != NO_MANIFEST and not _TAG.fullmatch(tag):
        raise InputError(f"{field}: expected the tag in force, 64 digits of lowercase hex, or none")
    return tag


# Answers to a search

Block = tuple[NDArray[np.int64], NDArray[np.uint8]]


class Distances(NamedTuple):
    """A search's answer: ids (N,), products (N, chunks, width), table of records (N, W), in one order."""

    ids: NDArray[np.int64]
    products: NDArray[np.uint8]
    records: Table


def pack_distances(
    count: int, chunks: int, width: int, blocks: Iterable[Block], table: Table | None = None
) -> Iterator[bytes]:
    """Blocks of (ids (M,), products (M, chunks, width)), `count` rows in all -> msgpack, in pieces.

    `table` holds the records of all `count` rows, None if there are none.
    """
    yield _array_header(count)
    lengths = None if table is None or not table.shape[1] else record_lengths(table)
    at = 0
    for ids, rows in blocks:
        end = at + ids.size
        if table is None or lengths is None:
            yield _packed(ids, rows, chunks, width, None).tobytes()
        elif ids.size and (lengths[at:end] == lengths[at]).all():
            yield _packed(ids, rows, chunks, width, table[at:end, 1 : 1 + lengths[at]]).tobytes()
        else:
            yield _packed_mixed(ids, rows, chunks, width, table[at:end], lengths[at:end])
        at = end


def _packed(
    ids: NDArray[np.int64], rows: NDArray[np.uint8], chunks: int, width: int, table: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Rows with records of one length (M, length) -> uint8 (M, bytes of a row)."""
    length = 0 if table is None else table.shape[1]
    template = np.frombuffer(_msgpack_row(chunks, width, length), dtype=np.uint8)
    packed = np.empty((ids.size, template.size), dtype=np.uint8)
    packed[:] = template
    at = 1 + len(_array_header(chunks))
    for chunk in range(chunks):
        packed[:, at + 5 : at + 5 + width] = rows[:, chunk]
        at += 5 + width
    packed[:, at + 1 : at + 9] = ids.astype(">u8").view(np.uint8).reshape(-1, 8)
    if table is not None and length:
        packed[:, -length:] = table
    return packed


def _packed_mixed(
    ids: NDArray[np.int64],
    rows: NDArray[np.uint8],
    chunks: int,
    width: int,
    table: Table,
    lengths: NDArray[np.intp],
) -> bytes:
    """Rows with records of several lengths: those of each length at once, then put into their places."""
    plain = len(_msgpack_row(chunks, width, 0))
    sizes = plain + lengths + 2 * (lengths > 0)
    ends = np.cumsum(sizes)
    whole = np.empty(int(ends[-1]) if ends.size else 0, np.uint8)
    for length in np.unique(lengths).tolist():
        at = np.flatnonzero(lengths == length)
        packed = _packed(ids[at], rows[at], chunks, width, table[at, 1 : 1 + length])
        whole[(ends[at] - sizes[at])[:, None] + np.arange(packed.shape[1])] = packed
    return whole.tobytes()


def pack_columns(
    ids: NDArray[np.int64],
    chunks: int,
    width: int,
    blocks: Iterable[NDArray[np.uint8]],
    table: Table | None = None,
) -> Iterator[bytes]:
    """All ids (N,) and blocks of products (M, chunks, width) in that order -> columns, in pieces."""
    table = np.empty((ids.size, 0), np.uint8) if table is None else table
    header = bytearray(_COLUMNS_HEADER)
    header[:4] = _COLUMNS_MAGIC
    header[4:16] = np.array([chunks, width, table.shape[1]], dtype="<u4").tobytes()
    header[16:24] = np.array([ids.size], dtype="<u8").tobytes()
    yield bytes(header) + ids.astype("<i8").tobytes() + table.tobytes()
    for rows in blocks:
        yield rows.tobytes()


def unpack_distances(body: bytes, content_type: str, *, chunks: int, width: int) -> Distances:
    """A search's answer, rows in the order sent.

    Takes msgpack, columns (without a copy: the arrays are read-only) and JSON, by `content_type`. Raises
    InputError when the body is not such an answer or a ciphertext does not fit into `width` bytes.
    """
    if COLUMNS in content_type:
        return _unpack_columns(body, chunks, width)
    if MSGPACK in content_type:
        fixed = _unpack_fixed(body, chunks, width)
        if fixed is not None:
            return fixed
        try:
            return _from_entries(_msgpack_entries(body, chunks), chunks, width)
        except InputError:
            raise
        except (msgpack.UnpackException, ValueError) as error:
            raise InputError(f"distances: not a msgpack answer: {error}") from None
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"distances: not a JSON answer: {error}") from None
    if not isinstance(entries, list):
        raise InputError("distances: expected an array")
    return _from_entries(entries, chunks, width)


def _msgpack_entries(body: bytes, chunks: int) -> Iterator[list[Any]]:
    """``[ciphertexts, chunk_id]`` or ``[ciphertexts, chunk_id, record]`` of each row, one at a time.

    Nothing else is ever built: arrays of a byte each would take a hundred times the memory of the body.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(body)))
    unpacker.feed(body)

    def kind() -> bytes:
        return bytes(body[unpacker.tell() : unpacker.tell() + 1])

    def scalar(name: str) -> Any:
        if kind() and kind() not in _MSGPACK_SCALARS:
            raise InputError(f"{name}: expected binary data or an unsigned integer")
        return unpacker.unpack()

    for number in range(unpacker.read_array_header()):
        name = f"distances[{number}]"
        parts = unpacker.read_array_header()
        if parts < 2:
            raise InputError(f"{name}: expected [[ciphertext, ...], chunk_id]")
        have = unpacker.read_array_header()
        if have != chunks:
            raise InputError(f"{name}[0]: expected {chunks} ciphertexts, got {have}")
        entry = [[scalar(f"{name}[0]") for _ in range(chunks)], scalar(f"{name}[1]")]
        if parts > 2 and kind() in _MSGPACK_BINARY:
            entry.append(unpacker.unpack())
            parts -= 1
        yield entry
        for _ in range(parts - 2):
            unpacker.skip()
    if unpacker.tell() != len(body):
        raise InputError(f"distances: {len(body) - unpacker.tell()} bytes after the end")


def _unpack_columns(body: bytes, chunks: int, width: int) -> Distances:
    if len(body) < _COLUMNS_HEADER:
        raise InputError("distances: not a columnar answer")
    wide, count = _columns_header(body[:_COLUMNS_HEADER], chunks, width)
    records_at = _COLUMNS_HEADER + 8 * count
    rows_at = records_at + wide * count
    if len(body) != rows_at + count * chunks * width:
        raise InputError(f"distances: truncated after {len(body)} bytes")
    ids = np.frombuffer(body, "<i8", count, offset=_COLUMNS_HEADER).astype(np.int64, copy=False)
    if (ids < 0).any():
        raise InputError("distances: a negative chunk id")
    none = np.empty(0, np.uint8)
    table = np.frombuffer(body, np.uint8, count * wide, offset=records_at) if count and wide else none
    table = table.reshape(count, wide if count else 0)
    if malformed(table):
        raise InputError("distances: a record has a wrong length")
    rows = np.frombuffer(body, np.uint8, offset=rows_at) if count else none
    return Distances(ids, rows.reshape(count, chunks, width), table)


def _columns_header(header: bytes | bytearray, chunks: int, width: int) -> tuple[int, int]:
    """(width of the table of records, number of rows) that a header of columns announces."""
    if header[:4] != _COLUMNS_MAGIC:
        raise InputError("distances: not a columnar answer")
    sent_chunks, sent_width, wide = (int(value) for value in np.frombuffer(header, "<u4", 3, offset=4))
    if (sent_chunks, sent_width) != (chunks, width):
        raise InputError(
            f"distances: {sent_chunks} ciphertexts of {sent_width} bytes a row, expected {chunks} of {width}"
        )
    return wide, int(np.frombuffer(header, "<u8", 1, offset=16)[0])


class ColumnsReader:
    """Reads columns of rows (chunks, width) while they arrive; ids and records come before the first row."""

    def __init__(self, chunks: int, width: int) -> None:
        self._shape = chunks, width
        self._header: tuple[int, int] | None = None
        self._ids = np.empty(0, np.int64)
        self._records: Table | None = None
        self._taken = 0

    def take(self, body: bytearray, fewest: int, most: int) -> Distances:
        """Remove what is whole from the front of `body` and return its M rows.

        M is 0, or from `fewest` to `most`, or all that is left to come when that is less. Raises InputError
        for anything but columns, and for ids that do not ascend.
        """
        chunks, width = self._shape
        if self._header is None and len(body) >= _COLUMNS_HEADER:
            self._header = _columns_header(_cut(body, _COLUMNS_HEADER), chunks, width)
        if self._header is not None and self._records is None:
            wide, count = self._header
            if len(body) >= (8 + wide) * count:
                self._ids = np.frombuffer(_cut(body, 8 * count), "<i8").astype(np.int64)
                table = np.frombuffer(_cut(body, wide * count), np.uint8)
                self._records = table.reshape(count, wide if count else 0)
                if (np.diff(self._ids, prepend=-1) <= 0).any():
                    raise InputError("distances: the chunk ids do not ascend")
                if malformed(self._records):
                    raise InputError("distances: a record has a wrong length")
        first, left = self._taken, len(self._ids) - self._taken
        ready = min(left, most, len(body) // (chunks * width))
        if ready < min(fewest, left):
            ready = 0
        self._taken = end = first + ready
        raw = _cut(body, ready * chunks * width)
        records = np.empty((0, 0), np.uint8) if self._records is None else self._records[first:end]
        return Distances(self._ids[first:end], _as_rows(raw, ready, chunks, width), records)

    def finish(self, body: bytearray) -> None:
        """Raises InputError unless every row was taken and nothing is left in `body`."""
        if self._records is None or self._taken < len(self._ids) or body:
            raise InputError(f"distances: truncated, or longer than it says, after {self._taken} rows")


def _cut(body: bytearray, size: int) -> bytearray:
    """Remove the first `size` bytes of `body` and return them."""
    front = body[:size]
    del body[:size]
    return front


def _unpack_fixed(body: bytes, chunks: int, width: int) -> Distances | None:
    """Rows exactly as `pack_distances` writes them, or None: then the general reader decides."""
    if not body:
        return None
    header = {0xDC: 3, 0xDD: 5}.get(body[0], 1)
    plain = len(_msgpack_row(chunks, width, 0))
    # The first row tells whether the rows have records, and how long they are.
    has_record = body[header : header + 1] == b"\x93" and len(body) > header + plain + 1
    length = body[header + plain + 1] if has_record else 0
    template = np.frombuffer(_msgpack_row(chunks, width, length), dtype=np.uint8)
    count, rest = divmod(len(body) - header, template.size)
    if rest or length > LONGEST or body[:header] != _array_header(count):
        return None
    packed = np.frombuffer(body, np.uint8, offset=header) if count else np.empty(0, np.uint8)
    packed = packed.reshape(count, template.size)
    rows = np.empty((count, chunks, width), dtype=np.uint8)
    at = 1 + len(_array_header(chunks))
    if (packed[:, :at] != template[:at]).any():
        return None
    for chunk in range(chunks):
        if (packed[:, at : at + 5] != template[at : at + 5]).any():
            return None
        rows[:, chunk] = packed[:, at + 5 : at + 5 + width]
        at += 5 + width
    if (packed[:, at] != template[at]).any() or (packed[:, at + 1] >= 0x80).any():  # beyond int64
        return None
    ids = np.ascontiguousarray(packed[:, at + 1 : at + 9]).view(">u8").reshape(count).astype(np.int64)
    if not length:
        return Distances(ids, rows, np.empty((count, 0), np.uint8))
    if (packed[:, at + 9 : at + 11] != template[at + 9 : at + 11]).any():
        return None
    return Distances(ids, rows, np.ascontiguousarray(packed[:, at + 10 :]))  # from bin 8's length on


def _from_entries(entries: Iterable[Any], chunks: int, width: int) -> Distances:
    ids, raw, found = array("q"), bytearray(), list[bytes]()
    for number, entry in enumerate(entries):
        if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[0], list):
            raise InputError(f"distances[{number}]: expected [[ciphertext, ...], chunk_id]")
        ciphertexts, chunk_id = entry[0], entry[1]
        if isinstance(chunk_id, bool) or not isinstance(chunk_id, int) or not 0 <= chunk_id < 1 << 63:
            raise InputError(f"distances[{number}][1]: expected a chunk id")
        if len(ciphertexts) != chunks:
            raise InputError(f"distances[{number}][0]: expected {chunks} ciphertexts, got {len(ciphertexts)}")
        ids.append(chunk_id)
        for one in ciphertexts:
            raw += _ciphertext_bytes(one, width, f"distances[{number}][0]")
        found.append(_record_bytes(entry[2] if len(entry) > 2 else b"", f"distances[{number}][2]"))
    rows = _as_rows(raw, len(ids), chunks, width)
    return Distances(np.array(ids, dtype=np.int64), rows, as_table(found))


def _record_bytes(value: Any, name: str) -> bytes:
    """Other servers may put other things there: they are no records."""
    if not isinstance(value, bytes):
        return b""
    if len(value) > LONGEST:
        raise InputError(f"{name}: {len(value)} bytes, a record has at most {LONGEST}")
    return value


def _ciphertext_bytes(value: Any, width: int, name: str) -> bytes:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0 or value.bit_length() > 8 * width:
            raise InputError(f"{name}: not an unsigned integer of at most {width} bytes")
        return value.to_bytes(width, "little")
    if not isinstance(value, bytes):
        raise InputError(f"{name}: expected binary data or an integer")
    if any(value[width:]):
        raise InputError(f"{name}: longer than {width} bytes")
    return value[:width].ljust(width, b"\0")


def _array_header(count: int) -> bytes:
    if count < 16:
        return bytes([0x90 | count])
    return b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")


def _msgpack_row(chunks: int, width: int, length: int) -> bytes:
    """One row of the msgpack answer, all zeros, with a record of `length` bytes, 0 for none."""
    ciphertext = b"\xc6" + width.to_bytes(4, "big") + bytes(width)
    row = _array_header(chunks) + ciphertext * chunks + b"\xcf" + bytes(8)
    return b"\x93" + row + b"\xc4" + bytes([length]) + bytes(length) if length else b"\x92" + row


# Errors


def error_body(status: int, kind: str, message: str, request_id: str) -> dict[str, Any]:
    """The one shape of every JSON error; `kind` is a stable snake_case name."""
    return {
        "message": message,
        "error": {"message": message, "code": status, "type": kind},
        "request_id": request_id,
    }


def read_error(body: bytes) -> tuple[str, str | None]:
    """(message, request id or None) of an error's body; any body at all gives some message."""
    text = body.decode("utf-8", "replace").strip()
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return text[:500], None
    if not isinstance(parsed, dict):
        return text[:500], None
    inner = parsed.get("error")
    message = parsed.get("message") or (inner.get("message") if isinstance(inner, dict) else inner)
    request_id = parsed.get("request_id")
    return str(message or text[:500]), request_id if isinstance(request_id, str) else None
