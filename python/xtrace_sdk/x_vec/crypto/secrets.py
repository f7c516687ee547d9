"""Objects that hold secrets."""

from __future__ import annotations

import os
from typing import NoReturn, Protocol, Self


class Secret:
    """Base of objects that hold key material: they can be neither copied nor pickled."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds key material and cannot be pickled or copied")


class SecretBytes(Secret, bytearray):
    """Bytes of a key, overwritten when they die or are wiped. ``bytes`` of Python cannot be."""

    __slots__ = ()

    @classmethod
    def of(cls, secret: bytes | bytearray) -> Self:
        """A copy."""
        copied = cls(len(secret))  # bytearray(secret) may leave a smaller copy behind when it grows
        copied[:] = secret
        return copied

    @classmethod
    def random(cls, size: int) -> Self:
        """Fresh from the operating system."""
        drawn = cls(size)
        for at in range(0, size, 8):  # what os.urandom returns cannot be wiped; so little tells nothing
            drawn[at : at + 8] = os.urandom(min(8, size - at))
        return drawn

    def wipe(self) -> None:
        """Overwrite with zeros."""
        self[:] = bytes(len(self))

    def __del__(self) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    __str__ = __repr__


class KeyDerivation(Protocol):
    """What `derived` asks of a key derivation function of the library."""

    def derive_into(self, key_material: bytearray, buffer: bytearray) -> int: ...


def derived(function: KeyDerivation, secret: bytearray, size: int) -> SecretBytes:
    """`size` bytes, by a key derivation function."""
    key = SecretBytes(size)
    function.derive_into(secret, key)
    # On its way the library makes ``bytes`` of secrets and frees them as they are; what was freed last is
    # given out first.
    _ = [bytes(size) for _ in range(16)]
    return key
