"""xtrace-sdk-native, by the seams that its own SDK and server use. XTRACE_KERNEL chooses the kernel."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk import _core
from xtrace_sdk.server.search import CiphertextIndex
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient

from .authenticated import Authenticated
from .worker import Bits, Stages, Worker, serve, timed


class Native(Worker):
    builds = ("client", "keys", "tables")

    def __init__(self) -> None:
        self._output = np.zeros((0, 0, 0), dtype=np.uint8)

    def describe(self) -> dict[str, Any]:
        return {
            "versions": {
                name: importlib.metadata.version(name) for name in ("xtrace-sdk-native", "gmpy2", "numpy")
            },
            "kernel": _core.kernel(),
            "kernels": _core.kernels(),
            "threads": _core.max_threads(),
        }

    def build(self, work: str) -> None:
        if work == "client":
            self._client = PaillierLookupClient(self.dimensions, self.key_len, self.alpha_len)
            # The client makes its tables when they are first needed: now, for they are part of the work.
            self._client.encrypt_to_array(np.zeros((1, self.dimensions), dtype=np.uint8))
            self._client.check_exact()
            n_squared = int(json.loads(self._client.stringify_pk())["n_squared"])
            self._n_squared, self._multiplier = n_squared, _core.Multiplier(n_squared)
        elif work == "keys":
            self._key = _core.SecretKey.generate(self.key_len, self.alpha_len)
        else:
            _core.HammingEncryptor(self._key, self.dimensions)

    def encode(self, bits: Bits) -> Bits:
        return bits

    def encrypt(self, inputs: Bits) -> Bits:
        return self._client.encrypt_to_array(inputs)

    def take(self, batch: Bits, count: int) -> Bits:
        batch = np.ascontiguousarray(batch[np.arange(count) % len(batch)])
        self._output = np.zeros_like(batch)
        return batch

    def products(self, query: Bits, batch: Bits) -> Bits:
        return self._multiplier.products(query[0], batch, out=self._output)

    def decode(self, products: Bits) -> NDArray[np.int32]:
        return self._client.decode_from_array(products)

    def decode_vartime(self, products: Bits) -> NDArray[np.int32]:
        return self._client.decode_from_array(products, vartime=True)

    def distances(self, decoded: NDArray[np.int32]) -> NDArray[np.int64]:
        return decoded.astype(np.int64)

    def index(self, batch: Bits) -> CiphertextIndex:
        index = CiphertextIndex(self._n_squared, batch.shape[1])
        index.extend(np.arange(1, len(batch) + 1, dtype=np.int64), batch)
        return index

    def search(
        self, bits: Bits, index: Any, stages: dict[str, float], *, vartime: bool = False
    ) -> NDArray[np.int64]:
        clock = Stages(stages)
        query = self._client.encrypt_to_array(bits)
        clock.mark("encrypt")
        _ids, rows = index.distances(query[0])
        clock.mark("product")
        found = self._client.decode_from_array(rows, vartime=vartime)
        clock.mark("decode")
        return found.astype(np.int64)

    def authenticated(self) -> Worker:
        return Authenticated(self)

    @property
    def client(self) -> PaillierLookupClient:
        """With keys and tables, once "client" was built."""
        return self._client

    @property
    def n_squared(self) -> int:
        """Of the client's key."""
        return self._n_squared

    def more(self, request: dict[str, Any]) -> dict[str, Any]:
        """ "export": write rows, query and products for another implementation to check.
        "index": time and memory of building a server's index, twice in one process."""
        if request["op"] == "export":
            return self._export(Path(request["folder"]), request["count"])
        if request["op"] == "index":
            return self._time_index(request["count"])
        return super().more(request)

    def _export(self, folder: Path, count: int) -> dict[str, Any]:
        inputs = np.random.default_rng(1).integers(0, 2, (count, self.dimensions), dtype=np.uint8)
        rows = self.take(self.encrypt(inputs), count)
        query = self.encrypt(inputs[:1])
        arrays = {"rows": rows, "query": query[0], "products": self.products(query, rows)}
        paths = {}
        for name, array in arrays.items():
            paths[name] = str(folder / f"{name}.npy")
            np.save(paths[name], array)
        return {**paths, "n_squared": f"{self._n_squared:x}"}

    def _time_index(self, count: int) -> dict[str, Any]:
        rows = self.take(self.encrypt(np.zeros((min(count, 1024), self.dimensions), dtype=np.uint8)), count)
        before = resident_bytes()
        _cold, cold_times = timed(lambda: self.index(rows))
        grown = resident_bytes() - before
        _warm, warm_times = timed(lambda: self.index(rows))
        return {
            "cold": cold_times,
            "warm": warm_times,
            "rows": count,
            "bytes": grown,
            "ciphertext_bytes": rows.nbytes,
        }


def resident_bytes() -> int:
    """Resident set of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def start() -> None:
    serve(Native())
