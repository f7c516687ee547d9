"""Making and recognising access keys and ids."""

from __future__ import annotations

import hashlib
import secrets
import string

from xtrace_sdk import wire
from xtrace_sdk.errors import ConfigurationError
from xtrace_sdk.server.storage.base import Key

_ALPHABET = string.ascii_letters + string.digits
_FIRST_N = 5


def new_id() -> str:
    """12 characters: an organisation's or a knowledge base's id."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))


def new_secret() -> str:
    """48 characters, 285 bits: an access key."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(48))


def hash_secret(secret: str) -> str:
    """Lowercase hex SHA-256: what is stored of a key, and its name in addresses.

    A plain hash is enough because the keys are random and long; nothing can be guessed from it.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def key_record(
    secret: str, org_id: str, *, admin: bool, name: str, description: str = "", default_permission: int = 0
) -> Key:
    """The record of a key. Raises ConfigurationError for a key that cannot travel in a header."""
    if not secret or not all("!" <= character <= "~" for character in secret):
        raise ConfigurationError(f"{name}: expected printable ASCII characters without spaces")
    return Key(hash_secret(secret), org_id, admin, secret[:_FIRST_N], name, description, default_permission)


def org_keys(org_id: str, admin_key: str, api_key: str) -> list[Key]:
    """The records of a new organisation's two keys; the API key has all rights on everything in it.

    Raises ConfigurationError for an id that cannot be part of an address, or keys that cannot be used.
    """
    if not org_id.isascii() or not org_id.replace("-", "").replace("_", "").isalnum():
        raise ConfigurationError("XTRACE_ORG_ID: expected letters, digits, '-' and '_'")
    if admin_key == api_key:
        raise ConfigurationError("XTRACE_ADMIN_KEY, XTRACE_API_KEY: must differ")
    return [
        key_record(admin_key, org_id, admin=True, name="XTRACE_ADMIN_KEY"),
        key_record(api_key, org_id, admin=False, name="XTRACE_API_KEY", default_permission=wire.DELETE),
    ]
