"""What every store accepts, decided once: names, vectors, metadata and filters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Context, Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import ConfigurationError, DimensionMismatchError, InputError
from xtrace_sdk.stores.base import Chunk, EmbeddedChunk, Vector

MAX_NAME_BYTES: Final = 1024  # a namespace and an id together still fit into a PostgreSQL index
_MAX_DEPTH: Final = 32
_MAX_INTEGER_BITS: Final = 1024  # the range of a float; also keeps clear of Python's limit on digits
_EXACT: Final = Context(prec=1200)  # more digits than any accepted number has

Matrix = NDArray[np.float32]


def checked_dimensions(dimensions: int) -> int:
    """`dimensions` if positive. Raises ConfigurationError."""
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1:
        raise ConfigurationError(f"dimensions: expected a positive integer, got {dimensions!r}")
    return dimensions


def checked_chunks(
    embedded_chunks: Sequence[EmbeddedChunk], dimensions: int
) -> tuple[list[EmbeddedChunk], Matrix]:
    """Chunks with distinct ids and metadata of their own, and their vectors float32 (N, dimensions).

    The last of several chunks with one id takes the place of the first. Raises InputError naming the field.
    """
    distinct: dict[str, tuple[EmbeddedChunk, Matrix]] = {}
    for number, one in enumerate(embedded_chunks):
        name = f"embedded_chunks[{number}]"
        if not isinstance(one, EmbeddedChunk) or not isinstance(one.chunk, Chunk):
            raise InputError(f"{name}: expected an EmbeddedChunk with a Chunk")
        vector = checked_vector(one.embedding, dimensions, f"{name}.embedding")
        chunk = _checked_chunk(one.chunk, f"{name}.chunk")
        _text(one.embedding_model, f"{name}.embedding_model")
        distinct[chunk.id] = replace(one, chunk=chunk), vector
    vectors = [vector for _, vector in distinct.values()]
    matrix = np.stack(vectors) if vectors else np.empty((0, dimensions), np.float32)
    return [one for one, _ in distinct.values()], matrix


def checked_vector(vector: Vector, dimensions: int, name: str) -> Matrix:
    """`vector` as finite float32 (dimensions,). Raises DimensionMismatchError, InputError."""
    try:
        array = np.asarray(vector)
    except ValueError:
        raise InputError(f"{name}: expected a flat sequence of numbers") from None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "buif"):
        raise InputError(f"{name}: expected a flat sequence of numbers")
    if array.size != dimensions:
        raise DimensionMismatchError(f"{name}: dimension {array.size}, the store has {dimensions}")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise InputError(f"{name}: has an element that is not finite in float32")
    return single


def checked_namespace(namespace: str) -> str:
    """`namespace` if it can be one. Raises InputError."""
    return _name(namespace, "namespace")


def checked_ids(chunk_ids: Iterable[str]) -> list[str]:
    """Distinct ids, in order. Raises InputError; also for a single string, which is no list of ids."""
    if isinstance(chunk_ids, str):
        raise InputError("chunk_ids: expected a sequence of ids, got a string")
    return list(dict.fromkeys(_name(one, f"chunk_ids[{at}]") for at, one in enumerate(chunk_ids)))


def checked_limit(limit: int) -> int:
    """`limit` if it is an integer of at least 0. Raises InputError."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit < 2**31:
        raise InputError(f"limit: expected an integer of at least 0, got {limit!r}")
    return limit


def checked_filter(wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of a filter, empty for None. Raises InputError."""
    if wanted is None:
        return {}
    if not isinstance(wanted, Mapping):
        raise InputError(f"filter: expected a mapping, got {type(wanted).__name__}")
    copied: dict[str, Any] = _json(dict(wanted), "filter", 0)
    return copied


class Matcher:
    """Tells whether metadata satisfy a filter that `checked_filter` returned."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self._wanted = {name: canonical(value) for name, value in wanted.items()}

    def __call__(self, metadata: Mapping[str, Any]) -> bool:
        return all(
            name in metadata and canonical(metadata[name]) == value for name, value in self._wanted.items()
        )


def canonical(value: Any) -> str:
    """One text for all forms of a JSON value: 1, 1.0 and 1e0 are the same, true is another."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if value is None or isinstance(value, bool | str):
        return json.dumps(value)
    # By the decimal digits, as a database reads them, not by the binary value behind them.
    number = _EXACT.normalize(Decimal(repr(value)))
    return str(number) if number else "0"


def own_copy(chunk: Chunk) -> Chunk:
    """The chunk with a copy of its metadata, so that changing one does not change the other."""
    return replace(chunk, metadata=_json(chunk.metadata, "metadata", 0))


def _checked_chunk(chunk: Chunk, name: str) -> Chunk:
    _name(chunk.id, f"{name}.id")
    for field in ("document_id", "content", "content_hash"):
        _text(getattr(chunk, field), f"{name}.{field}")
    position = chunk.position
    if isinstance(position, bool) or not isinstance(position, int) or not -(2**63) <= position < 2**63:
        raise InputError(f"{name}.position: expected an integer of at most 64 bits, got {position!r}")
    if not isinstance(chunk.metadata, dict):
        raise InputError(f"{name}.metadata: expected a dict, got {type(chunk.metadata).__name__}")
    return replace(chunk, metadata=_json(chunk.metadata, f"{name}.metadata", 0))


def _name(value: str, name: str) -> str:
    if not 1 <= len(_text(value, name).encode()) <= MAX_NAME_BYTES:
        raise InputError(f"{name}: expected 1 to {MAX_NAME_BYTES} bytes of UTF-8")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name}: expected a string, got {type(value).__name__}")
    if "\0" in value:
        raise InputError(f"{name}: contains a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name}: contains a lone surrogate") from None
    return value


def _json(value: Any, name: str, depth: int) -> Any:
    """A copy of a JSON value. Raises InputError naming the part that is none."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, name)
    if isinstance(value, int):
        if value.bit_length() > _MAX_INTEGER_BITS:
            raise InputError(f"{name}: an integer of more than {_MAX_INTEGER_BITS} bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{name}: not a finite number")
        return value
    if depth >= _MAX_DEPTH:
        raise InputError(f"{name}: nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {
            _text(key, f"{name}: a name"): _json(one, f"{name}.{key}", depth + 1)
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [_json(one, f"{name}[{at}]", depth + 1) for at, one in enumerate(value)]
    raise InputError(f"{name}: {type(value).__name__} is no JSON type")
