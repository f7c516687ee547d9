import numpy as np
import pytest

from xtrace_sdk.errors import DimensionMismatchError, InputError
from xtrace_sdk.x_vec.crypto.bits import as_bits, binarise


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64, bool])
def test_bits_of_any_integer_dtype(dtype):
    vectors = np.array([[0, 1, 1], [1, 0, 0]])
    bits = as_bits(vectors.astype(dtype), 3, "bits")
    assert bits.dtype == np.uint8
    assert (bits == vectors).all()
    assert (as_bits(vectors.tolist(), 3, "bits") == vectors).all()


def test_strided_input_becomes_contiguous():
    wide = np.zeros((4, 6), np.uint8)
    wide[:, ::2] = 1
    bits = as_bits(wide[:, ::2], 3, "bits")
    assert bits.flags.c_contiguous
    assert bits.all()


@pytest.mark.parametrize("convert", [as_bits, binarise])
def test_no_vectors_at_all(convert):
    assert convert([], 5, "bits").shape == (0, 5)
    assert convert(np.empty((0, 5), np.uint8), 5, "bits").shape == (0, 5)


@pytest.mark.parametrize("convert", [as_bits, binarise])
@pytest.mark.parametrize(
    ("vectors", "row"),
    [
        ([[1, 0], [1]], 1),
        ([[1, 0, 1]], 0),
        ([[0, 1], [1, 0], [1, 1, 1]], 2),
        (np.zeros((2, 3), np.uint8), 0),
        ([[]], 0),
    ],
)
def test_another_dimension_is_named(convert, vectors, row):
    with pytest.raises(
        DimensionMismatchError, match=rf"bits\[{row}\]: dimension . does not match expected 2"
    ):
        convert(vectors, 2, "bits")


@pytest.mark.parametrize("convert", [as_bits, binarise])
@pytest.mark.parametrize(
    "vectors", [[0, 1], 7, None, "ab", [[[0, 1]]], [["a", "b"]], [[None, 1]], [[1j, 0]], [b"ab"]]
)
def test_what_is_no_list_of_vectors(convert, vectors):
    with pytest.raises(InputError, match="bits"):
        convert(vectors, 2, "bits")


@pytest.mark.parametrize("value", [2, -1, 255, 256, 1 << 40])
def test_non_bits_are_named(value):
    vectors = np.zeros((3, 4), np.int64)
    vectors[1, 2] = value
    with pytest.raises(InputError, match=rf"bits\[1\]\[2\]: expected 0 or 1, got {value}"):
        as_bits(vectors, 4, "bits")


def test_floats_are_no_bits():
    with pytest.raises(InputError, match="float64"):
        as_bits([[0.0, 1.0]], 2, "bits")


def test_binarise_takes_signs():
    vectors = [[-1.5, -0.0, 0.0, 1e-300, np.inf, -np.inf]]
    assert binarise(vectors, 6, "v").tolist() == [[0, 0, 0, 1, 1, 0]]
    assert binarise(np.array(vectors, np.float16), 6, "v").tolist() == [[0, 0, 0, 0, 1, 0]]
    assert binarise(binarise(vectors, 6, "v"), 6, "v").tolist() == [[0, 0, 0, 1, 1, 0]]


def test_nan_has_no_sign():
    with pytest.raises(InputError, match=r"v\[1\]\[0\]: NaN"):
        binarise([[0.5, 1], [float("nan"), 1]], 2, "v")
