"""What the server sees does not depend on what the vectors, queries and contents say.

The same workload runs twice, against two new servers. In the second run every document and query is another
one of equal shape: contents of equal length, vectors changed by one secret mask. The mask keeps distances,
so that even the declared leak, which ids are fetched, is the same. Then all that the servers saw must be the
same: order, targets and lengths of requests and answers, rows in the database, log lines.

Another test plants strings and looks for them on the server's side: files, log, memory, traffic.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from numpy.typing import NDArray

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

ORG_ID, API_KEY, ADMIN_KEY = "orgForTests1", "api-key-of-the-tests", "admin-key-of-the-tests"
CANARIES = int(os.environ.get("CANARIES", "1000"))  # the long run: 10000
DIMENSIONS = 64
DOCUMENTS, QUERIES = 120, 4

# Differ between any two runs, by design: times, and ids drawn at random. Their lengths are fixed.
TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|\+00:00)?")
DURATION = re.compile(r"\bms=[0-9.]+")
VOLATILE_HEADERS = ("date", "host", "server-timing")


@dataclass
class Message:
    """One request with its answer, as it crossed the wire."""

    method: str
    target: str
    request_headers: dict[str, str]
    request: bytes
    status: int
    answer_headers: dict[str, str]
    answer: bytes


@dataclass
class Server:
    """A running server and what can be seen on its side."""

    data: Path
    url: str
    process: subprocess.Popen[str]
    traffic: list[Message] = field(default_factory=list)
    proxy: str = ""

    def log(self) -> str:
        return (self.data / "log").read_text()

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Every file of the data folder, log and write-ahead log included."""
        for file in sorted(self.data.rglob("*")):
            if file.is_file():
                yield file.name, file.read_bytes()

    def memory(self) -> Iterator[bytes]:
        """The memory that the server's process has written, region by region."""
        folder = Path("/proc") / str(self.process.pid)
        with (folder / "mem").open("rb", buffering=0) as memory:
            for line in (folder / "maps").read_text().splitlines():
                found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if found is None:
                    continue
                start, end = (int(value, 16) for value in found.groups())
                memory.seek(start)
                try:
                    yield memory.read(end - start)
                except OSError:  # the region is gone or a device's
                    continue

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """Every table of the database."""
        with sqlite3.connect(self.data / "xtrace.sqlite3") as database:
            names = [
                name
                for (name,) in database.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1"
                )
            ]
            rows = {name: database.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}
        database.close()
        return rows


def start(data: Path) -> Server:
    keys = {"XTRACE_ORG_ID": ORG_ID, "XTRACE_API_KEY": API_KEY, "XTRACE_ADMIN_KEY": ADMIN_KEY}
    data.mkdir(parents=True)
    with (data / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "xtrace_sdk.server", "--port", "0", "--data", str(data)],
            env=os.environ | keys,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    address = next((line for line in process.stdout if line.startswith("listening on ")), None)
    assert address, (data / "log").read_text()
    return Server(data, address.split()[-1], process)


