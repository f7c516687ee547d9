"""Plain gmpy2: the scheme written out with the best single GMP call for each step, on one core.

Products are `c * q % n²` on integers that are already mpz; decoding is one `powmod` modulo p² with the
secret subgroup order as exponent; encryption one `powmod` modulo n².
"""

from __future__ import annotations

import importlib
import importlib.metadata
import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .worker import Bits, Worker, cycle, field_mask, plaintexts, serve

gmpy2: Any = importlib.import_module("gmpy2")
mpz = gmpy2.mpz


class Side:
    """One prime p, the order a of the subgroup modulo p, and what decryption modulo p² needs."""

    def __init__(self, key_len: int, order_len: int) -> None:
        self.order = random_prime(order_len)
        low = mpz(8165) * mpz(2) ** key_len // 10000  # above sqrt(2/3): the product then holds full rows
        span = (mpz(2) ** key_len - low) // self.order
        while True:
            factor = low // self.order + 1 + secrets.randbelow(int(span) - 1)
            self.p = factor * self.order + 1
            if self.p.bit_length() == key_len and self.p.is_prime():
                break
        self.square = self.p * self.p

    def bind(self, g: Any) -> None:
        self.kappa = gmpy2.invert(self.log(g), self.p)

    def log(self, c: Any) -> Any:
        return (gmpy2.powmod(c % self.square, self.order, self.square) - 1) // self.p

    def decrypt(self, c: Any) -> Any:
        return self.log(c) * self.kappa % self.p


class Gmp(Worker):
    def __init__(self) -> None:
        self._sides: list[Side] = []

    def describe(self) -> dict[str, Any]:
        return {
            "versions": {
                "gmpy2": importlib.metadata.version("gmpy2"),
                "GMP": gmpy2.mp_version().removeprefix("GMP "),
            }
        }

    def build(self, work: str) -> None:
        half = self.alpha_len // 2
        p, q = Side(self.key_len, half), Side(self.key_len, self.alpha_len - half)
        n = p.p * q.p
        self._n, self._square, self._alpha = n, n * n, p.order * q.order
        cofactor = (p.p - 1) * (q.p - 1) // self._alpha
        h = gmpy2.powmod(secrets.randbelow(int(n)), cofactor * n, self._square)
        g = (1 + n) * h % self._square
        self._noise_base = gmpy2.powmod(g, n, self._square)
        for side in (p, q):
            side.bind(g)
        self._lift = gmpy2.invert(p.p, q.p)
        self._sides = [p, q]

    def encode(self, bits: Bits) -> list[Any]:
        return [mpz(m) for m in plaintexts(bits)]

    def encrypt(self, inputs: list[Any]) -> list[Any]:
        n, square, base, powmod = self._n, self._square, self._noise_base, gmpy2.powmod
        order = int(self._alpha)
        return [(1 + m * n) * powmod(base, secrets.randbelow(order), square) % square for m in inputs]

    def take(self, batch: list[Any], count: int) -> list[Any]:
        return cycle(batch, count)

    def products(self, query: list[Any], batch: list[Any]) -> list[Any]:
        factor, square = query[0], self._square
        return [c * factor % square for c in batch]

    def decode(self, products: list[Any]) -> list[int]:
        mask = mpz(field_mask(self.dimensions))
        return [(self._plaintext(c) & mask).bit_count() for c in products]

    def distances(self, decoded: list[int]) -> NDArray[np.int64]:
        return np.array(decoded, dtype=np.int64)

    def _plaintext(self, c: Any) -> Any:
        p, q = self._sides
        m = p.decrypt(c)
        if 2 * field_mask(self.dimensions) < p.p:
            return m
        return m + p.p * ((q.decrypt(c) - m) * self._lift % q.p)

    def more(self, request: dict[str, Any]) -> dict[str, Any]:
        """ "check": recompute another implementation's products; answers with the rows that differ."""
        if request["op"] != "check":
            return super().more(request)
        square = mpz(request["n_squared"], 16)
        query, rows, products = (np.load(request[name]) for name in ("query", "rows", "products"))
        wrong = []
        for i, (row, product) in enumerate(zip(rows, products, strict=True)):
            for c, factor, found in zip(row, query, product, strict=True):
                if integer(c) * integer(factor) % square != integer(found):
                    wrong.append(i)
        return {"checked": len(rows), "wrong": wrong}


def integer(little_endian: NDArray[np.uint8]) -> Any:
    return mpz(int.from_bytes(little_endian.tobytes(), "little"))


def random_prime(bits: int) -> Any:
    """A prime of exactly `bits` bits."""
    while True:
        candidate = mpz(secrets.randbits(bits)) | (mpz(1) << (bits - 1)) | 1
        if candidate.is_prime():
            return candidate


def start() -> None:
    serve(Gmp())
