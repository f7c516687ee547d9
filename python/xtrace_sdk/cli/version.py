"""``xtrace version``"""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from xtrace_sdk.cli.console import command, print_json, table


@command
def version(
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the version, the kernel in use and the number of threads."""
    import xtrace_sdk
    from xtrace_sdk import _core

    shown: dict[str, str | int] = {
        "version": xtrace_sdk.__version__,
        "kernel": _core.kernel(),
        "threads": _core.max_threads(),
        "python": platform.python_version(),
    }
    if json_output:
        print_json({**shown, "kernels": _core.kernels()})
    else:
        print(table([(name, str(value)) for name, value in shown.items()]))
