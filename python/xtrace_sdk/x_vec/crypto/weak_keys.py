"""The attack that keys with short subgroups fall to, so that their owners can see it work.

Modulo p, every power of g_n has the secret prime order a_p. So g_n**a_p - 1 is divisible by p, hardly ever
by q, and a gcd with n finds p: stage 2 of Pollard's p-1 method, started inside the subgroup. Coron, Joux,
Mandal, Naccache and Tibouchi (PKC 2011) get there in about sqrt(a_p) steps; this one tries all that a_p can
be, two at a time and no multiples of small primes, which is enough for 25 or 30 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import gmpy2
from gmpy2 import mpz

LEAST_BITS: Final = 8
MOST_BITS: Final = 32  # some minutes

# A candidate is a multiple of this plus or minus a distance coprime to it.
_GIANT_STEP: Final = 2 * 3 * 5 * 7 * 11 * 13
_DISTANCES: Final = tuple(d for d in range(1, _GIANT_STEP // 2) if gmpy2.gcd(d, _GIANT_STEP) == 1)


def factor_by_subgroup(
    n: int, element: int, bits: int, progress: Callable[[float], None] | None = None
) -> int | None:
    """A prime factor of `n` if `element` has a prime order of `bits` bits modulo one of them, else None.

    For `element` serve g_n of a public key and any ciphertext. `progress` is told the share of candidates
    tried. Takes 2**bits / 20 multiplications modulo `n`: for 25 bits and n of 2,048 bits a few seconds.
    """
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"bits: expected {LEAST_BITS} to {MOST_BITS}, got {bits}")
    modulus, base = mpz(n), mpz(element) % n
    first, last = (1 << (bits - 1)) // _GIANT_STEP, (1 << bits) // _GIANT_STEP + 1
    sums = list(islice(_power_sums(base, modulus), _GIANT_STEP // 2))
    near = [sums[d] for d in _DISTANCES]
    step = gmpy2.powmod(base, _GIANT_STEP, modulus)
    for k, giant in zip(range(first, last + 1), _power_sums(step, modulus, first), strict=False):
        # With v(e) = base**e + base**-e, v(a) - v(b) is 0 if the order divides a + b or a - b: two in one.
        product = mpz(1)
        for one in near:
            product = product * (giant - one) % modulus
        factor = gmpy2.gcd(product, modulus)
        if factor == modulus:  # both primes' orders lie about this multiple
            factor = _one_by_one(base, modulus, k * _GIANT_STEP)
        if 1 < factor < modulus:
            return int(factor)
        if progress is not None:
            progress((k - first + 1) / (last - first + 1))
    return None


def _power_sums(base: mpz, modulus: mpz, start: int = 0) -> Iterator[mpz]:
    """base**e + base**-e for e = `start`, start + 1, …"""
    unit = (base + gmpy2.invert(base, modulus)) % modulus
    powers = (gmpy2.powmod(base, start, modulus), gmpy2.powmod(base, start - 1, modulus))
    now, before = ((power + gmpy2.invert(power, modulus)) % modulus for power in powers)
    while True:
        yield now
        now, before = (now * unit - before) % modulus, now


def _one_by_one(base: mpz, modulus: mpz, centre: int) -> mpz:
    for distance in _DISTANCES:
        for candidate in (centre - distance, centre + distance):
            factor = gmpy2.gcd(gmpy2.powmod(base, candidate, modulus) - 1, modulus)
            if 1 < factor < modulus:
                return factor
    return mpz(1)
