"""Checksums of stored rows: a row that is not as it was written is noticed when it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from xtrace_sdk.server.storage.statements import Parameter

#: For each table the columns of a checksum, by the name of the column that holds it. Columns that copy others
#: (tags, facets) are not among them; `integrity` compares those with the rest.
CHECKSUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "orgs": {"checksum": ("id", "created_at")},
    "kbs": {
        "checksum": (
            "no",
            "id",
            "org",
            "name",
            "description",
            "created_at",
            "updated_at",
            "next_id",
            "count",
            "seq",
        )
    },
    "bindings": {"checksum": ("kb", "context")},
    "replays": {"checksum": ("token", "digest", "kb", "expires", "ids")},
    "keys": {
        "checksum": (
            "hash",
            "org",
            "admin",
            "active",
            "first_n",
            "name",
            "description",
            "default_permission",
            "created_at",
        )
    },
    "permissions": {"checksum": ("key", "kb", "permission", "updated_at")},
    "contexts": {"checksum": ("org", "id", "data", "public", "n", "chunks")},
    "chunks": {
        "checksum": ("kb", "id", "seq", "context", "created_at", "key", "name", "meta"),
        "content_checksum": ("kb", "id", "content"),
    },
    "vectors": {"checksum": ("kb", "id", "context", "seq", "ciphertexts", "data", "record")},
    "deletions": {"checksum": ("kb", "seq", "ids")},
}


def checksum(values: Iterable[Parameter]) -> int:
    """The first 64 bits of BLAKE2b over values, as a signed integer: against accidents, not attacks."""
    parts: list[bytes] = []
    for value in values:
        if isinstance(value, int):
            parts.append(b"i%d;" % value)
        elif isinstance(value, float):
            parts.append(b"f%s;" % value.hex().encode())
        elif value is None:
            parts.append(b"n;")
        elif isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            parts += (b"s%d;" % len(data), data)
        else:
            parts += (b"b%d;" % len(value), value)
    digest = hashlib.blake2b(b"".join(parts), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
