"""The store over one SQLite file: one connection that writes, a few that read, each call in a thread.

WAL lets readers see the last commit while a writer works; ``synchronous=FULL`` makes a commit durable before
it is acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import queue
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from xtrace_sdk.server.storage import admin_statements, base
from xtrace_sdk.server.storage.backup import new_file
from xtrace_sdk.server.storage.checksums import checksum
from xtrace_sdk.server.storage.filter_statements import facet_token
from xtrace_sdk.server.storage.migrations import missing
from xtrace_sdk.server.storage.sql_store import SqlStore
from xtrace_sdk.server.storage.statements import (
    Dialect,
    DuplicateError,
    Repeated,
    Row,
    Statement,
    Steps,
    for_sqlite,
    rows,
    the_row,
)

P = ParamSpec("P")
T = TypeVar("T")

_READERS = 4
_BUSY_SECONDS = 10.0
_SEARCH_SECONDS = 10.0
_COPIED_PAGES = 1000  # between which writers get their turn
_STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's machine: some milliseconds
_in_memory = itertools.count()


class SqliteStore(SqlStore):
    """`base.Store` over the file `path`, which is created and brought to the present format.

    Without a path the database is in memory, at most 1 GiB, and gone when it is closed.
    """

    dialect: ClassVar = Dialect("instr")

    def __init__(self, path: Path | None) -> None:
        """Raises FormatError for a file of a newer version, UnavailableError when it cannot be opened."""
        self._in_memory = path is None
        self._database = f"file:/xtrace-{next(_in_memory)}?vfs=memdb" if path is None else os.fspath(path)
        if path is not None:
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
            self._database,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            uri=self._in_memory,
        )
        if not self._in_memory:
            connection.execute("PRAGMA journal_mode = WAL")
        # What damage made of a text must reach the comparison with its checksum.
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -16384")
        return connection

    async def _write(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        def transaction() -> T:
            with _translated(), _transaction(self._writer_connection, "BEGIN IMMEDIATE"):
                return _run(self._writer_connection, call(*args, **kwargs))

        return await asyncio.get_running_loop().run_in_executor(self._writer, transaction)

    async def alone(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._write(call, *args, **kwargs)

    async def _read(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._readers.run(lambda connection: _run(connection, call(*args, **kwargs)))

    async def _look_up(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._callers.run(lambda connection: _run(connection, call(*args, **kwargs)))

    async def _search(
        self, call: Callable[Concatenate[Dialect, P], Steps[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def bounded(connection: sqlite3.Connection) -> T:
            end = time.monotonic() + _SEARCH_SECONDS
            connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS)
            try:
                return _run(connection, call(self.dialect, *args, **kwargs))
            finally:
                connection.set_progress_handler(None, 0)

        return await self._readers.run(bounded)

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[_Snapshot]:
        loop = asyncio.get_running_loop()
        threads = self._readers.threads
        state = await loop.run_in_executor(threads, _Snapshot, self._connect, threads)
        try:
            yield state
        finally:
            await loop.run_in_executor(threads, state.close)

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.shutdown)
        await self._readers.close()
        await self._callers.close()
        self._writer_connection.close()

    async def examine(self) -> list[str]:
        try:
            found = await self._read(rows, "PRAGMA integrity_check(1000)")
        except base.UnavailableError as error:
            return [str(error)]
        return [f"sqlite: {line}" for (text,) in found for line in str(text).splitlines() if line != "ok"]

    async def copy(self, path: Path) -> None:
        """A copy of the present state as a database file of its own, examined; others go on working.

        Raises FileExistsError when there is a file, UnavailableError when the copy is not whole.
        """

        def copied(source: sqlite3.Connection) -> None:
            with new_file(path) as temporary, closing(sqlite3.connect(temporary)) as target:
                source.backup(target, pages=_COPIED_PAGES)
                if target.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
                    raise base.DamagedError("database: the copy is damaged; see xtrace verify")
                target.execute("PRAGMA journal_mode = DELETE")  # one file, whole by itself

        await self._readers.run(copied)

    async def check(self) -> dict[str, Any]:
        return {"engine": "sqlite", **await self._read(_size), **await self._read(admin_statements.check)}


def _size() -> Steps[dict[str, int]]:
    (pages,) = yield from the_row("PRAGMA page_count")
    (size,) = yield from the_row("PRAGMA page_size")
    return {"bytes": pages * size}


class _Snapshot:
    """A connection inside one transaction that reads."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        with _translated():
            self._connection = connect()
            self._connection.execute("BEGIN")

    async def run(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        def step() -> T:
            with _translated():
                return _run(self._connection, call(*args, **kwargs))

        return await asyncio.get_running_loop().run_in_executor(self._threads, step)

    def close(self) -> None:
        self._connection.close()


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


def _run(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    """Execute what the steps yield, until they return."""
    try:
        statement = next(steps)
        while True:
            try:
                found = _execute(connection, statement)
            except sqlite3.IntegrityError as error:
                statement = steps.throw(DuplicateError(str(error)))
            else:
                statement = steps.send(found)
    except StopIteration as done:
        value: T = done.value
        return value


def _execute(connection: sqlite3.Connection, statement: Statement | Repeated) -> Sequence[Row]:
    sql = for_sqlite(statement.sql)
    if isinstance(statement, Repeated):
        connection.executemany(sql, statement.rows)
        return ()
    parameters = [
        one if one is None or isinstance(one, str | int | float | bytes) else json.dumps(one)
        for one in statement.parameters
    ]
    return connection.execute(sql, parameters).fetchall()


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
            raise base.too_slow(_SEARCH_SECONDS) from error
        raise base.UnavailableError(f"database: {error}") from error
    except UnicodeDecodeError as error:  # SQLite quotes a damaged name in its message
        raise base.UnavailableError("database: its schema is damaged") from error
    except sqlite3.DatabaseError as error:
        if type(error) is sqlite3.DatabaseError:
            raise base.UnavailableError(f"database: {error}") from error
        raise


def _migrate(connection: sqlite3.Connection) -> None:
    connection.create_function("checksum", -1, lambda *values: checksum(values), deterministic=True)
    connection.create_function("facet_token", 1, facet_token, deterministic=True)
    with _transaction(connection, "BEGIN IMMEDIATE"):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(number INTEGER PRIMARY KEY, applied_at TEXT NOT NULL) STRICT"
        )
        (present,) = connection.execute("SELECT COALESCE(MAX(number), 0) FROM migrations").fetchone()
        for number, script in missing("sqlite", present):
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (number, admin_statements.now()))


def _statements(script: str) -> Iterator[str]:
    """One statement at a time: executescript would commit the transaction around them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
