"""Filters as SQL conditions over the tables ``chunks AS c`` and ``facets``.

Every condition is two-valued: null tags are asked for explicitly, so that NOT means what it says. The text
is made from fixed pieces only; everything a caller sent is a bound parameter. A list travels as one JSON
parameter.
"""

# ruff: noqa: S608 - see above: no caller's text ever becomes part of a statement

from __future__ import annotations

import json
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
from xtrace_sdk.wire import FACETS, TAGS

Parameter = str | int
_COLUMNS = {**{tag: f"c.{tag}" for tag in TAGS}, "chunk_id": "c.id", FACETS: "c.facets"}
_ORDERS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_IN_LIST = "IN (SELECT value FROM json_each(?))"


def compile_filter(node: Filter, kb: int) -> tuple[str, list[Parameter]]:
    """A filter over the chunks of one knowledge base -> (condition, parameters in order)."""
    match node:
        case And(parts):
            return _joined(parts, kb, "AND", "1")
        case Or(parts):
            return _joined(parts, kb, "OR", "0")
        case Not(part):
            sql, parameters = compile_filter(part, kb)
            return f"(NOT {sql})", parameters
        case Member(field, (value,)):
            return f"({_present(field)}{_COLUMNS[field]} = ?)", [value]
        case Member(field, values):
            return f"({_present(field)}{_COLUMNS[field]} {_IN_LIST})", [json.dumps(values)]
        case Compare("facets", order, value):
            return f"(COALESCE(c.facets, 0) {_ORDERS[order]} ?)", [value]
        case Compare(field, order, value):
            return f"({_present(field)}{_COLUMNS[field]} {_ORDERS[order]} ?)", [value]
        case Prefix(field, text):
            column = _COLUMNS[field]
            end = _after_prefix(text)
            if end is None:
                return f"({column} IS NOT NULL AND {column} >= ?)", [text]
            return f"({column} IS NOT NULL AND {column} >= ? AND {column} < ?)", [text, end]
        case Substring(field, text):
            column = _COLUMNS[field]
            return f"({column} IS NOT NULL AND instr({column}, ?) > 0)", [text]
        case Absent(field):
            return f"({_COLUMNS[field]} IS NULL)", []
        case AnyFacet(tokens):
            sql = f"(c.id IN (SELECT id FROM facets WHERE kb = ? AND token {_IN_LIST}))"
            return sql, [kb, json.dumps(tokens)]
        case AllFacets(()):
            return "(1)", []
        case AllFacets(tokens):
            sql = (
                f"(c.id IN (SELECT id FROM facets WHERE kb = ? AND token {_IN_LIST} "
                "GROUP BY id HAVING COUNT(*) = ?))"
            )
            return sql, [kb, json.dumps(tokens), len(tokens)]


def _joined(parts: Sequence[Filter], kb: int, word: str, empty: str) -> tuple[str, list[Parameter]]:
    """A balanced tree: SQLite bounds the depth of an expression, and a chain of a thousand is too deep."""
    if not parts:
        return f"({empty})", []
    if len(parts) == 1:
        return compile_filter(parts[0], kb)
    middle = len(parts) // 2
    left, before = _joined(parts[:middle], kb, word, empty)
    right, after = _joined(parts[middle:], kb, word, empty)
    return f"({left} {word} {right})", before + after


def _present(field: str) -> str:
    return "" if field == "chunk_id" else f"{_COLUMNS[field]} IS NOT NULL AND "


def _after_prefix(prefix: str) -> str | None:
    """The least string above every string with this prefix, or None when there is no such string."""
    while prefix:
        head, last = prefix[:-1], ord(prefix[-1])
        if last < 0x10FFFF:
            return head + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = head
    return None
