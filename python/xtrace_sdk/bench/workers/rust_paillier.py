"""pypaillier: its batch functions (which use its own thread pool)."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .worker import Bits, Worker, cycle, field_mask, plaintexts, serve


class RustPaillier(Worker):
    def __init__(self) -> None:
        self._paillier = importlib.import_module("paillier")

    def describe(self) -> dict[str, Any]:
        return {"versions": {"pypaillier": importlib.metadata.version("pypaillier")}}

    def build(self, work: str) -> None:
        self._public, self._secret = self._paillier.generate_keypair(2 * self.key_len)

    def encode(self, bits: Bits) -> list[int]:
        return plaintexts(bits)

    def encrypt(self, inputs: list[int]) -> list[bytes]:
        blobs: list[bytes] = self._paillier.encrypt_integers(self._public, inputs)
        return blobs

    def take(self, batch: list[bytes], count: int) -> list[bytes]:
        return cycle(batch, count)

    def products(self, query: list[bytes], batch: list[bytes]) -> list[bytes]:
        blocks = [[i, len(batch)] for i in range(len(batch))]
        sums: list[bytes] = self._paillier.add_blocks(self._public, batch + query, blocks)
        return sums

    def decode(self, products: list[bytes]) -> Any:
        return self._paillier.decrypt_exact_many(self._secret, products)

    def distances(self, decoded: Any) -> NDArray[np.int64]:
        mask = field_mask(self.dimensions)
        return np.array([(number & mask).bit_count() for number, _scale in decoded], dtype=np.int64)


def start() -> None:
    serve(RustPaillier())
