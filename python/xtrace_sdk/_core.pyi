"""Types of the compiled core. Big numbers are Python ints; batches are C-contiguous NumPy arrays.

A ciphertext is a row of ``width = ceil(bits(n**2) / 8)`` bytes, little-endian. `threads=0` means all
cores. `progress(done, total)` is called from the calling thread between slices of the batch. Every call
on a batch releases the GIL and stops within a second of Ctrl-C. Nothing here can be pickled or copied.
"""

from collections.abc import Callable
from typing import overload

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int], None]

def kernels() -> list[str]:
    """Names of the kernels that can run on this machine, fastest first; the last is ``portable``."""

def kernel() -> str:
    """Name of the kernel in use. Raises KernelError if XTRACE_KERNEL names one that cannot run here."""

def max_threads() -> int:
    """Number of threads that ``threads=0`` stands for."""

class PublicKey:
    """Public values of a Paillier key. `g_n` (g**n mod n**2) is None for plain Paillier keys."""

    def __init__(self, n: int, g: int, g_n: int | None = None) -> None:
        """Raises InputError for values out of range."""
    @property
    def n(self) -> int: ...
    @property
    def g(self) -> int: ...
    @property
    def g_n(self) -> int | None: ...
    @property
    def n_squared(self) -> int: ...
    @property
    def width(self) -> int:
        """Bytes of one ciphertext."""

class SecretKey:
    """A key pair, held in locked memory that is wiped on close and on destruction."""

    @staticmethod
    def generate(key_len: int, alpha_len: int | None = None, *, allow_insecure: bool = False) -> SecretKey:
        """A key with a secret subgroup of order alpha ("Paillier-Lookup").

        `key_len` is the bit length of each prime, `alpha_len` that of a_p*a_q (default by key_len).
        Raises WeakKeyError below the floors unless `allow_insecure`.
        """
    @staticmethod
    def generate_plain(key_len: int, *, allow_insecure: bool = False) -> SecretKey:
        """A plain Paillier key (g = 1 + n)."""
    @staticmethod
    def load(
        public: PublicKey, phi: int, inverse: int, a: int | None = None, *, allow_insecure: bool = False
    ) -> SecretKey:
        """From stored values: `inverse` is ``inv`` (plain) or ``g_a_inv`` (subgroup key, which has `a`).

        Raises KeyMismatchError when the values do not belong together, WeakKeyError below the loading floors.
        """
    @property
    def public(self) -> PublicKey: ...
    @property
    def key_len(self) -> int: ...
    @property
    def alpha_len(self) -> int | None:
        """Bits of a_p*a_q; None for plain keys."""
    @property
    def phi(self) -> int: ...
    @property
    def a(self) -> int | None: ...
    @property
    def inverse(self) -> int: ...
    def close(self) -> None:
        """Wipe the key. Later use raises NotLoadedError."""

class RecordKey:
    """One writer's secret of the authenticated encoding in one key epoch, in locked memory."""

    def __init__(self, secret: bytes | bytearray, epoch: int, writer: bytes) -> None:
        """`secret`: 32 bytes; `writer`: at most 64 bytes, none for the owner. Raises InputError."""

class MultisetHash:
    """Adds up a secret pseudorandom function of records: MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend
    and Suh, "Incremental Multiset Hash Functions" (ASIACRYPT 2003). The key is in locked memory.
    """

    def __init__(self, key: bytes | bytearray) -> None:
        """`key`: 32 bytes. Raises InputError."""
    def sum(self, table: NDArray[np.uint8], *, threads: int = 0) -> bytes:
        """Table of records (N, width), as in `xtrace_sdk.records` -> 32 bytes, little-endian.

        The sum modulo 2**256 of ``SHAKE256(bytes([32]) + key + bytes([len(record)]) + record)[:32]``, so that
        sums of parts add up to that of the whole. Raises InputError naming the first row whose record is
        longer than the row.
        """

