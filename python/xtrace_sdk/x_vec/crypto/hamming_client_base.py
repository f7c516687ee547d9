"""What every homomorphic client for Hamming distances can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from gmpy2 import mpz


class HammingClientBase(ABC):
    """Encrypts binary vectors and decodes products of two of them to their Hamming distance."""

    @abstractmethod
    def encrypt_vec_one(self, embd: Any) -> list[mpz]:
        """A binary vector -> its ciphertexts, one per chunk."""

    @abstractmethod
    def encrypt_vec_batch(self, embds: Any) -> list[list[mpz]]:
        """Binary vectors -> their ciphertexts."""

    @abstractmethod
    def decode_hamming_client_one(self, cipher: Sequence[Any]) -> int:
        """The product of two encrypted vectors, one number per chunk -> their distance."""

    @abstractmethod
    def decode_hamming_client_batch(self, ciphers: Sequence[Sequence[Any]]) -> list[int]:
        """Products -> distances."""
