"""What is fuzzed: every parser of bytes that another party may have written.

A target takes bytes and returns whatever the parser makes of them. It lets pass only the exceptions that the
parser documents; any other is a finding.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydantic import ValidationError

from xtrace_sdk import _core, wire
from xtrace_sdk.errors import CiphertextError, InputError, IntegrityError, XTraceError
from xtrace_sdk.integrations.answers import Answer
from xtrace_sdk.integrations.errors import UnexpectedAnswerError
from xtrace_sdk.integrations.manifests import ManifestCalls
from xtrace_sdk.records import as_table
from xtrace_sdk.server import models
from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.storage.filter_statements import compile_filter
from xtrace_sdk.server.storage.sqlite import SqliteStore
from xtrace_sdk.server.storage.statements import for_sqlite
from xtrace_sdk.x_vec.crypto.authenticated import RecordKeys, read_records
from xtrace_sdk.x_vec.crypto.manifest import ManifestKeys
from xtrace_sdk.x_vec.crypto.secrets import SecretBytes
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.execution_context_audit import examine
from xtrace_sdk.x_vec.utils.execution_context_files import read_stored
from xtrace_sdk.x_vec.utils.execution_context_writer import WriterContext

CHUNKS, WIDTH = 2, 32
KEY_LEN, DIMENSIONS = 128, 24


class CheapKeyProvider:
    """A key without a derivation: what is fuzzed is the format around it."""

    def get_key(self) -> bytes:
        return bytes(32)

    def wrap_key(self) -> bytes:
        return bytes(16)

    def provider_id(self) -> str:
        return "fuzz"


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


def context(data: bytes) -> None:
    """A stored execution context of either format, or a writer's; and what is said of it unopened."""
    file = Path(_folder().name) / "context"
    file.write_bytes(data)
    with suppress(XTraceError):
        ExecutionContext.load_from_disk(path=file, key_provider=CheapKeyProvider(), allow_insecure=True)
    with suppress(XTraceError):
        WriterContext.load_from_disk(path=file, key_provider=CheapKeyProvider())
    with suppress(XTraceError):
        examine(read_stored(file))


@cache
def _key() -> tuple[_core.SecretKey, _core.HammingDecoder, _core.Multiplier]:
    key = _core.SecretKey.generate_plain(KEY_LEN, allow_insecure=True)
    return key, _core.HammingDecoder(key, DIMENSIONS), _core.Multiplier(key.public.n_squared)


def ciphertexts(data: bytes) -> None:
    """A block of ciphertexts, as a server multiplies it and a client decodes it."""
    _, decoder, multiplier = _key()
    size = decoder.chunks * decoder.width
    count = len(data) // size
    if count == 0:
        return
    rows = np.frombuffer(data, np.uint8, count * size).reshape(count, decoder.chunks, decoder.width)
    products = multiplier.products(rows[0], rows)
    for block in (rows, products):
        try:
            distances = decoder.decode(block)
        except CiphertextError:
            continue
        assert ((distances >= 0) & (distances <= 2 * DIMENSIONS)).all()


def distances(data: bytes) -> None:
    """A server's answer to a search; the first byte chooses the form."""
    form = (wire.MSGPACK, wire.COLUMNS, wire.JSON)[data[0] % 3] if data else wire.JSON
    try:
        answer = wire.unpack_distances(data[1:], form, chunks=CHUNKS, width=WIDTH)
    except InputError:
        return
    assert answer[1].shape == (answer[0].size, CHUNKS, WIDTH)


def rows(data: bytes) -> None:
    """Ciphertexts inside JSON, and the message of an error."""
    wire.read_error(data)
    try:
        index = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(index, list) or not all(isinstance(row, list) for row in index):
        return
    try:
        decoded = wire.decode_rows(index, chunks=CHUNKS, width=WIDTH)
    except InputError:
        return
    assert decoded.shape == (len(index), CHUNKS, WIDTH)


BODIES = (
    models.InsertBody,
    models.UpdateBody,
    models.PatchBody,
    models.PatchByMetaBody,
    models.MetaPageBody,
    models.HammingBody,
    models.ContextBody,
    models.PermissionBody,
)


def bodies(data: bytes) -> None:
    """A request's body; the first byte chooses the request."""
    if not data:
        return
    try:
        BODIES[data[0] % len(BODIES)].model_validate_json(data[1:])
    except (ValidationError, InputError):
        return


@cache
def _database() -> sqlite3.Connection:
    """Columns as the conditions name them, without the server around them."""
    database = sqlite3.connect(":memory:")
    database.executescript(
        "CREATE TABLE chunks (kb, id, tag1, tag2, tag3, tag4, tag5, facets, key);"
        "CREATE TABLE facets (kb, token, id);"
        "INSERT INTO chunks VALUES (1, 1, 'a', NULL, 'b', NULL, NULL, 1, NULL);"
        "INSERT INTO facets VALUES (1, 'f', 1);"
    )
    return database


def filters(data: bytes) -> None:
    """A metadata filter, as far as the database's answer."""
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return
    try:
        tree = parse_filter(text)
    except InputError:
        return
    if tree is None:
        return
    condition, parameters = compile_filter(tree, 1, SqliteStore.dialect)
    query = for_sqlite(f"SELECT count(*) FROM chunks c WHERE c.kb = 1 AND {condition}")
    bound = [json.dumps(one) if isinstance(one, list) else one for one in parameters]
    (count,) = _database().execute(query, bound).fetchone()
    assert count in (0, 1)


def _subkey(_label: bytes, _epoch: int) -> SecretBytes:
    return SecretBytes(32)


@cache
def _owner() -> tuple[RecordKeys, ManifestKeys]:
    return RecordKeys.of_owner(_subkey, lambda: 1), ManifestKeys(_subkey, "context")


def records(data: bytes) -> None:
    """What stands beside vectors: a record, behind its length, and the content that is sealed to it."""
    if not data:
        return
    record, content = data[1 : 1 + data[0]], data[1 + data[0] :]
    keys, manifests = _owner()
    with suppress(InputError):
        assert wire.decode_record(wire.encode_record(record), "record") == record
    table = as_table([record, record])
    with suppress(IntegrityError):
        parts = read_records(table)
        assert len(parts.nonces) == len(parts.epochs) == len(parts.writers) == 2
    with suppress(IntegrityError):
        manifests.total(np.frombuffer(data, np.uint8).reshape(1, -1))
    with suppress(IntegrityError):
        keys.open(content, record)


class Answering(ManifestCalls):
    """A server's answer to all questions about manifests."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body

    async def _data(self, method: str, template: str, *_: object, **__: object) -> Answer:
        return Answer(method, template, 200, wire.JSON, self.body, None)


def manifests(data: bytes) -> None:
    """A manifest as it is sealed, in the header of a request, and in an answer beside records."""
    _, keys = _owner()
    with suppress(IntegrityError):
        keys.open(data, "kb")
    with suppress(InputError):
        parts = wire.decode_manifest_header(data.decode("latin-1"))
        assert wire.decode_manifest_header(wire.encode_manifest_header(*parts)) == parts
    with suppress(StopIteration, UnexpectedAnswerError):  # it waits for nothing
        Answering(data).look_up_manifest("kb", "context", chunk_ids=[1, 2]).send(None)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (context, ciphertexts, distances, rows, bodies, filters, records, manifests)
}
