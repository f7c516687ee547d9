"""How many multiplications a kernel needs for one item, where that is known: the floor under its time.

The floor in cycles is the count divided by the multiplications per cycle that `machine.c` measures.
"""

from __future__ import annotations

from dataclasses import dataclass

from .results import Results, Row


@dataclass(frozen=True)
class Roofline:
    """`count` multiply instructions per item; `unit` names the measured peak in `Results.speed`."""

    count: float
    unit: str


# Modulo p², in digits of radix 2^50, a squaring for eight ciphertexts takes 2,153 vpmadd52, a product 3,059.
# An exponent of 224 bits in fixed windows of four is 220 squarings, 55 products, and 7 of each for the table.
_DECODE = 220 * 2153 + 55 * 3059 + 7 * (2153 + 3059)

#: By kernel and work, for key_len 1024, alpha_len 448 and 512 dimensions.
ROOFLINES = {
    # One matrix of 81 x 83 limbs by Winograd's pairing for eight ciphertexts: 7,052 vpmadd52.
    ("ifma", "product"): Roofline(7052 / 8, "madd52_per_cycle"),
    ("ifma", "decode"): Roofline(_DECODE / 8, "madd52_per_cycle"),
}


def share(results: Results, row: Row) -> float | None:
    """The floor divided by the measured cycles (1.0: at the hardware's limit), or None where unknown."""
    parameters = results.parameters
    measured_for = (parameters["key_len"], parameters["alpha_len"], parameters["dimensions"])
    kernel = row.implementation.partition("(")[2].rstrip(")")
    roofline, cycles = ROOFLINES.get((kernel, row.work)), results.cycles(row)
    if roofline is None or cycles is None or measured_for != (1024, 448, 512):
        return None
    peak = results.speed.get(roofline.unit)
    return roofline.count / peak / cycles if peak else None
