"""The SQLite file: its settings, its format, its failures."""

import asyncio
import json
import sqlite3
import threading
from pathlib import Path

import pytest

from xtrace_sdk.server.credentials import hash_secret, key_record
from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.storage import sqlite
from xtrace_sdk.server.storage.base import (
    Ciphertexts,
    FormatError,
    NewChunk,
    Query,
    TooSlowError,
    UnavailableError,
)
from xtrace_sdk.server.storage.integrity import verify
from xtrace_sdk.server.storage.migrations import migrations
from xtrace_sdk.server.storage.sqlite import SqliteStore


async def test_opened_again_and_again(tmp_path: Path) -> None:
    for _ in range(3):
        store = SqliteStore(tmp_path / "db")
        report = await store.check()
        assert report["format"] == len(list(migrations("sqlite")))
        await store.close()


async def test_durable_settings(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    for connection in (store._writer_connection, store._readers.idle.get()):
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
        last = connection
    store._readers.idle.put(last)
    await store.close()


async def test_newer_format_is_refused(tmp_path: Path) -> None:
    await SqliteStore(tmp_path / "db").close()
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute("INSERT INTO migrations VALUES (9999, 'later')")
    database.close()
    with pytest.raises(FormatError, match="format 9999"):
        SqliteStore(tmp_path / "db")


async def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"something else" * 1000)
    with pytest.raises(UnavailableError, match="not a database"):
        SqliteStore(tmp_path / "db")


async def test_locked_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear error, nothing half-done, and it goes on when the lock is gone."""
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.05)
    store = SqliteStore(tmp_path / "db")
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="locked"):
        await store.create_org("org", [])
    assert not await store.has_org()
    other.execute("ROLLBACK")
    other.close()
    assert await store.create_org("org", [])
    assert not await store.create_org("second", [])
    await store.close()


async def test_abandoned_changes_release_their_connection(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.create_org("org", [])
    await store.create_kb("org", "kb", "", "")
    feed = store.changes("org", "kb", "c", 0)
    assert (await anext(feed)).sequence == 0
    await feed.aclose()
    await store.delete_kb("org", "kb")
    await store.close()


def test_statements_are_split_where_sqlite_would(tmp_path: Path) -> None:
    script = "-- one; 'two'\nCREATE TABLE a (b TEXT DEFAULT ';');\n\nCREATE TABLE c (d);\n"
    assert len(list(sqlite._statements(script))) == 2


async def test_a_search_that_takes_too_long_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.create_org("org", [])
    await store.create_kb("org", "kb", "", "")
    chunks = [NewChunk("", "", {"tag1": "aaa"}, Ciphertexts(1, b"\1"))] * 3000
    await store.insert("org", "kb", "c", chunks, None)
    query = Query(filter=parse_filter({"tag1": {"$contains": "a"}}))
    monkeypatch.setattr(sqlite, "_SEARCH_SECONDS", -1.0)
    for _ in range(sqlite._READERS):
        with pytest.raises(TooSlowError, match=r"^meta_filter"):
            await store.select("org", "kb", query)
        with pytest.raises(TooSlowError):
            await store.count("org", "kb", query)
        with pytest.raises(TooSlowError):
            await store.delete_matching("org", "kb", query)
        with pytest.raises(TooSlowError):
            await store.patch_matching("org", "kb", query, {"tag2": "b"})
        assert len(await store.fetch("org", "kb", range(1, 3001), frozenset())) == 3000, "no bound on others"
    monkeypatch.undo()
    for _ in range(sqlite._READERS):
        assert (await store.select("org", "kb", query)).size == 3000
    assert await store.patch_matching("org", "kb", query, {"tag2": "b"}) == 3000
    assert await store.delete_matching("org", "kb", query) == 3000
    await store.close()


async def test_callers_are_looked_up_while_every_reader_is_busy(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.create_org("org", [key_record("secret", "org", admin=False, name="", default_permission=1)])
    await store.create_kb("org", "kb", "", "")
    key_hash = hash_secret("secret")
    release = threading.Event()
    busy = [
        asyncio.create_task(store._readers.run(lambda _: release.wait(60))) for _ in range(sqlite._READERS)
    ]
    try:
        async with asyncio.timeout(30):
            found = await store.find_key(key_hash)
            assert found is not None and found.org_id == "org"
            assert (await store.access("org", key_hash, "kb")).permission == 1
            assert await store.rights("org", key_hash) == 1
        assert not any(one.done() for one in busy)
    finally:
        release.set()
        assert all(await asyncio.gather(*busy))
        await store.close()


async def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="No such file"):
        SqliteStore(tmp_path / "none" / "db")


async def test_an_older_file_gets_checksums(tmp_path: Path) -> None:
    """What format 2 held is as it was, passes verification, and long facets are found."""
    long = "f" * 300
    meta = json.dumps({"tag1": "a", "facets": [long, "b"]})
    key = key_record("secret", "org", admin=False, name="n", default_permission=7)
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)")
        for number, script in migrations("sqlite")[:2]:
            database.executescript(script)
            database.execute("INSERT INTO migrations VALUES (?, '')", (number,))
        for table, values in [
            ("orgs", ("org", "2026")),
            ("keys", (key.hash, "org", 0, 1, key.first_n, "n", "", 7, "2026", None)),
            ("kbs", (1, "kb", "org", "name", "", "2026", "2026", 3, 1, 2)),
            ("permissions", (key.hash, 1, 3, "2026")),
            ("contexts", (1, "org", "c", None, None, None, None)),
            ("bindings", (1, 1)),
            ("chunks", (1, 2, 1, 5, "k", "name", "a", None, None, None, None, 2, meta, "sealed")),
            ("facets", (1, long, 2)),
            ("facets", (1, "b", 2)),
            ("vectors", (1, 2, 1, 1, 1, b"\5", b"record")),
            ("deletions", (1, 2, (1).to_bytes(8, "little"))),
            ("replays", ("token", "digest", 1, 1e12, "[[2], 0]")),
        ]:
            database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
    database.close()
    store = SqliteStore(tmp_path / "db")
    assert (await verify(store)).damage == []
    found = await store.fetch("org", "kb", [2], frozenset({"content", "index", "record"}))
    assert found[2].content == "sealed" and found[2].vector == Ciphertexts(1, b"\5")
    assert (await store.select("org", "kb", Query("c", parse_filter({"facets": long})))).tolist() == [2]
    assert [one.sequence for one in (await store.feed("org", "kb", None, 0, None, 9)).changed] == [1]
    assert await store.delete("org", "kb", [2]) == 1
    assert (await verify(store)).damage == []
    await store.close()
