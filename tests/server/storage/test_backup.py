"""Backups move everything, between engines too, and what is not whole is refused."""

import asyncio
import gzip
import hashlib
import io
import json
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from typer.testing import CliRunner

from xtrace_sdk.cli import app
from xtrace_sdk.errors import InputError
from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage import base
from xtrace_sdk.server.storage.backup import backup, restore
from xtrace_sdk.server.storage.base import Ciphertexts, NewChunk, Query, Replay
from xtrace_sdk.server.storage.integrity import verify
from xtrace_sdk.server.storage.opening import open_store
from xtrace_sdk.server.storage.sqlite import SqliteStore
from xtrace_sdk.server.storage.tables import TABLES


@pytest.fixture
async def source(tmp_path: Path, filled, client):
    store = SqliteStore(tmp_path / "source")
    await filled(store, client)
    yield store
    await store.close()


@pytest.mark.parametrize("engines", [("sqlite", "postgresql"), ("postgresql", "memory")])
async def test_everything_moves(engines, tmp_path: Path, request, filled, all_of, client) -> None:
    def settings(engine: str) -> Settings:
        if engine == "postgresql":
            return Settings(database_url=urls.pop())
        return Settings(data=tmp_path if engine == "sqlite" else Path(":memory:"))

    urls = [await asyncio.to_thread(request.getfixturevalue("new_database"))]
    first = await open_store(settings(engines[0]))
    await filled(first, client)
    rows, damaged = await backup(first, tmp_path / "backup")
    assert damaged == 0 and stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    if engines[1] == "postgresql":
        urls.append(await asyncio.to_thread(request.getfixturevalue("new_database"))) if not urls else None
    second = await open_store(settings(engines[1]))
    assert await restore(second, tmp_path / "backup") == rows
    assert await all_of(second) == await all_of(first)
    report = await verify(second)
    assert report.damage == [] and report.rows > rows
    # It goes on where the first one was: ids, numbers of tables, replays, filters.
    for store in (first, second):
        new = NewChunk("", "", {}, Ciphertexts(1, b"\1"))
        assert (await store.insert("org", "kb", client.context_id, [new], None)).ids == [31]
        replay = Replay("token", "digest", 3600, strict=True)
        again = await store.insert("org", "kb", client.context_id, [new], replay)
        assert again.ids == list(range(1, 31))
        await store.create_kb("org", "third", "", "")
        assert (await store.insert("org", "third", "another", [new], None)).ids == [1]
        found = await store.select("org", "kb", Query(filter=parse_filter({"facets": "z", "tag3": "new"})))
        assert found.tolist() == [5]
        await store.close()


async def test_a_file_that_is_not_whole_is_refused_and_nothing_kept(tmp_path: Path, source) -> None:
    path = tmp_path / "backup"
    await backup(source, path)
    whole = path.read_bytes()
    plain = gzip.decompress(whole)
    records = list(msgpack.Unpacker(io.BytesIO(plain)))
    changed = [one for one in records if one[0] != "vectors"]
    bad = {
        "cut": whole[:-1],
        "half": whole[: len(whole) // 2],
        "without its end": gzip.compress(plain[:-50]),
        "one bit": gzip.compress(plain[:5000] + bytes([plain[5000] ^ 1]) + plain[5001:]),
        "a table less": gzip.compress(b"".join(map(msgpack.packb, changed))),
        "more after the end": gzip.compress(plain + b"\0"),
        "empty": b"",
        "something else": b"text",
        "a newer format": gzip.compress(msgpack.packb(["xtrace backup", 3, ""])),
    }
    target = SqliteStore(tmp_path / "target")
    for name, data in bad.items():
        path.write_bytes(data)
        with pytest.raises(InputError, match="format 3" if "newer" in name else "not whole"):
            await restore(target, path)
        assert not await target.has_org(), name
    path.write_bytes(whole)
    await restore(target, path)
    with pytest.raises(base.ConflictError, match="not empty"):
        await restore(target, path)
    await target.close()


async def test_writers_go_on_during_a_backup(tmp_path: Path, source, client) -> None:
    """The backup has one state: all of a change or nothing, also of those made meanwhile."""
    stop = False

    async def write() -> int:
        number = 0
        while not stop:
            new = NewChunk("", "", {}, Ciphertexts(1, b"\1"))
            await source.insert("org", "kb", client.context_id, [new] * 3, None)
            number += 1
        return number

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.05)
    await backup(source, tmp_path / "backup")
    stop = True
    assert await writing > 1
    target = SqliteStore(tmp_path / "target")
    await restore(target, tmp_path / "backup")
    assert (await verify(target)).damage == []
    kb = await target.get_kb("org", "kb")
    assert kb.count % 3 == 0 and kb.count < (await source.get_kb("org", "kb")).count
    await target.close()


