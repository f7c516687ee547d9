"""Records of the authenticated encoding: what stands beside a vector, and how its content is sealed to it.

A record travels through the server as at most 160 opaque bytes::

    offset 0    1 byte    1, the version
           1    uint32    key epoch, little-endian
           5    24 bytes  nonce: fresh random bytes for every encryption
          29    ...       the writer's name, UTF-8; nothing for the owner

Vectors are scaled and masked in the core (cpp/include/xvec/records.h) by a secret of the writer in the
epoch, 32 bytes::

    secret = HKDF-Expand( HKDF( root key of the epoch, "xtrace records" ), "writer" || name )

and contents are sealed so that they open beside this record and no other::

    blob = base64( 2 || nonce[12] || AES-256-GCM( content ) || tag[16] )
    key  = HKDF( root key of the epoch, "xtrace record contents" )
    associated data = "xtrace content" || record

Contents beside a record that names a writer are sealed by it to the owner instead, who alone opens them::

    blob = base64( 3 || sealed )             see `xtrace_sdk.x_vec.crypto.owner_seal`
"""

from __future__ import annotations

import os
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from numpy.typing import NDArray

from xtrace_sdk import _core
from xtrace_sdk.errors import DecryptionError, InputError, IntegrityError
from xtrace_sdk.records import Table
from xtrace_sdk.x_vec.crypto.encryption.aes import KEY_BYTES, as_bytes, undecryptable
from xtrace_sdk.x_vec.crypto.owner_seal import open_from_writer, public_half, seal_to_owner
from xtrace_sdk.x_vec.crypto.secrets import Secret, SecretBytes, derived

NONCE_BYTES: Final = 24
_VERSION: Final = 1
_NONCE_AT: Final = 5
_WRITER_AT: Final = _NONCE_AT + NONCE_BYTES
_WRITER_BYTES: Final = 64
_SECRETS: Final = b"xtrace records"
_CONTENTS: Final = b"xtrace record contents"
_SEALING: Final = b"xtrace owner's seal"
_CONTENT_VERSION: Final = b"\x02"
_WRITERS_VERSION: Final = b"\x03"
_CONTENT_NONCE: Final = 12
# Each takes a page of locked memory, and a server can invent names of writers.
_KEYS_KEPT: Final = 64

Decoded = TypeVar("Decoded", np.int32, np.uint8)
Subkey = Callable[[bytes, int], SecretBytes]


def altered() -> IntegrityError:
    """The one error for every kind of altered answer."""
    return IntegrityError("the server's answer is not what was stored and asked for")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RecordQuery(Secret):
    """An encrypted query, and what only its owner knows of it: bits and nonce.

    Attributes:
        rows: ciphertexts (chunks, width), to be sent; the rest is secret.
    """

    rows: NDArray[np.uint8]
    bits: NDArray[np.uint8] = field(repr=False)
    nonce: NDArray[np.uint8] = field(repr=False)
    epoch: int


class Records(NamedTuple):
    """Records taken apart: nonces (N, 24), epochs (N,), writers (N,) as UTF-8."""

    nonces: NDArray[np.uint8]
    epochs: NDArray[np.uint32]
    writers: NDArray[np.bytes_]

    @classmethod
    def of_writer(cls, nonces: NDArray[np.uint8], epoch: int, writer: str) -> Records:
        """All of one writer in one epoch."""
        count, name = len(nonces), writer_bytes(writer)
        writers = np.full(count, name, dtype=f"S{max(1, len(name))}")
        return cls(nonces, np.full(count, epoch, np.uint32), writers)

    def groups(self) -> Iterator[tuple[int, bytes, NDArray[np.intp] | slice]]:
        """(epoch, writer, positions) of each writer in each epoch."""
        if not len(self.epochs):
            return
        if (self.epochs == self.epochs[0]).all() and (self.writers == self.writers[0]).all():
            yield int(self.epochs[0]), bytes(self.writers[0]), slice(None)
            return
        both = np.empty(len(self.epochs), dtype=[("epoch", np.uint32), ("writer", self.writers.dtype)])
        both["epoch"], both["writer"] = self.epochs, self.writers
        kinds, which = np.unique(both, return_inverse=True)
        for number, kind in enumerate(kinds):
            yield int(kind["epoch"]), bytes(kind["writer"]), np.flatnonzero(which == number)


def fresh_nonces(count: int) -> NDArray[np.uint8]:
    """Random nonces (count, 24)."""
    return np.frombuffer(os.urandom(count * NONCE_BYTES), np.uint8).reshape(count, NONCE_BYTES)


def write_records(nonces: NDArray[np.uint8], epoch: int, writer: str) -> list[bytes]:
    """Nonces (N, 24) of one writer in one epoch -> records as they are stored."""
    head = bytes([_VERSION]) + epoch.to_bytes(4, "little")
    name = writer_bytes(writer)
    data = nonces.tobytes()
    return [head + data[at : at + NONCE_BYTES] + name for at in range(0, len(data), NONCE_BYTES)]


def read_records(table: Table) -> Records:
    """A table of records (`xtrace_sdk.records`) -> its parts. Raises IntegrityError for what is no record."""
    count = len(table)
    if not count:
        none = np.empty(0, np.uint32)
        return Records(np.empty((0, NONCE_BYTES), np.uint8), none, np.empty(0, "S1"))
    if table.shape[1] < 1 + _WRITER_AT:
        raise altered()
    lengths, body = table[:, 0].astype(np.intp), table[:, 1:]
    longest = int(lengths.max())
    if longest > _WRITER_AT + _WRITER_BYTES or (lengths < _WRITER_AT).any() or (body[:, 0] != _VERSION).any():
        raise altered()
    epochs = np.ascontiguousarray(body[:, 1:_NONCE_AT]).view("<u4").reshape(count)
    if longest == _WRITER_AT:
        writers = np.zeros(count, "S1")
    else:
        writers = (
            np.ascontiguousarray(body[:, _WRITER_AT:longest]).view(f"S{longest - _WRITER_AT}").reshape(count)
        )
        if (np.char.str_len(writers) != lengths - _WRITER_AT).any():  # NULs in a name
            raise altered()
    return Records(np.ascontiguousarray(body[:, _NONCE_AT:_WRITER_AT]), epochs, writers)


def writer_bytes(writer: str) -> bytes:
    """A writer's name as it stands in records. Raises InputError for one that cannot."""
    name = as_bytes(writer, "writer")
    if len(name) > _WRITER_BYTES or not writer.isprintable():
        raise InputError(f"writer: expected at most {_WRITER_BYTES} bytes of printable text")
    return name


def has_duplicates(nonces: NDArray[np.uint8]) -> bool:
    """Whether any two of nonces (N, 24) are equal."""
    # Eight of the bytes tell nearly all apart, and sort faster.
    first = np.sort(np.ascontiguousarray(nonces[:, :8]).view(np.uint64).reshape(-1))
    if not (first[1:] == first[:-1]).any():
        return False
    return len(np.unique(nonces, axis=0)) < len(nonces)


