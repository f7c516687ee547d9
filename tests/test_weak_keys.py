"""Why short subgroups are refused: their public keys factor in seconds, that of a strong key does not."""

from __future__ import annotations

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrace_sdk import _core
from xtrace_sdk.errors import WeakKeyError


def factor_by_subgroup(n: int, noise: int, bits: int) -> int | None:
    """A factor of `n` if `noise` has a prime order of `bits` bits modulo one of its primes.

    Steps noise**a through all such primes a, collecting noise**a - 1 for a gcd: stage 2 of Pollard's p-1
    method, started inside the subgroup. (Giant steps would take the square root of this time.)
    """
    modulus, base = mpz(n), mpz(noise) % n
    prime = gmpy2.next_prime(mpz(1) << (bits - 1))
    power = gmpy2.powmod(base, prime, modulus)
    steps: dict[int, mpz] = {}
    while prime.bit_length() == bits:
        product = mpz(1)
        for _ in range(256):
            product = product * (power - 1) % modulus
            following = gmpy2.next_prime(prime)
            gap = int(following - prime)
            if gap not in steps:
                steps[gap] = gmpy2.powmod(base, gap, modulus)
            power = power * steps[gap] % modulus
            prime = following
        factor = gmpy2.gcd(product, modulus)
        if 1 < factor < modulus:
            return int(factor)
    return None


def test_a_short_subgroup_falls_to_its_public_key() -> None:
    key = _core.SecretKey.generate(1024, 36, allow_insecure=True)
    public = key.public
    assert public.g_n is not None
    factor = factor_by_subgroup(public.n, public.g_n, 18)
    assert factor is not None
    assert public.n % factor == 0
    assert 1 < factor < public.n
    assert (factor - 1) * (public.n // factor - 1) == key.phi


def test_one_ciphertext_is_enough() -> None:
    key = _core.SecretKey.generate(1024, 36, allow_insecure=True)
    row = _core.HammingEncryptor(key, 8).encrypt(np.ones((1, 8), np.uint8))[0, 0]
    ciphertext = int.from_bytes(row.tobytes(), "little")
    factor = factor_by_subgroup(key.public.n, ciphertext, 18)
    assert factor is not None
    assert key.public.n % factor == 0


def test_a_default_key_does_not_fall_to_the_same_work() -> None:
    public = _core.SecretKey.generate(1024).public
    assert public.g_n is not None
    assert factor_by_subgroup(public.n, public.g_n, 18) is None


@settings(max_examples=20, deadline=None)
@given(alpha_len=st.integers(32, 447))
def test_every_shorter_subgroup_is_refused(alpha_len: int) -> None:
    with pytest.raises(WeakKeyError, match="alpha_len"):
        _core.SecretKey.generate(1024, alpha_len)
