"""The loop that every worker runs, and the interface that an implementation fills in.

A worker reads one JSON request per line and writes one JSON answer per line. It keeps its keys and
batches between requests; only the work named in a request is inside the clock, never the preparation of
its input. This file runs in every peer's environment: standard library and NumPy only.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Bits = NDArray[np.uint8]


class Worker(ABC):
    """One implementation under test. A batch is whatever suits it: the loop never looks inside."""

    #: What it can build: "client" (keys and everything else that encryption needs), and, where the
    #: implementation separates them, "keys" and "tables".
    builds: tuple[str, ...] = ("client",)

    key_len: int
    alpha_len: int
    dimensions: int

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Versions, and anything else worth printing."""

    @abstractmethod
    def build(self, work: str) -> None:
        """Do one of `builds`. "client" leaves the worker ready to encrypt."""

    @abstractmethod
    def encode(self, bits: Bits) -> Any:
        """The input that `encrypt` takes, from bits (N, dimensions). Outside the clock except in a search."""

    @abstractmethod
    def encrypt(self, inputs: Any) -> Any:
        """A batch of ciphertexts."""

    @abstractmethod
    def take(self, batch: Any, count: int) -> Any:
        """The first `count` items of `batch`, starting over at its end."""

    @abstractmethod
    def products(self, query: Any, batch: Any) -> Any:
        """The batch, each item times the one ciphertext in the batch `query`."""

    @abstractmethod
    def decode(self, products: Any) -> Any:
        """Plaintexts, or distances where the implementation knows Hamming distances."""

    @abstractmethod
    def distances(self, decoded: Any) -> NDArray[np.int64]:
        """The distances in `decoded`. Outside the clock except in a search."""

    def decode_vartime(self, products: Any) -> Any:
        """`decode` by a schedule that depends on the key, for implementations that offer both."""
        raise NotImplementedError

    def query(self, inputs: Any) -> Any:
        """What `products` takes for a query, from one vector's input."""
        return self.encrypt(inputs)

    def authenticated(self) -> Worker:
        """The same works in an authenticated encoding under the same keys, where there is one."""
        raise NotImplementedError

    def index(self, batch: Any) -> Any:
        """What a server holds of `batch` between searches."""
        return batch

    def search(
        self, bits: Bits, index: Any, stages: dict[str, float], *, vartime: bool = False
    ) -> NDArray[np.int64]:
        """All distances from one vector (1, dimensions); `stages` receives the seconds of each stage."""
        clock = Stages(stages)
        query = self.encrypt(self.encode(bits))
        clock.mark("encrypt")
        products = self.products(query, index)
        clock.mark("product")
        found = self.distances(self.decode_vartime(products) if vartime else self.decode(products))
        clock.mark("decode")
        return found

    def more(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request that only this implementation knows."""
        raise ValueError(f"unknown request {request['op']!r}")


class Stages:
    """Stamps the end of each stage of a search."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.perf_counter()

    def mark(self, stage: str) -> None:
        now = time.perf_counter()
        self._seconds[stage] = now - self._last
        self._last = now


def plaintexts(bits: Bits) -> list[int]:
    """P(v) = sum of v[i] * 4**(d-1-i), for implementations that encrypt integers."""
    count, dimensions = bits.shape
    fields = np.zeros((count, dimensions, 2), dtype=np.uint8)
    fields[:, :, 1] = bits
    flat = fields.reshape(count, 2 * dimensions)
    padded = np.pad(flat, ((0, 0), (-flat.shape[1] % 8, 0)))
    return [int.from_bytes(row.tobytes(), "big") for row in np.packbits(padded, axis=1)]


def field_mask(dimensions: int) -> int:
    """0x…5555: the low bit of each two-bit field."""
    return ((1 << 2 * dimensions) - 1) // 3


def cycle(batch: list[Any], count: int) -> list[Any]:
    """`Worker.take` for lists."""
    whole, rest = divmod(count, len(batch))
    return batch * whole + batch[:rest]


def nearest(distances: NDArray[np.int64], k: int) -> list[int]:
    """Positions of the k smallest, ties by position."""
    return [int(i) for i in np.argsort(distances, kind="stable")[:k]]


class Loop:
    """Answers requests until stdin ends; those with "authenticated" by a loop with batches of its own."""

    def __init__(self, worker: Worker, bits: Bits | None = None) -> None:
        self._worker = worker
        self._authenticated: Loop | None = None
        self._bits: Bits = np.zeros((0, 0), dtype=np.uint8) if bits is None else bits
        self._query: Any = None
        self._ciphertexts: Any = None
        self._distinct = 0
        self._products: Any = None
        self._index: Any = None
        self._index_of = (0, 0)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.pop("authenticated", False):
            if self._authenticated is None:
                self._authenticated = Loop(self._worker.authenticated(), self._bits)
            return self._authenticated.answer(request)
        handler: Callable[[dict[str, Any]], dict[str, Any]] | None = getattr(
            self, f"_on_{request['op']}", None
        )
        return handler(request) if handler is not None else self._worker.more(request)

    def _on_start(self, request: dict[str, Any]) -> dict[str, Any]:
        worker = self._worker
        self._bits = np.load(request["bits"])
        worker.key_len, worker.alpha_len = request["key_len"], request["alpha_len"]
        worker.dimensions = self._bits.shape[1]
        return {"builds": list(worker.builds), **worker.describe()}

    def _on_build(self, request: dict[str, Any]) -> dict[str, Any]:
        return timed(lambda: self._worker.build(request["work"]))[1]

    def _on_encrypt(self, request: dict[str, Any]) -> dict[str, Any]:
        count = request["count"]
        inputs = self._worker.encode(self._rows(count))
        self._ciphertexts, times = timed(lambda: self._worker.encrypt(inputs))
        self._distinct = count
        self._query = self._worker.query(self._worker.encode(self._rows(1)))
        return times

    def _on_product(self, request: dict[str, Any]) -> dict[str, Any]:
        batch = self._worker.take(self._ciphertexts, request["count"])
        self._products, times = timed(lambda: self._worker.products(self._query, batch))
        return {**times, "distinct": self._distinct}

    def _on_decode(self, request: dict[str, Any]) -> dict[str, Any]:
        batch = self._worker.take(self._products, request["count"])
        decode = self._worker.decode_vartime if request["vartime"] else self._worker.decode
        decoded, times = timed(lambda: decode(batch))
        return {**times, "distances": self._worker.distances(decoded).tolist(), "distinct": self._distinct}

    def _on_search(self, request: dict[str, Any]) -> dict[str, Any]:
        count, k = request["count"], request["k"]
        if self._index_of != (count, self._distinct):
            self._index = self._worker.index(self._worker.take(self._ciphertexts, count))
            self._index_of = (count, self._distinct)
        query = np.ascontiguousarray(self._bits[:1])
        stages: dict[str, float] = {}

        def run() -> tuple[NDArray[np.int64], list[int]]:
            distances = self._worker.search(query, self._index, stages, vartime=request["vartime"])
            return distances, nearest(distances, k)

        (distances, ids), times = timed(run)
        return {
            **times,
            "stages": stages,
            "distances": distances.tolist(),
            "nearest": ids,
            "distinct": self._distinct,
        }

    def _rows(self, count: int) -> Bits:
        return np.ascontiguousarray(self._bits[np.arange(count) % len(self._bits)])


def timed(work: Callable[[], T]) -> tuple[T, dict[str, Any]]:
    """The result, and wall and CPU seconds (all threads of the process)."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, {"wall": wall, "cpu": cpu}


def serve(worker: Worker) -> None:
    """Answer requests from stdin until it ends."""
    answers = _claim_stdout()
    loop = Loop(worker)
    for line in sys.stdin:
        try:
            answer = loop.answer(json.loads(line))
        except Exception:  # noqa: BLE001 - reported to the harness, which stops the run
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _claim_stdout() -> TextIO:
    """A private stream to the harness: libraries that log to stdout are sent to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers
