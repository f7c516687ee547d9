"""The manifest of a knowledge base: which records its owner stored there, readable for the owner alone.

Beside the rows of a context the server keeps one manifest of each knowledge base, at most 512 opaque bytes,
and replaces it in the transaction that changes the rows::

    sealed = 1 || nonce[12] || AES-256-GCM( plain ) || tag[16]
    plain  = counter uint64 || rows uint64 || sum[32]                       little-endian
    key    = HKDF( root key of epoch 0, "xtrace manifest" )
    associated data = "xtrace manifest", kb id, context id, each behind its length

The counter grows by one with every change, `rows` is their number, and `sum` fingerprints their
records as a multiset: the sum modulo 2**256 of a pseudorandom function of each (`_core.MultisetHash`) with
the key HKDF( root key of epoch 0, "xtrace manifest rows" ). It follows an insertion by an addition and a
deletion by a subtraction. Epoch 0 encrypts no data and lasts as long as the context, so manifests outlast
retired epochs.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from xtrace_sdk import _core
from xtrace_sdk.errors import InputError
from xtrace_sdk.records import Table, as_table
from xtrace_sdk.x_vec.crypto.authenticated import altered
from xtrace_sdk.x_vec.crypto.secrets import Secret
from xtrace_sdk.x_vec.utils.execution_context_v2 import framed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xtrace_sdk.x_vec.crypto.authenticated import Subkey

_SEALING: Final = b"xtrace manifest"
_ROWS: Final = b"xtrace manifest rows"
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_PLAIN: Final = struct.Struct("<QQ32s")
_MODULUS: Final = 1 << 256


class Manifest(NamedTuple):
    """How often a knowledge base was changed, how many rows it has, and the fingerprint of their records."""

    counter: int
    rows: int
    total: int


EMPTY: Final = Manifest(0, 0, 0)


class ManifestKeys(Secret):
    """Seals and opens the manifests of one context, and fingerprints records."""

    def __init__(self, subkey: Subkey, context_id: str) -> None:
        self._subkey = subkey  # asked each time, so that nothing is left once the context is closed
        self.context_id = context_id

    def total(self, table: Table) -> int:
        """The fingerprint of a table of records (`xtrace_sdk.records`). Raises IntegrityError."""
        try:
            return int.from_bytes(_core.MultisetHash(self._subkey(_ROWS, 0)).sum(table), "little")
        except InputError:  # a record that is longer than its row
            raise altered() from None

    def changed(self, before: Manifest, added: Sequence[bytes], removed: Sequence[bytes]) -> Manifest:
        """The manifest after a change of these records.

        Raises IntegrityError when more are removed than there were.
        """
        rows = before.rows + len(added) - len(removed)
        if rows < 0:
            raise altered()
        total = before.total + self.total(as_table(added)) - self.total(as_table(removed))
        return Manifest(before.counter + 1, rows, total % _MODULUS)

    def seal(self, manifest: Manifest, kb_id: str) -> bytes:
        """What the server stores, different every time."""
        nonce = os.urandom(_NONCE_BYTES)
        plain = _PLAIN.pack(manifest.counter, manifest.rows, manifest.total.to_bytes(32, "little"))
        return _VERSION + nonce + self._cipher().encrypt(nonce, plain, self._data(kb_id))

    def open(self, sealed: bytes, kb_id: str) -> Manifest:
        """What was sealed for this knowledge base. Raises IntegrityError for anything else."""
        at = len(_VERSION) + _NONCE_BYTES
        try:
            if sealed[:1] != _VERSION:
                raise altered()
            plain = self._cipher().decrypt(sealed[1:at], sealed[at:], self._data(kb_id))
            counter, rows, total = _PLAIN.unpack(plain)
        except (InvalidTag, ValueError, struct.error):
            raise altered() from None
        return Manifest(counter, rows, int.from_bytes(total, "little"))

    def _cipher(self) -> AESGCM:
        return AESGCM(self._subkey(_SEALING, 0))

    def _data(self, kb_id: str) -> bytes:
        return framed(_SEALING.decode("ascii"), kb_id, self.context_id)
