"""xtrace-ai-sdk: its Lookup client, with the subgroup size given to its constructor."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .worker import Bits, Worker, cycle, serve


class Original(Worker):
    def __init__(self) -> None:
        crypto = "xtrace_sdk.x_vec.crypto"
        self._client_type = importlib.import_module(f"{crypto}.paillier_lookup_client").PaillierLookupClient
        self._scheme = importlib.import_module(f"{crypto}.encryption.paillier_lookup").PaillierLookup
        self._client: Any = None

    def describe(self) -> dict[str, Any]:
        names = ("xtrace-ai-sdk", "gmpy2", "numpy")
        return {"versions": {name: importlib.metadata.version(name) for name in names}}

    def build(self, work: str) -> None:
        self._client = self._client_type(
            embed_len=self.dimensions, key_len=self.key_len, alpha_len=self.alpha_len
        )

    def encode(self, bits: Bits) -> list[list[int]]:
        rows: list[list[int]] = bits.tolist()
        return rows

    def encrypt(self, inputs: list[list[int]]) -> Any:
        return self._client.encrypt_vec_batch(inputs)

    def take(self, batch: list[Any], count: int) -> list[Any]:
        return cycle(batch, count)

    def products(self, query: Any, batch: Any) -> Any:
        add, public, factors = self._scheme.add, self._client.client.keys["pk"], query[0]
        return [[add(c, q, public) for c, q in zip(row, factors, strict=True)] for row in batch]

    def decode(self, products: Any) -> Any:
        return self._client.decode_hamming_client_batch(products)

    def distances(self, decoded: Any) -> NDArray[np.int64]:
        return np.array(decoded, dtype=np.int64)


def start() -> None:
    serve(Original())
