"""Vector search that the server cannot read.

Texts become bits, bits become Paillier ciphertexts, a server that holds only public values multiplies them,
and the client that holds the key reads the distances. Importing this package loads neither the compiled core
nor any dependency; each module imports what it needs.

Attributes:
    __version__: version of the installed distribution, ``"unknown"`` for a source tree that is not installed.
    kernel: name of the kernel in use. Raises KernelError if ``XTRACE_KERNEL`` names one that cannot run here.
"""

from __future__ import annotations

import importlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__: str
kernel: str

__all__ = ["__version__", "kernel"]

_DISTRIBUTION = "xtrace-sdk-native"
# Other distributions that install a package of this name. Names as in their metadata folders.
_OTHER_OWNERS = {"xtrace_sdk": "xtrace-sdk", "xtrace_ai_sdk": "xtrace-ai-sdk"}


def _other_owner() -> str | None:
    """Name of another distribution on sys.path that installs a package `xtrace_sdk`, if there is one.

    Looks for metadata folders by name: importing importlib.metadata would take longer than all else here.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            stem, kind = os.path.splitext(name)
            if kind in (".dist-info", ".egg-info"):
                owner = _OTHER_OWNERS.get(stem.partition("-")[0].lower())
                if owner:
                    return owner
    return None


def __getattr__(name: str) -> Any:
    if name == "__version__":
        metadata = importlib.import_module("importlib.metadata")
        try:
            value = metadata.version(_DISTRIBUTION)
        except metadata.PackageNotFoundError:
            value = "unknown"
        globals()[name] = value
        return value
    if name == "kernel":
        return __getattr__("_core").kernel()
    if name == "_core":
        try:
            return importlib.import_module("xtrace_sdk._core")
        except ImportError as error:
            error.add_note(
                f"The compiled part of {_DISTRIBUTION} is missing or does not load. "
                "In a source tree run `make build`; otherwise reinstall the package for this Python."
            )
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if _found := _other_owner():
    raise ImportError(
        f"{_DISTRIBUTION} and {_found} both install the package xtrace_sdk and overwrite each other's files. "
        f"Keep one per environment: uninstall both, then install {_DISTRIBUTION} again."
    )
