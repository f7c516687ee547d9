"""Numbered SQL files, one folder an engine."""

from __future__ import annotations

from xtrace_sdk.numbered_sql import numbered_sql
from xtrace_sdk.server.storage.base import FormatError


def migrations(engine: str) -> list[tuple[int, str]]:
    """(number, SQL text) of an engine's migrations, ascending and without gaps."""
    return numbered_sql(__name__, engine)


def missing(engine: str, present: int) -> list[tuple[int, str]]:
    """The migrations that a database at number `present` lacks. Raises FormatError when it is newer."""
    known = migrations(engine)
    if present > len(known):
        raise FormatError(
            f"the database has format {present}, this version knows formats up to {len(known)}: "
            "install the version that wrote it"
        )
    return known[present:]
