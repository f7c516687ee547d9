"""The plaintext metadata of a chunk: five tags, facets, and whatever else the caller wants to have back."""

from __future__ import annotations

import math
from typing import Any

from xtrace_sdk.errors import InputError
from xtrace_sdk.wire import FACETS, TAGS

Meta = dict[str, Any]


def checked_text(value: Any, field: str) -> str:
    """`value` if it is a string that every database can hold. Raises InputError naming `field`."""
    if not isinstance(value, str):
        raise InputError(f"{field}: expected a string")
    if "\0" in value:
        raise InputError(f"{field}: contains a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{field}: contains a lone surrogate") from None
    return value


def checked_meta(meta: Meta, field: str) -> Meta:
    """`meta` with duplicate facets dropped. Raises InputError naming the part that is wrong.

    Tags are strings or null, facets a list of strings; other keys are kept as they are and never searched.
    """
    checked: Meta = {}
    for name, value in meta.items():
        if name in TAGS:
            checked[name] = value if value is None else checked_text(value, f"{field}.{name}")
        elif name == FACETS and value is not None:
            checked[name] = checked_tokens(value, f"{field}.{name}")
        else:
            checked[checked_text(name, f"{field}: a name")] = checked_json(value, f"{field}.{name}")
    return checked


def checked_json(value: Any, field: str) -> Any:
    """A JSON value if it can be stored and served again. Raises InputError naming the part that cannot."""
    if isinstance(value, str):
        return checked_text(value, field)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{field}: not a finite number")
    if isinstance(value, list):
        return [checked_json(one, f"{field}[{at}]") for at, one in enumerate(value)]
    if isinstance(value, dict):
        return {
            checked_text(name, f"{field}: a name"): checked_json(one, f"{field}.{name}")
            for name, one in value.items()
        }
    return value


def checked_tokens(value: Any, field: str) -> list[str]:
    """A list of strings, each once, in order of first appearance."""
    if not isinstance(value, list):
        raise InputError(f"{field}: expected a list of strings")
    return list(dict.fromkeys(checked_text(one, f"{field}[{at}]") for at, one in enumerate(value)))


def tags_of(meta: Meta) -> tuple[str | None, ...]:
    """The five tags, absent ones as None."""
    return tuple(meta.get(tag) for tag in TAGS)


def facets_of(meta: Meta) -> list[str]:
    """The facets, an empty list when absent or null."""
    return meta.get(FACETS) or []


def checked_changes(changes: Meta, field: str) -> Meta:
    """A patch of metadata: a value replaces, null clears, facets may be an object of $add and $remove.

    Raises InputError naming the part that is wrong.
    """
    facets = changes.get(FACETS)
    if not isinstance(facets, dict):
        return checked_meta(changes, field)
    unknown = set(facets) - {"$add", "$remove"}
    if unknown or not facets:
        raise InputError(f"{field}.{FACETS}: expected a list, null, or an object of $add and $remove")
    edits = {name: checked_tokens(value, f"{field}.{FACETS}.{name}") for name, value in facets.items()}
    return checked_meta({k: v for k, v in changes.items() if k != FACETS}, field) | {FACETS: edits}


def merged(meta: Meta, changes: Meta) -> Meta:
    """`meta` after a patch that `checked_changes` returned."""
    result = {k: v for k, v in {**meta, **changes}.items() if k not in changes or v is not None}
    edits = changes.get(FACETS)
    if isinstance(edits, dict):
        removed = set(edits.get("$remove", []))
        kept = [token for token in facets_of(meta) if token not in removed]
        result[FACETS] = list(dict.fromkeys([*kept, *edits.get("$add", [])]))
    return result
