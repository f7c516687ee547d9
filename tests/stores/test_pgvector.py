"""`PgVectorStore` against a real PostgreSQL: migrations, connections, the index."""

import asyncio
import gc
import logging
import socket
import uuid
from contextlib import asynccontextmanager

import numpy as np
import pytest

from xtrace_sdk.errors import ConfigurationError, DimensionMismatchError

asyncpg = pytest.importorskip("asyncpg", reason="asyncpg (extra postgres) is not installed")
from xtrace_sdk.stores import PgVectorStore  # noqa: E402

DIMENSIONS = 12
ONES = np.ones(DIMENSIONS)


@pytest.fixture
def table():
    """A table that no other test uses."""
    return f"t_{uuid.uuid4().hex}"


@pytest.fixture
def connect(postgres_dsn):
    """A migrated store with a small pool, for an ``async with``."""

    @asynccontextmanager
    async def connected(table, dimensions=DIMENSIONS, migrate=True, max_size=4, settings="", **options):
        store = await PgVectorStore.connect(
            postgres_dsn + settings, dimensions, max_size=max_size, table_name=table, **options
        )
        async with store:
            if migrate:
                await store.apply_migrations()
            yield store

    return connected


@pytest.fixture
async def database(postgres_dsn):
    """A connection beside the store's."""
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def applied(database, table):
    rows = await database.fetch("SELECT number FROM xtrace_store_migrations WHERE table_name = $1", table)
    return [row["number"] for row in rows]


# Migrations


async def test_migrations_are_applied_once(connect, database, table, embedded):
    async with connect(table) as store:
        await store.upsert([embedded("a", ONES)], "space")
        await store.apply_migrations()
        assert await applied(database, table) == [1]
        assert len(await store.search(ONES, "space")) == 1
    async with connect(table) as store:  # and by the next process
        assert len(await store.search(ONES, "space")) == 1


async def test_processes_that_start_together_apply_them_once(postgres_dsn, database, table):
    await database.execute(f"CREATE DATABASE {table}")  # a new one: the extension is not there yet either
    dsn = postgres_dsn.replace("/postgres?", f"/{table}?")
    async with (
        await PgVectorStore.connect(dsn, DIMENSIONS, max_size=3) as one,
        await PgVectorStore.connect(dsn, DIMENSIONS, max_size=3) as two,
    ):
        await asyncio.gather(*(store.apply_migrations() for store in (one, two, one, two)))
        assert await one.search(ONES, "space") == []
    await database.execute(f"DROP DATABASE {table}")


async def test_the_index_has_the_parameters_given(connect, database, table):
    async with connect(table, hnsw_m=8, hnsw_ef_construction=32):
        definition = await database.fetchval(
            "SELECT indexdef FROM pg_indexes WHERE indexname = $1", f"{table}_embedding"
        )
    assert "USING hnsw (embedding vector_cosine_ops)" in definition
    assert "m='8', ef_construction='32'" in definition


async def test_a_newer_table_is_refused(connect, database, table):
    async with connect(table) as store:
        await database.execute(
            "INSERT INTO xtrace_store_migrations (table_name, number) VALUES ($1, 9999)", table
        )
        with pytest.raises(ConfigurationError, match="migration 9999 of a newer version"):
            await store.apply_migrations()


async def test_other_dimensions_are_refused(connect, table):
    async with connect(table):
        pass
    async with connect(table, dimensions=13, migrate=False) as store:
        with pytest.raises(DimensionMismatchError, match="was made for 12, not for 13"):
            await store.apply_migrations()


async def test_without_migrations_it_says_what_to_do(connect, table, embedded):
    async with connect(table, migrate=False) as store:
        for call in (store.search(ONES, "space"), store.upsert([embedded("a", ONES)], "space")):
            with pytest.raises(ConfigurationError, match=rf"{table}: no such table; call apply_migrations"):
                await call


async def test_tables_know_nothing_of_each_other(connect, table, embedded, everything):
    async with connect(table) as one, connect(table + "x") as two:
        await one.upsert([embedded("a", ONES)], "space")
        assert await everything(two, "space") == []


# Options and connections


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 2001}, "dimensions: pgvector indexes at most 2000"),
        ({"table_name": "t; DROP TABLE x"}, "table_name"),
        ({"table_name": "Upper"}, "table_name"),
        ({"table_name": "t" * 49}, "table_name"),
        ({"hnsw_m": 1}, "hnsw_m"),
        ({"hnsw_ef_construction": 31}, "hnsw_ef_construction"),
        ({"hnsw_ef_search": 0}, "hnsw_ef_search"),
        ({"hnsw_ef_search": True}, "hnsw_ef_search"),
        ({"min_size": 0}, "min_size"),
        ({"min_size": 3, "max_size": 2}, "min_size"),
        ({"startup_retries": -1}, "startup_retries"),
        ({"startup_backoff_seconds": -0.5}, "startup_backoff_seconds"),
    ],
)
async def test_wrong_options_are_refused_before_any_connection(options, message):
    with pytest.raises(ConfigurationError, match=message):
        await PgVectorStore.connect("postgresql://localhost:1/none", **{"dimensions": 4, **options})


