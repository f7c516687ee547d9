"""sf-heu, scheme ZPaillier, by its array interface (which uses its own thread pool)."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .worker import Bits, Worker, field_mask, plaintexts, serve


class Heu(Worker):
    def __init__(self) -> None:
        self._phe = importlib.import_module("heu.phe")
        self._arrays = importlib.import_module("heu.numpy")

    def describe(self) -> dict[str, Any]:
        return {"versions": {"sf-heu": importlib.metadata.version("sf-heu")}}

    def build(self, work: str) -> None:
        kit = self._arrays.setup(self._phe.SchemaType.ZPaillier, 2 * self.key_len)
        self._encoder = kit.bigint_encoder()
        self._encryptor, self._evaluator, self._decryptor = kit.encryptor(), kit.evaluator(), kit.decryptor()

    def encode(self, bits: Bits) -> Any:
        return self._arrays.array(plaintexts(bits), self._encoder)

    def encrypt(self, inputs: Any) -> Any:
        return self._encryptor.encrypt(inputs)

    def take(self, batch: Any, count: int) -> Any:
        return batch[[i % batch.rows for i in range(count)]]

    def products(self, query: Any, batch: Any) -> Any:
        return self._evaluator.add(batch, query)

    def decode(self, products: Any) -> Any:
        return self._decryptor.decrypt(products)

    def distances(self, decoded: Any) -> NDArray[np.int64]:
        mask = field_mask(self.dimensions)
        sums = decoded.to_numpy(self._encoder)
        return np.array([(int(s) & mask).bit_count() for s in sums], dtype=np.int64)


def start() -> None:
    serve(Heu())
