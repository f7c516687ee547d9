"""Checks an installed wheel from outside the source tree: distances are right and come from the wheel."""

import sys
from pathlib import Path

import numpy as np

import xtrace_sdk
from xtrace_sdk import _core
from xtrace_sdk.bench.measure import SMOKE
from xtrace_sdk.bench.run import Parameters, run

package = Path(xtrace_sdk.__file__).resolve().parent
if Path(sys.prefix).resolve() not in package.parents:
    sys.exit(f"xtrace_sdk comes from {package}, not from {sys.prefix}")

dimensions = 512
rng = np.random.default_rng(0)
bits = rng.integers(0, 2, size=(9, dimensions), dtype=np.uint8)
key = _core.SecretKey.generate(1024)
encrypted = _core.HammingEncryptor(key, dimensions).encrypt(bits)
products = _core.Multiplier(key.public.n**2).products(encrypted[0], encrypted)
distances = _core.HammingDecoder(key, dimensions).decode(products)
expected = (bits != bits[0]).sum(axis=1)
if distances.tolist() != expected.tolist():
    sys.exit(f"wrong distances: {distances} instead of {expected}")
print(f"xtrace_sdk {xtrace_sdk.__version__} from a wheel, kernel {xtrace_sdk.kernel}: distances are right")

measured = run(
    SMOKE,
    Parameters(),
    bits,
    peers=[],
    kernels=[_core.kernel()],
    environments=package / ".envs",
    say=lambda _: None,
)
if not measured.checks["distances equal to NumPy's"]:
    sys.exit("the benchmark checked nothing")
print("the benchmark runs from the wheel")
