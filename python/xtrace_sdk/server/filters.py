"""The metadata filter language: from JSON to a small tree that a database evaluates.

::

    filter     {field: condition, ..., "$and" | "$or" | "$nor": [filter, ...], "$not": filter}      all hold
    condition  a plain value, or {operator: operand, ...}                                            all hold

    tag1..tag5   "s" $eq $ne $gt $gte $lt $lte $begins_with $contains: string      $exists: true | false
                 $in $nin: list of strings       null $eq $ne also take null (absent)
    facets       "s" $contains $eq $ne: one token     $all = $subset, $any = $in, $none = $nin: list of tokens
                 $eq $ne: list (as sets)     $size: N | {"$gte": N, ...}     $exists: true | false
    key          the same operators as a tag
    chunk_id     N $eq $ne $gt $gte $lt $lte: integer     $in $nin: list of integers

Strings compare by Unicode code point. An absent tag equals nothing but null, and is not greater, smaller or
a member of anything; negations ($ne, $nin, $none, $not, $nor) hold exactly where the positive form does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from xtrace_sdk.errors import InputError
from xtrace_sdk.server.metadata import checked_text, checked_tokens
from xtrace_sdk.wire import FACETS, TAGS

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_OPERANDS = 1000
MAX_CONDITIONS = 256

Order = Literal["$gt", "$gte", "$lt", "$lte"]


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; with no part, true."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part holds; with no part, false."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filter


@dataclass(frozen=True, slots=True)
class Member:
    """A tag, the key or ``chunk_id`` is one of the values."""

    field: str
    values: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """A tag, the key, ``chunk_id`` or the number of facets stands in an order to a value."""

    field: str
    order: Order
    value: str | int


@dataclass(frozen=True, slots=True)
class Prefix:
    """A tag or the key begins with the text."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Substring:
    """A tag or the key contains the text."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Absent:
    """A tag, the key or the facets are absent or null."""

    field: str


@dataclass(frozen=True, slots=True)
class AnyFacet:
    """At least one of the tokens is there."""

    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllFacets:
    """All of the tokens, which are distinct, are there."""

    tokens: tuple[str, ...]


Filter = And | Or | Not | Member | Compare | Prefix | Substring | Absent | AnyFacet | AllFacets

_ORDERS: tuple[Order, ...] = ("$gt", "$gte", "$lt", "$lte")


def parse_filter(value: Any, field: str = "meta_filter") -> Filter | None:
    """A filter as an object or its JSON text; None for null, empty text and ``{}``, which match everything.

    Raises InputError naming the path of the offending part.
    """
    if isinstance(value, str):
        if len(value.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise InputError(f"{field}: longer than {MAX_BYTES} bytes")
        if not value.strip():
            return None
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InputError(f"{field}: not valid JSON") from None
    elif value is not None and len(json.dumps(value)) > MAX_BYTES:
        raise InputError(f"{field}: longer than {MAX_BYTES} bytes")
    if value is None or value == {}:
        return None
    return _Parser().filter(value, field, 1)


class _Parser:
    """Counts conditions while it walks."""

    def __init__(self) -> None:
        self._conditions = 0

    def filter(self, value: Any, path: str, depth: int) -> Filter:
        if not isinstance(value, dict):
            raise InputError(f"{path}: expected an object")
        if depth > MAX_DEPTH:
            raise InputError(f"{path}: nested deeper than {MAX_DEPTH}")
        parts: list[Filter] = []
        for name, operand in value.items():
            here = f"{path}.{name}"
            if name in ("$and", "$or", "$nor"):
                inner = self._filters(operand, here, depth)
                joined = And(inner) if name == "$and" else Or(inner)
                parts.append(Not(joined) if name == "$nor" else joined)
            elif name == "$not":
                parts.append(Not(self.filter(operand, here, depth + 1)))
            elif name in TAGS or name == "key":
                parts.append(self._conditions_of(name, operand, here, _tag))
            elif name == FACETS:
                parts.append(self._conditions_of(name, operand, here, _facets))
            elif name == "chunk_id":
                parts.append(self._conditions_of(name, operand, here, _chunk_id))
            else:
                raise InputError(f"{here}: unknown field or operator")
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _filters(self, value: Any, path: str, depth: int) -> tuple[Filter, ...]:
        if not isinstance(value, list) or not value:
            raise InputError(f"{path}: expected a list of at least one filter")
        if len(value) > MAX_OPERANDS:
            raise InputError(f"{path}: more than {MAX_OPERANDS} elements")
        return tuple(self.filter(one, f"{path}[{at}]", depth + 1) for at, one in enumerate(value))

    def _conditions_of(
        self, field: str, value: Any, path: str, compile_one: Callable[[str, str, Any, str], Filter]
    ) -> Filter:
        operators = value if isinstance(value, dict) else {"": value}
        if not operators:
            raise InputError(f"{path}: expected at least one operator")
        self._conditions += len(operators)
        if self._conditions > MAX_CONDITIONS:
            raise InputError(f"{path}: more than {MAX_CONDITIONS} conditions in one filter")
        parts = tuple(
            compile_one(field, operator, operand, f"{path}.{operator}" if operator else path)
            for operator, operand in operators.items()
        )
        return parts[0] if len(parts) == 1 else And(parts)


def _tag(field: str, operator: str, operand: Any, path: str) -> Filter:
    match operator:
        case "" if isinstance(operand, list):
            return Member(field, _texts(operand, path))
        case "" | "$eq" | "$ne":
            equal = Absent(field) if operand is None else Member(field, (checked_text(operand, path),))
            return Not(equal) if operator == "$ne" else equal
        case "$gt" | "$gte" | "$lt" | "$lte":
            return Compare(field, operator, checked_text(operand, path))
        case "$in":
            return Member(field, _texts(operand, path))
        case "$nin":
            return Not(Member(field, _texts(operand, path)))
        case "$begins_with":
            return Prefix(field, checked_text(operand, path))
        case "$contains":
            return Substring(field, checked_text(operand, path))
        case "$exists":
            missing = Or((Absent(field), Member(field, ("",))))
            return Not(missing) if _boolean(operand, path) else missing
    raise InputError(f"{path}: not an operator on a {'key' if field == 'key' else 'tag'}")


def _facets(field: str, operator: str, operand: Any, path: str) -> Filter:
    many = isinstance(operand, list)
    match operator:
        case "" | "$eq" | "$ne" if operand is None:
            return Not(Absent(field)) if operator == "$ne" else Absent(field)
        case "" | "$contains":
            return AllFacets(_texts(operand, path) if many else (checked_text(operand, path),))
        case "$eq" | "$ne":
            tokens = _texts(operand, path) if many else (checked_text(operand, path),)
            equal: Filter = AllFacets(tokens)
            if many:
                equal = And((equal, _size("$eq", len(tokens))))
            return Not(equal) if operator == "$ne" else equal
        case "$all" | "$subset":
            return AllFacets(_texts(operand, path))
        case "$any" | "$in":
            return AnyFacet(_texts(operand, path))
        case "$none" | "$nin":
            return Not(AnyFacet(_texts(operand, path)))
        case "$size":
            return _sizes(operand, path)
        case "$exists":
            present = _size("$gte", 1)
            return present if _boolean(operand, path) else Not(present)
    raise InputError(f"{path}: not an operator on facets")


def _chunk_id(field: str, operator: str, operand: Any, path: str) -> Filter:
    match operator:
        case "" | "$eq":
            return Member(field, (_integer(operand, path),))
        case "$ne":
            return Not(Member(field, (_integer(operand, path),)))
        case "$gt" | "$gte" | "$lt" | "$lte":
            return Compare(field, operator, _integer(operand, path))
        case "$in" | "$nin":
            ids = tuple(_integer(one, f"{path}[{at}]") for at, one in enumerate(_operands(operand, path)))
            return Member(field, ids) if operator == "$in" else Not(Member(field, ids))
    raise InputError(f"{path}: not an operator on chunk_id")


def _sizes(operand: Any, path: str) -> Filter:
    if not isinstance(operand, dict):
        return _size("$eq", _count(operand, path))
    if not operand:
        raise InputError(f"{path}: expected at least one operator")
    parts = []
    for operator, bound in operand.items():
        if operator not in ("$eq", *_ORDERS):
            raise InputError(f"{path}.{operator}: not an operator on a size")
        parts.append(_size(operator, _count(bound, f"{path}.{operator}")))
    return And(tuple(parts))


def _size(operator: Literal["$eq", "$gt", "$gte", "$lt", "$lte"], count: int) -> Filter:
    if operator == "$eq":
        return And((Compare(FACETS, "$gte", count), Compare(FACETS, "$lte", count)))
    return Compare(FACETS, operator, count)


def _operands(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{path}: expected a list")
    if len(value) > MAX_OPERANDS:
        raise InputError(f"{path}: more than {MAX_OPERANDS} elements")
    return value


def _texts(value: Any, path: str) -> tuple[str, ...]:
    return tuple(checked_tokens(_operands(value, path), path))


def _boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{path}: expected true or false")
    return value


def _integer(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{path}: expected an integer")
    if not -(1 << 63) <= value < 1 << 63:
        raise InputError(f"{path}: out of range")
    return value


def _count(value: Any, path: str) -> int:
    if _integer(value, path) < 0:
        raise InputError(f"{path}: expected an integer of at least 0")
    return int(value)
