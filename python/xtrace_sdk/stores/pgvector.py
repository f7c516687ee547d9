"""`PgVectorStore`: PostgreSQL with pgvector, for vectors that the database may read."""

# ruff: noqa: S608 - statements are made of fixed pieces and a checked table name; all else is a parameter

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Final, Self

from xtrace_sdk.errors import ConfigurationError, DimensionMismatchError
from xtrace_sdk.numbered_sql import numbered_sql
from xtrace_sdk.postgres import open_pool  # the extra's absence is named there
from xtrace_sdk.stores import checks
from xtrace_sdk.stores.base import Chunk, EmbeddedChunk, RetrievalResult, Vector

import asyncpg  # isort: skip

log = logging.getLogger("xtrace.stores")

_MAX_DIMENSIONS: Final = 2000  # of pgvector's HNSW index
_LEAST_PGVECTOR: Final = (0, 8)  # the first with iterative scans, without which filters lose results
_TABLE: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_MIGRATION_LOCK: Final = 0x7874_7261_6365  # an arbitrary number that is always the same
_ROWS_AT_ONCE: Final = 200
_COLUMNS: Final = "id, document_id, content, position, metadata::text AS metadata, content_hash"
# @> finds candidates by the index; it also finds objects and arrays that contain more than was asked for.
_MATCHES: Final = (
    "metadata::jsonb @> {filter}::jsonb AND NOT EXISTS (SELECT FROM jsonb_each({filter}::jsonb) AS wanted "
    "WHERE metadata::jsonb -> wanted.key IS DISTINCT FROM wanted.value)"
)


