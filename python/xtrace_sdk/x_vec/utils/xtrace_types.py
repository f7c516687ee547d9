"""Types of chunks, of encrypted chunks and of keys as they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NotRequired, TypeAlias, TypedDict, overload

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from xtrace_sdk.errors import InputError
from xtrace_sdk.x_vec.crypto.numbers import row_to_numbers


class PaillierPublicKey(TypedDict):
    """Public values of a plain Paillier key."""

    g: int
    n: int
    n_squared: int


class PaillierSecretKey(TypedDict):
    """Secret values of a plain Paillier key."""

    phi: int
    inv: int


class PaillierLookupPublicKey(TypedDict):
    """Public values of a key with a secret subgroup."""

    g: int
    n: int
    n_squared: int
    g_n: int


class PaillierLookupSecretKey(TypedDict):
    """Secret values of a key with a secret subgroup."""

    phi: int
    a: int
    g_a_inv: int


class MetaData(TypedDict, total=False):
    """What the server may read of a chunk, and filter by. Never encrypted."""

    tag1: str | None
    tag2: str | None
    tag3: str | None
    tag4: str | None
    tag5: str | None
    facets: list[str]


class Chunk(TypedDict):
    """A document, or a piece of one."""

    chunk_content: str
    meta_data: NotRequired[MetaData]
    name: NotRequired[str]
    chunk_id: NotRequired[int]
    key: NotRequired[str]


class EncryptedChunk(TypedDict):
    """A chunk whose content is an AES blob; the rest is in the clear.

    `record` is there under the authenticated encoding, and travels with the chunk's vector.
    """

    chunk_content: bytes
    meta_data: MetaData
    name: str
    record: NotRequired[bytes]
    chunk_id: NotRequired[int]
    key: NotRequired[str]


DocumentCollection: TypeAlias = Sequence[Chunk]
EncryptedDB: TypeAlias = list[EncryptedChunk]
EncryptedVector: TypeAlias = list[mpz]
PaillierEncryptedNumber: TypeAlias = list[mpz]


class EncryptedIndex(Sequence[EncryptedVector]):
    """Encrypted vectors: a sequence of lists of numbers, held as one array.

    Attributes:
        rows: the ciphertexts, uint8 (N, chunks, width), little-endian.
    """

    def __init__(self, rows: NDArray[np.uint8]) -> None:
        if rows.dtype != np.uint8 or rows.ndim != 3:
            raise InputError("rows: expected a uint8 array (N, chunks, width)")
        self.rows = np.ascontiguousarray(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> EncryptedVector: ...
    @overload
    def __getitem__(self, index: slice) -> EncryptedIndex: ...
    def __getitem__(self, index: int | slice) -> EncryptedVector | EncryptedIndex:
        if isinstance(index, slice):
            return EncryptedIndex(self.rows[index])
        return row_to_numbers(self.rows[index])

    def __iter__(self) -> Iterator[EncryptedVector]:
        return map(row_to_numbers, self.rows)

    def __repr__(self) -> str:
        count, chunks, width = self.rows.shape
        return f"{type(self).__name__}({count} vectors of {chunks} x {width} bytes)"
