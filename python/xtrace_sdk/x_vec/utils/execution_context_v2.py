"""Context format v2: one seal over everything, and keys that can be changed.

One JSON object of seven strings. `pk`, `type`, `config`, `key_provider` and `wrapped_key` stand where format
v1 has them (`xtrace_sdk.x_vec.utils.execution_context`): a server finds n there, and a client its provider::

    sk            base64( nonce[12] || AES-256-GCM( JSON text of the secret key ) || tag[16] )
    pk            JSON text {"n", "g"[, "g_n"]}, decimal strings
    type          "AuthenticatedPaillierLookupClient" or "AuthenticatedPaillierClient"
    config        JSON text, as in v1
    key_provider  as in v1
    wrapped_key   base64 of what the provider needs to find its key again (for a passphrase: the salt)
    header        JSON text of:
        version   2
        id        64 hex digits, random
        revision  how often keys, epochs or provider were changed
        scrypt    {"n", "r", "p"}, or null without a passphrase
        epoch     the key epoch that new data belong to
        keys      {epoch: base64( nonce[12] || AES-256-GCM( 32-byte root key ) || tag[16] )}

    provider's key --HKDF "key wrapping"--> wraps each root key      (associated data: id, epoch)
    root key of an epoch --HKDF label--> subkeys
    root key of epoch 0 --HKDF "context"--> seals sk                 (associated data: all other fields)

HKDF is HKDF-SHA256 with the id as salt. Epoch 0 lasts as long as the context and encrypts no data; 1, 2, …
can be retired, which destroys their root keys.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from xtrace_sdk.errors import InputError
from xtrace_sdk.x_vec.crypto.encryption.aes import KEY_BYTES, undecryptable
from xtrace_sdk.x_vec.crypto.key_provider import (
    COSTS,
    SCRYPT_P,
    SCRYPT_R,
    KeyProvider,
    PassphraseKeyProvider,
    provider_key,
    stored_provider,
)
from xtrace_sdk.x_vec.crypto.numbers import dump_numbers, load_numbers
from xtrace_sdk.x_vec.crypto.secrets import Secret, SecretBytes, derived
from xtrace_sdk.x_vec.utils.execution_context_files import check_fields, parse_object

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.crypto.core_client import CorePaillierClient

FIELDS: Final = frozenset({"sk", "pk", "type", "config", "key_provider", "wrapped_key", "header"})
TYPE_PREFIX: Final = "Authenticated"

_HEADER: Final = frozenset({"version", "id", "revision", "scrypt", "epoch", "keys"})
_VERSION: Final = 2
_ID_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_LAST: Final = 2**31 - 1  # epoch, revision
_WRAPPING: Final = b"xtrace key wrapping"
_SEALING: Final = b"xtrace context"


class RootKeys(Secret):
    """The root keys of a context, one an epoch, and what else the header says.

    Attributes:
        id: 64 hex digits.
        revision: counts changes.
        epoch: the epoch that new data belong to; 0 in format v1.
    """

    __slots__ = ("_keys", "epoch", "id", "revision")

    def __init__(self, context_id: str, keys: dict[int, SecretBytes], epoch: int, revision: int) -> None:
        self.id = context_id
        self.epoch = epoch
        self.revision = revision
        self._keys = keys

    @classmethod
    def new(cls) -> RootKeys:
        """Those of a new context of format v2, in its first epoch."""
        return cls(
            os.urandom(_ID_BYTES).hex(), {epoch: SecretBytes.random(KEY_BYTES) for epoch in (0, 1)}, 1, 1
        )

    @property
    def epochs(self) -> list[int]:
        """The epochs whose data can be read."""
        return [epoch for epoch in self._keys if epoch or self.epoch == 0]

    def begin_epoch(self) -> None:
        """Make a root key for a further epoch."""
        self.epoch += 1
        self._keys[self.epoch] = SecretBytes.random(KEY_BYTES)
        self.revision += 1

    def retire(self, epoch: int) -> None:
        """Forget the root key of a past epoch. Raises InputError for any other."""
        if epoch not in self.epochs or epoch == self.epoch:
            past = ", ".join(str(one) for one in self.epochs if one != self.epoch) or "none"
            raise InputError(f"epoch: {epoch!r} is not a past epoch with a key; those are: {past}")
        del self._keys[epoch]
        self.revision += 1

    def close(self) -> None:
        """Forget all root keys."""
        self._keys.clear()

    def root(self, epoch: int) -> SecretBytes:
        """The root key of an epoch, itself. Raises DecryptionError as `subkey`."""
        if epoch not in self._keys:
            raise undecryptable()
        return self._keys[epoch]

    def subkey(self, label: bytes, epoch: int) -> SecretBytes:
        """32 bytes for one purpose. Raises DecryptionError for an epoch that is retired or never was."""
        return _hkdf(self.root(epoch), self.id, label)

    def wrapped(self, provider_key: SecretBytes) -> dict[str, str]:
        """The header's `keys`."""
        wrapping = _hkdf(provider_key, self.id, _WRAPPING)
        return {
            str(epoch): _seal(wrapping, key, _wrap_data(self.id, epoch)) for epoch, key in self._keys.items()
        }


def is_v2(stored: Mapping[str, Any]) -> bool:
    """Whether a stored object claims to be of this format."""
    return "header" in stored


