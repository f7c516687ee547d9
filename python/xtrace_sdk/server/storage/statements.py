"""Database work written once for every engine: generators that yield statements and get their rows.

An engine runs such a generator inside one transaction: it executes what is yielded, sends the rows back and
returns what the generator returns. The statements are in the common part of the engines' SQL:

- ``?`` is a parameter; ``= ANY(?)`` takes a list. Everything a caller sent travels as a parameter.
- ``FOR UPDATE`` and ``FOR UPDATE SKIP LOCKED`` are left out where one transaction at a time writes.
- ``+column`` keeps a condition or an order away from an index.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")

Parameter = str | int | float | bytes | None
Row = Sequence[Any]
MAX_INTEGER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, whose rows are wanted."""

    sql: str
    parameters: tuple[Parameter | Sequence[str] | Sequence[int], ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    """One statement without rows, once for each of `rows`."""

    sql: str
    rows: Iterable[Sequence[Parameter]]


class DuplicateError(Exception):
    """A statement broke a unique index; thrown into the generator that yielded it."""


Steps = Generator[Statement | Repeated, Sequence[Row], T]


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the engines differ in what a filter needs.

    `position` is the function that finds a text in a text. An index on tags holds their first `indexed`
    characters, None means all of them. `numbered` are tables whose counters do not follow rows that bring
    their own number.
    """

    position: str
    indexed: int | None = None
    numbered: tuple[str, ...] = ()


def rows(sql: str, *parameters: Parameter | Sequence[str] | Sequence[int]) -> Steps[Sequence[Row]]:
    """The rows of a statement."""
    return (yield Statement(sql, parameters))


def row(sql: str, *parameters: Parameter | Sequence[str] | Sequence[int]) -> Steps[Row | None]:
    """The first row of a statement, None when there is none."""
    found = yield Statement(sql, parameters)
    return found[0] if found else None


def the_row(sql: str, *parameters: Parameter | Sequence[str] | Sequence[int]) -> Steps[Row]:
    """The row of a statement that always has one."""
    return (yield Statement(sql, parameters))[0]


_MARK = re.compile(r"\?")


@lru_cache(maxsize=512)
def for_postgres(sql: str) -> str:
    """The statement with numbered parameters."""
    numbers = iter(range(1, sql.count("?") + 1))
    return _MARK.sub(lambda _: f"${next(numbers)}", sql)


@lru_cache(maxsize=512)
def for_sqlite(sql: str) -> str:
    """The statement for SQLite, where a list is one JSON parameter."""
    sql = sql.replace("= ANY(?)", "IN (SELECT value FROM json_each(?))")
    return re.sub(r" FOR UPDATE( SKIP LOCKED)?", "", sql)
