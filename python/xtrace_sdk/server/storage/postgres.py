"""The store over a PostgreSQL database, in a schema of its own, for any number of server processes.

Who changes a knowledge base locks its row first (`chunk_statements`), so that writers of one follow each
other and those of several do not meet. A commit returns when it is on disk.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Concatenate, Final, ParamSpec, TypeVar

from xtrace_sdk.postgres import open_pool
from xtrace_sdk.server.storage import admin_statements, base
from xtrace_sdk.server.storage.migrations import missing
from xtrace_sdk.server.storage.sql_store import SqlStore
from xtrace_sdk.server.storage.statements import (
    Dialect,
    DuplicateError,
    Repeated,
    Row,
    Statement,
    Steps,
    for_postgres,
    the_row,
)

import asyncpg  # isort: skip - after `xtrace_sdk.postgres`, which says how to get it

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("xtrace.server")

_SCHEMA: Final = "xtrace"
_MIGRATION_LOCK: Final = 0x7874_7273_7672  # an arbitrary number that is always the same
_START_RETRIES: Final = 6
_START_BACKOFF_SECONDS: Final = 0.5
_CALLERS: Final = 2
_CONNECT_SECONDS: Final = 10.0
_WAIT_SECONDS: Final = 10.0  # for a connection of the pool, for a lock
_STATEMENT_SECONDS: Final = 60.0
_SEARCH_SECONDS = 10.0
_ATTEMPTS: Final = 12
_PAUSE_SECONDS: Final = 0.01
_SETTINGS: Final = {
    "application_name": "xtrace",
    "search_path": _SCHEMA,
    "synchronous_commit": "on",
    "jit": "off",  # it takes seconds for a filter of many conditions
    "statement_timeout": f"{_STATEMENT_SECONDS:g}s",
    "lock_timeout": f"{_WAIT_SECONDS:g}s",
    "idle_in_transaction_session_timeout": f"{_STATEMENT_SECONDS:g}s",
}
_AGAIN: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.ForeignKeyViolationError)
_UNAVAILABLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class PostgresStore(SqlStore):
    """`base.Store` over a database; made by `connect`."""

    dialect: ClassVar = Dialect("strpos", indexed=200, numbered=("kbs", "contexts"))

    def __init__(self, pool: Any, callers: Any) -> None:
        self._pool = pool
        # Whoever calls is looked up here, so that no search, however long, keeps others out.
        self._callers = callers

    @classmethod
    async def connect(cls, url: str, pool_size: int = 10) -> PostgresStore:
        """Connect, waiting for a database that is still starting, and bring it to the present format.

        Holds at most `pool_size` connections and two more. Raises FormatError for a database of a newer
        version or without UTF-8, UnavailableError when it cannot be reached or used.
        """
        options = {
            "server_settings": _SETTINGS,
            "timeout": _CONNECT_SECONDS,
            "command_timeout": _STATEMENT_SECONDS + _WAIT_SECONDS,
        }
        pools: list[Any] = []
        try:
            for size in (pool_size, _CALLERS):
                pool = await open_pool(
                    url, _START_RETRIES, _START_BACKOFF_SECONDS, log, min_size=1, max_size=size, **options
                )
                pools.append(pool)
            store = cls(*pools)
            await store._migrate()
        except BaseException as error:
            for pool in pools:
                pool.terminate()
            if isinstance(error, OSError | ValueError | asyncpg.PostgresError | asyncpg.InterfaceError):
                raise base.UnavailableError(f"database: {_reason(error)}") from error
            raise
        return store

    async def _migrate(self) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            encoding = await connection.fetchval("SHOW server_encoding")
            if encoding != "UTF8":
                raise base.FormatError(f"the database's encoding is {encoding}, expected UTF8")
            for setting in ("fsync", "full_page_writes"):
                if await connection.fetchval(f"SHOW {setting}") != "on":
                    log.warning("PostgreSQL runs with %s off: a crash of its machine can lose data", setting)
            if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", _SCHEMA):
                await connection.execute(f"CREATE SCHEMA {_SCHEMA}")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)"
            )
            present = await connection.fetchval("SELECT COALESCE(MAX(number), 0) FROM migrations")
            for number, script in missing("postgres", present):
                await connection.execute(script)
                await connection.execute(
                    "INSERT INTO migrations VALUES ($1, $2)", number, admin_statements.now()
                )

    async def _write(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transaction("read_committed", lambda: call(*args, **kwargs))

    async def alone(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transaction("serializable", lambda: call(*args, **kwargs))

    async def _read(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transaction("repeatable_read", lambda: call(*args, **kwargs), readonly=True)

    async def _look_up(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        async with _translated(), self._callers.acquire(timeout=_WAIT_SECONDS) as connection:
            return await _run(connection, call(*args, **kwargs))

    async def _search(
        self, call: Callable[Concatenate[Dialect, P], Steps[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._transaction(
            "repeatable_read",
            lambda: call(self.dialect, *args, **kwargs),
            readonly=True,
            seconds=_SEARCH_SECONDS,
        )

    async def _transaction(
        self,
        isolation: str,
        steps: Callable[[], Steps[T]],
        readonly: bool = False,
        seconds: float | None = None,
    ) -> T:
        """Run the steps as one transaction, again from the beginning when it met with another one."""
        async with _translated():
            for attempt in range(_ATTEMPTS):
                try:
                    async with (
                        self._pool.acquire(timeout=_WAIT_SECONDS) as connection,
                        connection.transaction(isolation=isolation, readonly=readonly),
                    ):
                        if seconds is not None:
                            milliseconds = str(max(1, int(1000 * seconds)))
                            await connection.execute(
                                "SELECT set_config('statement_timeout', $1, true)", milliseconds
                            )
                        return await _run(connection, steps())
                except asyncpg.QueryCanceledError as error:
                    if seconds is None:
                        raise
                    raise base.too_slow(seconds) from error
                except _AGAIN:
                    pause = _PAUSE_SECONDS * 2 ** min(attempt, 6)
                    await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - jitter is no secret
        raise base.UnavailableError(f"database: {_ATTEMPTS} attempts met with other transactions")

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[_Snapshot]:
        async with (
            _translated(),
            self._pool.acquire(timeout=_WAIT_SECONDS) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield _Snapshot(connection)

    async def close(self) -> None:
        for pool in (self._pool, self._callers):
            await pool.close()

    async def examine(self) -> list[str]:
        """What PostgreSQL's own checksums cannot vouch for shows when the rows are read."""
        return []

    async def check(self) -> dict[str, Any]:
        return {"engine": "postgresql", **await self._read(_size), **await self._read(admin_statements.check)}