def seal(public: Mapping[str, str], secret: str, provider: KeyProvider, roots: RootKeys) -> dict[str, str]:
    """The stored object. `public` has pk, type and config; `secret` is the secret key's JSON text."""
    cost = provider.cost if isinstance(provider, PassphraseKeyProvider) else None
    header = {
        "version": _VERSION,
        "id": roots.id,
        "revision": roots.revision,
        "scrypt": None if cost is None else {"n": cost, "r": SCRYPT_R, "p": SCRYPT_P},
        "epoch": roots.epoch,
        "keys": roots.wrapped(provider_key(provider)),
    }
    stored = {
        **public,
        "key_provider": provider.provider_id(),
        "wrapped_key": b64encode(provider.wrap_key()).decode("ascii"),
        "header": json.dumps(header),
    }
    return {"sk": _seal(roots.subkey(_SEALING, 0), secret.encode("utf-8"), _sealed_data(stored)), **stored}


def read_header(stored: Mapping[str, str]) -> dict[str, Any]:
    """The header, not yet authenticated, but of the right form and within bounds.

    Raises DecryptionError.
    """
    if set(stored) != FIELDS:
        raise undecryptable()
    header = parse_object(stored["header"])
    if set(header) != _HEADER or header["version"] != _VERSION:
        raise undecryptable()
    keys = header["keys"]
    if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
        raise undecryptable()
    epochs = [_epoch(name) for name in keys]
    if not (
        _is_id(header["id"])
        and _counts(header["revision"], 1)
        and _counts(header["epoch"], 1)
        and {0, header["epoch"]} <= set(epochs)
        and max(epochs) == header["epoch"]
        and _is_cost(header["scrypt"], stored["key_provider"])
    ):
        raise undecryptable()
    return header


def open_stored(
    stored: Mapping[str, str], passphrase: str | None, key_provider: KeyProvider | None
) -> tuple[KeyProvider, RootKeys, str]:
    """The provider of a stored object, and what `open_sealed` gives. Raises as it, and InputError."""
    check_fields(stored, FIELDS)
    provider = stored_provider(stored, passphrase, key_provider, scrypt_cost(stored))
    return provider, *open_sealed(stored, provider)


def open_sealed(stored: Mapping[str, str], provider: KeyProvider) -> tuple[RootKeys, str]:
    """The root keys and the secret key's JSON text; every field is what was sealed.

    Raises DecryptionError, the same for a wrong key and for anything changed.
    """
    header = read_header(stored)
    wrapping = _hkdf(provider_key(provider), header["id"], _WRAPPING)
    keys = {
        int(epoch): _open(wrapping, wrapped, _wrap_data(header["id"], int(epoch)))
        for epoch, wrapped in header["keys"].items()
    }
    roots = RootKeys(header["id"], keys, header["epoch"], header["revision"])
    secret = _open(roots.subkey(_SEALING, 0), stored["sk"], _sealed_data(stored))
    return roots, secret.decode("utf-8")


def scrypt_cost(stored: Mapping[str, str]) -> int | None:
    """scrypt's N from the header; None when no passphrase is involved. Raises DecryptionError."""
    scrypt = read_header(stored)["scrypt"]
    return None if scrypt is None else int(scrypt["n"])


def public_part(client: CorePaillierClient) -> dict[str, str]:
    """The stored pk, type and config of a client's key."""
    key = client.public_key
    # Strings, because CPython's JSON reads no integer of more than 4,300 digits.
    numbers = {"n": key.n, "g": key.g} | ({} if key.g_n is None else {"g_n": key.g_n})
    return {
        "pk": dump_numbers(numbers, as_strings=True),
        "type": TYPE_PREFIX + type(client).__name__,
        "config": client.stringify_config(),
    }


def original_pk(text: str) -> str:
    """A stored pk as format v1 has it. Raises InputError when it is malformed."""
    names = tuple(parse_object(text))
    numbers = load_numbers(text, ("n", *names), "pk")
    return dump_numbers({**numbers, "n_squared": numbers["n"] ** 2}, as_strings=True)


def _hkdf(key: SecretBytes, context_id: str, label: bytes) -> SecretBytes:
    function = HKDF(SHA256(), KEY_BYTES, salt=bytes.fromhex(context_id), info=label)
    return derived(function, key, KEY_BYTES)


def _seal(key: SecretBytes, plain: bytes | SecretBytes, data: bytes) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    return b64encode(nonce + AESGCM(key).encrypt(nonce, plain, data)).decode("ascii")


def _open(key: SecretBytes, text: str, data: bytes) -> SecretBytes:
    try:
        raw = b64decode(text, validate=True)
        if b64encode(raw).decode("ascii") != text:  # bits after the last byte, which base64 ignores
            raise undecryptable()
        plain = SecretBytes(max(0, len(raw) - _NONCE_BYTES - _TAG_BYTES))
        AESGCM(key).decrypt_into(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], data, plain)
        return plain
    except (InvalidTag, ValueError):
        raise undecryptable() from None


def _sealed_data(stored: Mapping[str, str]) -> bytes:
    return framed(*(f"{name}={stored[name]}" for name in sorted(FIELDS - {"sk"})))


def _wrap_data(context_id: str, epoch: int) -> bytes:
    return framed("root key", context_id, str(epoch))


def framed(*parts: str) -> bytes:
    """Texts one after the other, each behind its length, so that no two lists of them give the same bytes."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(8, "big") + part for part in encoded)


def _epoch(name: str) -> int:
    if not (name.isascii() and name.isdigit() and len(name) <= len(str(_LAST)) and str(int(name)) == name):
        raise undecryptable()
    return int(name)


def _counts(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= _LAST


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 2 * _ID_BYTES and set(value) <= set("0123456789abcdef")


def _is_cost(value: Any, provider_id: str) -> bool:
    if value is None:
        return provider_id != "passphrase"
    return (
        isinstance(value, dict)
        and set(value) == {"n", "r", "p"}
        and all(type(number) is int for number in value.values())
        and value["n"] in COSTS
        and (value["r"], value["p"]) == (SCRYPT_R, SCRYPT_P)
    )
