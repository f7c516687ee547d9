"""phe (python-paillier), by its documented interface."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .worker import Bits, Worker, cycle, field_mask, plaintexts, serve


class PythonPaillier(Worker):
    def __init__(self) -> None:
        self._paillier = importlib.import_module("phe.paillier")

    def describe(self) -> dict[str, Any]:
        return {"versions": {name: importlib.metadata.version(name) for name in ("phe", "gmpy2")}}

    def build(self, work: str) -> None:
        self._public, self._secret = self._paillier.generate_paillier_keypair(n_length=2 * self.key_len)

    def encode(self, bits: Bits) -> list[int]:
        return plaintexts(bits)

    def encrypt(self, inputs: list[int]) -> list[Any]:
        public, number = self._public, self._paillier.EncryptedNumber
        return [number(public, public.raw_encrypt(m)) for m in inputs]

    def take(self, batch: list[Any], count: int) -> list[Any]:
        return cycle(batch, count)

    def products(self, query: list[Any], batch: list[Any]) -> list[Any]:
        factor = query[0]
        return [c + factor for c in batch]

    def decode(self, products: list[Any]) -> list[int]:
        decrypt = self._secret.raw_decrypt
        return [decrypt(c.ciphertext(be_secure=False)) for c in products]

    def distances(self, decoded: list[int]) -> NDArray[np.int64]:
        mask = field_mask(self.dimensions)
        return np.array([(m & mask).bit_count() for m in decoded], dtype=np.int64)


def start() -> None:
    serve(PythonPaillier())