class PgVectorStore:
    """Search by cosine similarity over one table of a PostgreSQL database. A `VectorStore`.

    A call is one transaction. Made by `connect`, or over a pool of one's own; `apply_migrations` prepares the
    database. Search is approximate once the planner uses the HNSW index.

    Args:
        pool: connections, as ``asyncpg.create_pool`` makes them.
        dimensions: of the vectors, at most 2000; fixed by the first migration.
        table_name: lower-case letters, digits and underscores.
        hnsw_m: links of a node of the index; set by the first migration.
        hnsw_ef_construction: candidates looked at when building the index; set by the first migration.
        hnsw_ef_search: candidates looked at by a search; the database's setting unless given.

    Raises ConfigurationError naming the argument.
    """

    def __init__(
        self,
        pool: Any,
        dimensions: int,
        *,
        table_name: str = "xtrace_chunks",
        hnsw_m: int = 16,
        hnsw_ef_construction: int = 64,
        hnsw_ef_search: int | None = None,
    ) -> None:
        self._dimensions = checks.checked_dimensions(dimensions)
        if dimensions > _MAX_DIMENSIONS:
            raise ConfigurationError(f"dimensions: pgvector indexes at most {_MAX_DIMENSIONS}")
        if not isinstance(table_name, str) or not _TABLE.fullmatch(table_name):
            raise ConfigurationError("table_name: expected at most 48 of a-z, 0-9 and _, no digit first")
        _within(hnsw_m, 2, 100, "hnsw_m")
        _within(hnsw_ef_construction, max(4, 2 * hnsw_m), 1000, "hnsw_ef_construction")
        if hnsw_ef_search is not None:
            _within(hnsw_ef_search, 1, 1000, "hnsw_ef_search")
        self._pool = pool
        self._table = table_name
        self._hnsw_m = hnsw_m
        self._hnsw_ef_construction = hnsw_ef_construction
        self._settings = {"hnsw.iterative_scan": "strict_order"}
        if hnsw_ef_search is not None:
            self._settings["hnsw.ef_search"] = str(hnsw_ef_search)

    @classmethod
    async def connect(
        cls,
        dsn: str,
        dimensions: int,
        *,
        min_size: int = 1,
        max_size: int = 10,
        startup_retries: int = 5,
        startup_backoff_seconds: float = 1.0,
        **store_options: Any,
    ) -> Self:
        """A store over a new pool of `min_size` to `max_size` connections.

        A database that cannot be reached, starts up or has no connection free is tried again
        `startup_retries` times, after `startup_backoff_seconds`, twice that, and so on up to 30 seconds, less
        up to half of it at random. Then, and at once for any other failure, the error is asyncpg's or an
        OSError. `store_options` are those of the constructor.
        """
        _within(min_size, 1, max_size, "min_size")
        _within(max_size, 1, 10_000, "max_size")
        _within(startup_retries, 0, 1000, "startup_retries")
        if not 0 <= startup_backoff_seconds < math.inf:
            raise ConfigurationError("startup_backoff_seconds: expected at least 0")
        store = cls(None, dimensions, **store_options)
        store._pool = await open_pool(
            dsn, startup_retries, startup_backoff_seconds, log, min_size=min_size, max_size=max_size
        )
        return store

    async def apply_migrations(self) -> None:
        """Bring the table to this version's form, if it has another. To be called at every start.

        Raises ConfigurationError when the table was written by a newer version or pgvector is too old,
        DimensionMismatchError when it was made for other dimensions.
        """
        known = dict(numbered_sql(__package__, "migrations"))
        async with self._transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS xtrace_store_migrations (table_name TEXT, number INTEGER, "
                "applied_at TIMESTAMPTZ NOT NULL DEFAULT now(), PRIMARY KEY (table_name, number))"
            )
            rows = await connection.fetch(
                "SELECT number FROM xtrace_store_migrations WHERE table_name = $1", self._table
            )
            applied = {row["number"] for row in rows}
            if unknown := applied - known.keys():
                raise ConfigurationError(
                    f"{self._table}: has migration {max(unknown)} of a newer version of this package"
                )
            for number in sorted(known.keys() - applied):
                log.info("applying migration %d to %s", number, self._table)
                await connection.execute(self._filled_in(known[number]))
                await connection.execute(
                    "INSERT INTO xtrace_store_migrations (table_name, number) VALUES ($1, $2)",
                    self._table,
                    number,
                )
            await self._check(connection)

    async def _check(self, connection: Any) -> None:
        version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        if tuple(map(int, version.split(".")[:2])) < _LEAST_PGVECTOR:
            raise ConfigurationError(f"pgvector {version} is too old, expected at least 0.8")
        dimensions = await connection.fetchval(
            "SELECT atttypmod FROM pg_attribute WHERE attrelid = $1::regclass AND attname = 'embedding'",
            self._table,
        )
        if dimensions != self._dimensions:
            raise DimensionMismatchError(
                f"dimensions: {self._table} was made for {dimensions}, not for {self._dimensions}"
            )

    def _filled_in(self, sql: str) -> str:
        values = {
            "TABLE": self._table,
            "DIMENSIONS": self._dimensions,
            "HNSW_M": self._hnsw_m,
            "HNSW_EF_CONSTRUCTION": self._hnsw_ef_construction,
        }
        return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), sql)

    async def upsert(self, embedded_chunks: Sequence[EmbeddedChunk], namespace: str) -> None:
        checks.checked_namespace(namespace)
        chunks, vectors = checks.checked_chunks(embedded_chunks, self._dimensions)
        if not chunks:
            return
        rows = [
            (
                namespace,
                one.chunk.id,
                one.chunk.document_id,
                one.chunk.content,
                one.chunk.position,
                json.dumps(one.chunk.metadata),
                one.chunk.content_hash,
                vector,
                one.embedding_model,
            )
            for one, vector in zip(chunks, vectors.tolist(), strict=True)
        ]
        async with self._transaction() as connection:
            await self._lock(connection, namespace)
            await connection.executemany(
                f"INSERT INTO {self._table} (namespace, id, document_id, content, position, metadata, "
                "content_hash, embedding, embedding_model) "
                "VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8::real[]::vector, $9) "
                "ON CONFLICT (namespace, id) DO UPDATE SET document_id = EXCLUDED.document_id, "
                "content = EXCLUDED.content, position = EXCLUDED.position, metadata = EXCLUDED.metadata, "
                "content_hash = EXCLUDED.content_hash, embedding = EXCLUDED.embedding, "
                "embedding_model = EXCLUDED.embedding_model",
                rows,
            )

    async def search(
        self,
        query_vector: Vector,
        namespace: str,
        limit: int = 10,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the documented name
    ) -> list[RetrievalResult]:
        checks.checked_namespace(namespace)
        checks.checked_limit(limit)
        query = checks.checked_vector(query_vector, self._dimensions, "query_vector")
        wanted = checks.checked_filter(filter)
        parameters: list[Any] = [namespace, query.tolist(), limit]
        condition = self._condition(wanted, parameters)
        distance = "(embedding <=> $2::real[]::vector)"
        async with self._transaction(readonly=True) as connection:
            for setting, value in self._settings.items():
                await connection.execute("SELECT set_config($1, $2, true)", setting, value)
            rows = await connection.fetch(
                # The distance from or to a zero vector is NaN, which PostgreSQL takes to be equal to itself.
                f"SELECT {_COLUMNS}, 1 - {distance} AS score FROM {self._table} WHERE namespace = $1 "
                f"{condition} AND {distance} <> 'NaN' ORDER BY {distance}, place LIMIT $3",
                *parameters,
            )
        return [RetrievalResult(_chunk(row), float(row["score"])) for row in rows]

    async def delete(self, chunk_ids: Sequence[str], namespace: str) -> None:
        checks.checked_namespace(namespace)
        ids = checks.checked_ids(chunk_ids)
        if not ids:
            return
        async with self._transaction() as connection:
            await self._lock(connection, namespace)
            await connection.execute(
                f"DELETE FROM {self._table} WHERE namespace = $1 AND id = ANY($2::text[])", namespace, ids
            )

    async def delete_namespace(self, namespace: str) -> None:
        checks.checked_namespace(namespace)
        async with self._transaction() as connection:
            await self._lock(connection, namespace)
            await connection.execute(f"DELETE FROM {self._table} WHERE namespace = $1", namespace)

    async def get_all_chunks(
        self,
        namespace: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the documented name
    ) -> AsyncIterator[Chunk]:
        """As the protocol says, of one moment, through a cursor: memory does not grow with the namespace."""
        checks.checked_namespace(namespace)
        wanted = checks.checked_filter(filter)
        parameters: list[Any] = [namespace]
        condition = self._condition(wanted, parameters)
        sql = f"SELECT {_COLUMNS} FROM {self._table} WHERE namespace = $1 {condition} ORDER BY place"
        async with self._transaction(readonly=True) as connection:
            async for row in connection.cursor(sql, *parameters, prefetch=_ROWS_AT_ONCE):
                yield _chunk(row)

    async def close(self) -> None:
        """Close the connections, when those in use have been given back."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dimensions={self._dimensions}, table_name={self._table!r})"

    @asynccontextmanager
    async def _transaction(self, *, readonly: bool = False) -> AsyncGenerator[Any]:
        with self._prepared():
            async with self._pool.acquire() as connection, connection.transaction(readonly=readonly):
                yield connection

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.UndefinedTableError:
            raise ConfigurationError(f"{self._table}: no such table; call apply_migrations()") from None

    async def _lock(self, connection: Any, namespace: str) -> None:
        # One writer at a time in a namespace: two that touch the same chunks in another order would deadlock.
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{self._table}/{namespace}"
        )

    @staticmethod
    def _condition(wanted: Mapping[str, Any], parameters: list[Any]) -> str:
        if not wanted:
            return ""
        parameters.append(json.dumps(wanted))
        return "AND " + _MATCHES.format(filter=f"${len(parameters)}::text")


def _chunk(row: Mapping[str, Any]) -> Chunk:
    return Chunk(
        id=row["id"],
        document_id=row["document_id"],
        content=row["content"],
        position=row["position"],
        metadata=json.loads(row["metadata"]),
        content_hash=row["content_hash"],
    )


def _within(value: Any, least: int, most: int, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{name}: expected an integer from {least} to {most}, got {value!r}")
