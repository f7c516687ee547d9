"""What the two Paillier clients share: everything but the fields of their keys.

Vectors and ciphertexts are lists of numbers in the documented methods, and arrays in `encrypt_to_array` and
`decode_from_array`, which the rest of this package uses.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from xtrace_sdk._core import HammingDecoder, HammingEncryptor, PublicKey, SecretKey
from xtrace_sdk.errors import CiphertextError, InputError, KeyMismatchError, NotLoadedError, WeakKeyError
from xtrace_sdk.x_vec.crypto.authenticated import (
    NONCE_BYTES,
    RecordKeys,
    RecordQuery,
    Records,
    decode_groups,
    fresh_nonces,
)
from xtrace_sdk.x_vec.crypto.bits import as_bits
from xtrace_sdk.x_vec.crypto.hamming_client_base import HammingClientBase
from xtrace_sdk.x_vec.crypto.numbers import dump_numbers, load_numbers, numbers_to_rows, row_to_numbers
from xtrace_sdk.x_vec.crypto.secrets import Secret

if TYPE_CHECKING:
    from xtrace_sdk._core import Progress


class CorePaillierClient(HammingClientBase, Secret):
    """A homomorphic client over the compiled core. Holds the secret key; neither copied nor pickled.

    Attributes:
        embed_len: dimension of the vectors.
        key_len: bits of each prime.
    """

    # Fields of the stored key texts, in their order, and whether numbers are written as decimal strings.
    _PK_FIELDS: ClassVar[tuple[str, ...]]
    _SK_FIELDS: ClassVar[tuple[str, ...]]
    _AS_STRINGS: ClassVar[bool]

    def __init__(self, embed_len: int, key_len: int, *, allow_insecure: bool) -> None:
        self.embed_len = positive(embed_len, "embed_len")
        self.key_len = positive(key_len, "key_len")
        self._allow_insecure = insecure_allowed(allow_insecure)
        self._config: dict[str, int] | None = None
        self._key: SecretKey | None = None
        self._encryptor: HammingEncryptor | None = None
        self._decoders: dict[bool, HammingDecoder] = {}  # by whether the schedule may depend on the key
        self._records: RecordKeys | None = None

    # The array seam

    def encrypt_to_array(
        self, bits: NDArray[np.uint8], *, threads: int = 0, progress: Progress | None = None
    ) -> NDArray[np.uint8]:
        """Binary vectors (N, embed_len) -> ciphertexts (N, chunks, width), little-endian.

        Any integer or boolean dtype is taken. Raises DimensionMismatchError or InputError naming the first
        offending row, NotLoadedError without keys.
        """
        return self._ready_encryptor().encrypt(
            as_bits(bits, self.embed_len, "bits"), threads=threads, progress=progress
        )

    def decode_from_array(
        self,
        rows: NDArray[np.uint8],
        *,
        threads: int = 0,
        progress: Progress | None = None,
        vartime: bool = False,
    ) -> NDArray[np.int32]:
        """Products of two encrypted vectors (N, chunks, width) -> Hamming distances (N,), exact.

        `vartime` is a little faster and lets somebody who shares the processor's caches learn about the key
        (docs/security.md): for machines of one's own.

        Raises InputError for another shape or dtype, CiphertextError naming the first row that is out of
        range or not well formed under this key, NotLoadedError without keys.
        """
        decoder = self._ready_decoder(vartime)
        self._check_rows(rows, decoder)
        return decoder.decode(np.ascontiguousarray(rows), threads=threads, progress=progress)

    def decrypt_vectors(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Vectors (N, chunks, width) as they are stored in the plain encoding -> bits (N, embed_len).

        Raises InputError for another shape, CiphertextError naming the first row that holds no vector,
        NotLoadedError without keys.
        """
        decoder = self._ready_decoder()
        if rows.ndim != 3 or rows.shape[1:] != (decoder.chunks, decoder.width):
            raise InputError(f"rows: expected shape (N, {decoder.chunks}, {decoder.width}), got {rows.shape}")
        plain = decoder.decrypt(np.ascontiguousarray(rows).reshape(-1, decoder.width))
        bits = np.empty((len(rows), self.embed_len), np.uint8)
        for position, number in enumerate(plain):
            row, first = position // decoder.chunks, position % decoder.chunks * self.key_len
            length = min(self.key_len, self.embed_len - first)
            if number.bit_length() > 2 * length:
                raise CiphertextError(f"row {row}: not a vector of {self.embed_len} dimensions")
            fields = np.unpackbits(np.frombuffer(number.to_bytes(-(-length // 4), "big"), np.uint8))
            high, low = fields[-2 * length :: 2], fields[1 - 2 * length :: 2]
            if high.any():
                raise CiphertextError(f"row {row}: not a vector of {self.embed_len} dimensions")
            bits[row, first : first + length] = low
        return bits

    # The array seam of the authenticated encoding

    def use_records(self, keys: RecordKeys) -> None:
        """Take the secrets that the next three methods need; contexts with this encoding do it."""
        self._records = keys

    def encrypt_records(
        self,
        bits: NDArray[np.uint8],
        *,
        epoch: int | None = None,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Binary vectors (N, embed_len) -> ciphertexts (N, chunks, width), nonces (N, 24).

        The nonces belong to the rows and are stored with them. `epoch` is the context's present one unless
        given. Raises as `encrypt_to_array`, and NotLoadedError under the plain encoding.
        """
        keys = self._record_keys()
        checked = as_bits(bits, self.embed_len, "bits")
        nonces = fresh_nonces(len(checked))
        encryptor = self._ready_encryptor()
        rows = encryptor.encrypt_records(checked, nonces, keys.own(epoch), threads=threads, progress=progress)
        return rows, nonces

    def encrypt_query(self, bits: NDArray[np.uint8]) -> RecordQuery:
        """A binary vector (embed_len,) -> the query, whose `rows` are sent. Raises as `encrypt_records`."""
        keys = self._record_keys()
        checked = as_bits([bits], self.embed_len, "bits")[0]
        nonce, epoch = fresh_nonces(1)[0], keys.epoch
        rows = self._ready_encryptor().encrypt_query(checked, nonce, keys.own(epoch))
        return RecordQuery(rows, checked, nonce, epoch)

    def decode_records(
        self,
        rows: NDArray[np.uint8],
        nonces: NDArray[np.uint8] | Records,
        query: RecordQuery,
        *,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> NDArray[np.int32]:
        """Products of stored records and a query (N, chunks, width) -> Hamming distances (N,), exact.

        `nonces` (N, 24) belong to records of this writer in the query's epoch; `Records` tell of each row
        which writer's and epoch's it is.

        Raises IntegrityError, the same whatever was changed in however many rows; InputError for another
        shape or dtype, NotLoadedError without keys or under the plain encoding.
        """
        keys, decoder = self._record_keys(), self._ready_decoder()
        self._check_rows(rows, decoder)
        if not isinstance(nonces, Records):
            if nonces.dtype != np.uint8 or nonces.shape != (len(rows), NONCE_BYTES):
                raise InputError(f"nonces: expected uint8 ({len(rows)}, {NONCE_BYTES})")
            nonces = Records.of_writer(nonces, query.epoch, keys.writer)
        asked = (query.bits, query.nonce, keys.own(query.epoch))
        return decode_groups(
            lambda part, beside, key: decoder.decode_records(
                part, beside, key, *asked, threads=threads, progress=progress
            ),
            keys,
            rows,
            nonces,
            np.zeros(len(rows), np.int32),
        )

    def open_records(
        self,
        rows: NDArray[np.uint8],
        records: Records,
        *,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> NDArray[np.uint8]:
        """Records as they are stored (N, chunks, width) -> their vectors' bits (N, embed_len).

        Raises as `decode_records`.
        """
        keys, decoder = self._record_keys(), self._ready_decoder()
        self._check_rows(rows, decoder)
        return decode_groups(
            lambda part, beside, key: decoder.open_records(
                part, beside, key, threads=threads, progress=progress
            ),
            keys,
            rows,
            records,
            np.zeros((len(rows), self.embed_len), np.uint8),
        )

    # Lists and numbers

    def encrypt_vec_one(self, embd: Sequence[int] | NDArray[Any]) -> list[mpz]:
        """A binary vector of `embed_len` elements -> its ciphertexts, one per chunk. Raises InputError."""
        return row_to_numbers(self._ready_encryptor().encrypt(as_bits([embd], self.embed_len, "embd"))[0])

    def encrypt_vec_batch(self, embds: Sequence[Sequence[int]] | NDArray[Any]) -> list[list[mpz]]:
        """Binary vectors -> their ciphertexts, one list each. Raises InputError naming the first bad one."""
        bits = as_bits(embds, self.embed_len, "embds")
        return [row_to_numbers(row) for row in self._ready_encryptor().encrypt(bits)]

    def decode_hamming_client_one(self, cipher: Sequence[Any]) -> int:
        """The product of two encrypted vectors, one number (or little-endian bytes) per chunk -> distance."""
        return self.decode_hamming_client_batch([cipher])[0]

    def decode_hamming_client_batch(self, ciphers: Sequence[Sequence[Any]]) -> list[int]:
        """Products -> distances. Raises InputError, CiphertextError."""
        decoder = self._ready_decoder()
        rows = numbers_to_rows(ciphers, decoder.chunks, decoder.width)
        return [int(distance) for distance in decoder.decode(rows)]

    # Keys and configuration as texts

    def stringify_pk(self) -> str:
        """The public key as the JSON text that contexts hold."""
        public = self.public_key
        values = {"g": public.g, "n": public.n, "n_squared": public.n_squared, "g_n": public.g_n}
        return dump_numbers(_pick(values, self._PK_FIELDS), as_strings=self._AS_STRINGS)

    def stringify_sk(self) -> str:
        """The **secret** key as JSON text, in the clear; contexts hold it encrypted."""
        key = self._loaded_key()
        values = {"phi": key.phi, "a": key.a, "inv": key.inverse, "g_a_inv": key.inverse}
        return dump_numbers(_pick(values, self._SK_FIELDS), as_strings=self._AS_STRINGS)

    def stringify_config(self) -> str:
        """The configuration as JSON text."""
        return json.dumps(self._config_numbers())

    def load_stringified_keys(self, pk: str, sk: str) -> None:
        """Take the keys that `stringify_pk` and `stringify_sk` wrote.

        Raises InputError for malformed texts, KeyMismatchError when the keys (or a configuration loaded
        before) do not belong together, WeakKeyError for keys under the floors unless `allow_insecure`.
        """
        public = load_numbers(pk, self._PK_FIELDS, "pk")
        secret = load_numbers(sk, self._SK_FIELDS, "sk")
        if public["n_squared"] != public["n"] ** 2:
            raise KeyMismatchError("pk: n_squared is not the square of n")
        if "g_n" not in public and public["g"] != public["n"] + 1:
            raise KeyMismatchError("pk: g is not n + 1, as plain Paillier keys have it")
        try:
            key = SecretKey.load(
                PublicKey(public["n"], public["g"], public.get("g_n")),
                secret["phi"],
                secret["inv" if "inv" in secret else "g_a_inv"],
                secret.get("a"),
                allow_insecure=self._allow_insecure,
            )
        except WeakKeyError as error:
            raise WeakKeyError(
                f"{error}. allow_insecure=True (or XTRACE_ALLOW_INSECURE=1) is for reading old data, to move "
                "it to a new context"
            ) from None
        if self._config is not None:
            self._check_config(self._config, key)
        self._take_key(key)

    def load_config(self, config: Mapping[str, Any]) -> None:
        """Take a configuration (the parsed text of `stringify_config`).

        Raises InputError for a missing or impossible value, KeyMismatchError when it is not that of the
        loaded keys.
        """
        numbers = {name: positive(config.get(name), f"config.{name}") for name in self._config_numbers()}
        if self._key is not None:
            self._check_config(numbers, self._key)
        self._config = numbers
        self._apply_config(numbers)
        self._encryptor = None
        self._decoders = {}

    def check_exact(self) -> None:
        """Raise InputError if distances of `embed_len` dimensions could be wrong under the loaded key."""
        self._ready_decoder()

    # Properties

    @property
    def public_key(self) -> PublicKey:
        """The public values. Raises NotLoadedError without keys."""
        return self._loaded_key().public

    @property
    def width(self) -> int:
        """Bytes of one ciphertext. Raises NotLoadedError without keys."""
        return self.public_key.width

    @property
    def chunk_len(self) -> int:
        """Bits of one plaintext chunk: two for each of `key_len` elements."""
        return 2 * self.key_len

    @property
    def chunk_num(self) -> int:
        """Ciphertexts per vector."""
        return -(-self.embed_len // self.key_len)

    @property
    def device(self) -> str:
        """Where the arithmetic runs: always ``"cpu"``."""
        return "cpu"

    @staticmethod
    def has_gpu() -> bool:
        """Always False: the fast kernels of this package are CPU kernels."""
        return False

    def __repr__(self) -> str:
        state = "" if self._key is not None else ", no keys"
        return f"{type(self).__name__}(embed_len={self.embed_len}, key_len={self.key_len}{state})"

    def close(self) -> None:
        """Wipe the key. Later use raises NotLoadedError."""
        if self._key is not None:
            self._key.close()
        self._key = None
        self._encryptor = None
        self._decoders = {}

    # For the two clients

    def _take_key(self, key: SecretKey) -> None:
        self._key = key
        self.key_len = key.key_len
        self._encryptor = None
        self._decoders = {}

    @abstractmethod
    def _config_numbers(self) -> dict[str, int]:
        """The configuration, in the order of its text."""

    def _apply_config(self, config: Mapping[str, int]) -> None:
        self.embed_len = config["embed_len"]
        self.key_len = config["key_len"]

    def _check_config(self, config: Mapping[str, int], key: SecretKey) -> None:
        if config["key_len"] != key.key_len:
            raise KeyMismatchError(f"config: key_len is {config['key_len']}, the key has {key.key_len}")

    def _loaded_key(self) -> SecretKey:
        if self._key is None:
            raise NotLoadedError("no keys: generate them (skip_key_gen=False) or call load_stringified_keys")
        return self._key

    def _record_keys(self) -> RecordKeys:
        if self._records is None:
            raise NotLoadedError(
                "records belong to contexts with the authenticated encoding; this one is plain"
            )
        return self._records

    @staticmethod
    def _check_rows(rows: NDArray[np.uint8], decoder: HammingDecoder) -> None:
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8:
            raise InputError("rows: expected an array of dtype uint8")
        if rows.ndim != 3 or rows.shape[1:] != (decoder.chunks, decoder.width):
            raise InputError(f"rows: expected shape (N, {decoder.chunks}, {decoder.width}), got {rows.shape}")

    def _ready_encryptor(self) -> HammingEncryptor:
        if self._encryptor is None:
            self._encryptor = HammingEncryptor(self._loaded_key(), self.embed_len)
        return self._encryptor

    def _ready_decoder(self, vartime: bool = False) -> HammingDecoder:
        if vartime not in self._decoders:
            self._decoders[vartime] = HammingDecoder(self._loaded_key(), self.embed_len, vartime=vartime)
        return self._decoders[vartime]


def insecure_allowed(explicit: bool) -> bool:
    """Whether keys under the floors are accepted: by argument, or for foreign test suites by environment."""
    return explicit or os.environ.get("XTRACE_ALLOW_INSECURE") == "1"


def positive(value: Any, name: str) -> int:
    """`value` if it is an integer of at least 1. Raises InputError naming `name`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value < 2**31:
        raise InputError(f"{name}: expected a positive integer, got {value!r}")
    return int(value)


def _pick(values: Mapping[str, int | None], names: Sequence[str]) -> dict[str, int]:
    picked = {}
    for name in names:
        value = values[name]
        if value is None:
            raise KeyMismatchError(f"the key has no {name}")
        picked[name] = value
    return picked
