"""Why short subgroups are refused: the public key alone gives the secret primes away.

Modulo p the published g_n has the secret prime a_p as its order. Stepping g_n through all primes of a_p's
length and taking a gcd with n now and then factors n, whatever the length of n.
"""

import numpy as np
import pytest
from gmpy2 import gcd, mpz, powmod

from xtrace_sdk._core import SecretKey
from xtrace_sdk.errors import WeakKeyError

KEY_LEN = 512
WEAK_ALPHA = 50  # what the original SDK uses
GCD_EVERY = 4096


def primes_of(bits):
    sieve = np.ones(1 << bits, dtype=bool)
    sieve[:2] = False
    for number in range(2, 1 << (bits // 2 + 1)):
        if sieve[number]:
            sieve[number * number :: number] = False
    return np.flatnonzero(sieve[1 << (bits - 1) :]) + (1 << (bits - 1))


def factor(n, g_n, bits):
    """A proper factor of n, if the order of g_n modulo p or q is a prime of `bits` bits; else None."""
    primes = primes_of(bits).tolist()
    steps = {gap: powmod(g_n, gap, n) for gap in set(np.diff(primes).tolist())}
    power, product = powmod(g_n, primes[0], n), mpz(1)
    recent = [power]
    for number in range(1, len(primes)):
        power = power * steps[primes[number] - primes[number - 1]] % n
        product = product * (power - 1) % n
        recent.append(power)
        if number % GCD_EVERY == 0 or number == len(primes) - 1:
            if gcd(product, n) != 1:
                found = {int(gcd(value - 1, n)) for value in recent} - {1, int(n)}
                return found.pop() if found else None
            recent.clear()
    return None


def test_a_short_subgroup_gives_the_key_away():
    key = SecretKey.generate(KEY_LEN, WEAK_ALPHA, allow_insecure=True)
    n = key.public.n
    found = factor(mpz(n), mpz(key.public.g_n), WEAK_ALPHA // 2)
    assert found is not None
    assert n % found == 0
    assert (found - 1) * (n // found - 1) == key.phi


def test_a_long_subgroup_does_not():
    key = SecretKey.generate(KEY_LEN, 448, allow_insecure=True)
    assert factor(mpz(key.public.n), mpz(key.public.g_n), 22) is None


@pytest.mark.parametrize(("key_len", "floor"), [(1024, 448), (1536, 512)])
def test_the_floors(key_len, floor):
    with pytest.raises(WeakKeyError, match="alpha_len"):
        SecretKey.generate(key_len, floor - 2)
    key = SecretKey.generate(key_len, floor)
    # Two primes of equal length: their product has both lengths together, or one bit less.
    assert key.alpha_len in (floor - 1, floor)
    SecretKey.load(key.public, key.phi, key.inverse, key.a)
    weak = SecretKey.generate(key_len, floor - 2, allow_insecure=True)
    with pytest.raises(WeakKeyError):
        SecretKey.load(weak.public, weak.phi, weak.inverse, weak.a)
    SecretKey.load(weak.public, weak.phi, weak.inverse, weak.a, allow_insecure=True)