def stop(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    server.process.communicate()
    assert server.process.returncode == 0, server.log()


@asynccontextmanager
async def record(server: Server) -> AsyncIterator[None]:
    """Put a recording proxy before the server; its address is ``server.proxy``."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.Response:
            body = bytes(await request.read())  # a copy: the client empties what it sends
            headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
            address = server.url + request.raw_path
            async with session.request(request.method, address, data=body, headers=headers) as answer:
                content = await answer.read()
                server.traffic.append(
                    Message(
                        request.method,
                        request.raw_path,
                        headers,
                        body,
                        answer.status,
                        dict(answer.headers),
                        content,
                    )
                )
                kept = {
                    name: value
                    for name, value in answer.headers.items()
                    if name.lower() not in ("content-length", "transfer-encoding", "connection")
                }
                return web.Response(status=answer.status, body=content, headers=kept)

        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.proxy = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    """Two servers that know nothing of each other."""
    running = [start(tmp_path / name) for name in ("first", "second")]
    yield running
    for server in running:
        stop(server)


@asynccontextmanager
async def client_of(server: Server):
    async with (
        record(server),
        XTraceIntegration(ORG_ID, API_KEY, ADMIN_KEY, api_url=server.proxy) as integration,
    ):
        yield integration


async def workload(
    server: Server,
    context: ExecutionContext,
    texts: Sequence[str],
    vectors: NDArray[np.uint8],
    queries: NDArray[np.uint8],
) -> list[list[int]]:
    """Store, search, fetch, update and delete. -> the ids found"""
    chunks = [
        {"chunk_content": text, "key": f"key{number:04}", "meta_data": {"tag1": f"public {number % 3}"}}
        for number, text in enumerate(texts)
    ]
    found = []
    async with client_of(server) as integration:
        kb_id = str((await integration.create_kb("blindcheck"))["id"])
        loader, retriever = DataLoader(context, integration), Retriever(context, integration)
        index, db = await loader.load_data_from_memory(chunks, vectors, True)
        await loader.dump_db(db, index, kb_id)
        for query in queries:
            ids = await retriever.nn_search_for_ids(query, 5, kb_id)
            await retriever.retrieve_and_decrypt(ids, kb_id)
            found.append(ids)
        found.append(
            await retriever.nn_search_for_ids(queries[0], 5, kb_id, meta_filter={"tag1": "public 1"})
        )
        again = [{"chunk_id": 3, **chunks[2]}]
        await loader.update_chunks(again, vectors[:1], kb_id)
        found.append(await retriever.nn_search_for_ids(queries[1], 5, kb_id))
        await loader.delete_chunks([5, 6], kb_id)
        found.append(await retriever.nn_search_for_ids(queries[2], 5, kb_id))
    return found


def names(server: Server) -> dict[str, str]:
    """Ids that the server drew at random -> what they are called here."""
    return {str(json.loads(server.traffic[0].answer)["id"]): "KB"}


def renamed(text: str, known: dict[str, str]) -> str:
    for value, name in known.items():
        text = text.replace(value, name)
    return text


def seen(message: Message, known: dict[str, str]) -> tuple[object, ...]:
    """All that an observer learns from a message without breaking encryption."""

    def headers(values: dict[str, str]) -> list[tuple[str, int]]:
        return sorted((n.lower(), len(v)) for n, v in values.items() if n.lower() not in VOLATILE_HEADERS)

    return (
        message.method,
        renamed(message.target, known),
        headers(message.request_headers),
        len(message.request),
        message.status,
        headers(message.answer_headers),
        len(message.answer),
    )


def shape(value: object) -> object:
    """Type and length; integers that are no times as they are; times, the only floats, not at all."""
    if isinstance(value, str | bytes):
        return type(value).__name__, len(value)
    if isinstance(value, float):
        return "time"
    return "large" if isinstance(value, int) and abs(value) > 1 << 40 else value


def log_lines(server: Server, known: dict[str, str]) -> list[str]:
    lines = renamed(server.log(), known).replace(server.url.rsplit(":", 1)[1], "PORT").splitlines()
    text = [DURATION.sub("TIME", TIMES.sub("WHEN", line)) for line in lines]
    # request ids and process numbers
    text = [re.sub(r"\b[0-9a-f]{16,}\b", "ID", line) for line in text]
    return [re.sub(r"\[\d+\]", "[PID]", line) for line in text]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = start(tmp_path / "server")
    yield running
    stop(running)


@pytest.fixture
def context() -> ExecutionContext:
    return ExecutionContext.create(
        "correct horse", embedding_length=DIMENSIONS, key_len=256, alpha_len=128, allow_insecure=True
    )


async def test_two_workloads_of_equal_shape_look_the_same(servers, context):
    rng = np.random.default_rng(secrets.randbits(64))
    vectors = rng.integers(0, 2, (DOCUMENTS, DIMENSIONS), dtype=np.uint8)
    queries = rng.integers(0, 2, (QUERIES, DIMENSIONS), dtype=np.uint8)
    mask = rng.integers(0, 2, DIMENSIONS, dtype=np.uint8)
    lengths = rng.integers(1, 500, DOCUMENTS)
    runs = [
        (["a" * length for length in lengths], vectors, queries),
        ([secrets.token_hex(250)[:length] for length in lengths], vectors ^ mask, queries ^ mask),
    ]
    found = [await workload(server, context, *run) for server, run in zip(servers, runs, strict=True)]
    assert found[0] == found[1], "the mask keeps distances"

    known = [names(server) for server in servers]
    first, second = (
        [seen(message, one) for message in server.traffic] for server, one in zip(servers, known, strict=True)
    )
    assert len(first) >= 2 + 2 * QUERIES
    assert first == second

    tables = [server.rows() for server in servers]
    assert tables[0].keys() == tables[1].keys()
    for name in tables[0]:
        # Sorted: some tables are in the order of random ids.
        shapes = [sorted(repr(tuple(map(shape, row))) for row in table[name]) for table in tables]
        assert shapes[0] or name != "chunks"
        assert shapes[0] == shapes[1], name

    logs = [log_lines(server, one) for server, one in zip(servers, known, strict=True)]
    assert len(logs[0]) >= len(first)
    assert logs[0] == logs[1]


async def test_a_workload_of_another_shape_is_told_apart(servers, context):
    """The comparison above can fail."""
    rng = np.random.default_rng(1)
    vectors = rng.integers(0, 2, (DOCUMENTS, DIMENSIONS), dtype=np.uint8)
    for server, length in zip(servers, (20, 40), strict=True):
        await workload(server, context, ["x" * length] * DOCUMENTS, vectors, vectors[:QUERIES])
    first, second = ([seen(m, names(server)) for m in server.traffic] for server in servers)
    assert first != second


async def test_planted_strings_are_found_nowhere_on_the_servers_side(server, context):
    canaries = [secrets.token_hex(16) for _ in range(CANARIES)]
    rng = np.random.default_rng(2)
    vectors = rng.integers(0, 2, (CANARIES, DIMENSIONS), dtype=np.uint8)
    texts = [f"secret {canary} of a document" for canary in canaries]
    public = "declared-" + secrets.token_hex(16)
    async with client_of(server) as integration:
        kb_id = str((await integration.create_kb("canaries"))["id"])
        loader, retriever = DataLoader(context, integration), Retriever(context, integration)
        chunks = [{"chunk_content": text, "meta_data": {"tag1": public}} for text in texts]
        index, db = await loader.load_data_from_memory(chunks, vectors, True)
        await loader.dump_db(db, index, kb_id)
        ids = await retriever.nn_search_for_ids(vectors[7], 3, kb_id)
        opened = await retriever.retrieve_and_decrypt(ids, kb_id)
        assert canaries[7] in opened[0]["chunk_content"]
        await context.save_to_remote(integration)

    secret_key = context.homomorphic.stringify_sk()
    numbers = re.findall(r"\d{30,}", secret_key)
    assert numbers, "the secret values are decimal numbers"
    needles = {text.encode() for text in (*canaries, "correct horse", *numbers)}
    for number in map(int, numbers):
        # The low bytes: the high ones of phi are those of n.
        low = number.to_bytes((number.bit_length() + 7) // 8, "little")[:24]
        needles |= {low, low[::-1]}

    places = {"disk": b"".join(content for _, content in server.files())}
    places["log"] = server.log().encode()
    places["traffic"] = b"".join(
        repr((m.target, m.request_headers, m.answer_headers)).encode() + m.request + m.answer
        for m in server.traffic
    )
    for place, content in places.items():
        assert hits(content, needles) == set(), place
    found_public = public.encode() in places["disk"] and public.encode() in places["traffic"]
    assert found_public, "what is declared as visible must be found, or the search finds nothing at all"

    in_memory = False
    for region in server.memory():
        assert hits(region, needles) == set(), "memory"
        in_memory = in_memory or public.encode() in region
    assert in_memory


def hits(content: bytes, needles: set[bytes]) -> set[bytes]:
    """Needles in a content; looks at all of them in one pass where they are hexadecimal digits."""
    tokens = {needle for needle in needles if re.fullmatch(rb"[0-9a-f]{32}", needle)}
    found = {needle for needle in needles - tokens if needle in content}
    for run in re.finditer(rb"[0-9a-f]{32,}", content):
        text = run.group()
        found |= (
            {text[at : at + 32] for at in range(len(text) - 31)} & tokens if len(text) < 1 << 16 else set()
        )
    return found


def test_the_search_finds_what_is_there():
    token = secrets.token_hex(16).encode()
    assert hits(b"\0" + token + b"\0 12345", {token, b"12345", b"absent"}) == {token, b"12345"}
    assert hits(b"ab" + token + b"cd", {token}) == {token}
