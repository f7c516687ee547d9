"""Filters as SQL conditions over the tables ``chunks AS c`` and ``facets``.

Every condition is two-valued: null tags are asked for explicitly, so that NOT means what it says. The text
is made from fixed pieces only; everything a caller sent is a bound parameter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from xtrace_sdk.server.filters import (
    Absent,
    AllFacets,
    And,
    AnyFacet,
    Compare,
    Filter,
    Member,
    Not,
    Or,
    Prefix,
    Substring,
)
from xtrace_sdk.server.storage.statements import Dialect
from xtrace_sdk.wire import FACETS, TAGS

Bound = str | int | list[str] | list[int]
Condition = tuple[str, list[Bound]]
_COLUMNS = {**{tag: f"c.{tag}" for tag in TAGS}, "chunk_id": "c.id", "key": "c.key", FACETS: "c.facets"}
_ORDERS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_LONG_TOKEN = 256


def facet_token(token: str) -> str:
    """A facet as the table ``facets`` holds it: long ones, which no index takes, by their SHA-256."""
    if len(token) <= _LONG_TOKEN:
        return token
    return f"{token[:_LONG_TOKEN]} {hashlib.sha256(token.encode()).hexdigest()}"


def compile_filter(node: Filter, kb: int, dialect: Dialect) -> Condition:
    """A filter over the chunks of one knowledge base -> (condition, parameters in order)."""
    match node:
        case And(parts):
            return _joined(parts, kb, dialect, "AND", "TRUE")
        case Or(parts):
            return _joined(parts, kb, dialect, "OR", "FALSE")
        case Not(part):
            sql, parameters = compile_filter(part, kb, dialect)
            return f"(NOT {sql})", parameters
        case Member(field, (value,)):
            return _held(field, [("=", value)], dialect)
        case Member(field, values):
            return _held(field, [("= ANY", list(values))], dialect)  # type: ignore[list-item]
        case Compare("facets", order, value):
            return f"(COALESCE(c.facets, 0) {_ORDERS[order]} ?)", [value]
        case Compare(field, order, value):
            return _held(field, [(_ORDERS[order], value)], dialect)
        case Prefix(field, text):
            end = _after_prefix(text)
            bounds: list[tuple[str, Bound]] = [(">=", text)]
            return _held(field, bounds if end is None else [*bounds, ("<", end)], dialect)
        case Substring(field, text):
            column = _COLUMNS[field]
            return f"({column} IS NOT NULL AND {dialect.position}({column}, ?) > 0)", [text]
        case Absent(field):
            return f"({_COLUMNS[field]} IS NULL)", []
        case AnyFacet(tokens):
            sql = "(c.id IN (SELECT id FROM facets WHERE kb = ? AND token = ANY(?)))"
            return sql, [kb, [facet_token(token) for token in tokens]]
        case AllFacets(()):
            return "(TRUE)", []
        case AllFacets(tokens):
            sql = (
                "(c.id IN (SELECT id FROM facets WHERE kb = ? AND token = ANY(?) "
                "GROUP BY id HAVING COUNT(*) = ?))"
            )
            return sql, [kb, [facet_token(token) for token in tokens], len(tokens)]


def _joined(parts: Sequence[Filter], kb: int, dialect: Dialect, word: str, empty: str) -> Condition:
    """A balanced tree: SQLite bounds the depth of an expression, and a chain of a thousand is too deep."""
    if not parts:
        return f"({empty})", []
    if len(parts) == 1:
        return compile_filter(parts[0], kb, dialect)
    middle = len(parts) // 2
    left, before = _joined(parts[:middle], kb, dialect, word, empty)
    right, after = _joined(parts[middle:], kb, dialect, word, empty)
    return f"({left} {word} {right})", before + after


def _held(field: str, comparisons: list[tuple[str, Bound]], dialect: Dialect) -> Condition:
    """A field that is there and stands so to the values. Where an index has the beginning of tags only, the
    beginnings are compared too: they stand in the same order, or are equal."""
    column = _COLUMNS[field]
    if field == "chunk_id":
        return "(" + " AND ".join(f"{column} {_with_mark(sign)}" for sign, _ in comparisons) + ")", [
            value for _, value in comparisons
        ]
    conditions = [f"{column} IS NOT NULL"]
    parameters: list[Bound] = []
    for sign, value in comparisons:
        if dialect.indexed is not None and field != "key":
            weak = sign if sign in ("=", "= ANY") else f"{sign[0]}="
            conditions.append(f"left({column}, {dialect.indexed}) {_with_mark(weak)}")
            parameters.append(_beginning(value, dialect.indexed))
        conditions.append(f"{column} {_with_mark(sign)}")
        parameters.append(value)
    return f"({' AND '.join(conditions)})", parameters


def _with_mark(sign: str) -> str:
    return "= ANY(?)" if sign == "= ANY" else f"{sign} ?"


def _beginning(value: Bound, length: int) -> Bound:
    if isinstance(value, list):
        return [str(one)[:length] for one in value]
    return str(value)[:length]


def _after_prefix(prefix: str) -> str | None:
    """The least string above every string with this prefix, or None when there is no such string."""
    while prefix:
        head, last = prefix[:-1], ord(prefix[-1])
        if last < 0x10FFFF:
            return head + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = head
    return None
