"""Recovery shares: what opens a context when its passphrase is lost, divided among several people.

The provider's 32-byte key is divided by Shamir's secret sharing in the form of SLIP-39: 33 words each, with
a checksum. Fewer shares than the threshold tell nothing. They open what the provider opens, which takes the
context's file besides; after a rewrap they are of no use, except for copies of the file made before.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Final

from xtrace_sdk.errors import ConfigurationError, DecryptionError, InputError
from xtrace_sdk.x_vec.crypto.encryption.aes import KEY_BYTES
from xtrace_sdk.x_vec.crypto.key_provider import KeyProvider
from xtrace_sdk.x_vec.crypto.secrets import Secret, SecretBytes

_MOST: Final = 16  # as SLIP-39 has it


def recovery_shares(provider: KeyProvider, threshold: int, count: int) -> list[str]:
    """`count` shares, any `threshold` of which give the provider's key again: **secret** texts of 33 words.

    Raises InputError unless 2 <= threshold <= count <= 16, ConfigurationError without the extra ``recovery``.
    """
    if not 2 <= threshold <= count <= _MOST:
        raise InputError(
            f"threshold, count: expected 2 <= threshold <= count <= {_MOST}, got {threshold}, {count}"
        )
    (shares,) = _slip39().generate_mnemonics(1, [(threshold, count)], provider.get_key())
    return list(shares)


class RecoveredKeyProvider(Secret):
    """A provider whose key comes from recovery shares. It opens a context, which then needs a `rewrap`.

    Raises DecryptionError for too few, mistyped or mixed-up shares, ConfigurationError without the extra
    ``recovery``.
    """

    __slots__ = ("_key",)

    def __init__(self, shares: Sequence[str]) -> None:
        slip39 = _slip39()
        try:
            words = [" ".join(share.lower().split()) for share in shares]
            self._key = SecretBytes.of(slip39.combine_mnemonics(words))
        except slip39.MnemonicError:
            # What the library says may quote words of a share.
            raise DecryptionError(
                "the shares do not give a key: one is mistyped, or they are too few or not of one set"
            ) from None
        if len(self._key) != KEY_BYTES:
            raise DecryptionError("the shares are not those of a context")

    def get_key(self) -> bytes:
        """The 32-byte key."""
        return bytes(self._key)

    def secret_key(self) -> SecretBytes:
        """The key itself, wiped with the provider."""
        return self._key

    def wrap_key(self) -> bytes:
        """Raises InputError: shares cannot protect a context."""
        raise InputError("key_provider: recovery shares only open a context; rewrap it before it is saved")

    def provider_id(self) -> str:
        """``"recovery"``, which no stored context has."""
        return "recovery"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"


def _slip39() -> ModuleType:
    try:
        import shamir_mnemonic
    except ImportError:
        raise ConfigurationError(
            "recovery shares need shamir-mnemonic; install the extra: xtrace-sdk-native[recovery]"
        ) from None
    module: ModuleType = shamir_mnemonic
    return module
