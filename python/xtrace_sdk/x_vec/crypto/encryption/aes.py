"""AES-256-GCM for chunk contents and stored secret keys.

::

    blob = base64( nonce[16] || tag[16] || ciphertext )      standard alphabet, padded

The nonce has 16 bytes, so that GHASH makes the initial counter of it; there is no associated data.
"""

from __future__ import annotations

import os
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from xtrace_sdk.errors import DecryptionError, InputError, NotLoadedError
from xtrace_sdk.x_vec.crypto.secrets import Secret

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 16
_TAG_BYTES: Final = 16
_HEAD_BYTES: Final = _NONCE_BYTES + _TAG_BYTES


class AESClient(Secret):
    """Seals and opens texts under one 32-byte key.

    Raises InputError (a ValueError) unless `key` is a 32-byte key.
    """

    __slots__ = ("_aes",)

    def __init__(self, key: bytes | bytearray) -> None:
        if not isinstance(key, bytes | bytearray | memoryview) or len(key) != KEY_BYTES:
            raise InputError("key: AES-256-GCM takes a 32-byte key")
        self._aes: AESGCM | None = AESGCM(key)

    def encrypt(self, plaintext: str | bytes) -> bytes:
        """The blob for `plaintext` (text as UTF-8), as ASCII bytes; a fresh random nonce every time."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher().encrypt(nonce, as_bytes(plaintext, "plaintext"), None)
        return b2a_base64(nonce + sealed[-_TAG_BYTES:] + sealed[:-_TAG_BYTES], newline=False)

    def decrypt(self, blob: str | bytes) -> str:
        """The text in `blob`.

        Raises DecryptionError, the same whether the key is wrong or the blob was changed, cut or never one.
        """
        if not isinstance(blob, str | bytes | bytearray | memoryview):
            raise InputError(f"blob: expected str or bytes, got {type(blob).__name__}")
        try:
            raw = a2b_base64(blob, strict_mode=True)
            nonce, tag = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:_HEAD_BYTES]
            return self._cipher().decrypt(nonce, raw[_HEAD_BYTES:] + tag, None).decode("utf-8")
        except (InvalidTag, Base64Error, ValueError):
            raise undecryptable() from None

    def close(self) -> None:
        """Forget the key. Later use raises NotLoadedError."""
        self._aes = None

    def _cipher(self) -> AESGCM:
        if self._aes is None:
            raise NotLoadedError("the key was closed")
        return self._aes


def undecryptable() -> DecryptionError:
    """The one error for a wrong key and for data that was changed, cut, or never ours."""
    return DecryptionError("cannot decrypt: wrong key, or the data was changed or cut")


def as_bytes(value: str | bytes, name: str) -> bytes:
    """UTF-8 of a text, or the bytes themselves. Raises InputError naming `name` for anything else."""
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"{name}: not valid Unicode (a lone surrogate)") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise InputError(f"{name}: expected str or bytes, got {type(value).__name__}")
