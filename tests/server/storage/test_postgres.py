"""A real PostgreSQL: format, connections that break, transactions that meet, searches that take too long."""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from xtrace_sdk.server.credentials import hash_secret, key_record
from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.storage import admin_statements, postgres, read_statements
from xtrace_sdk.server.storage.base import (
    Ciphertexts,
    FormatError,
    NewChunk,
    NotFoundError,
    Query,
    Replay,
    TooSlowError,
    UnavailableError,
)
from xtrace_sdk.server.storage.migrations import migrations
from xtrace_sdk.server.storage.postgres import PostgresStore
from xtrace_sdk.server.storage.statements import rows

CHUNK = NewChunk("sealed", "", {"tag1": "aaa"}, Ciphertexts(1, b"\1"))


@pytest.fixture(scope="module")
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside the store's."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
async def store(url: str, database: asyncpg.Connection) -> AsyncIterator[PostgresStore]:
    """A store with the organisation `org` and an empty knowledge base `kb`."""
    await database.execute("DROP SCHEMA IF EXISTS xtrace CASCADE")
    store = await PostgresStore.connect(url, 4)
    await store.create_org("org", [key_record("secret", "org", admin=False, name="", default_permission=1)])
    await store.create_kb("org", "kb", "", "")
    yield store
    await store.close()


async def test_several_first_starts_at_once(url: str, database: asyncpg.Connection) -> None:
    await database.execute("DROP SCHEMA IF EXISTS xtrace CASCADE")
    stores = await asyncio.gather(*(PostgresStore.connect(url, 1) for _ in range(4)))
    known = [number for number, _ in migrations("postgres")]
    found = await database.fetch("SELECT number FROM xtrace.migrations ORDER BY number")
    assert [row["number"] for row in found] == known
    assert [(await store.check())["format"] for store in stores] == [known[-1]] * 4
    made = await asyncio.gather(*(store.create_org(f"org{at}", []) for at, store in enumerate(stores)))
    assert sorted(made) == [False, False, False, True]
    for store in stores:
        await store.close()


async def test_newer_format_is_refused(url: str, database: asyncpg.Connection, store: PostgresStore) -> None:
    await database.execute("INSERT INTO xtrace.migrations VALUES (9999, 'later')")
    with pytest.raises(FormatError, match="format 9999"):
        await PostgresStore.connect(url)


async def test_other_encodings_are_refused(url: str, database: asyncpg.Connection) -> None:
    await database.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(FormatError, match="encoding is LATIN1"):
        await PostgresStore.connect(url.replace(url.split("/")[3].split("?")[0], "latin"))


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(postgres, "_START_BACKOFF_SECONDS", 0.001)
    with pytest.raises(UnavailableError, match="database: ") as raised:
        await PostgresStore.connect("postgresql://canary:canary@127.0.0.1:1/none")
    assert len(caplog.records) == postgres._START_RETRIES
    assert "canary" not in str(raised.value) + caplog.text


async def test_a_database_that_is_not_there_is_not_waited_for(url: str) -> None:
    with pytest.raises(UnavailableError, match="InvalidCatalogName"):
        await PostgresStore.connect(url.replace(url.split("/")[3].split("?")[0], "no_such_database"))


async def test_a_search_that_takes_too_long_ends(
    store: PostgresStore, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.insert("org", "kb", "c", [CHUNK] * 3, None)
    query = Query(filter=parse_filter({"tag1": {"$contains": "a"}}))
    monkeypatch.setattr(postgres, "_SEARCH_SECONDS", 0.1)
    async with database.transaction():
        await database.execute("LOCK TABLE xtrace.chunks")
        with pytest.raises(TooSlowError, match=r"^meta_filter"):
            await store.select("org", "kb", query)
        with pytest.raises(TooSlowError):
            await store.count("org", "kb", query)
        with pytest.raises(TooSlowError):
            await store.delete_matching("org", "kb", query)
    monkeypatch.undo()
    assert (await store.select("org", "kb", query)).tolist() == [1, 2, 3]


async def test_callers_are_looked_up_while_every_connection_is_busy(store: PostgresStore) -> None:
    busy = [await store._pool.acquire() for _ in range(4)]
    async with asyncio.timeout(30):
        found = await store.find_key(hash_secret("secret"))
        assert found is not None and found.org_id == "org"
        assert (await store.access("org", hash_secret("secret"), "kb")).permission == 1
    for connection in busy:
        await store._pool.release(connection)


async def test_connections_that_break(store: PostgresStore, database: asyncpg.Connection) -> None:
    """A clear error, nothing half-done, and it goes on by itself."""

    async def broken() -> None:
        def steps():
            yield from rows("INSERT INTO orgs VALUES ('second', '', 0)")
            await_kill.set()
            yield from rows("SELECT pg_sleep(30)")

        await store._write(steps)

    await_kill = asyncio.Event()
    task = asyncio.create_task(broken())
    await await_kill.wait()
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'xtrace' AND datname = current_database()"
    )
    with pytest.raises(UnavailableError, match="database: "):
        await task
    assert await database.fetchval("SELECT COUNT(*) FROM xtrace.orgs") == 1
    assert (await store.insert("org", "kb", "c", [CHUNK], None)).ids == [1]
    assert await store.find_key(hash_secret("secret")) is not None


