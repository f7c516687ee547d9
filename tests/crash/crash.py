"""Kill servers and databases under writers, and look whether anything acknowledged is lost.

    python tests/crash/crash.py kill --engine sqlite --count 200        kill -9 of the server
    python tests/crash/crash.py kill --engine postgresql --count 200
    python tests/crash/crash.py stop --count 50                        pg_ctl stop -m immediate
    python tests/crash/crash.py power --count 100                      kill -9, and un-fsynced writes dropped
    python tests/crash/crash.py power --count 20 --lies                the same with fsync off: must fail
    python tests/crash/crash.py pair --seconds 60                      two servers on one PostgreSQL

Eight writers insert batches of three and repeat each until it is acknowledged, whatever happens meanwhile. At
the end every acknowledged chunk must be there, every batch whole, none of them twice, and `verify` must find
nothing. Status 1 and one line for each fault otherwise.

With `kill`, `stop` and `power` four more share a knowledge base with a manifest and insert, replace and
delete there: before every change, and after every restart, the manifest must be that of the chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from keepers import Keepers
from servers import CONTEXT, N, Postgres, Server, ciphertext, encoded, path, prepared, products

from xtrace_sdk import wire
from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage.integrity import verify
from xtrace_sdk.server.storage.opening import open_store

BATCH = 3


class Writers:
    """Threads that insert until they are stopped or refused; `acknowledged` are the ids of each batch."""

    def __init__(self, server: Server, kb: str, count: int = 8) -> None:
        self.acknowledged: dict[str, list[int]] = {}
        self.tried: set[str] = set()
        self.refused: list[str] = []
        self.repeated = 0
        self._server, self._kb = server, kb
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(at,)) for at in range(count)]
        for thread in self._threads:
            thread.start()

    def _write(self, writer: int) -> None:
        draw = random.Random(writer)
        number = 0
        with self._server.client() as api:
            while not self._stop.is_set():
                name = f"{writer}-{number}"
                self.tried.add(name)
                body = {
                    "kb_id": self._kb,
                    "context_id": CONTEXT,
                    "chunks": [
                        {"chunk_content": name, "index": encoded(ciphertext(draw))} for _ in range(BATCH)
                    ],
                }
                while not self._stop.is_set():
                    try:
                        # Half by the bytes of the body, half by a key.
                        headers = {"Idempotency-Key": name} if number % 2 else {}
                        answer = api.post(path(wire.CHUNKS), json=body, headers=headers)
                    except httpx.HTTPError:
                        self.repeated += 1
                        self._stop.wait(0.05)
                        continue
                    if answer.status_code == 200:
                        self.acknowledged[name] = answer.json()["chunk_ids"]
                        break
                    if answer.status_code != 503 or "retry-after" not in answer.headers:
                        self.refused.append(f"refused: {answer.text}")
                        return
                    self.repeated += 1
                    self._stop.wait(0.05)
                number += 1

    def wait_for(self, count: int) -> None:
        """Until `count` more batches are acknowledged."""
        goal = len(self.acknowledged) + count
        end = time.monotonic() + 120
        while len(self.acknowledged) < goal:
            if time.monotonic() > end or not any(one.is_alive() for one in self._threads):
                raise SystemExit(f"the writers do not get on {self.refused[:1]}")
            time.sleep(0.002)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def faults(server: Server, kb: str, writers: Writers) -> list[str]:
    """What is not as it should be, with the server running again."""
    found = []
    with server.client() as api:
        body = {"kb_id": kb, "sort_order": "asc", "return_content": True}
        page = api.post(path(wire.CHUNKS_META_PAGE), json=body, timeout=120).raise_for_status().json()
        stored = {one["chunk_id"]: one["chunk_content"] for one in page["results"]}
        query = {"kb_id": kb, "context_id": CONTEXT, "query": encoded(1)}
        answer = api.post(path(wire.HAMMING), json=query, timeout=120).raise_for_status()
        ids = products(answer)
    found += writers.refused
    found += [
        f"lost: {name}"
        for name, ids_of in writers.acknowledged.items()
        if any(stored.get(one) != name for one in ids_of)
    ]
    counts = Counter(stored.values())
    found += [f"{name}: {count} chunks" for name, count in counts.items() if count != BATCH]
    found += [f"never sent: {name}" for name in counts if name not in writers.tried]
    if sorted(ids) != sorted(stored):
        found.append(f"a search finds {len(ids)} of {len(stored)}")
    with server.client(admin=True) as admin:
        count = admin.get(wire.path(wire.KB, kb_id=kb)).json()["numberOfVectors"]
    if count != len(stored):
        found.append(f"counted {count}, stored {len(stored)}")
    return found + asyncio.run(damage(server.settings))


async def damage(settings: Settings) -> list[str]:
    store = await open_store(settings)
    report = await verify(store)
    await store.close()
    return report.damage


def report(what: str, times: int, writers: Writers, found: list[str]) -> int:
    print(
        f"{what}: {times} times, {len(writers.acknowledged):,} batches acknowledged, "
        f"{writers.repeated:,} requests repeated, {len(found)} faults",
        flush=True,
    )
    for line in found[:20]:
        print(" ", line)
    return 1 if found else 0


def kill(folder: Path, options: argparse.Namespace) -> int:
    """kill -9 of the server, which starts again on the same port."""
    postgres = Postgres(folder) if options.engine == "postgresql" else None
    server = Server(folder, postgres.url if postgres else None)
    kb = prepared(server)
    writers = Writers(server, kb)
    keepers = Keepers(server, server.new_kb())
    draw = random.Random(1)
    for _ in range(options.count):
        writers.wait_for(draw.randrange(1, 30))
        server.kill()
        server.start()
        keepers.check()
    writers.wait_for(1)
    keepers.get_on()
    writers.stop()
    keepers.stop()
    server.kill()
    server.start()
    found = faults(server, kb, writers) + keepers.end()
    server.stop()
    if postgres:
        postgres.close()
    return report(f"kill -9, {options.engine}", options.count, writers, found)


def stop(folder: Path, options: argparse.Namespace) -> int:
    """pg_ctl stop -m immediate under a server that goes on."""
    postgres = Postgres(folder)
    server = Server(folder, postgres.url)
    kb = prepared(server)
    writers = Writers(server, kb)
    keepers = Keepers(server, server.new_kb())
    draw = random.Random(1)
    for _ in range(options.count):
        writers.wait_for(draw.randrange(1, 30))
        postgres.stop_immediately()
        postgres.start()
    writers.wait_for(1)
    keepers.get_on()
    writers.stop()
    found = faults(server, kb, writers) + keepers.end()
    server.stop()
    postgres.close()
    return report("pg_ctl stop -m immediate", options.count, writers, found)


def power(folder: Path, options: argparse.Namespace) -> int:
    """kill -9, then put back what was not synchronised: all of it, or all from some write on.

    Every other time the process dies just before it synchronises, when there is something to put back.
    """
    library = folder / "power.so"
    source = Path(__file__).with_name("power.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    notes = folder / "notes"
    notes.mkdir()
    cut = folder / "cut"
    environment = {"LD_PRELOAD": str(library), "POWER_NOTES": str(notes), "POWER_CUT": str(cut)}
    server = Server(folder, None, environment | ({"POWER_LIES": "1"} if options.lies else {}))
    kb = prepared(server)
    writers = Writers(server, kb)
    keepers = Keepers(server, server.new_kb())
    draw = random.Random(1)
    dropped = 0
    found: list[str] = []
    try:
        for number in range(options.count):
            writers.wait_for(draw.randrange(1, 30))
            if number % 2 == 0:
                cut.touch()
                server.wait_for_death()
            else:
                server.kill()
            dropped += put_back(folder, notes, None if number % 4 == 0 else draw)
            server.start()
            keepers.check()
        writers.wait_for(1)
        keepers.get_on()
    except SystemExit as error:  # it does not start, or they do not get on
        found.append(str(error))
    writers.stop()
    keepers.stop()
    server.kill()
    if not found:
        dropped += put_back(folder, notes, None)
        server.start()
        found = faults(server, kb, writers) + keepers.end()
        server.stop()
    print(f"{dropped:,} writes dropped")
    if not dropped:
        found.append("no write was dropped: nothing was tried")
    return report("power cut" + (", fsync off" if options.lies else ""), options.count, writers, found)


def put_back(folder: Path, notes: Path, draw: random.Random | None) -> int:
    """Undo the writes in the notes, the last first, all or as many as are drawn. Returns their number."""
    dropped = 0
    by_inode = {str(one.stat().st_ino): one for one in folder.glob("xtrace.sqlite3*")}
    for file in notes.iterdir():
        data = file.read_bytes()
        records = []
        at = 0
        while at + 24 <= len(data):
            offset, size, count = struct.unpack_from("<qqq", data, at)
            records.append((offset, size, data[at + 24 : at + 24 + count]))
            at += 24 + count
        target = by_inode.get(file.name)
        keep = 0 if draw is None else draw.randrange(len(records) + 1)
        if target is not None:
            with target.open("r+b") as database:
                for offset, size, before in reversed(records[keep:]):
                    database.seek(offset)
                    database.write(before)
                    database.truncate(size)
                    dropped += 1
        file.unlink()
    with suppress(FileNotFoundError):
        (folder / "xtrace.sqlite3-shm").unlink()  # was only ever in memory
    return dropped


class Pair:
    """A knowledge base with one writer and one reader, each at either server; `states` is the model."""

    def __init__(self, servers: list[Server], kb: str, seed: int) -> None:
        self._clients = [server.client() for server in servers]
        self._readers = [server.client() for server in servers]
        self._kb, self._draw, self._reader_draw = kb, random.Random(seed), random.Random(-seed)
        self.states: list[dict[int, int]] = [{}]
        self.acknowledged = 0
        self.searches = 0
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=self._guarded, args=(one,)) for one in (self._write, self._read)
        ]
        self.faults: list[str] = []

    def _guarded(self, work: Any) -> None:
        try:
            while not self.stop.is_set() and not self.faults:
                work()
        except Exception as error:  # noqa: BLE001 - the other thread must end, too
            self.faults.append(repr(error))

    def _write(self) -> None:
        """One change; its outcome is in the model before it is sent, and counts when it is acknowledged."""
        state = dict(self.states[-1])
        api = self._draw.choice(self._clients)
        body: dict[str, Any] = {"kb_id": self._kb, "context_id": CONTEXT}
        what = self._draw.random()
        if what < 0.6 or not state:
            values = [ciphertext(self._draw) for _ in range(self._draw.randrange(1, 5))]
            first = max((max(one, default=0) for one in self.states), default=0) + 1
            state |= {first + at: value for at, value in enumerate(values)}
            self.states.append(state)
            body["chunks"] = [{"chunk_content": "", "index": encoded(value)} for value in values]
            answer = api.post(path(wire.CHUNKS), json=body)
            if answer.json().get("chunk_ids") != list(range(first, first + len(values))):
                self.faults.append(f"inserted {answer.text}, expected from {first}")
        elif what < 0.8:
            chunk_id = self._draw.choice(list(state))
            state[chunk_id] = ciphertext(self._draw)
            self.states.append(state)
            body["chunk_patches"] = [{"chunk_id": chunk_id, "index": encoded(state[chunk_id])}]
            answer = api.patch(path(wire.CHUNKS), json=body)
        else:
            ids = self._draw.sample(list(state), min(3, len(state)))
            for one in ids:
                del state[one]
            self.states.append(state)
            answer = api.delete(path(wire.CHUNKS), params={"kb_id": self._kb, "chunk_ids": ids})
        answer.raise_for_status()
        self.acknowledged = len(self.states) - 1

    def _read(self) -> None:
        """The answer must be one of the states between what was acknowledged before and begun after."""
        query = ciphertext(self._reader_draw)
        body = {"kb_id": self._kb, "context_id": CONTEXT, "query": encoded(query)}
        earliest = self.acknowledged
        answer = self._reader_draw.choice(self._readers).post(path(wire.HAMMING), json=body)
        answer.raise_for_status()
        latest = len(self.states)
        found = products(answer)
        self.searches += 1
        for state in self.states[earliest:latest]:
            if found == {one: value * query % (N * N) for one, value in state.items()}:
                return
        self.faults.append(f"a search fits no state from {earliest} to {latest}")


def pair(folder: Path, options: argparse.Namespace) -> int:
    """Two servers, eight knowledge bases, a writer and a reader for each; one with a manifest, for all."""
    postgres = Postgres(folder)
    servers = []
    for name in ("first", "second"):
        (folder / name).mkdir()
        servers.append(Server(folder / name, postgres.url))
    prepared(servers[0])
    pairs = [Pair(servers, servers[at % 2].new_kb(), at + 1) for at in range(8)]
    for one in pairs:
        for thread in one.threads:
            thread.start()
    kept = servers[0].new_kb()
    keepers = [Keepers(server, kept, 2, 1000 * at) for at, server in enumerate(servers)]
    end = time.monotonic() + options.seconds
    while time.monotonic() < end and not any(one.faults for one in pairs):
        time.sleep(0.05)
    for one in pairs:
        one.stop.set()
    for one in pairs:
        for thread in one.threads:
            thread.join()
    for keeper in keepers:
        keeper.get_on()
    found = [line for one in pairs for line in one.faults] + [line for one in keepers for line in one.end()]
    changes = sum(one.acknowledged for one in pairs)
    searches = sum(one.searches for one in pairs)
    print(f"two servers: {changes:,} changes, {searches:,} searches, {len(found)} faults", flush=True)
    for line in found:
        print(" ", line)
    for server in servers:
        server.stop()
    postgres.close()
    return 1 if found or not changes or not searches else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="crash.py", description="Nothing acknowledged is lost.")
    commands = parser.add_subparsers(dest="command", required=True)
    for work, count in ((kill, 200), (stop, 50), (power, 100)):
        command = commands.add_parser(work.__name__, help=work.__doc__)
        command.add_argument("--count", type=int, default=count, help=f"how often (default {count})")
        command.set_defaults(work=work)
        if work is kill:
            command.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
        if work is power:
            command.add_argument(
                "--lies", action="store_true", help="fsync does nothing; faults are expected"
            )
    command = commands.add_parser("pair", help=pair.__doc__)
    command.add_argument("--seconds", type=float, default=60.0)
    command.set_defaults(work=pair)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="xtrace-crash-") as name:
        result: int = options.work(Path(name), options)
    return result


if __name__ == "__main__":
    sys.exit(main())
