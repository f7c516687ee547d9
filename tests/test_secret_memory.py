"""Where the values of a key lie in memory: locked and undumped pages, and nowhere after close."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from math import gcd, isqrt
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Makes and uses a key, prints what an observer needs to know its parts, and closes it when told to.
USER = """
import gc, sys
import numpy as np
from xtrace_sdk import _core
key = _core.SecretKey.generate(*map(int, sys.argv[1:]), allow_insecure=True)
encryptor, decoder = _core.HammingEncryptor(key, 512), _core.HammingDecoder(key, 512)
bits = np.random.default_rng(0).integers(0, 2, (40, 512), dtype=np.uint8)
rows = encryptor.encrypt(bits)
products = _core.Multiplier(key.public.n_squared).products(rows[0], rows)
assert (decoder.decode(products) == (bits ^ bits[0]).sum(axis=1)).all()
print(key.public.n, key.phi, key.a, flush=True)
sys.stdin.readline()
key.close()
del encryptor, decoder, key
gc.collect()
print("closed", flush=True)
sys.stdin.readline()
"""
WINDOW = 16  # bytes: no such value appears by chance


def parts(n: int, phi: int, a: int) -> dict[str, int]:
    """p, q, a_p and a_q from the values that the documented API hands out."""
    total = n + 1 - phi
    p = (total + isqrt(total * total - 4 * n)) // 2
    q = n // p
    assert p * q == n
    return {"p": p, "q": q, "a_p": gcd(a, p - 1), "a_q": gcd(a, q - 1)}


def regions(pid: int) -> Iterator[tuple[bytes, str]]:
    """Written memory of a process: content and the kernel's flags of each region."""
    header = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+)")
    span = None
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            found = header.match(line)
            if found is not None:
                span = (int(found[1], 16), int(found[2], 16)) if found[3].startswith("rw") else None
            elif line.startswith("VmFlags:") and span is not None:
                memory.seek(span[0])
                yield memory.read(span[1] - span[0]), line


def places(pid: int, secrets: dict[str, int]) -> dict[str, set[str]]:
    """The flags of the regions where any eight-byte aligned window of a value is found, for every value."""
    found: dict[str, set[str]] = {name: set() for name in secrets}
    windows = {}
    for name, value in secrets.items():
        raw = value.to_bytes((value.bit_length() + 7) // 8, "little")
        for start in range(0, len(raw) - WINDOW + 1, 8):
            windows[raw[start : start + WINDOW]] = name
            windows[raw[start : start + WINDOW][::-1]] = name
    for content, flags in regions(pid):
        for window, name in windows.items():
            if window in content:
                found[name].add(flags)
    return found


@pytest.mark.parametrize(("key_len", "alpha_len"), [(1024, 448), (512, 256)])
def test_secret_values_lie_in_locked_memory_until_they_are_gone(key_len: int, alpha_len: int) -> None:
    command = [sys.executable, "-c", USER, str(key_len), str(alpha_len)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        secrets = parts(*map(int, process.stdout.readline().split()))
        assert secrets["a_p"] * secrets["a_q"] > 1 << (alpha_len - 2)
        for name, flags in places(process.pid, secrets).items():
            assert flags, f"{name} is in use, so it must be somewhere"
            for one in flags:
                assert " lo" in one, f"{name} lies in memory that may be swapped"
                assert " dd" in one, f"{name} lies in memory that a core dump holds"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        assert places(process.pid, secrets) == {name: set() for name in secrets}
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.returncode == 0
