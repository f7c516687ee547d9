"""Public keys out of execution contexts, and ciphertexts that callers send, checked against them."""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk import _core, wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.server.storage.base import Ciphertexts, PublicContext

_MAX_MODULUS_BITS = 1 << 14  # what the core computes with
_MAX_CHUNKS = 1 << 10


def public_part(data: dict[str, Any]) -> tuple[str, PublicContext]:
    """The public part of a serialised context: (its text, to compare; its values, to compute with).

    Raises InputError naming the field that is wrong.
    """
    for name in ("pk", "type", "config"):
        if not isinstance(data.get(name), str):
            raise InputError(f"data.{name}: expected a string")
    pk, config = _inner(data, "pk"), _inner(data, "config")
    n = _number(pk, "n", "data.pk.n")
    if n < 3 or n % 2 == 0 or n.bit_length() > _MAX_MODULUS_BITS:
        raise InputError(f"data.pk.n: expected an odd number of at most {_MAX_MODULUS_BITS} bits")
    if "n_squared" in pk and _number(pk, "n_squared", "data.pk.n_squared") != n * n:
        raise InputError("data.pk.n_squared: is not the square of n")
    embed_len = _number(config, "embed_len", "data.config.embed_len")
    key_len = _number(config, "key_len", "data.config.key_len")
    if embed_len < 1 or key_len < 1 or embed_len > key_len * _MAX_CHUNKS:
        raise InputError("data.config: embed_len and key_len are out of range")
    public = json.dumps([data["pk"], data["type"], data["config"]])
    return public, PublicContext(n, -(-embed_len // key_len))


def _inner(data: dict[str, Any], name: str) -> dict[str, Any]:
    try:
        inner = json.loads(data[name])
    except (ValueError, RecursionError):
        raise InputError(f"data.{name}: not valid JSON") from None
    if not isinstance(inner, dict):
        raise InputError(f"data.{name}: expected the text of a JSON object")
    return inner


def _number(values: dict[str, Any], name: str, field: str) -> int:
    """Both number forms are in use: JSON integers and decimal strings."""
    value = values.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        try:
            return int(value)
        except ValueError:  # more digits than CPython converts
            raise InputError(f"{field}: too long") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{field}: expected an integer or its decimal digits")
    return value


@lru_cache(maxsize=256)
def multiplier(n: int) -> _core.Multiplier:
    """The core's operations modulo n²."""
    return _core.Multiplier(n * n)


def decode_vectors(
    index: Sequence[Sequence[str]], records: Sequence[str | None], context: PublicContext | None, field: str
) -> list[Ciphertexts]:
    """Base64 rows and their records as callers send them -> vectors as they are stored.

    `field` names a row in messages, as in `wire.decode_rows`. Under an unknown context only the shape can be
    checked; the index checks the rest once it is known.
    """
    beside = [
        wire.decode_record(record, f"{field.format(row=number)}.record") if record else b""
        for number, record in enumerate(records)
    ]
    if context is None:
        return [
            _unchecked(row, record, f"{field.format(row=number)}.index")
            for number, (row, record) in enumerate(zip(index, beside, strict=True))
        ]
    rows = decode_rows(index, context, f"{field}.index")
    size = rows.shape[1] * rows.shape[2]
    data = rows.tobytes()
    return [
        Ciphertexts(context.chunks, data[number * size : (number + 1) * size], record)
        for number, record in enumerate(beside)
    ]


def decode_rows(index: Sequence[Sequence[str]], context: PublicContext, field: str) -> NDArray[np.uint8]:
    """Base64 rows -> ciphertexts (N, chunks, width). Raises InputError naming the first not in (0, n²)."""
    core = multiplier(context.n)
    rows = wire.decode_rows(index, chunks=context.chunks, width=core.width, field=field)
    bad = core.out_of_range(rows)
    if bad >= 0:
        raise InputError(f"{field.format(row=bad)}: a ciphertext is 0 or not below n²")
    return rows


def _unchecked(row: Sequence[str], record: bytes, field: str) -> Ciphertexts:
    if not 1 <= len(row) <= _MAX_CHUNKS:
        raise InputError(f"{field}: expected 1 to {_MAX_CHUNKS} ciphertexts, got {len(row)}")
    try:
        raw = [a2b_base64(text, strict_mode=True) for text in row]
    except (Base64Error, ValueError):
        raise InputError(f"{field}: not valid base64") from None
    if any(not one.strip(b"\0") for one in raw):
        raise InputError(f"{field}: a ciphertext is 0")
    width = max(len(one) for one in raw)
    return Ciphertexts(len(raw), b"".join(one.ljust(width, b"\0") for one in raw), record)


def stored_rows(
    vectors: Sequence[Ciphertexts], context: PublicContext
) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Stored vectors -> (which of them belong under this context, those as rows (M, chunks, width))."""
    core = multiplier(context.n)
    chunks, width = context.chunks, core.width
    size = chunks * width
    good = np.ones(len(vectors), dtype=np.bool_)
    if all(vector.count == chunks and len(vector.data) == size for vector in vectors):
        data = b"".join(vector.data for vector in vectors)
    else:
        fitted = [_fitted(vector, chunks, width) for vector in vectors]
        good = np.array([one is not None for one in fitted], dtype=np.bool_)
        data = b"".join(one for one in fitted if one is not None)
    rows = np.frombuffer(data, np.uint8).reshape(-1, chunks, width)
    in_range = np.ones(len(rows), dtype=np.bool_)
    at = 0
    while (bad := core.out_of_range(rows[at:])) >= 0:
        in_range[at + bad] = False
        at += bad + 1
    if not in_range.all():
        good[np.flatnonzero(good)[~in_range]] = False
        rows = rows[in_range]
    return good, rows


def _fitted(vector: Ciphertexts, chunks: int, width: int) -> bytes | None:
    """The vector at full width, or None when it cannot belong to this key."""
    if vector.count != chunks:
        return None
    have = len(vector.data) // chunks
    parts = [vector.data[at : at + have] for at in range(0, len(vector.data), have)]
    if any(part[width:].strip(b"\0") for part in parts):
        return None
    return b"".join(part[:width].ljust(width, b"\0") for part in parts)


def encode_vector(vector: Ciphertexts) -> list[str]:
    """A stored vector as base64, one string per ciphertext."""
    rows = np.frombuffer(vector.data, np.uint8).reshape(1, vector.count, -1)
    return wire.encode_rows(rows)[0]
