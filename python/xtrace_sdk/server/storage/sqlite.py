"""The store over one SQLite file: one connection that writes, a few that read, each call in a thread.

WAL lets readers see the last commit while a writer works; ``synchronous=FULL`` makes a commit durable before
it is acknowledged. The statements are in `sqlite_admin` and `sqlite_chunks`.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from xtrace_sdk.server.metadata import Meta
from xtrace_sdk.server.storage import base, sqlite_admin, sqlite_chunks
from xtrace_sdk.server.storage.migrations import migrations

P = ParamSpec("P")
T = TypeVar("T")

_READERS = 4
_BUSY_SECONDS = 10.0
_SEARCH_SECONDS = 10.0
_STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's machine: some milliseconds


class SqliteStore:
    """`base.Store` over the file `path`, which is created and brought to the present format."""

    def __init__(self, path: Path) -> None:
        """Raises FormatError for a file of a newer version, UnavailableError when it cannot be opened."""
        self._path = path
        try:
            path.touch(mode=0o600)  # SQLite gives its other files the mode of this one
        except OSError as error:
            raise base.UnavailableError(f"database: {error}") from error
        with _translated():
            self._writer_connection = self._connect()
            _migrate(self._writer_connection)
            self._readers = _Readers("sqlite-read", [self._connect() for _ in range(_READERS)])
            # Whoever calls is looked up here, so that no search, however long, keeps others out.
            self._callers = _Readers("sqlite-callers", [self._connect()])
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -16384")
        return connection

    async def _write(
        self, call: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def transaction() -> T:
            with _translated(), _transaction(self._writer_connection, "BEGIN IMMEDIATE"):
                return call(self._writer_connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._writer, transaction)

    async def _read(
        self, call: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._readers.run(lambda connection: call(connection, *args, **kwargs))

    async def _look_up(
        self, call: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._callers.run(lambda connection: call(connection, *args, **kwargs))

    async def _search(
        self, call: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """A read whose length the caller decides: it ends with TooSlowError after `_SEARCH_SECONDS`."""

        def bounded(connection: sqlite3.Connection) -> T:
            end = time.monotonic() + _SEARCH_SECONDS
            connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS)
            try:
                return call(connection, *args, **kwargs)
            finally:
                connection.set_progress_handler(None, 0)

        return await self._readers.run(bounded)

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        await asyncio.to_thread(self._writer.shutdown)
        await self._readers.close()
        await self._callers.close()
        self._writer_connection.close()

    async def check(self) -> dict[str, Any]:
        return {"engine": "sqlite", **await self._read(sqlite_admin.check)}

    # Organisations and keys

    async def has_org(self) -> bool:
        return await self._read(sqlite_admin.has_org)

    async def create_org(self, org_id: str, keys: Sequence[base.Key]) -> bool:
        return await self._write(sqlite_admin.create_org, org_id, keys)

    async def find_key(self, key_hash: str) -> base.Key | None:
        return await self._look_up(sqlite_admin.find_key, key_hash)

    async def touch_key(self, key_hash: str) -> None:
        await self._write(sqlite_admin.touch_key, key_hash)

    async def create_key(self, key: base.Key) -> base.Key:
        return await self._write(sqlite_admin.create_key, key)

    async def list_keys(self, org_id: str) -> list[base.Key]:
        return await self._read(sqlite_admin.list_keys, org_id)

    async def revoke_key(self, org_id: str, key_hash: str) -> None:
        await self._write(sqlite_admin.revoke_key, org_id, key_hash)

    async def permissions(self, org_id: str, key_hash: str) -> list[base.Permission]:
        return await self._read(sqlite_admin.permissions, org_id, key_hash)

    async def set_permission(
        self, org_id: str, key_hash: str, kb_id: str, permission: int
    ) -> base.Permission:
        return await self._write(sqlite_admin.set_permission, org_id, key_hash, kb_id, permission)

    async def access(self, org_id: str, key_hash: str, kb_id: str) -> base.Access:
        return await self._look_up(sqlite_admin.access, org_id, key_hash, kb_id)

    async def rights(self, org_id: str, key_hash: str) -> int:
        return await self._look_up(sqlite_admin.rights, org_id, key_hash)

    # Knowledge bases

    async def create_kb(self, org_id: str, kb_id: str, name: str, description: str) -> base.KnowledgeBase:
        return await self._write(sqlite_admin.create_kb, org_id, kb_id, name, description)

    async def list_kbs(self, org_id: str) -> list[base.KnowledgeBase]:
        return await self._read(sqlite_admin.list_kbs, org_id)

    async def get_kb(self, org_id: str, kb_id: str) -> base.KnowledgeBase:
        return await self._read(sqlite_admin.get_kb, org_id, kb_id)

    async def delete_kb(self, org_id: str, kb_id: str) -> None:
        await self._write(sqlite_admin.delete_kb, org_id, kb_id)

    # Execution contexts

    async def store_context(
        self, org_id: str, context_id: str, data: Meta, public: str, parsed: base.PublicContext
    ) -> None:
        await self._write(sqlite_admin.store_context, org_id, context_id, data, public, parsed)

    async def get_context(self, org_id: str, context_id: str) -> str:
        return await self._read(sqlite_admin.get_context, org_id, context_id)

    async def public_context(self, org_id: str, context_id: str) -> base.PublicContext | None:
        return await self._read(sqlite_admin.public_context, org_id, context_id)

    async def list_contexts(self, org_id: str) -> list[str]:
        return await self._read(sqlite_admin.list_contexts, org_id)

    async def delete_context(self, org_id: str, context_id: str) -> None:
        await self._write(sqlite_admin.delete_context, org_id, context_id)

    async def bind(self, org_id: str, kb_id: str, context_id: str) -> None:
        await self._write(sqlite_admin.bind, org_id, kb_id, context_id)

    async def contexts_of_kb(self, org_id: str, kb_id: str) -> list[str]:
        return await self._read(sqlite_admin.contexts_of_kb, org_id, kb_id)

    async def kbs_of_context(self, org_id: str, context_id: str) -> list[str]:
        return await self._read(sqlite_admin.kbs_of_context, org_id, context_id)

    # Chunks

    async def insert(
        self,
        org_id: str,
        kb_id: str,
        context_id: str,
        chunks: Sequence[base.NewChunk],
        replay: base.Replay | None,
    ) -> base.Inserted:
        return await self._write(sqlite_chunks.insert, org_id, kb_id, context_id, chunks, replay)

    async def update(
        self, org_id: str, kb_id: str, context_id: str, updates: Sequence[tuple[int, base.NewChunk]]
    ) -> int:
        return await self._write(sqlite_chunks.update, org_id, kb_id, context_id, updates)

    async def patch(
        self, org_id: str, kb_id: str, context_id: str, patches: Sequence[base.ChunkPatch]
    ) -> int:
        return await self._write(sqlite_chunks.patch, org_id, kb_id, context_id, patches)

    async def patch_matching(self, org_id: str, kb_id: str, query: base.Query, changes: Meta) -> int:
        return await self._write(sqlite_chunks.patch_matching, org_id, kb_id, query, changes)

    async def delete(self, org_id: str, kb_id: str, ids: Sequence[int]) -> int:
        return await self._write(sqlite_chunks.delete, org_id, kb_id, ids)

    async def delete_matching(self, org_id: str, kb_id: str, query: base.Query) -> int:
        return await self._write(sqlite_chunks.delete_matching, org_id, kb_id, query)

    async def fetch(
        self, org_id: str, kb_id: str, ids: Sequence[int], fields: frozenset[base.ChunkField]
    ) -> dict[int, base.StoredChunk]:
        return await self._read(sqlite_chunks.fetch, org_id, kb_id, ids, fields)

    async def select(self, org_id: str, kb_id: str, query: base.Query) -> base.Ids:
        return await self._search(sqlite_chunks.select, org_id, kb_id, query)

    async def count(self, org_id: str, kb_id: str, query: base.Query) -> int:
        return await self._search(sqlite_chunks.count, org_id, kb_id, query)

    async def page(
        self,
        org_id: str,
        kb_id: str,
        query: base.Query,
        *,
        sort_by: base.SortField,
        descending: bool,
        limit: int | None,
        offset: int,
    ) -> tuple[list[int], int]:
        return await self._search(
            sqlite_chunks.page, org_id, kb_id, query, sort_by, descending, limit, offset
        )

    async def changes(
        self, org_id: str, kb_id: str, context_id: str, since: int
    ) -> AsyncIterator[base.Change]:
        """A connection of its own holds the read transaction, so that a slow reader blocks nobody."""
        loop = asyncio.get_running_loop()
        steps = self._change_steps(org_id, kb_id, context_id, since)
        try:
            threads = self._readers.threads
            while (change := await loop.run_in_executor(threads, next, steps, None)) is not None:
                yield change
        finally:
            await loop.run_in_executor(self._readers.threads, steps.close)

    def _change_steps(self, org_id: str, kb_id: str, context_id: str, since: int) -> Any:
        with _translated():
            connection = self._connect()
            try:
                with _transaction(connection, "BEGIN"):
                    yield from sqlite_chunks.changes(connection, org_id, kb_id, context_id, since)
            finally:
                connection.close()


class _Readers:
    """Threads that read, and a connection for each."""

    def __init__(self, name: str, connections: Sequence[sqlite3.Connection]) -> None:
        self.threads = ThreadPoolExecutor(len(connections), thread_name_prefix=name)
        self.idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._count = len(connections)
        for connection in connections:
            self.idle.put(connection)

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        def transaction() -> T:
            connection = self.idle.get()
            try:
                with _translated(), _transaction(connection, "BEGIN"):
                    return call(connection)
            finally:
                self.idle.put(connection)

        return await asyncio.get_running_loop().run_in_executor(self.threads, transaction)

    async def close(self) -> None:
        await asyncio.to_thread(self.threads.shutdown)
        for _ in range(self._count):
            self.idle.get().close()


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _translated() -> Iterator[None]:
    """A database that is locked, full, read-only or damaged is unavailable; other errors are bugs."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise base.TooSlowError(
                f"meta_filter: the search takes longer than {_SEARCH_SECONDS:g} seconds; give a simpler one"
            ) from error
        raise base.UnavailableError(f"database: {error}") from error
    except sqlite3.DatabaseError as error:
        if type(error) is sqlite3.DatabaseError:
            raise base.UnavailableError(f"database: {error}") from error
        raise


def _migrate(connection: sqlite3.Connection) -> None:
    with _transaction(connection, "BEGIN IMMEDIATE"):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(number INTEGER PRIMARY KEY, applied_at TEXT NOT NULL) STRICT"
        )
        (present,) = connection.execute("SELECT COALESCE(MAX(number), 0) FROM migrations").fetchone()
        known = dict(migrations("sqlite"))
        if present > len(known):
            raise base.FormatError(
                f"the database has format {present}, this version knows formats up to {len(known)}: "
                "install the version that wrote it"
            )
        for number in range(present + 1, len(known) + 1):
            for statement in _statements(known[number]):
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (number, sqlite_admin.now()))


def _statements(script: str) -> Iterator[str]:
    """One statement at a time: executescript would commit the transaction around them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
