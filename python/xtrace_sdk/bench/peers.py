"""The implementations we stand beside, each in a virtual environment of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xtrace_sdk.errors import XTraceError

WORKERS = Path(__file__).resolve().parent / "workers"


class PeerError(XTraceError):
    """A peer cannot be installed or gave a wrong answer. Never reported as a blank cell."""


@dataclass(frozen=True)
class Peer:
    """An implementation from PyPI: its environment's requirements and its worker."""

    name: str
    requirements: tuple[str, ...]
    worker: str
    note: str
    one_core: bool = False  # more CPUs change nothing, so it is measured on one only


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "xtrace-ai-sdk",
            ("xtrace-ai-sdk[cli]==0.1.1", "click"),  # its command line imports click without declaring it
            "original",
            "Lookup client with the same alpha_len; one core",
            one_core=True,
        ),
        Peer(
            "gmpy2",
            ("gmpy2==2.3.2", "numpy"),
            "gmp",
            "the same scheme by single GMP calls on mpz values, no byte conversion; one core",
            one_core=True,
        ),
        Peer("sf-heu", ("sf-heu==0.5.2b0", "numpy"), "heu_zpaillier", "ZPaillier, n of the same length"),
        Peer("pypaillier", ("pypaillier==0.8.0", "numpy"), "rust_paillier", "n of the same length"),
        Peer(
            "phe",
            ("phe==1.5.0", "gmpy2==2.3.2", "numpy"),
            "python_paillier",
            "with gmpy2; n of the same length; one core",
            one_core=True,
        ),
    )
}


def environment(name: str, folder: Path) -> Path:
    """The Python interpreter of a peer's environment under `folder`, created on first use.

    Raises PeerError when the peer cannot be installed.
    """
    peer = PEERS[name]
    home = folder / name
    stamp = home / "requirements.txt"
    wanted = "\n".join((*peer.requirements, f"# Python {sys.version.split()[0]}", ""))
    interpreter = home / "bin" / "python"
    with _locked(folder / f".{name}.lock"):
        if stamp.exists() and stamp.read_text() == wanted and interpreter.exists():
            return interpreter
        shutil.rmtree(home, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            [str(interpreter), "-m", "pip", "install", "--quiet", *peer.requirements],
        ):
            done = subprocess.run(command, env=foreign_environ(), capture_output=True, text=True)
            if done.returncode != 0:
                raise PeerError(f"{name} could not be installed by {' '.join(command)}:\n{done.stderr}")
        stamp.write_text(wanted)
    return interpreter


def foreign_environ() -> dict[str, str]:
    """This process's environment without what would lead another interpreter to our own packages."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "XTRACE_KERNEL")
    return {name: value for name, value in os.environ.items() if name not in ours}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
