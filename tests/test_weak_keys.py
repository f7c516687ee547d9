"""Why short subgroups are refused: their public keys factor in seconds, that of a strong key does not.

Where GMP-ECM is installed, it makes the same attempt, up to subgroups of ECM_BITS bits (25 unless given, the
original SDK's default).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import gmpy2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrace_sdk import _core
from xtrace_sdk.errors import WeakKeyError
from xtrace_sdk.x_vec.crypto.weak_keys import factor_by_subgroup


@pytest.mark.parametrize("alpha_len", [36, 50])  # 50 is the original SDK's default
def test_a_short_subgroup_falls_to_its_public_key(alpha_len: int) -> None:
    key = _core.SecretKey.generate(1024, alpha_len, allow_insecure=True)
    public = key.public
    assert public.g_n is not None
    told: list[float] = []
    factor = factor_by_subgroup(public.n, public.g_n, alpha_len // 2, told.append)
    assert factor is not None
    assert told == sorted(told)
    assert all(0 < share <= 1 for share in told)
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


def p_minus_1(public: _core.PublicKey, bits: int) -> str:
    """What GMP-ECM's p-1 method, started in the subgroup, says of orders up to 2^bits."""
    assert public.g_n is not None
    command = ["ecm", "-pm1", "-x0", str(public.g_n % public.n), "1000", str(2**bits)]
    return subprocess.run(command, input=str(public.n), capture_output=True, text=True, check=False).stdout


@pytest.mark.skipif(shutil.which("ecm") is None, reason="GMP-ECM (gmp-ecm) is not installed")
def test_a_public_tool_finds_short_subgroups_and_no_default_one() -> None:
    weak = _core.SecretKey.generate(1024, 50, allow_insecure=True)
    found = re.search(r"Factor found in step \d: (\d+)", p_minus_1(weak.public, 25))
    assert found is not None
    assert int(found[1]) > 1  # n itself where both subgroups were come upon in one go
    assert weak.public.n % int(found[1]) == 0
    attempt = p_minus_1(_core.SecretKey.generate(1024).public, int(os.environ.get("ECM_BITS", "25")))
    assert "Step 2 took" in attempt
    assert "Factor found" not in attempt


def test_orders_about_one_multiple_are_told_apart() -> None:
    """Orders near each other make the product 0 modulo both primes at once."""
    orders = [int(gmpy2.next_prime(32768)), int(gmpy2.next_prime(32800))]
    primes, elements = [], []
    for order in orders:
        prime = next(p for p in (k * order + 1 for k in range(2**40, 2**41, 2)) if gmpy2.is_prime(p))
        primes.append(prime)
        elements.append(int(gmpy2.powmod(2, (prime - 1) // order, prime)))
    p, q = primes
    element = elements[0] + p * ((elements[1] - elements[0]) * pow(p, -1, q) % q)
    assert [pow(element, order, prime) for order, prime in zip(orders, primes, strict=True)] == [1, 1]
    assert factor_by_subgroup(p * q, element, 16) in primes


@pytest.mark.parametrize("bits", [7, 33])
def test_subgroups_that_are_not_tried(bits: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        factor_by_subgroup(15, 2, bits)


@settings(max_examples=20, deadline=None)
@given(alpha_len=st.integers(32, 447))
def test_every_shorter_subgroup_is_refused(alpha_len: int) -> None:
    with pytest.raises(WeakKeyError, match="alpha_len"):
        _core.SecretKey.generate(1024, alpha_len)
