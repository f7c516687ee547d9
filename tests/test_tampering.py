"""A hostile proxy between the real client and the real server: twelve ways to doctor an answer.

The proxy knows what a server knows: the public key, every stored ciphertext and record, old versions of them,
earlier queries and answers. Each attempt is one search, followed by a fetch of what it found; under the
authenticated encoding the search must raise IntegrityError, and nothing may be fetched.

The long run, 1,000 attempts a class with a key of full size, and what the same does to the plain encoding::

    python tests/test_tampering.py --attempts 1000
    python tests/test_tampering.py --attempts 1000 --encoding plain
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from numpy.typing import NDArray

from xtrace_sdk import wire
from xtrace_sdk._core import HammingEncryptor, PublicKey
from xtrace_sdk.errors import CiphertextError, IntegrityError
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import RankedId, Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

ORG_ID, API_KEY, ADMIN_KEY = "orgForTests1", "api-key-of-the-tests", "admin-key-of-the-tests"
ATTEMPTS = int(os.environ.get("TAMPERING_ATTEMPTS", "12"))  # the long run: 1000, by the command above
CHUNKS = 8
UPDATED = 3  # the chunk that has an old version
PASSED_ON = (wire.MANIFEST_HEADER, wire.MANIFEST_TAG_HEADER)


class Answer:
    """One answer that the proxy may change: products as integers and records, by row, and the manifest."""

    def __init__(self, proxy: Proxy, found: wire.Distances, query: list[int], manifest: str | None) -> None:
        self.proxy = proxy
        self.ids = [int(one) for one in found.ids]
        self.width = found.products.shape[2]
        self.rows = [[_integer(one) for one in row] for row in found.products]
        self.records = found.records.copy()
        self.query = query
        self.manifest = manifest

    def packed(self) -> bytes:
        data = b"".join(one.to_bytes(self.width, "little") for row in self.rows for one in row)
        rows = np.frombuffer(data, np.uint8).reshape(len(self.rows), self.proxy.chunks, self.width)
        ids = np.array(self.ids, np.int64)
        return b"".join(wire.pack_columns(ids, rows.shape[1], self.width, [rows], self.records))


def _integer(data: NDArray[np.uint8]) -> int:
    return int.from_bytes(data.tobytes(), "little")


class Proxy:
    """Forwards everything, keeps what it sees, and changes answers to searches by `lie`."""

    def __init__(self, target: str, context: ExecutionContext, random: Random) -> None:
        key = context.homomorphic.public_key  # type: ignore[attr-defined]
        self.target, self.random = target, random
        self.n, self.n_squared = key.n, key.n_squared
        self.dimensions = context.embed_len()
        self.width, self.chunks = key.width, -(-context.embed_len() // context.key_len())
        self.forger = HammingEncryptor(PublicKey(key.n, key.g, key.g_n), self.dimensions)
        self.lie: Callable[[Answer], None] | None = None
        self.stored: dict[int, list[int]] = {}  # ciphertexts by chunk id, and the version before
        self.old: dict[int, tuple[list[int], bytes]] = {}
        self.earlier: dict[int, list[int]] = {}  # an earlier answer
        self.fetches = 0
        self.change_chunks: Callable[[list[dict[str, Any]]], None] | None = None
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            try:
                yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                await runner.cleanup()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = request.headers.copy()  # those for manifests may come several times
        del headers["Host"]
        assert self._session is not None
        async with self._session.request(
            request.method, self.target + request.raw_path, headers=headers, data=body
        ) as answer:
            content, kind = await answer.read(), answer.content_type
            kept = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
        if "/compute_hamming/" in request.path:
            query = wire.decode_rows([json.loads(body)["query"]], chunks=self.chunks, width=self.width)[0]
            found = wire.unpack_distances(content, kind, chunks=self.chunks, width=self.width)
            seen = Answer(self, found, [_integer(one) for one in query], kept.pop(wire.MANIFEST_HEADER, None))
            if not self.earlier:
                self.earlier = dict(zip(seen.ids, [list(row) for row in seen.rows], strict=True))
            if self.lie is not None:
                self.lie(seen)
                content, kind = seen.packed(), wire.COLUMNS
            if seen.manifest is not None:
                kept[wire.MANIFEST_HEADER] = seen.manifest
        elif request.method == "GET" and re.match(r"/v1/chunk/", request.path):
            self.fetches += 1
            if self.change_chunks is not None:
                chunks = json.loads(content)
                self.change_chunks(chunks)
                content = json.dumps(chunks).encode()
        return web.Response(body=content, status=answer.status, headers={"Content-Type": kind} | kept)

    # What a server can make by itself

    def unit(self) -> int:
        return self.random.randrange(2, self.n_squared)

    def plus(self, value: int) -> int:
        """A factor that adds `value` to the plaintext."""
        return (1 + value % self.n * self.n) % self.n_squared

    def forged(self) -> list[int]:
        bits = np.array([[self.random.randrange(2) for _ in range(self.dimensions)]], np.uint8)
        return [_integer(one) for one in self.forger.encrypt(bits)[0]]

    def times(self, first: list[int], second: list[int]) -> list[int]:
        return [a * b % self.n_squared for a, b in zip(first, second, strict=True)]


def _two(a: Answer) -> tuple[int, int]:
    first, second = a.proxy.random.sample(range(len(a.rows)), 2)
    return first, second


def _one(a: Answer) -> int:
    return a.proxy.random.randrange(len(a.rows))


def rows_swapped(a: Answer) -> None:
    i, j = _two(a)
    a.rows[i], a.rows[j] = a.rows[j], a.rows[i]


def nonces_swapped(a: Answer) -> None:
    i, j = _two(a)
    if not a.records.shape[1]:  # the plain encoding has no nonces; what stands for them are the ids
        rows_swapped(a)
        return
    a.records[[i, j]] = a.records[[j, i]]


def replaced_by_a_public_encryption(a: Answer) -> None:
    a.rows[_one(a)] = a.proxy.times(a.proxy.forged(), a.query)


def one_field_changed(a: Answer) -> None:
    i, field = _one(a), a.proxy.random.randrange(a.proxy.dimensions)
    step = a.proxy.random.choice((1, -1)) * 4**field
    a.rows[i][0] = a.rows[i][0] * a.proxy.plus(step) % a.proxy.n_squared


def many_fields_changed(a: Answer) -> None:
    i = _one(a)
    step = sum(a.proxy.random.choice((1, -1, 0)) * 4**field for field in range(1, a.proxy.dimensions)) or 1
    a.rows[i][0] = a.rows[i][0] * a.proxy.plus(step) % a.proxy.n_squared


def linear_combination(a: Answer) -> None:
    i, j = _two(a)
    x, y = a.proxy.random.choice(((2, -1), (1, 1), (-1, 2), (3, -2)))
    n2 = a.proxy.n_squared
    first, second = a.proxy.stored[a.ids[i]], a.proxy.stored[a.ids[j]]
    mixed = [pow(c, x, n2) * pow(d, y, n2) % n2 for c, d in zip(first, second, strict=True)]
    a.rows[i] = a.proxy.times(mixed, a.query)


def power_or_inverse(a: Answer) -> None:
    i, exponent = _one(a), a.proxy.random.choice((-1, 2, 3, a.proxy.random.randrange(2, 1 << 60)))
    a.rows[i] = [pow(c, exponent, a.proxy.n_squared) for c in a.rows[i]]


def query_dropped(a: Answer) -> None:
    i = _one(a)
    a.rows[i] = list(a.proxy.stored[a.ids[i]])


def query_counted_twice(a: Answer) -> None:
    i = _one(a)
    a.rows[i] = a.proxy.times(a.rows[i], a.query)


def earlier_answer_replayed(a: Answer) -> None:
    for i in a.proxy.random.choice(([_one(a)], range(len(a.rows)))):
        a.rows[i] = list(a.proxy.earlier[a.ids[i]])


def old_version_mixed_in(a: Answer) -> None:
    i = a.ids.index(UPDATED)
    ciphertexts, record = a.proxy.old[UPDATED]
    if a.proxy.random.randrange(2) or not record:
        a.rows[i] = a.proxy.times(ciphertexts, a.query)
    else:
        a.records[i, 1 : 1 + len(record)] = np.frombuffer(record, np.uint8)


def random_element_or_flipped_bits(a: Answer) -> None:
    i = _one(a)
    if a.proxy.random.randrange(2):
        a.rows[i][0] = a.proxy.unit()
    else:
        a.rows[i][0] ^= 1 << a.proxy.random.randrange(a.proxy.n_squared.bit_length() - 1)


CLASSES = {
    one.__name__.replace("_", " "): one
    for one in (
        rows_swapped,
        nonces_swapped,
        replaced_by_a_public_encryption,
        one_field_changed,
        many_fields_changed,
        linear_combination,
        power_or_inverse,
        query_dropped,
        query_counted_twice,
        earlier_answer_replayed,
        old_version_mixed_in,
        random_element_or_flipped_bits,
    )
}


class Trial:
    """A knowledge base behind the proxy, and its owner."""

    def __init__(
        self,
        context: ExecutionContext,
        proxy: Proxy,
        honest: XTraceIntegration,
        client: XTraceIntegration,
        kb_id: str,
        bits: NDArray[np.uint8],
    ) -> None:
        self.context, self.proxy, self.honest, self.client = context, proxy, honest, client
        self.kb_id, self.bits = kb_id, bits
        self.ids = list(range(1, len(bits) + 1))
        self.retriever = Retriever(context, client)

    def query(self) -> NDArray[np.uint8]:
        row = self.bits[self.proxy.random.randrange(len(self.bits))].copy()
        row[self.proxy.random.randrange(len(row))] ^= 1
        return row

    async def ask(self, query: NDArray[np.uint8]) -> tuple[list[int], list[int]]:
        ids, distances = await self.retriever.nn_search_for_ids(
            query, CHUNKS, self.kb_id, include_scores=True
        )
        await self.retriever.retrieve_and_decrypt(ids, self.kb_id)
        return ids, distances

    def expected(self, query: NDArray[np.uint8]) -> list[tuple[int, int]]:
        distances = (self.bits ^ query).sum(axis=1).tolist()
        return sorted((int(distance), one) for one, distance in zip(self.ids, distances, strict=True))

    async def attempt(self, lie: Callable[[Answer], None]) -> str:
        """One search through a lie: what became of it."""
        query = self.query()
        self.proxy.lie, self.proxy.fetches = lie, 0
        try:
            ids, distances = await self.ask(query)
        except IntegrityError:
            return "rejected" if self.proxy.fetches == 0 else "rejected late"
        except CiphertextError:
            return "not a ciphertext"
        finally:
            self.proxy.lie = None
        found = list(zip(distances, map(int, ids), strict=True))
        return "without effect" if found == self.expected(query) else "believed"


@asynccontextmanager
async def trial(server: str, encoding: Any, key_len: int, dimensions: int, seed: int) -> AsyncIterator[Trial]:
    small = {} if key_len >= 1024 else {"alpha_len": 128, "allow_insecure": True}
    context = ExecutionContext.create(
        "p", embedding_length=dimensions, key_len=key_len, encoding=encoding, **small
    )
    random = Random(seed)
    proxy = Proxy(server, context, random)
    bits = np.array([[random.randrange(2) for _ in range(dimensions)] for _ in range(CHUNKS)], np.uint8)
    honest = XTraceIntegration(ORG_ID, API_KEY, ADMIN_KEY, api_url=server)
    async with (
        proxy.serve() as address,
        honest,
        XTraceIntegration(ORG_ID, API_KEY, ADMIN_KEY, api_url=address) as client,
    ):
        kb_id = (await client.create_kb("tampering"))["id"]
        loader = DataLoader(context, client)
        texts = [{"chunk_content": f"text {number}"} for number in range(CHUNKS)]
        index, db = await loader.load_data_from_memory(texts, bits, disable_progress=True)
        await loader.dump_db(db, index, kb_id)
        proxy.old[UPDATED] = list(index[UPDATED - 1]), db[UPDATED - 1].get("record", b"")
        bits[UPDATED - 1] ^= 1  # every bit: an old version is seen by its distance
        await loader.upsert_one(
            {"chunk_content": "a new text", "chunk_id": UPDATED}, bits[UPDATED - 1], kb_id
        )
        for chunk in await honest.get_chunk_by_id(range(1, CHUNKS + 1), kb_id, ["index"]):
            proxy.stored[chunk["chunk_id"]] = [int.from_bytes(one, "little") for one in chunk["index"]]
        yield Trial(context, proxy, honest, client, kb_id, bits)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[str]:
    with running(tmp_path) as address:
        yield address


class running:  # noqa: N801 - a context manager
    """A server in a process of its own."""

    def __init__(self, data: Path) -> None:
        keys = {"XTRACE_ORG_ID": ORG_ID, "XTRACE_API_KEY": API_KEY, "XTRACE_ADMIN_KEY": ADMIN_KEY}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xtrace_sdk.server", "--port", "0", "--data", str(data / "data")],
            env=os.environ | keys,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> str:
        assert self.process.stdout is not None
        line = next((line for line in self.process.stdout if line.startswith("listening on ")), None)
        assert line is not None, "the server did not start"
        return line.split()[-1]

    def __exit__(self, *_: object) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


async def test_no_doctored_answer_goes_through(server: str) -> None:
    async with trial(server, "authenticated", 256, 48, seed=1) as work:
        query = work.query()
        ids, distances = await work.ask(query)  # the proxy alone changes nothing
        assert list(zip(distances, map(int, ids), strict=True)) == work.expected(query)
        for name, lie in CLASSES.items():
            results = Counter([await work.attempt(lie) for _ in range(ATTEMPTS)])
            assert results == {"rejected": ATTEMPTS}, name
        work.proxy.fetches = 0
        await work.ask(query)
        assert work.proxy.fetches == 1  # the count of fetches counts


async def test_the_plain_encoding_believes_most_of_it(server: str) -> None:
    """What docs/security.md admits: only what is no ciphertext is refused."""
    async with trial(server, "plain", 256, 48, seed=2) as work:
        for name, lie in CLASSES.items():
            results = Counter([await work.attempt(lie) for _ in range(4)])
            if name == "random element or flipped bits":
                assert results == {"not a ciphertext": 4}
            else:
                assert results["believed"] > 0, name
            assert "rejected" not in results


def _swapped(chunks: list[dict[str, Any]], *fields: str) -> None:
    for field in fields:
        chunks[0][field], chunks[1][field] = chunks[1][field], chunks[0][field]


FETCHES: dict[str, Callable[[list[dict[str, Any]]], None]] = {
    "contents swapped": lambda chunks: _swapped(chunks, "chunk_content"),
    "records swapped": lambda chunks: _swapped(chunks, "record"),
    "chunks swapped": lambda chunks: _swapped(chunks, "chunk_content", "record"),
    "record left out": lambda chunks: chunks[0].pop("record"),
    "record cut": lambda chunks: chunks[0].update(record=chunks[0]["record"][:-4]),
    "content cut": lambda chunks: chunks[0].update(chunk_content=chunks[0]["chunk_content"][:-4]),
    "content emptied": lambda chunks: chunks[0].update(chunk_content=""),
}


@pytest.mark.parametrize("name", FETCHES)
async def test_contents_open_under_the_nonce_that_ranked(server: str, name: str) -> None:
    async with trial(server, "authenticated", 256, 48, seed=3) as work:
        ids = await work.retriever.nn_search_for_ids(work.bits[0], 3, work.kb_id)
        assert all(isinstance(one, RankedId) for one in ids)
        work.proxy.change_chunks = FETCHES[name]
        with pytest.raises(IntegrityError):
            await work.retriever.retrieve_and_decrypt(ids, work.kb_id)


async def test_an_old_version_does_not_open_for_the_new_one(server: str) -> None:
    async with trial(server, "authenticated", 256, 48, seed=4) as work:
        loader = DataLoader(work.context, work.client)
        (old,) = await work.honest.get_chunk_by_id([1], work.kb_id, ["chunk_content", "record"])
        old["record"] = wire.encode_record(old["record"])
        await loader.upsert_one({"chunk_content": "newer", "chunk_id": 1}, work.bits[0], work.kb_id)
        ids = await work.retriever.nn_search_for_ids(work.bits[0], 1, work.kb_id)
        (chunk,) = await work.retriever.retrieve_and_decrypt(ids, work.kb_id)
        assert chunk["chunk_content"] == "newer"
        work.proxy.change_chunks = lambda chunks: chunks[0].update(old)
        with pytest.raises(IntegrityError):
            await work.retriever.retrieve_and_decrypt(ids, work.kb_id)


async def test_rows_given_twice_are_refused(server: str) -> None:
    """A copy of a row under another id is genuine but for its nonce, which comes twice."""

    def twice(a: Answer) -> None:
        a.rows[1], a.records[1] = list(a.rows[0]), a.records[0]

    async with trial(server, "authenticated", 256, 48, seed=5) as work:
        assert await work.attempt(twice) == "rejected"


async def measure(attempts: int, encoding: str, key_len: int, dimensions: int) -> int:
    failures = 0
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as server:
        async with trial(server, encoding, key_len, dimensions, seed=6) as work:
            await work.ask(work.query())
            print(
                f"{encoding}, n of {2 * key_len} bits, {dimensions} dimensions, {attempts} attempts a class"
            )
            for name, lie in CLASSES.items():
                results = Counter([await work.attempt(lie) for _ in range(attempts)])
                print(f"  {name:36}", ", ".join(f"{count} {what}" for what, count in sorted(results.items())))
                failures += attempts - results["rejected"]
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--encoding", choices=["authenticated", "plain"], default="authenticated")
    parser.add_argument("--key-len", type=int, default=1024)
    parser.add_argument("--dimensions", type=int, default=512)
    chosen = parser.parse_args()
    failures = asyncio.run(measure(chosen.attempts, chosen.encoding, chosen.key_len, chosen.dimensions))
    sys.exit(chosen.encoding == "authenticated" and failures > 0)


if __name__ == "__main__":
    main()