class HammingEncryptor:
    """Encrypts binary vectors of a fixed dimension; owns the fixed-base tables.

    With a SecretKey it takes the owner's path (CRT, fresh exponents uniform modulo a_p and a_q), with a
    PublicKey the public one (exponent uniform in [0, 2**(alpha_len+128)); without `alpha_len`, the largest
    possible one, key_len, is assumed, which is slower).
    """

    @overload
    def __init__(self, key: SecretKey, dimensions: int) -> None: ...
    @overload
    def __init__(self, key: PublicKey, dimensions: int, alpha_len: int | None = None) -> None: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def chunks(self) -> int: ...
    @property
    def width(self) -> int: ...
    def encrypt(
        self, bits: NDArray[np.uint8], *, threads: int = 0, progress: Progress | None = None
    ) -> NDArray[np.uint8]:
        """bits (N, dimensions) of 0 and 1 -> ciphertexts (N, chunks, width).

        Raises InputError naming the first offending row for a wrong shape or a value that is not a bit.
        """
    def encrypt_records(
        self,
        bits: NDArray[np.uint8],
        nonces: NDArray[np.uint8],
        key: RecordKey,
        *,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> NDArray[np.uint8]:
        """As `encrypt`, in the authenticated encoding; nonces (N, 24), each used this once.

        An encryptor with a PublicKey needs g = n + 1, else InputError.
        """
    def encrypt_query(
        self, bits: NDArray[np.uint8], nonce: NDArray[np.uint8], key: RecordKey
    ) -> NDArray[np.uint8]:
        """bits (dimensions,), nonce (24,) -> the query's ciphertexts (chunks, width)."""

class HammingDecoder:
    """Decodes products of an encrypted vector and an encrypted query to Hamming distances."""

    def __init__(self, key: SecretKey, dimensions: int, *, vartime: bool = False) -> None:
        """`vartime` lets the schedule of exponentiations depend on the key (never on data): faster, but a
        co-resident attacker may learn about the key.

        Raises InputError when the key's modulus is too small for exact distances."""
    @property
    def dimensions(self) -> int: ...
    @property
    def chunks(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def sides(self) -> int:
        """1 when the larger prime alone decides the plaintext, else 2."""
    def decode(
        self, rows: NDArray[np.uint8], *, threads: int = 0, progress: Progress | None = None
    ) -> NDArray[np.int32]:
        """ciphertexts (N, chunks, width) -> distances (N,), exact.

        Raises CiphertextError naming the first offending row: zero, not below n**2, or not well formed.
        """
    def decode_records(
        self,
        rows: NDArray[np.uint8],
        nonces: NDArray[np.uint8],
        key: RecordKey,
        query: NDArray[np.uint8],
        query_nonce: NDArray[np.uint8],
        query_key: RecordKey,
        *,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> NDArray[np.int32]:
        """Products (N, chunks, width) of one writer's records with one query -> distances (N,), exact.

        nonces (N, 24); `query` (dimensions,) and `query_nonce` as they were encrypted. Raises IntegrityError,
        always the same, when any row is not the product of a record under its nonce and the query.
        """
    def open_records(
        self,
        rows: NDArray[np.uint8],
        nonces: NDArray[np.uint8],
        key: RecordKey,
        *,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> NDArray[np.uint8]:
        """One writer's records as they are stored (N, chunks, width), nonces (N, 24) -> bits (N, dimensions).

        Raises IntegrityError as `decode_records`.
        """
    def decrypt(self, rows: NDArray[np.uint8], *, threads: int = 0) -> list[int]:
        """ciphertexts (N, width) -> plaintexts modulo n (always both primes and CRT)."""

class Multiplier:
    """The server's only operation: products modulo n**2. Holds public values only."""

    def __init__(self, n_squared: int) -> None:
        """Raises InputError unless n_squared is odd and greater than one."""
    @property
    def width(self) -> int: ...
    def products(
        self,
        query: NDArray[np.uint8],
        rows: NDArray[np.uint8],
        *,
        out: NDArray[np.uint8] | None = None,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> NDArray[np.uint8]:
        """query (chunks, width) times each of rows (N, chunks, width), chunk by chunk -> (N, chunks, width).

        Any row bytes are accepted and taken modulo n**2; `out` may be `rows` itself.
        """
    def out_of_range(self, rows: NDArray[np.uint8]) -> int:
        """Index of the first row (first axis) holding 0 or a value >= n**2; -1 if there is none."""
