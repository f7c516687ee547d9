"""Arguments of calls, checked and brought into the form that the protocol gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk import wire
from xtrace_sdk.arguments import listed
from xtrace_sdk.errors import ConfigurationError, InputError

_LONGEST_QUERY: Final = 6000  # characters of ids in one address: with the rest it stays below 8190

Json = dict[str, Any]
MetaFilter = str | Mapping[str, Any] | list[Any]


def checked_id(value: Any, name: str) -> str:
    """The id, if it can be part of an address."""
    if not isinstance(value, str) or value in ("", ".", ".."):
        raise InputError(f"{name}: expected a non-empty id, got {value!r}")
    return value


def header_value(value: Any, name: str) -> str:
    """The key, if it can travel in a header."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}: expected a text, got {type(value).__name__}")
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        raise ConfigurationError(f"{name}: has characters that an HTTP header cannot carry")
    return value


def id_groups(chunk_ids: Sequence[int]) -> list[list[tuple[str, str]]]:
    """Chunk ids as query fields, in groups that fit into an address."""
    groups: list[list[tuple[str, str]]] = []
    room = 0
    for chunk_id in integers(chunk_ids, "chunk_ids"):
        text = str(chunk_id)
        size = len("&chunk_ids=") + len(text)
        if size > room:
            groups.append([])
            room = _LONGEST_QUERY
        groups[-1].append(("chunk_ids", text))
        room -= size
    return groups


def integers(values: Sequence[int], name: str) -> list[int]:
    """A list of integers, NumPy's among them."""
    for position, value in enumerate(values := listed(values, name)):
        if not _is_integer(value):
            raise InputError(f"{name}[{position}]: expected an integer, got {value!r}")
    return [int(value) for value in values]


def projected(projection: Sequence[str] | None) -> list[str]:
    """The names of fields, none for all."""
    names = [] if projection is None else listed(projection, "projection")
    for position, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"projection[{position}]: expected the name of a field, got {name!r}")
    return names


def hamming_request(
    rows: NDArray[np.uint8],
    context_id: str,
    kb_id: str,
    meta_filter: MetaFilter | None,
    id_range: Sequence[int] | None,
    accept: str,
) -> tuple[Json, dict[str, str], tuple[int, int] | None]:
    """A request for distances: (body, headers, the first and the last id that may come back)."""
    if not isinstance(rows, np.ndarray):
        raise InputError(f"query: expected an array, got {type(rows).__name__}")
    if rows.dtype != np.uint8 or rows.ndim != 2:
        raise InputError(f"query: expected uint8 (chunks, width), got {rows.dtype} {rows.shape}")
    body: Json = {"kb_id": kb_id, "query": wire.encode_rows(rows[None])[0], "context_id": context_id}
    if meta_filter is not None:
        body["meta_filter"] = filter_text(meta_filter)
    limits = None if id_range is None else _id_range(id_range)
    if limits is not None:
        body["range"] = list(limits)
    # Ciphertexts do not compress: asking for it would only cost time.
    return body, {"Accept": accept, "Accept-Encoding": "identity"}, limits


def _id_range(value: Sequence[int]) -> tuple[int, int]:
    limits = list(value) if isinstance(value, Sequence | np.ndarray) else []
    if len(limits) != 2 or not all(map(_is_integer, limits)):
        raise InputError(f"range: expected [first, last] chunk ids, got {value!r}")
    first, last = limits
    if first > last:
        raise InputError(f"range: {first} is greater than {last}")
    return int(first), int(last)


def by_meta(kb_id: str, context_id: str, meta_filter: MetaFilter, dry_run: bool, **more: Any) -> Json:
    """The body of a request about what a filter matches."""
    given = filter_object(meta_filter)
    return {"kb_id": kb_id, "context_id": context_id, "meta_filter": given, **more, "dry_run": dry_run}


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def filter_text(meta_filter: MetaFilter) -> str:
    """A filter as text."""
    if isinstance(meta_filter, str):
        return meta_filter
    try:
        return json.dumps(meta_filter, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"meta_filter: expected a filter or its JSON text: {error}") from None


def filter_object(meta_filter: MetaFilter) -> Any:
    """A filter as an object."""
    if not isinstance(meta_filter, str):
        return meta_filter
    try:
        return json.loads(meta_filter)
    except (ValueError, RecursionError) as error:
        raise InputError(f"meta_filter: not JSON: {error}") from None
