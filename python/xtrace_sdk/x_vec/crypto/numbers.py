"""Big numbers at the edges: lists of numbers beside arrays of ciphertexts, and numbers in JSON texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from xtrace_sdk.errors import CiphertextError, InputError


def row_to_numbers(row: NDArray[np.uint8]) -> list[mpz]:
    """Ciphertexts (chunks, width) -> one number per chunk."""
    return [mpz.from_bytes(chunk.tobytes(), "little") for chunk in row]


def numbers_to_rows(numbers: Sequence[Sequence[Any]], chunks: int, width: int) -> NDArray[np.uint8]:
    """N lists of `chunks` numbers (int, mpz, or little-endian bytes) -> ciphertexts (N, chunks, width).

    Raises InputError for another count or type, CiphertextError for a number that needs more than `width`
    bytes or is negative.
    """
    data = bytearray()
    for number, row in enumerate(numbers):
        if not isinstance(row, Sequence | np.ndarray) or isinstance(row, str | bytes):
            raise InputError(f"ciphertexts[{number}]: expected a list of {chunks} numbers")
        if len(row) != chunks:
            raise InputError(f"ciphertexts[{number}]: expected {chunks} numbers, got {len(row)}")
        for position, value in enumerate(row):
            data += _little_endian(value, width, f"ciphertexts[{number}][{position}]")
    return np.frombuffer(data, dtype=np.uint8).reshape(len(numbers), chunks, width)


def _little_endian(value: Any, width: int, name: str) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        if len(raw) > width:
            if any(raw[width:]):
                raise CiphertextError(f"{name}: longer than {width} bytes")
            raw = raw[:width]
        return raw.ljust(width, b"\0")
    if isinstance(value, bool) or not isinstance(value, int | mpz | np.integer):
        raise InputError(f"{name}: expected int, mpz or bytes, got {type(value).__name__}")
    number = int(value)
    if number < 0 or number.bit_length() > 8 * width:
        raise CiphertextError(f"{name}: not a number of at most {width} bytes")
    return number.to_bytes(width, "little")


def dump_numbers(numbers: Mapping[str, int], *, as_strings: bool) -> str:
    """The JSON object of `numbers`, in their order: decimal strings, or JSON integers of any length."""
    mark = '"' if as_strings else ""
    return "{" + ", ".join(f'"{name}": {mark}{mpz(value)}{mark}' for name, value in numbers.items()) + "}"


def load_numbers(text: str, names: Sequence[str], what: str) -> dict[str, int]:
    """The non-negative integers `names` from a JSON object, each an integer or a decimal string.

    `mpz` reads them, because CPython refuses more than 4,300 digits. Raises InputError naming `what`.
    """
    try:
        parsed = json.loads(text, parse_int=mpz)
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{what}: not a JSON text") from None
    if not isinstance(parsed, dict):
        raise InputError(f"{what}: expected a JSON object")
    numbers = {}
    for name in names:
        value = parsed.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = mpz(value)
        if not isinstance(value, mpz) or value < 0:
            raise InputError(f"{what}: {name} must be a non-negative integer")
        numbers[name] = int(value)
    return numbers
