"""Ingest and search at scale, through a real server, beside the original client.

    python bench/scale.py --count 100000 --texts glosses.tsv.gz --json scale.json

Each client runs in a process of its own against a fresh `xtrace serve`: it encrypts and stores all texts,
searches them, and searches them again after a restart of the server, which then builds its index from disk.
Every distance is compared with NumPy's on the plain bits. Embeddings are made before, and timed apart.

The original stores and searches fewer texts (`--original-count`). What it would take for all of them is
scaled up linearly from what was measured, and in brackets.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from xtrace_sdk import _core
from xtrace_sdk.bench import machine, peers, process
from xtrace_sdk.cli.demo.process import ServerProcess
from xtrace_sdk.x_vec.inference.embedding import Embedding

NATIVE, ORIGINAL = "xtrace-sdk-native", "xtrace-ai-sdk"
_HOME = Path(__file__).resolve().parent
_SEARCHES = 3
_K = 3
_MIB = 1 << 20

#: How a figure grows with the number of texts; our server's is not scaled up: the first column measures it.
_FIXED, _LINEAR, _OURS = "fixed", "linear", "ours"
#: (key, title, unit, growth)
_LINES = (
    ("build", "keys and tables", "s", _FIXED),
    ("ingest", "encrypt and upload everything", "s", _LINEAR),
    ("ingest_cpu", "the client's CPU time for it", "s", _LINEAR),
    ("rate", "encrypt and upload", "chunks/s", _FIXED),
    ("ingest_client", "client's memory while uploading", "MiB", _LINEAR),
    ("ingest_server", "server's memory while uploading", "MiB", _OURS),
    ("database", "database on disk", "MiB", _LINEAR),
    ("first", "search: to the first distance", "s", _LINEAR),
    ("last", "search: to the last distance", "s", _LINEAR),
    ("last_cpu", "the client's CPU time for it", "s", _LINEAR),
    ("answer", "of it until there is something to decode", "s", _LINEAR),
    ("decode", "of it decoding", "s", _LINEAR),
    ("retrieve", f"search and the {_K} nearest texts", "s", _LINEAR),
    ("search_client", "client's memory while searching", "MiB", _LINEAR),
    ("search_server", "server's memory while searching", "MiB", _OURS),
    ("restart", "server's start", "s", _FIXED),
    ("cold", "first answer after it (index from disk)", "s", _OURS),
    ("cold_server", "server's memory at that", "MiB", _OURS),
)


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "machine": machine.describe(),
            "parameters": {
                "count": options.count,
                "dimensions": options.dimensions,
                "key_len": options.key_len,
                "alpha_len": options.alpha_len,
                "kernel": _core.kernel(),
                "texts": options.texts.name if options.texts else "synthetic",
            },
            "embedding": asyncio.run(_embed(options, folder)),
            "clients": {},
        }
        for client, count in (
            (NATIVE, options.count),
            (ORIGINAL, min(options.count, options.original_count)),
        ):
            if count:
                print(f"{client}, {count:,} texts", file=sys.stderr, flush=True)
                found["clients"][client] = _measure(client, count, options, folder)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scale.py", description="Ingest and search at scale.")
    parser.add_argument("--count", type=int, default=10_000, help="texts (default 10000)")
    parser.add_argument("--original-count", type=int, default=10_000, help="of the original client; 0: none")
    parser.add_argument("--texts", type=Path, help="tab-separated lines, an id first; .gz or not")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--key-len", type=int, default=1024, help="bits of each prime")
    parser.add_argument("--alpha-len", type=int, default=448, help="bits of the secret subgroup")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


# The texts


async def _embed(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Leave texts and bits in `folder`. Returns the seconds that the embedding took."""
    texts = list(islice(_texts(options.texts), options.count))
    if len(texts) < options.count:
        raise SystemExit(f"scale.py: {options.texts} has only {len(texts)} texts")
    (folder / "texts.jsonl").write_text("".join(f"{json.dumps(text)}\n" for text in texts))
    began = time.perf_counter()
    bits = await Embedding("simhash", "simhash", options.dimensions).bin_embed_many(texts)
    seconds = time.perf_counter() - began
    np.save(folder / "bits.npy", bits.astype(np.uint8))
    return {"seconds": seconds, "characters": sum(map(len, texts))}


def _texts(path: Path | None) -> Iterator[str]:
    if path is None:
        yield from _synthetic()
        return
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            yield ": ".join(filter(None, line.decode().rstrip("\n").split("\t")[1:]))


def _synthetic() -> Iterator[str]:
    """Texts like the first lines of docstrings, the same in every run; no end."""
    pick = random.Random(20).choice
    verbs = (
        "Return",
        "Compute",
        "Parse",
        "Load",
        "Store",
        "Check",
        "Merge",
        "Split",
        "Count",
        "Sort",
        "Open",
    )
    kinds = (
        "empty",
        "sorted",
        "nested",
        "cached",
        "remote",
        "binary",
        "signed",
        "partial",
        "unique",
        "local",
    )
    things = ("matrix", "header", "index", "token", "buffer", "graph", "key", "vector", "record", "query")
    errors = ("ValueError", "KeyError", "OSError", "TypeError", "TimeoutError")
    while True:
        yield (
            f"{pick(verbs)} the {pick(kinds)} {pick(things)} of the {pick(kinds)} {pick(things)}. "
            f"Raises {pick(errors)} when the {pick(things)} is {pick(kinds)}."
        )


