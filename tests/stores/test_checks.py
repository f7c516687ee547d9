"""Canonical forms: one for each JSON value, and no two values with the same."""

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrace_sdk.stores.checks import MAX_NAME_BYTES, canonical, checked_filter, checked_ids

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def equal(a, b):
    """JSON equality in other words: types as JSON has them, numbers by their decimal digits."""
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return Decimal(repr(a)) == Decimal(repr(b))
    return isinstance(a, str) and isinstance(b, str) and a == b


@given(values, values)
def test_values_are_equal_when_their_canonical_forms_are(a, b):
    assert (canonical(a) == canonical(b)) == equal(a, b)


@given(numbers, numbers)
def test_numbers_are_equal_when_their_canonical_forms_are(a, b):
    assert (canonical(a) == canonical(b)) == equal(a, b)


@given(values)
def test_another_way_to_write_it_is_the_same_value(value):
    def rewritten(one):
        if isinstance(one, dict):
            return {key: rewritten(one[key]) for key in reversed(one)}
        if isinstance(one, list):
            return [rewritten(inner) for inner in one]
        if isinstance(one, int) and not isinstance(one, bool) and abs(one) < 2**53:
            return float(one)
        return one

    assert canonical(rewritten(value)) == canonical(value)
    assert canonical(json.loads(json.dumps(value))) == canonical(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (True, "true"),
        (-0.0, "0"),
        (100, "1E+2"),
        (1e2, "1E+2"),
        (0.1, "0.1"),
        ({"b": [1, None], "a": "ü"}, '{"a":"\\u00fc","b":[1,null]}'),
        (int(math.pow(2, 1000)), None),
    ],
)
def test_canonical_forms(value, text):
    """Tokens of stored data are made of these: they may never change."""
    if text is None:
        assert Decimal(canonical(value)) == value
    else:
        assert canonical(value) == text


def test_a_filter_is_copied():
    wanted = {"a": [1]}
    copied = checked_filter(wanted)
    wanted["a"].append(2)
    assert copied == {"a": [1]}
    assert checked_filter(None) == {}


def test_ids_are_distinct_and_in_order():
    longest = "é" * (MAX_NAME_BYTES // 2)
    assert checked_ids(["b", "a", "b", longest]) == ["b", "a", longest]
