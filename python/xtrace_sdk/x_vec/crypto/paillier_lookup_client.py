"""Paillier with a secret subgroup ("Paillier-Lookup"): short exponents, so fast; the default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from xtrace_sdk._core import SecretKey
from xtrace_sdk.errors import KeyMismatchError
from xtrace_sdk.x_vec.crypto.core_client import CorePaillierClient, positive


class PaillierLookupClient(CorePaillierClient):
    """Hamming distances under keys with a secret subgroup of `alpha_len` bits.

    Args:
        embed_len: dimension of the vectors, at least 1.
        key_len: bits of each prime, at least 1024 (1536 for data that must last).
        alpha_len: bits of the subgroup's order; 448, 512 or 768 by `key_len` unless given. Breaking a key
            costs about 2**(alpha_len / 4) steps.
        skip_key_gen: leave the client without keys; `load_stringified_keys` and `load_config` bring them.
        allow_insecure: accept keys that can be broken, for tests and to read old data.

    Raises InputError, WeakKeyError.
    """

    _PK_FIELDS: ClassVar[tuple[str, ...]] = ("g", "n", "n_squared", "g_n")
    _SK_FIELDS: ClassVar[tuple[str, ...]] = ("phi", "a", "g_a_inv")
    _AS_STRINGS: ClassVar[bool] = False

    def __init__(
        self,
        embed_len: int = 512,
        key_len: int = 1024,
        alpha_len: int | None = None,
        skip_key_gen: bool = False,
        *,
        allow_insecure: bool = False,
    ) -> None:
        super().__init__(embed_len, key_len, allow_insecure=allow_insecure)
        self.alpha_len = None if alpha_len is None else positive(alpha_len, "alpha_len")
        if not skip_key_gen:
            self._take_key(
                SecretKey.generate(self.key_len, self.alpha_len, allow_insecure=self._allow_insecure)
            )

    def load_config(self, config: Mapping[str, Any], precomputed_tables: object = None) -> None:
        """As for every client. `precomputed_tables` is never used: tables made by others could reveal the
        vectors, and one's own take milliseconds."""
        super().load_config(config)

    def _take_key(self, key: SecretKey) -> None:
        super()._take_key(key)
        found = key.alpha_len or 0
        if self.alpha_len is None or not _same_alpha(self.alpha_len, key):
            # Two primes of equal length; their product may be one bit shorter than the two together.
            self.alpha_len = found + found % 2

    def _config_numbers(self) -> dict[str, int]:
        return {
            "message_chunks": _message_chunks(self.key_len),
            "alpha_len": self.alpha_len or 0,
            "embed_len": self.embed_len,
            "key_len": self.key_len,
        }

    def _apply_config(self, config: Mapping[str, int]) -> None:
        super()._apply_config(config)
        self.alpha_len = config["alpha_len"]

    def _check_config(self, config: Mapping[str, int], key: SecretKey) -> None:
        super()._check_config(config, key)
        if config["message_chunks"] != _message_chunks(key.key_len):
            raise KeyMismatchError("config: message_chunks does not belong to key_len")
        if not _same_alpha(config["alpha_len"], key):
            raise KeyMismatchError(f"config: alpha_len is {config['alpha_len']}, the key has {key.alpha_len}")


def _message_chunks(key_len: int) -> int:
    return -(-2 * key_len // 8)


def _same_alpha(stated: int, key: SecretKey) -> bool:
    # The original SDK caps alpha_len at key_len without saying so in the configuration.
    return any(alpha - (key.alpha_len or 0) in (0, 1) for alpha in (stated, min(stated, key.key_len)))
