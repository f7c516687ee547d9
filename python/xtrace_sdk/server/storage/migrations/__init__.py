"""Numbered SQL files, one folder an engine; a file that was released is never changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

_NAME = re.compile(r"(\d{4})_\w+\.sql")


def migrations(engine: str) -> Iterator[tuple[int, str]]:
    """(number, SQL text) of an engine's migrations, ascending and without gaps."""
    found = {
        int(match[1]): entry.read_text(encoding="utf-8")
        for entry in files(__name__).joinpath(engine).iterdir()
        if (match := _NAME.fullmatch(entry.name))
    }
    if sorted(found) != list(range(1, len(found) + 1)):
        raise RuntimeError(f"migrations of {engine} are not numbered 1 to {len(found)}")
    yield from sorted(found.items())
