"""Migrations: numbered SQL files of a package. One that was released is never changed."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"(\d{4})_\w+\.sql")


def numbered_sql(package: str, folder: str) -> list[tuple[int, str]]:
    """(number, SQL text) of the files in a folder of a package, ascending and without gaps."""
    found = {
        int(match[1]): entry.read_text(encoding="utf-8")
        for entry in files(package).joinpath(folder).iterdir()
        if (match := _NAME.fullmatch(entry.name))
    }
    if sorted(found) != list(range(1, len(found) + 1)):
        raise RuntimeError(f"migrations in {folder} are not numbered 1 to {len(found)}")
    return sorted(found.items())