class RecordKeys(Secret):
    """The secrets of records: of every writer for the owner, of itself alone for a writer.

    Args:
        secret: (epoch, writer) -> 32 bytes; raises DecryptionError for what it does not know.
        content_key: epoch -> 32 bytes, likewise.
        epoch: -> the epoch that new records belong to.
        writer: the name that new records carry.
        sealing_key: epoch -> 32 bytes, likewise: the owner's, to open what writers sealed.
    """

    def __init__(
        self,
        secret: Callable[[int, bytes], SecretBytes],
        content_key: Callable[[int], SecretBytes],
        epoch: Callable[[], int],
        writer: str,
        sealing_key: Callable[[int], SecretBytes],
    ) -> None:
        self._sealing_key = sealing_key
        self._secret = secret
        self._content_key = content_key
        self._epoch = epoch
        self._keys: dict[tuple[int, bytes], _core.RecordKey] = {}
        self._ciphers: dict[int, AESGCM] = {}
        self.writer = writer
        self._name = writer_bytes(writer)

    @classmethod
    def of_owner(cls, subkey: Subkey, epoch: Callable[[], int]) -> RecordKeys:
        """All secrets, derived from the root keys of the epochs."""

        def secret(of_epoch: int, writer: bytes) -> SecretBytes:
            expand = HKDFExpand(SHA256(), KEY_BYTES, b"writer" + writer)
            return derived(expand, subkey(_SECRETS, of_epoch), KEY_BYTES)

        return cls(
            secret,
            lambda of_epoch: subkey(_CONTENTS, of_epoch),
            epoch,
            "",
            lambda of_epoch: subkey(_SEALING, of_epoch),
        )

    @property
    def epoch(self) -> int:
        """The epoch that new records belong to."""
        return self._epoch()

    def own(self, epoch: int | None = None) -> _core.RecordKey:
        """This writer's key in an epoch, by default the present one. Raises DecryptionError."""
        return self.key(self.epoch if epoch is None else epoch, self._name)

    def key(self, epoch: int, writer: bytes) -> _core.RecordKey:
        """A writer's key in an epoch. Raises DecryptionError for one that is not known, or any more."""
        secret = self._secret(epoch, writer)  # asks again, so that a retired epoch's key is of no use
        if (epoch, writer) not in self._keys:
            if len(self._keys) == _KEYS_KEPT:
                del self._keys[next(iter(self._keys))]
            self._keys[epoch, writer] = _core.RecordKey(secret, epoch, writer)
        return self._keys[epoch, writer]

    def forget(self) -> None:
        """Drop what was derived so far."""
        self._keys.clear()
        self._ciphers.clear()

    def seal(self, content: str | bytes, record: bytes) -> bytes:
        """A content for the chunk with this record -> its blob, as ASCII bytes."""
        nonce = os.urandom(_CONTENT_NONCE)
        plain = as_bytes(content, "chunk_content")
        sealed = self._cipher(epoch_of(record)).encrypt(nonce, plain, _content_data(record))
        return b2a_base64(_CONTENT_VERSION + nonce + sealed, newline=False)

    def open(self, blob: str | bytes, record: bytes) -> str:
        """The content that was sealed beside this record. Raises IntegrityError for anything else."""
        try:
            raw = a2b_base64(blob, strict_mode=True)
            epoch, writer = epoch_of(record), record[_WRITER_AT:]
            if raw[:1] != (_WRITERS_VERSION if writer else _CONTENT_VERSION):
                raise altered()
            if writer:
                secret = self._secret(epoch, writer)
                plain = open_from_writer(raw[1:], record, self._sealing_key(epoch), secret)
            else:
                nonce, sealed = raw[1 : 1 + _CONTENT_NONCE], raw[1 + _CONTENT_NONCE :]
                plain = self._cipher(epoch).decrypt(nonce, sealed, _content_data(record))
            return plain.decode("utf-8")
        except (InvalidTag, Base64Error, TypeError, ValueError):
            raise altered() from None

    def for_writer(self, writer: str) -> tuple[SecretBytes, bytes]:
        """What a writer needs in the present epoch: its secret, and the owner's public sealing key.

        Raises InputError for a name that records cannot carry.
        """
        name = writer_bytes(writer)
        if not name:
            raise InputError("writer: must not be empty, which is the owner's name")
        return self._secret(self.epoch, name), public_half(self._sealing_key(self.epoch))

    def _cipher(self, epoch: int) -> AESGCM:
        if epoch not in self._ciphers:
            self._ciphers[epoch] = AESGCM(self._content_key(epoch))
        return self._ciphers[epoch]


class WriterKeys(RecordKeys):
    """The secrets of one writer in one epoch. They make records and read none, not even their own."""

    def __init__(self, secret: SecretBytes, epoch: int, writer: str, owner: bytes) -> None:
        name = writer_bytes(writer)

        def own_secret(of_epoch: int, of_writer: bytes) -> SecretBytes:
            if (of_epoch, of_writer) != (epoch, name):
                raise undecryptable()
            return secret

        def nothing(_of_epoch: int) -> SecretBytes:
            raise undecryptable()

        super().__init__(own_secret, nothing, lambda: epoch, writer, nothing)
        self._owner = owner

    def seal(self, content: str | bytes, record: bytes) -> bytes:
        """As `RecordKeys.seal`, to the owner."""
        plain = as_bytes(content, "chunk_content")
        secret = self._secret(epoch_of(record), record[_WRITER_AT:])
        return b2a_base64(_WRITERS_VERSION + seal_to_owner(plain, record, self._owner, secret), newline=False)


def epoch_of(record: bytes) -> int:
    """The key epoch that a record names. Raises IntegrityError for what is no record."""
    if len(record) < _WRITER_AT or record[0] != _VERSION:
        raise altered()
    return int.from_bytes(record[1:_NONCE_AT], "little")


def _content_data(record: bytes) -> bytes:
    return b"xtrace content" + record


def decode_groups(
    decode: Callable[[NDArray[np.uint8], NDArray[np.uint8], _core.RecordKey], NDArray[Decoded]],
    keys: RecordKeys,
    rows: NDArray[np.uint8],
    records: Records,
    out: NDArray[Decoded],
) -> NDArray[Decoded]:
    """`out` (N, ...), filled by `decode` of each writer's rows and nonces in each epoch.

    Everything is worked on before anything is said. Raises IntegrityError.
    """
    sound = len(records.nonces) == len(rows) and not has_duplicates(records.nonces)
    if sound:
        for epoch, writer, at in records.groups():
            try:
                key = keys.key(epoch, writer)
                part, nonces = np.ascontiguousarray(rows[at]), np.ascontiguousarray(records.nonces[at])
                out[at] = decode(part, nonces, key)
            except DecryptionError:
                sound = False
    if not sound:
        raise altered()
    return out