def test_every_table_is_in_a_backup(tmp_path: Path) -> None:
    """A table or column of a later migration is not forgotten."""
    asyncio.run(SqliteStore(tmp_path / "db").close())
    with sqlite3.connect(tmp_path / "db") as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert names - {"facets", "migrations", "sqlite_sequence"} == {table.name for table in TABLES}
        for table in TABLES:
            columns = {row[1] for row in database.execute(f"PRAGMA table_info({table.name})")}
            assert columns == set(table.columns), table.name
    database.close()


def test_the_commands(tmp_path: Path, filled, all_of, client) -> None:
    async def contents(folder: Path):
        store = SqliteStore(folder / "xtrace.sqlite3")
        try:
            if not await store.has_org():
                await filled(store, client)
            return await all_of(store)
        finally:
            await store.close()

    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, third):
        folder.mkdir()
    expected = asyncio.run(contents(first))
    run = CliRunner().invoke
    done = run(app, ["verify", "--data", str(first)])
    assert done.exit_code == 0 and ", 0 faults" in done.stdout
    file = str(tmp_path / "backup")
    done = run(app, ["backup", file, "--data", str(first)])
    assert done.exit_code == 0 and "rows written" in done.stdout, done.output
    done = run(app, ["backup", file, "--data", str(first), "--json"])
    assert done.exit_code == 2, "exists"
    assert json.loads(done.stdout) == {"error": {"message": "FILE: exists already", "status": None}}
    done = run(app, ["restore", file, "--data", str(second), "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    again = json.loads(run(app, ["backup", f"{file}-2", "--data", str(first), "--json"]).stdout)
    assert again == {"file": f"{file}-2", "rows": rows, "damaged": 0} and rows > 0
    assert json.loads(run(app, ["verify", "--data", str(second), "--json"]).stdout)["damage"] == []
    assert asyncio.run(contents(second)) == expected
    assert run(app, ["restore", file, "--data", str(second)]).exit_code == 1, "not empty"
    copy = third / "xtrace.sqlite3"
    assert run(app, ["backup", str(copy), "--sqlite", "--data", str(first)]).exit_code == 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert asyncio.run(contents(third)) == expected
    with sqlite3.connect(copy) as database:
        database.execute("UPDATE chunks SET content = 'another' WHERE kb = 1 AND id = 5")
    database.close()
    done = run(app, ["verify", "--data", str(third)])
    assert done.exit_code == 1 and "chunks 1 5: content_checksum" in done.stdout
    done = run(app, ["backup", file + "2", "--data", str(third)])
    assert done.exit_code == 1 and "1 of them are damaged" in done.stderr
    for name in ("verify", "backup"):
        arguments = [name, *([file + "3"] if name == "backup" else []), "--data", str(tmp_path / "none")]
        done = run(app, arguments)
        assert done.exit_code == 2 and "no database" in done.stderr
    assert not (tmp_path / "none").exists()


async def test_a_backup_from_before_manifests_is_read(tmp_path: Path, source, all_of) -> None:
    await backup(source, tmp_path / "new")
    header, *records, _ = msgpack.Unpacker(io.BytesIO(gzip.decompress((tmp_path / "new").read_bytes())))
    old = [["xtrace backup", 1, header[2]], *(one for one in records if one[0] != "manifests")]
    data = b"".join(map(msgpack.packb, old))
    end = ["end", sum(len(rows) for _, rows in old[1:]), hashlib.sha256(data).digest()]
    (tmp_path / "old").write_bytes(gzip.compress(data + msgpack.packb(end)))
    target = SqliteStore(tmp_path / "target")
    assert await restore(target, tmp_path / "old") == end[1]
    expected = await all_of(source)
    kept = [name for name, found in expected.items() if name[0] == "manifest" and found[0].sealed]
    assert len(kept) == 1
    expected[kept[0]] = [replace(one, sealed=None) for one in expected[kept[0]]]
    assert await all_of(target) == expected
    await target.close()