def _size() -> Steps[dict[str, Any]]:
    (size,) = yield from the_row(
        "SELECT COALESCE(SUM(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
        "WHERE relnamespace = to_regnamespace(current_schema()) AND relkind = 'r'"
    )
    (version,) = yield from the_row("SHOW server_version")
    (checksums,) = yield from the_row("SHOW data_checksums")
    return {"bytes": size, "version": version, "data_checksums": checksums == "on"}


class _Snapshot:
    """A connection inside one transaction that reads."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def run(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await _run(self._connection, call(*args, **kwargs))


async def _run(connection: Any, steps: Steps[T]) -> T:
    """Execute what the steps yield, until they return."""
    try:
        statement = next(steps)
        while True:
            try:
                found = await _execute(connection, statement)
            except asyncpg.UniqueViolationError as error:
                statement = steps.throw(DuplicateError(error.constraint_name))
            else:
                statement = steps.send(found)
    except StopIteration as done:
        value: T = done.value
        return value


async def _execute(connection: Any, statement: Statement | Repeated) -> Sequence[Row]:
    sql = for_postgres(statement.sql)
    if isinstance(statement, Repeated):
        await connection.executemany(sql, statement.rows)
        return ()
    if not all(map(_storable, statement.parameters)):
        raise base.NotFoundError("not found")  # what is stored was checked: this only names something
    found: Sequence[Row] = await connection.fetch(sql, *statement.parameters)
    return found


def _storable(parameter: Any) -> bool:
    if not isinstance(parameter, str):
        return True
    try:
        return b"\0" not in parameter.encode()
    except UnicodeEncodeError:
        return False


@asynccontextmanager
async def _translated() -> AsyncGenerator[None]:
    """A database that is gone, full, read-only or overloaded is unavailable; other errors are bugs."""
    try:
        yield
    except _UNAVAILABLE as error:
        raise base.UnavailableError(f"database: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """In words that name no address, user or password."""
    if isinstance(error, asyncpg.PostgresError):
        return f"{type(error).__name__} ({error.sqlstate})"
    return type(error).__name__