@pytest.fixture
def closed():
    """A socket with a port where nobody listens, and which nobody else is given."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one


async def test_connecting_is_tried_again_and_given_up(closed, caplog):
    caplog.set_level(logging.WARNING, "xtrace.stores")
    dsn = f"postgresql://user:canary@127.0.0.1:{closed.getsockname()[1]}/none"
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await PgVectorStore.connect(dsn, 4, startup_retries=3, startup_backoff_seconds=0.001)
    assert [record.args[1] for record in caplog.records] == [1, 2, 3]
    assert "canary" not in caplog.text


async def test_a_database_that_comes_up_late_is_waited_for(closed, postgres_dsn, table):
    """Connections are refused at first, then passed on to the real database."""
    path = postgres_dsn.split("host=")[1].split("&")[0] + "/.s.PGSQL.5432"
    port = closed.getsockname()[1]

    async def forward(reader, writer):
        there, back = await asyncio.open_unix_connection(path)

        async def copy(source, target):
            while data := await source.read(65536):
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    async def later():
        await asyncio.sleep(0.1)
        return await asyncio.start_server(forward, sock=closed)

    starting = asyncio.create_task(later())
    dsn = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    options = {"max_size": 1, "startup_backoff_seconds": 0.05, "table_name": table}
    async with await PgVectorStore.connect(dsn, 4, **options) as store:
        await store.apply_migrations()
        assert await store.search([1.0] * 4, "space") == []
    (await starting).close()


async def test_what_will_not_mend_itself_is_not_tried_again(postgres_dsn, caplog):
    caplog.set_level(logging.WARNING, "xtrace.stores")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await PgVectorStore.connect(postgres_dsn.replace("/postgres?", "/no_such_database?"), 4)
    assert caplog.records == []


# Search with the index


async def test_the_index_loses_nothing_to_filters_and_namespaces(connect, database, table, embedded):
    rng = np.random.default_rng(11)
    vectors = rng.normal(size=(600, DIMENSIONS)).astype(np.float32)
    # The planner is told to take the index, which it would by itself once the table is large.
    settings = "&enable_seqscan=off&enable_bitmapscan=off"
    async with connect(table, hnsw_ef_search=10, settings=settings) as store:
        for space, numbers in (("big", range(570)), ("small", range(570, 600))):
            await store.upsert([embedded(f"{n}", vectors[n], rare=n % 60 == 0) for n in numbers], space)
        for index in ("place", "metadata"):
            await database.execute(f"DROP INDEX {table}_{index}")
        await database.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
        used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1"
        assert await database.fetchval(used, f"{table}_embedding") == 0

        def nearest(rows, count):
            scores = vectors[rows] @ ONES / np.linalg.norm(vectors[rows], axis=1)
            return [str(rows[at]) for at in np.argsort(-scores)[:count]]

        async def found(*arguments):
            return [result.chunk.id for result in await store.search(ONES, *arguments)]

        # Fewer than asked for would be the mark of an index scan that gave up after ef_search candidates.
        assert await found("small", 30) == nearest(np.arange(570, 600), 30)
        assert await found("big", 9, {"rare": True}) == nearest(np.arange(0, 570, 60), 9)
        assert len(await found("big", 100)) == 100
        assert set(await found("big", 10)) <= set(nearest(np.arange(570), 20))
    assert await database.fetchval(used, f"{table}_embedding") > 0  # a session's counts arrive when it ends


async def test_all_chunks_are_streamed_from_one_moment(connect, table, embedded):
    async with connect(table, max_size=2) as store:
        await store.upsert([embedded(f"{n}", ONES) for n in range(500)], "space")
        reading = store.get_all_chunks("space")
        first = await anext(reading)
        await store.delete_namespace("space")
        rest = [chunk.id async for chunk in reading]
        assert [first.id, *rest] == [f"{n}" for n in range(500)]


async def test_readers_that_stop_early_give_their_connection_back(connect, table, embedded):
    async with connect(table, max_size=1) as store:
        await store.upsert([embedded(f"{n}", ONES) for n in range(3)], "space")
        for _ in range(3):
            async for chunk in store.get_all_chunks("space"):
                assert chunk.id == "0"
                break
            gc.collect()
            await asyncio.sleep(0.01)
        assert len(await asyncio.wait_for(store.search(ONES, "space"), 10)) == 3


async def test_writers_in_opposite_order_do_not_deadlock(connect, table, embedded, everything):
    async with connect(table) as store:
        forth = [embedded(f"{n}", ONES, "forth") for n in range(60)]
        back = [embedded(f"{n}", ONES, "back") for n in reversed(range(60))]
        await asyncio.gather(*(store.upsert(chunks, "space") for chunks in [forth, back] * 4))
        chunks = await everything(store, "space")
        assert len(chunks) == 60
        assert len({chunk.content for chunk in chunks}) == 1  # each upsert whole or not at all


async def test_a_failing_upsert_stores_nothing(connect, database, table, embedded, everything):
    async with connect(table) as store:
        await database.execute(f"ALTER TABLE {table} ADD CHECK (content <> 'bad')")
        with pytest.raises(asyncpg.CheckViolationError):
            await store.upsert([embedded("a", ONES), embedded("b", ONES, "bad")], "space")
        assert await everything(store, "space") == []
