"""The filter language: what the parser refuses, and every engine against a plain Python evaluator."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrace_sdk.errors import InputError
from xtrace_sdk.server import filters
from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.metadata import checked_meta
from xtrace_sdk.server.storage import admin_statements, chunk_statements, read_statements
from xtrace_sdk.server.storage.base import Ciphertexts, NewChunk, Query
from xtrace_sdk.server.storage.sqlite import SqliteStore

CASES = int(os.environ.get("FILTER_CASES", "150"))  # the long run: FILTER_CASES=10000


# An evaluator straight from the documentation, sharing nothing with the parser.


def holds(condition: dict[str, Any], chunk_id: int, meta: dict[str, Any]) -> bool:
    for field, operand in condition.items():
        if field == "$and":
            true = all(holds(one, chunk_id, meta) for one in operand)
        elif field == "$or":
            true = any(holds(one, chunk_id, meta) for one in operand)
        elif field == "$nor":
            true = not any(holds(one, chunk_id, meta) for one in operand)
        elif field == "$not":
            true = not holds(operand, chunk_id, meta)
        else:
            operators = operand if isinstance(operand, dict) else {"": operand}
            test = facets_hold if field == "facets" else value_holds
            value = chunk_id if field == "chunk_id" else meta.get(field)
            true = all(test(value, operator, one) for operator, one in operators.items())
        if not true:
            return False
    return True


def value_holds(value: Any, operator: str, operand: Any) -> bool:
    if operator == "$ne":
        return not value_holds(value, "$eq", operand)
    if operator == "$nin":
        return not value_holds(value, "$in", operand)
    if operator == "$exists":
        return (value is not None and value != "") == operand
    if operator in ("", "$eq"):
        return value in operand if isinstance(operand, list) else value == operand
    if value is None:
        return False
    return {
        "$gt": lambda: value > operand,
        "$gte": lambda: value >= operand,
        "$lt": lambda: value < operand,
        "$lte": lambda: value <= operand,
        "$in": lambda: value in operand,
        "$begins_with": lambda: value.startswith(operand),
        "$contains": lambda: operand in value,
    }[operator]()


def facets_hold(value: list[str] | None, operator: str, operand: Any) -> bool:
    have = set(value or [])
    if operator == "$ne":
        return not facets_hold(value, "$eq", operand)
    if operator in ("", "$eq") and operand is None:
        return value is None
    if operator == "$size":
        sizes = operand if isinstance(operand, dict) else {"$eq": operand}
        return all(value_holds(len(have), one, bound) for one, bound in sizes.items())
    wanted = set(operand) if isinstance(operand, list) else {operand}
    if operator == "$eq" and isinstance(operand, list):
        return have == wanted
    return {
        "": lambda: wanted <= have,
        "$eq": lambda: wanted <= have,
        "$contains": lambda: wanted <= have,
        "$all": lambda: wanted <= have,
        "$subset": lambda: wanted <= have,
        "$any": lambda: bool(wanted & have),
        "$in": lambda: bool(wanted & have),
        "$none": lambda: not wanted & have,
        "$nin": lambda: not wanted & have,
        "$exists": lambda: bool(have) == operand,
    }[operator]()


# Few and awkward values, so that filters match: wildcards, quotes, case, order beyond ASCII, prefixes.
texts = st.sampled_from(
    [
        "",
        "a",
        "A",
        "ab",
        "abc",
        "b",
        "%",
        "_",
        "a%",
        "'",
        '"',
        "ä",
        "\ud7ff",
        "\ue000",
        "\U00010000",
        "\U0010ffff",
        "0010",
    ]
)
tokens = st.lists(texts, max_size=4)
KEYS = ["a", None, "ab", "A", "%", None, "ä", "\U00010000"]  # of the first chunks
metas = st.fixed_dictionaries(
    {},
    optional={
        "tag1": st.none() | texts,
        "tag2": st.none() | texts,
        "tag5": texts,
        "facets": st.none() | tokens,
        "own": texts,
    },
)
tag_operators = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), texts | st.none()),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$begins_with", "$contains"]), texts),
    st.tuples(st.sampled_from(["$in", "$nin"]), tokens),
    st.tuples(st.just("$exists"), st.booleans()),
)
orders = st.dictionaries(
    st.sampled_from(["$eq", "$gt", "$gte", "$lt", "$lte"]), st.integers(0, 4), min_size=1, max_size=2
)
facet_operators = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), texts | tokens | st.none()),
    st.tuples(st.sampled_from(["$all", "$subset", "$any", "$in", "$none", "$nin"]), tokens),
    st.tuples(st.just("$contains"), texts | tokens),
    st.tuples(st.just("$size"), st.integers(0, 4) | orders),
    st.tuples(st.just("$exists"), st.booleans()),
)
id_operators = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), st.integers(-1, 14)),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(st.integers(0, 14), max_size=5)),
)


def conditions(operators):
    return st.lists(operators, min_size=1, max_size=3).map(dict)


leaves = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "tag1": conditions(tag_operators) | texts | st.none() | tokens,
            "tag2": conditions(tag_operators),
            "tag5": conditions(tag_operators),
            "key": conditions(tag_operators) | texts | st.none() | tokens,
            "facets": conditions(facet_operators) | texts | tokens | st.none(),
            "chunk_id": conditions(id_operators) | st.integers(0, 14),
        },
    )
)
conditions_any = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(inner, inner).map(lambda both: {**both[1], "$not": both[0]}),
    ),
    max_leaves=6,
)


class UndoError(Exception):
    """Ends a transaction that is not to be kept."""


@pytest.fixture(scope="module")
def opened(open_store):
    open_store.run(open_store.store.create_org("org", []))
    return open_store


def found_by_each(opened, rows: list[dict[str, Any]], wanted: list[Any]) -> list[list[int]]:
    """What each filter finds among chunks with this metadata; nothing remains."""
    chunks = [
        NewChunk("", "", checked_meta(meta, "meta"), Ciphertexts(1, b"\1"), KEYS[at])
        for at, meta in enumerate(rows)
    ]
    dialect = opened.store.dialect
    found = []

    def steps():
        yield from admin_statements.create_kb("org", "kb", "", "")
        yield from chunk_statements.insert("org", "kb", "c", chunks, None)
        for condition in wanted:
            query = Query(filter=parse_filter(condition))
            found.append((yield from read_statements.select(dialect, "org", "kb", query)).tolist())
        raise UndoError

    with pytest.raises(UndoError):
        opened.run(opened.store._write(steps))
    return found


@settings(max_examples=CASES)
@given(st.lists(metas, max_size=8), st.lists(conditions_any, min_size=1, max_size=3))
def test_every_engine_agrees_with_python(opened, rows, wanted) -> None:
    keyed = [{**meta, "key": key} for meta, key in zip(rows, KEYS, strict=False)]
    expected = [
        [at for at, meta in enumerate(keyed, 1) if holds(condition, at, meta)] for condition in wanted
    ]
    assert found_by_each(opened, rows, wanted) == expected
    assert found_by_each(opened, rows, [json.dumps(condition) for condition in wanted]) == expected


def test_long_values_are_told_apart(opened) -> None:
    """Longer than an index holds of them, alike in all that it does."""
    long = "ä" * 3000
    rows = [{"tag1": long + end, "facets": [long + end, "x"]} for end in ("", "a", "b")]
    wanted = [
        {"tag1": long + "a"},
        {"tag1": {"$in": [long, long + "b"]}},
        {"tag1": {"$gt": long}},
        {"tag1": {"$lt": long + "b"}},
        {"tag1": {"$begins_with": long}},
        {"facets": long + "b"},
        {"facets": {"$all": [long, "x"]}},
        {"facets": {"$any": [long + "a", long + "b"]}},
    ]
    assert found_by_each(opened, rows, wanted) == [
        [2],
        [1, 3],
        [2, 3],
        [1, 2],
        [1, 2, 3],
        [3],
        [1],
        [2, 3],
    ]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"tag1": "org_772", "tag2": "invoices"}, [1, 2]),
        ({"tag1": "org_772", "tag3": {"$gt": "000000100000"}}, [2]),
        ({"tag4": {"$gte": "2024-01-01T00:00:00Z", "$lte": "2024-03-31T23:59:59Z"}}, [1]),
        ({"tag4": {"$gte": "2024"}, "facets": {"$contains": "finance"}}, [1, 2]),
        ({"tag1": "org_772", "facets": {"$subset": ["finance", "tax_audit"]}}, [2]),
        ({"facets": {"$any": ["q1", "tax_audit"]}}, [1, 2]),
        ({"facets": {"$none": ["q1"]}}, [2, 3, 4]),
        ({"facets": {"$size": 2}}, [1, 2]),
        ({"tag5": {"$begins_with": "doc", "$contains": ".t"}}, [1]),
        ({"tag5": {"$exists": True}}, [1, 3]),
        ({"tag2": {"$ne": "invoices"}}, [3, 4]),
    ],
)
async def test_documented_examples(tmp_path: Path, condition: dict[str, Any], expected: list[int]) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.create_org("org", [])
    await store.create_kb("org", "kb", "", "")
    metas = [
        {
            "tag1": "org_772",
            "tag2": "invoices",
            "tag3": "000000000010",
            "tag4": "2024-02-01T00:00:00Z",
            "tag5": "doc1.txt",
            "facets": ["finance", "q1"],
        },
        {
            "tag1": "org_772",
            "tag2": "invoices",
            "tag3": "000000100001",
            "tag4": "2025-01-01T00:00:00Z",
            "tag5": None,
            "facets": ["finance", "tax_audit"],
        },
        {"tag1": "other", "tag5": "x"},
        {"tag5": ""},
    ]
    chunks = [NewChunk("", "", meta, Ciphertexts(1, b"\1")) for meta in metas]
    await store.insert("org", "kb", "c", chunks, None)
    found = await store.select("org", "kb", Query(filter=parse_filter(condition)))
    assert found.tolist() == expected
    await store.close()


def nested(depth: int) -> dict[str, Any]:
    condition: dict[str, Any] = {"tag1": "a"}
    for _ in range(depth - 1):
        condition = {"$not": condition}
    return condition


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ([], "meta_filter: expected an object"),
        (7, "meta_filter: expected an object"),
        ("{", "meta_filter: not valid JSON"),
        ("[" * 50_000, "meta_filter: not valid JSON"),
        ("7", "meta_filter: expected an object"),
        (" " * 70_000, "meta_filter: longer than"),
        ({"tag1": "a" * 70_000}, "meta_filter: longer than"),
        ({"tag6": "a"}, "meta_filter.tag6: unknown"),
        ({"name": "a"}, "meta_filter.name: unknown"),
        ({"$where": "a"}, "meta_filter.$where: unknown"),
        ({"tag1": 7}, "meta_filter.tag1: expected a string"),
        ({"tag1": True}, "meta_filter.tag1: expected a string"),
        ({"tag1": {}}, "meta_filter.tag1: expected at least one operator"),
        ({"tag1": {"$gt": 7}}, "meta_filter.tag1.$gt: expected a string"),
        ({"tag1": {"$gt": None}}, "meta_filter.tag1.$gt: expected a string"),
        ({"tag1": {"$in": "a"}}, "meta_filter.tag1.$in: expected a list"),
        ({"tag1": {"$in": ["a", None]}}, "meta_filter.tag1.$in[1]: expected a string"),
        ({"tag1": {"$in": ["a"] * 1001}}, "meta_filter.tag1.$in: more than 1000"),
        ({"tag1": {"$size": 1}}, "meta_filter.tag1.$size: not an operator on a tag"),
        ({"tag1": {"$contains": ["a"]}}, "meta_filter.tag1.$contains: expected a string"),
        ({"tag1": {"$exists": 1}}, "meta_filter.tag1.$exists: expected true or false"),
        ({"tag1": {"$not": {"$eq": "a"}}}, "meta_filter.tag1.$not: not an operator"),
        ({"tag1": "a\0"}, "meta_filter.tag1: contains a NUL"),
        ('{"tag1": "\\ud800"}', "meta_filter.tag1: contains a lone surrogate"),
        ({"facets": {"$gt": "a"}}, "meta_filter.facets.$gt: not an operator on facets"),
        ({"facets": {"$size": -1}}, "meta_filter.facets.$size: expected an integer of at least 0"),
        ({"facets": {"$size": True}}, "meta_filter.facets.$size: expected an integer"),
        ({"facets": {"$size": {}}}, "meta_filter.facets.$size: expected at least one operator"),
        ({"facets": {"$size": {"$ne": 1}}}, "meta_filter.facets.$size.$ne: not an operator"),
        ({"chunk_id": "1"}, "meta_filter.chunk_id: expected an integer"),
        ({"key": 1}, "meta_filter.key: expected a string"),
        ({"key": {"$size": 1}}, "meta_filter.key.$size: not an operator on a key"),
        ({"chunk_id": {"$in": [1, 1 << 63]}}, "meta_filter.chunk_id.$in[1]: out of range"),
        ({"$and": []}, "meta_filter.$and: expected a list of at least one"),
        ({"$or": {"tag1": "a"}}, "meta_filter.$or: expected a list"),
        ({"$or": [{"tag1": "a"}, {"tag1": {"$x": 1}}]}, "meta_filter.$or[1].tag1.$x: not an operator"),
        ({"$not": []}, "meta_filter.$not: expected an object"),
        (nested(17), "nested deeper than 16"),
        ({"$or": [{"tag1": "a", "tag2": "b"}] * 129}, "more than 256 conditions"),
    ],
)
def test_refusals_name_the_path(condition: Any, named: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_filter(condition)
    assert named in str(refused.value)


@pytest.mark.parametrize("condition", [None, "", "  ", "{}", "null", {}])
def test_no_filter(condition: Any) -> None:
    assert parse_filter(condition) is None


@pytest.mark.parametrize(
    "condition",
    [
        nested(16),
        {"$or": [{"tag1": str(at)} for at in range(filters.MAX_CONDITIONS)]},
        {"$and": [{"facets": {"$any": [str(at)]}} for at in range(filters.MAX_CONDITIONS)]},
        {
            "tag1": {"$in": [str(at) for at in range(1000)]},
            "facets": {"$all": [str(at) for at in range(1000)]},
        },
    ],
)
def test_the_largest_filters_run(opened, condition: dict[str, Any]) -> None:
    (found,) = found_by_each(opened, [{"tag1": "7"}], [condition])
    assert bool(found) == holds(condition, 1, {"tag1": "7"})


def test_limits_are_the_documented_ones() -> None:
    assert (filters.MAX_BYTES, filters.MAX_DEPTH) == (65_536, 16)
    assert (filters.MAX_OPERANDS, filters.MAX_CONDITIONS) == (1000, 256)


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ({"tag1": "a"}, "chunks_tag1"),
        ({"tag2": {"$in": ["a", "b"]}}, "chunks_tag2"),
        ({"tag3": {"$gte": "1", "$lt": "2"}}, "chunks_tag3"),
        ({"tag4": {"$begins_with": "2024"}}, "chunks_tag4"),
        ({"tag5": "a", "tag4": {"$contains": "x"}}, "chunks_tag5"),
        ({"key": "a"}, "chunks_key"),
        ({"key": {"$in": ["a", "b"]}}, "chunks_key"),
        ({"key": {"$begins_with": "a"}}, "chunks_key"),
        ({"facets": {"$any": ["x"]}}, "sqlite_autoindex_chunks_1 (kb=? AND id=?)"),
        ({"facets": {"$all": ["x", "y"]}}, "sqlite_autoindex_chunks_1 (kb=? AND id=?)"),
    ],
)
async def test_sqlite_uses_its_indexes(tmp_path: Path, condition: dict[str, Any], index: str) -> None:
    """No walk over all chunks for a condition that an index answers."""
    statements: list[str] = []
    store = SqliteStore(tmp_path / "db")
    await store.create_org("org", [])
    await store.create_kb("org", "large", "", "")
    db = store._writer_connection
    db.set_trace_callback(statements.append)
    await store._write(
        read_statements.select, store.dialect, "org", "large", Query("c", parse_filter(condition))
    )
    db.set_trace_callback(None)
    (statement,) = [one for one in statements if "FROM chunks AS c" in one]
    plan = " | ".join(row[3] for row in db.execute("EXPLAIN QUERY PLAN " + statement))
    assert index in plan
    assert "SCAN c" not in plan
    await store.close()
