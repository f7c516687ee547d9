"""The command line ``xtrace``: one file a command.

Files import nothing heavy at their top, so that ``xtrace serve`` loads no client code and ``xtrace --help``
answers at once. `app` is the Typer application; without the ``cli`` extra it says what to install.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xtrace_sdk.cli.main import app

__all__ = ["app"]


def _no_typer(**_options: object) -> None:
    print(
        "xtrace: the command line needs the extra 'cli': pip install 'xtrace-sdk-native[cli]'",
        file=sys.stderr,
    )
    sys.exit(2)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from xtrace_sdk.cli.main import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        return _no_typer
    return app
