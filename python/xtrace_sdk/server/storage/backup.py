"""Backups: one state of a store as a stream of rows, the same for every engine.

::

    file     gzip of records, each one msgpack array
    header   ["xtrace backup", format, created_at]
    rows     [table, [row, ...]]                       in the order of `tables.TABLES`
    end      ["end", rows, SHA-256 of all records before]

A file that was cut off or changed is refused before anything of it is kept: it is read in one transaction,
which ends with the comparison.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgpack

from xtrace_sdk.errors import InputError
from xtrace_sdk.server.storage.admin_statements import has_org, now
from xtrace_sdk.server.storage.base import ConflictError
from xtrace_sdk.server.storage.chunk_statements import add_facets
from xtrace_sdk.server.storage.integrity import pages
from xtrace_sdk.server.storage.sql_store import SqlStore
from xtrace_sdk.server.storage.statements import Dialect, Steps, rows
from xtrace_sdk.server.storage.tables import TABLES, damaged, write_rows

FORMAT: Final = 2  # 1 had no manifests, and is read
_NAME: Final = "xtrace backup"
_MAX_RECORD: Final = 1 << 30


async def backup(store: SqlStore, path: Path) -> tuple[int, int]:
    """Write one state of the store to a new file, mode 0600, while others go on working.

    Returns (rows, damaged rows among them: these are written as they are). The file appears under its name
    when it is whole and on disk. Raises FileExistsError rather than write over one.
    """
    with new_file(path) as temporary, gzip.open(temporary, "wb", compresslevel=1) as file:
        return await _write(store, file)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A private file to write, which gets the name `path` when it is whole and on disk.

    Raises FileExistsError rather than replace one.
    """
    temporary = path.with_name(f"{path.name}.part")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    try:
        yield temporary
        _synchronise(temporary)
        os.link(temporary, path)  # unlike a renaming, it fails when there is a file
        _synchronise(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _synchronise(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


async def _write(store: SqlStore, file: gzip.GzipFile) -> tuple[int, int]:
    digest = hashlib.sha256()
    count = wrong = 0

    def put(record: list[Any]) -> None:
        data = msgpack.packb(record, unicode_errors="surrogateescape")
        digest.update(data)
        file.write(data)

    put([_NAME, FORMAT, now()])
    async with store.snapshot() as state:
        for table in TABLES:
            async for page in pages(state, table):
                count += len(page)
                wrong += sum(bool(damaged(table, row)) for row in page)
                put([table.name, [list(row) for row in page]])
    file.write(msgpack.packb(["end", count, digest.digest()]))
    return count, wrong


async def restore(store: SqlStore, path: Path) -> int:
    """Fill an empty store from a file of `backup`; returns the number of rows.

    Raises ConflictError when the store is not empty, InputError when the file is not whole or of a newer
    format; then nothing is kept.
    """
    return await store.alone(_restored, store.dialect, path)


def _restored(dialect: Dialect, path: Path) -> Steps[int]:
    if (yield from has_org()):
        raise ConflictError("the database is not empty")
    tables = {table.name: table for table in TABLES}
    count = 0
    for name, values in _records(path):
        yield from write_rows(tables[name], values)
        count += len(values)
        if name == "chunks":
            columns = tables[name].columns
            kb, chunk_id, meta = (columns.index(one) for one in ("kb", "id", "meta"))
            yield from _facets(values, kb, chunk_id, meta)
    for table in dialect.numbered:
        yield from rows(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'no'), "  # noqa: S608 - fixed names
            f"(SELECT COALESCE(MAX(no), 0) + 1 FROM {table}), false)"
        )
    return count


def _facets(values: list[list[Any]], kb: int, chunk_id: int, meta: int) -> Steps[None]:
    yield from add_facets((row[kb], row[chunk_id], _meta(row[meta])) for row in values)


def _meta(text: str) -> dict[str, Any]:
    """A damaged one has no facets that anybody could find."""
    try:
        meta = json.loads(text)
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}


def _records(path: Path) -> Iterator[tuple[str, list[list[Any]]]]:
    """(table, rows) of a file. Raises InputError when it is not whole."""
    damage = InputError(f"{path}: not a backup, or not whole")
    digest = hashlib.sha256()
    count = 0
    known = {table.name: len(table.columns) for table in TABLES}
    try:
        with gzip.open(path, "rb") as file:
            unpacker = msgpack.Unpacker(
                file, max_buffer_size=_MAX_RECORD, unicode_errors="surrogateescape", strict_map_key=True
            )
            header = unpacker.unpack()
            if not isinstance(header, list) or len(header) != 3 or header[0] != _NAME:
                raise damage
            if header[1] not in range(1, FORMAT + 1):
                raise InputError(f"{path}: has format {header[1]}, this version reads formats 1 to {FORMAT}")
            digest.update(msgpack.packb(header))
            while True:
                record = unpacker.unpack()
                if not isinstance(record, list) or len(record) < 2:
                    raise damage
                if record[0] == "end":
                    if record[1:] != [count, digest.digest()] or next(unpacker, None) is not None:
                        raise damage
                    return
                name, values = record
                if any(len(row) != known[name] for row in values):
                    raise damage
                digest.update(msgpack.packb(record, unicode_errors="surrogateescape"))
                count += len(values)
                yield name, values
    except (EOFError, OSError, zlib.error, KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
        if isinstance(error, InputError | FileNotFoundError):
            raise
        raise damage from error
