"""Checksums of stored rows: a row that is not as it was written is noticed when it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from xtrace_sdk.server.storage.statements import Parameter


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