async def test_locked_by_somebody_else(
    store: PostgresStore, url: str, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres._SETTINGS, "lock_timeout", "100ms")
    impatient = await PostgresStore.connect(url, 1)
    async with database.transaction():
        await database.execute("SELECT FROM xtrace.kbs FOR UPDATE")
        with pytest.raises(UnavailableError, match="LockNotAvailable"):
            await impatient.insert("org", "kb", "c", [CHUNK], None)
    assert (await impatient.insert("org", "kb", "c", [CHUNK], None)).ids == [1]
    await impatient.close()


async def test_transactions_that_meet_are_repeated(store: PostgresStore) -> None:
    """Serialisable ones that read and write the same: each repeated until it has seen the others."""
    met = 0

    def steps():
        nonlocal met
        met += 1
        ((count,),) = yield from rows("SELECT COUNT(*) FROM kbs")
        yield from admin_statements.create_kb("org", f"kb{count}", "", "")
        return count

    counts = await asyncio.gather(*(store.alone(steps) for _ in range(4)))
    assert sorted(counts) == [1, 2, 3, 4]
    assert met > 4


async def test_writers_of_one_knowledge_base_follow_each_other(store: PostgresStore) -> None:
    together = await asyncio.gather(*(store.insert("org", "kb", "c", [CHUNK] * 3, None) for _ in range(8)))
    ids = [one for inserted in together for one in inserted.ids]
    assert sorted(ids) == list(range(1, 25))
    assert (await store.get_kb("org", "kb")).count == 24
    assert (await store.access("org", hash_secret("secret"), "kb")).sequence == 8


async def test_the_same_insert_many_times_at_once(store: PostgresStore) -> None:
    for strict in (False, True):
        replay = Replay(f"token {strict}", "digest", 60, strict)
        together = await asyncio.gather(
            *(store.insert("org", "kb", "c", [CHUNK] * 2, replay) for _ in range(6))
        )
        assert len({tuple(one.ids) for one in together}) == 1
    assert (await store.get_kb("org", "kb")).count == 4


async def test_names_that_no_text_can_hold(store: PostgresStore) -> None:
    for name in ("a\0b", "a\ud800"):
        with pytest.raises(NotFoundError):
            await store.get_kb("org", name)
        with pytest.raises(NotFoundError):
            await store.access(name, hash_secret("secret"), "kb")


async def test_abandoned_changes_release_their_connection(store: PostgresStore) -> None:
    for _ in range(6):
        feed = store.changes("org", "kb", "c", 0)
        assert (await anext(feed)).sequence == 0
        await feed.aclose()
    await store.delete_kb("org", "kb")


async def test_health_report(store: PostgresStore) -> None:
    report = await store.check()
    assert report["engine"] == "postgresql" and report["data_checksums"] is True
    assert (report["knowledge_bases"], report["chunks"]) == (1, 0) and report["bytes"] > 0


async def test_conditions_use_the_indexes(store: PostgresStore, database: asyncpg.Connection) -> None:
    chunks = [
        NewChunk("", "", {"tag1": f"value {n}", "facets": [f"token {n}"]}, Ciphertexts(1, b"\1"))
        for n in range(3000)
    ]
    await store.insert("org", "kb", "c", chunks, None)
    await database.execute("ANALYZE xtrace.chunks; ANALYZE xtrace.facets")
    for condition, index in [
        ({"tag1": "value 7"}, "chunks_tag1"),
        ({"tag1": {"$begins_with": "value 299"}}, "chunks_tag1"),
        ({"tag1": {"$in": ["value 1", "value 2"]}}, "chunks_tag1"),
        ({"facets": {"$any": ["token 9"]}}, "facets_pkey"),
    ]:
        plans: list[str] = []

        def explained(condition=condition, plans=plans):
            steps = postgres_select(condition)
            statement = next(steps)
            while "FROM chunks AS c" not in statement.sql:
                statement = steps.send((yield statement))
            lines = yield from rows("EXPLAIN " + statement.sql, *statement.parameters)
            plans.extend(line[0] for line in lines)

        await store._read(explained)
        assert any(index in line for line in plans), plans
        assert not any("Seq Scan on chunks" in line for line in plans), plans


def postgres_select(condition):
    return read_statements.select(PostgresStore.dialect, "org", "kb", Query(filter=parse_filter(condition)))
