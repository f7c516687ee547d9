"""Checks of arguments that several rooms share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xtrace_sdk.errors import InputError


def listed(value: Any, name: str) -> list[Any]:
    """`value` as a list. Raises InputError when it is not iterable, or a text or a mapping: a mistake."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InputError(f"{name}: expected a list, got {type(value).__name__}")
    return list(value)
