"""A whole run: the data, the parameters, and other parameters beside."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk import _core
from xtrace_sdk.errors import InputError

from .measure import BESIDE, FULL, SMOKE, Mode, Suite
from .results import Results

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Parameters:
    """`alpha_len` None stands for the key length's default; dimensions are those of random vectors."""

    key_len: int = 1024
    alpha_len: int | None = None
    dimensions: int = 512


#: Measured beside a full run on random vectors, with these peers as far as the run has them: 128-bit
#: security, and longer vectors. xtrace-ai-sdk may draw a modulus too small for as many dimensions as its
#: primes have bits; some of its distances are then wrong.
VARIANTS = (
    (Parameters(1536), ("xtrace-ai-sdk", "gmpy2")),
    (Parameters(dimensions=1024), ("gmpy2",)),
)


def run(
    mode: Mode,
    parameters: Parameters,
    bits: Bits | None = None,
    *,
    peers: Sequence[str],
    kernels: Sequence[str] = (),
    environments: Path,
    say: Callable[[str], None],
) -> Results:
    """Measure ours and `peers` on `bits` or on random vectors.

    Args:
        bits: shape (N, dimensions), 0 and 1, as `read_bits` gives them.
        kernels: names of ours; all that run here if empty.
        environments: folder of the peers' virtual environments, made on first use.
        say: takes a line of progress.

    Raises PeerError when an implementation is missing, fails, or answers wrongly.
    """
    peers, kernels = list(peers), list(kernels) or _core.kernels()

    def suite(mode: Mode, parameters: Parameters, bits: Bits | None, peers: list[str]) -> Results:
        if bits is None:
            bits = np.random.default_rng(20).integers(0, 2, (8192, parameters.dimensions), dtype=np.uint8)
        alpha_len = parameters.alpha_len or _default_alpha_len(parameters.key_len)
        say(f"key_len {parameters.key_len}, alpha_len {alpha_len}, {bits.shape[1]} dimensions")
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "bits.npy"
            np.save(data, bits)
            return Suite(
                mode,
                data,
                key_len=parameters.key_len,
                alpha_len=alpha_len,
                kernels=kernels,
                peers=peers,
                environments=environments,
                say=say,
            ).run()

    found = suite(mode, parameters, bits, peers)
    if mode in (FULL, SMOKE) and bits is None:
        found.variants = [
            suite(
                BESIDE if mode is FULL else SMOKE, variant, None, [peer for peer in peers if peer in beside]
            )
            for variant, beside in VARIANTS
        ]
    return found


def read_bits(path: Path, key_len: int) -> Bits:
    """The caller's vectors from a .npy file. Raises InputError naming what is wrong with them."""
    try:
        vectors = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise InputError(f"bits: {path} is not a .npy file of numbers") from None
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or not len(vectors):
        raise InputError(f"bits: expected an array of shape (N, dimensions), N > 0, in {path}")
    if not np.isin(vectors, (0, 1)).all():
        raise InputError(f"bits: expected zeros and ones in {path}")
    if not 1 <= vectors.shape[1] <= key_len:
        # One ciphertext a vector is what every peer can do.
        raise InputError(f"bits: dimensions must be in [1, {key_len}] for key_len {key_len}")
    return np.ascontiguousarray(vectors, dtype=np.uint8)


def _default_alpha_len(key_len: int) -> int:
    found = _core.SecretKey.generate(key_len).alpha_len or 0
    return found + found % 2  # the product of two primes may be one bit shorter than the two together
