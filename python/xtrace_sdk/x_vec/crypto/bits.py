"""Vectors become bits here: one rule for every client, loader and query."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import DimensionMismatchError, InputError


def as_bits(vectors: Any, dimensions: int, name: str) -> NDArray[np.uint8]:
    """N vectors of 0 and 1 -> contiguous uint8 (N, dimensions).

    Raises DimensionMismatchError or InputError naming the first vector that has another length, or holds
    anything but the integers 0 and 1.
    """
    matrix = _as_matrix(vectors, dimensions, name)
    if matrix.dtype.kind not in "bui":
        raise InputError(f"{name}: expected integers 0 and 1, got dtype {matrix.dtype}")
    if matrix.dtype.kind != "b":
        wrong = (matrix != 0) & (matrix != 1)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise InputError(f"{name}[{row}][{column}]: expected 0 or 1, got {matrix[row, column]}")
    return np.ascontiguousarray(matrix, dtype=np.uint8)


def binarise(vectors: Any, dimensions: int, name: str) -> NDArray[np.uint8]:
    """N vectors of numbers -> contiguous uint8 (N, dimensions): 1 where greater than 0, so bits stay bits.

    Raises DimensionMismatchError or InputError naming the first vector that has another length, or holds a
    NaN or anything but real numbers.
    """
    matrix = _as_matrix(vectors, dimensions, name)
    if matrix.dtype.kind not in "buif":
        raise InputError(f"{name}: expected real numbers, got dtype {matrix.dtype}")
    if matrix.dtype.kind == "f":
        wrong = np.isnan(matrix)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise InputError(f"{name}[{row}][{column}]: NaN has no sign")
    return np.ascontiguousarray(matrix > 0, dtype=np.uint8)


def _as_matrix(vectors: Any, dimensions: int, name: str) -> NDArray[Any]:
    try:
        matrix = np.asarray(vectors)
    except ValueError:  # vectors of several lengths
        raise _wrong_shape(vectors, dimensions, name) from None
    if matrix.shape == (0,):
        return np.empty((0, dimensions), dtype=np.uint8)
    if matrix.ndim != 2 or matrix.shape[1] != dimensions:
        raise _wrong_shape(vectors, dimensions, name)
    return matrix


def _wrong_shape(vectors: Any, dimensions: int, name: str) -> InputError:
    if np.iterable(vectors):
        for number, vector in enumerate(vectors):
            length = len(vector) if hasattr(vector, "__len__") else dimensions
            if length != dimensions:
                return DimensionMismatchError(
                    f"{name}[{number}]: dimension {length} does not match expected {dimensions}"
                )
    return InputError(f"{name}: expected vectors of {dimensions} numbers each")
