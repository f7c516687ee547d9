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


# An exponent of 224 bits in fixed windows of four: 220 squarings, 55 products, and 7 of each for the table.
_SQUARINGS, _PRODUCTS = 220 + 7, 55 + 7

# ifma, vpmadd52 for eight items, digits of radix 2^50: a product of 21 limbs 684, a square 462, the two
# reductions 524 and 483. A squaring modulo p² is a square, a product and both reductions; a product is three
# products and both reductions; one with a table's entry two products and both reductions. The matrix of the
# server's product, 81 x 83 limbs by Winograd's pairing: 7,052; the owner's, 84 x 83: 7,300.
_IFMA_DECODE = _SQUARINGS * (462 + 684 + 524 + 483) + _PRODUCTS * (684 + 1368 + 524 + 483)
_IFMA_ENCRYPT = 2 * 27 * (2 * 684 + 524 + 483) + 7300

# portable, 64-bit multiplications, digits of 17 limbs: a product 289, a square 153, a reduction 17 * 18. The
# owner has 45 windows of 5 bits on each side, and the CRT of 32 limbs.
_REDUCTION = 17 * 18
_PORTABLE_DECODE = _SQUARINGS * (153 + 289 + 2 * _REDUCTION) + _PRODUCTS * (3 * 289 + 2 * _REDUCTION)
_PORTABLE_ENCRYPT = 2 * 44 * 2 * (289 + _REDUCTION) + 3 * 32 * 32

#: By kernel and work, for key_len 1024, alpha_len 448 and 512 dimensions.
ROOFLINES = {
    ("ifma", "product"): Roofline(7052 / 8, "madd52_per_cycle"),
    ("ifma", "decode"): Roofline(_IFMA_DECODE / 8, "madd52_per_cycle"),
    ("ifma", "encrypt"): Roofline(_IFMA_ENCRYPT / 8, "madd52_per_cycle"),
    # 69 digits, paired by Winograd, and the two Montgomery digits.
    ("portable", "product"): Roofline(69 * (34 + 1) + 34 + 2 * 70, "multiply64_per_cycle"),
    ("portable", "decode"): Roofline(_PORTABLE_DECODE, "multiply64_per_cycle"),
    ("portable", "encrypt"): Roofline(_PORTABLE_ENCRYPT, "multiply64_per_cycle"),
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