# One client


def _measure(client: str, count: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    server_folder = folder / client
    server_folder.mkdir()
    server = ServerProcess(server_folder)
    worker = _start(client)
    loads = [os.getloadavg()[0]]
    try:
        started = worker.ask(
            "start",
            texts=str(folder / "texts.jsonl"),
            bits=str(folder / "bits.npy"),
            count=count,
            key_len=options.key_len,
            alpha_len=options.alpha_len,
        )
        found = {"count": count, "build": started["build"]}
        with server:
            _connect(worker, server)
            ingested = worker.ask("ingest")
            found |= {
                "ingest": ingested["seconds"],
                "ingest_cpu": ingested["cpu"],
                "rate": count / ingested["seconds"],
                "ingest_client": ingested["memory"] / _MIB,
                "ingest_server": _memory(server, forget=True),
                "ingest_parts": ingested,
            }
            loads.append(os.getloadavg()[0])
            worker.ask("search", row=0)  # builds the server's index, one batch after the other
            searches = [worker.ask("search", row=row) for row in range(1, 1 + _SEARCHES)]
            for name in ("first", "last", "last_cpu", "answer", "decode"):
                found[name] = median(search[name] for search in searches)
            found |= {
                "searches": searches,
                "checked": sum(search["checked"] for search in searches),
                "retrieve": median(
                    worker.ask("retrieve", row=row, k=_K)["seconds"] for row in range(_SEARCHES)
                ),
                "search_client": max(search["memory"] for search in searches) / _MIB,
                "search_server": _memory(server),
            }
            loads.append(os.getloadavg()[0])
        found["database"] = sum(file.stat().st_size for file in server.data.iterdir()) / _MIB
        began = time.perf_counter()
        with server:
            found["restart"] = time.perf_counter() - began
            _connect(worker, server)
            found["cold"] = worker.ask("search", row=0)["answer"]
            found["cold_server"] = _memory(server)
        found["loads"] = [*loads, os.getloadavg()[0]]
    finally:
        worker.close()
    return found


def _start(client: str) -> process.Process:
    script = str(_HOME / "scale_client.py")
    if client == NATIVE:
        return process.Process(client, [sys.executable, script], os.environ, machine.cpus())
    interpreter = peers.environment(client, _HOME / ".envs")
    return process.Process(client, [str(interpreter), script], peers.foreign_environ(), machine.cpus())


def _connect(worker: process.Process, server: ServerProcess) -> None:
    worker.ask(
        "connect", url=server.url, org_id=server.org_id, api_key=server.api_key, admin_key=server.admin_key
    )


def _memory(server: ServerProcess, forget: bool = False) -> float:
    """The most MiB that the server held so far; with `forget`, count anew from here."""
    assert server._process is not None  # noqa: SLF001
    status = Path(f"/proc/{server._process.pid}")  # noqa: SLF001
    lines = (status / "status").read_text().splitlines()
    if forget:
        (status / "clear_refs").write_text("5")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


# The report


def report(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    parameters, clients = found["parameters"], found["clients"]
    count = parameters["count"]
    heads = []
    for name, figures in clients.items():
        heads.append(f"{name}, {figures['count']:,} texts")
        if figures["count"] != count:
            heads.append(f"{name}, scaled up to {count:,}")
    rows = [["", *heads], ["---"] + ["---:"] * len(heads)]
    for key, title, unit, growth in _LINES:
        row = [f"{title}, {unit}"]
        for figures in clients.values():
            row.append(_number(figures[key]))
            if figures["count"] != count:
                scaled = figures[key] * (count / figures["count"] if growth == _LINEAR else 1)
                row.append("–" if growth == _OURS else f"({_number(scaled)})")
        rows.append(row)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    embedding, cpu = found["embedding"], found["machine"]
    loads = "; ".join(
        f"{name} {' '.join(f'{load:.1f}' for load in figures['loads'])}" for name, figures in clients.items()
    )
    checked = ", ".join(f"{figures['checked']:,} of {name}" for name, figures in clients.items())
    return (
        f"{cpu['cpu']}, {cpu['cpus']} CPUs, kernel {parameters['kernel']}; "
        f"{parameters['dimensions']} dimensions, key_len {parameters['key_len']}, "
        f"alpha_len {parameters['alpha_len']}; texts: {parameters['texts']}, "
        f"{embedding['characters'] / count:.0f} characters each; embedding them took "
        f"{embedding['seconds']:.1f} s, which is in no figure below.\n\n{table}\n\n"
        f"Memory of the server is its peak, of the client what its peak adds to texts, vectors and keys. "
        f"Both clients talk to our server. Load average on the way: {loads}. Distances checked: {checked}.\n"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
