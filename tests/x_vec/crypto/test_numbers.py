from base64 import b64decode

import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from xtrace_sdk.errors import CiphertextError, InputError
from xtrace_sdk.x_vec.crypto.numbers import dump_numbers, load_numbers, numbers_to_rows, row_to_numbers
from xtrace_sdk.x_vec.utils.xtrace_types import EncryptedIndex

WIDTH = 8
values = st.integers(min_value=0, max_value=2 ** (8 * WIDTH) - 1)


@given(st.lists(st.tuples(values, values), max_size=5))
def test_lists_and_arrays_say_the_same(rows):
    array = numbers_to_rows(rows, 2, WIDTH)
    assert array.shape == (len(rows), 2, WIDTH)
    assert [tuple(row_to_numbers(row)) for row in array] == rows
    for row, (first, second) in zip(array, rows, strict=True):
        assert int.from_bytes(row[0].tobytes(), "little") == first
        assert int.from_bytes(row[1].tobytes(), "little") == second


def test_all_forms_of_a_number_are_taken():
    forms = [5, mpz(5), np.int64(5), b"\x05", b"\x05\0\0", b"\x05" + bytes(20), bytearray(b"\x05")]
    assert (numbers_to_rows([[form] for form in forms], 1, WIDTH)[:, 0] == [5] + [0] * 7).all()


def test_known_answers_of_the_wire(load_vectors):
    for case in load_vectors("hamming")["base64"]:
        row = numbers_to_rows([[b64decode(case["text"])]], 1, WIDTH)[0]
        assert row_to_numbers(row) == [int(case["value"])]


@pytest.mark.parametrize("value", [-1, 2 ** (8 * WIDTH), b"\0" * WIDTH + b"\x01", mpz(-3)])
def test_numbers_out_of_range(value):
    with pytest.raises(CiphertextError, match=r"ciphertexts\[1\]\[0\]"):
        numbers_to_rows([[1], [value]], 1, WIDTH)


@pytest.mark.parametrize("row", ["ab", 7, None, [], [1, 2], [1.0], ["1"], [None], [True]])
def test_what_is_not_a_row_of_numbers(row):
    with pytest.raises(InputError, match=r"ciphertexts\[1\]"):
        numbers_to_rows([[1], row], 1, WIDTH)


def test_texts_of_both_kinds():
    numbers = {"a": 0, "b": 10**5000}
    strings, integers = dump_numbers(numbers, as_strings=True), dump_numbers(numbers, as_strings=False)
    assert strings == '{"a": "0", "b": "1' + "0" * 5000 + '"}'
    assert integers == '{"a": 0, "b": 1' + "0" * 5000 + "}"
    assert load_numbers(strings, ("a", "b"), "pk") == load_numbers(integers, ("a", "b"), "pk") == numbers


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "7", "null", "{}", '{"a": null}', '{"a": true}', '{"a": 1.5}', '{"a": -1}'),
        '{"a": "-1"}',
        '{"a": ""}',
        '{"a": " 1"}',
        '{"a": "1_0"}',
        '{"a": "0x1"}',
        '{"a": "\\u0661"}',
        '{"a": [1]}',
        "[" * 100_000,
    ],
)
def test_malformed_texts_are_named(text):
    with pytest.raises(InputError, match="pk"):
        load_numbers(text, ("a",), "pk")


def test_an_index_is_a_sequence_over_an_array():
    rows = np.arange(3 * 2 * WIDTH, dtype=np.uint8).reshape(3, 2, WIDTH)
    index = EncryptedIndex(rows)
    assert len(index) == 3
    assert index[1] == row_to_numbers(rows[1])
    assert index[-1] == index[2]
    assert isinstance(index[0][0], type(mpz()))
    assert list(index) == [index[0], index[1], index[2]]
    assert (index[1:].rows == rows[1:]).all()
    assert index.rows.base is rows.base
    with pytest.raises(IndexError):
        index[3]
    with pytest.raises(InputError, match="rows"):
        EncryptedIndex(np.zeros((3, 4), np.uint8))
    with pytest.raises(InputError, match="rows"):
        EncryptedIndex(np.zeros((3, 4, 5), np.int64))
