"""Plain Paillier: the original SDK's default. Slower than `PaillierLookupClient` in every operation."""

from __future__ import annotations

from typing import ClassVar

from xtrace_sdk._core import SecretKey
from xtrace_sdk.x_vec.crypto.core_client import CorePaillierClient


class PaillierClient(CorePaillierClient):
    """Hamming distances under plain Paillier keys (g = 1 + n).

    Args:
        embed_len: dimension of the vectors, at least 1.
        key_len: bits of each prime, at least 1024 (1536 for data that must last).
        skip_key_gen: leave the client without keys; `load_stringified_keys` and `load_config` bring them.
        allow_insecure: accept keys that can be broken, for tests and to read old data.

    Raises InputError, WeakKeyError.
    """

    _PK_FIELDS: ClassVar[tuple[str, ...]] = ("g", "n", "n_squared")
    _SK_FIELDS: ClassVar[tuple[str, ...]] = ("phi", "inv")
    _AS_STRINGS: ClassVar[bool] = True

    def __init__(
        self,
        embed_len: int = 512,
        key_len: int = 1024,
        skip_key_gen: bool = False,
        *,
        allow_insecure: bool = False,
    ) -> None:
        super().__init__(embed_len, key_len, allow_insecure=allow_insecure)
        if not skip_key_gen:
            self._take_key(SecretKey.generate_plain(self.key_len, allow_insecure=self._allow_insecure))

    def _config_numbers(self) -> dict[str, int]:
        return {"embed_len": self.embed_len, "key_len": self.key_len}
