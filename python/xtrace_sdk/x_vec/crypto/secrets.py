"""Objects that hold secrets."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Base of objects that hold key material: they can be neither copied nor pickled."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds key material and cannot be pickled or copied")
