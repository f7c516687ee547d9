"""What all commands share: how results, progress and errors reach the person or the script.

Results go to stdout, everything else to stderr; with ``--json`` stdout carries one JSON value alone.
Exit status: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, NoReturn, ParamSpec, TextIO, TypeVar, cast

import typer

from xtrace_sdk.errors import ApiError, ConfigurationError, XTraceError

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

Parameters = ParamSpec("Parameters")
Function = TypeVar("Function", bound=Callable[..., Any])


def command(function: Function) -> Function:
    """Make a function (async ones too) a command: its errors become one line and an exit status.

    A parameter `json_output` decides the form of errors.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        as_json = bool(kwargs.get("json_output"))
        try:
            result = function(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = asyncio.run(cast("Coroutine[Any, Any, Any]", result))
        except XTraceError as error:
            fail(error, as_json=as_json)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except EOFError:
            fail("the input ended where an answer was asked for", as_json=as_json)
        except BrokenPipeError:  # the reader of a pipe went away: not worth a message
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None
        except OSError as error:  # a file or folder that cannot be read or written
            fail(error, as_json=as_json)
        return result

    return cast("Function", run)


def fail(error: Exception | str, *, as_json: bool = False, code: int | None = None) -> NoReturn:
    """Report an error and leave with `code` (by default 2 for wrong settings, else 1)."""
    if code is None:
        code = USAGE if isinstance(error, ConfigurationError) else FAILED
    status = error.status if isinstance(error, ApiError) else None
    if as_json:
        print_json({"error": {"message": str(error), "status": status}})
    else:
        print(style("error:", "red", "bold", to=sys.stderr), printable(str(error)), file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"       {printable(note)}", file=sys.stderr)
    raise typer.Exit(code)


def confirm(question: str, *, yes: bool, as_json: bool = False) -> None:
    """Ask before something that cannot be undone. Leaves with 2 when there is nobody to ask."""
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        fail(f"{question} Confirm with --yes.", as_json=as_json, code=USAGE)
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        fail("nothing was done")


def print_json(value: Any) -> None:
    """The one JSON value of a command on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def printable(text: str) -> str:
    """`text` with a mark for each character that steers a terminal: it comes from servers and documents."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)


def has_colour(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that wants colours."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def style(text: str, *styles: str, to: TextIO | None = None) -> str:
    """`text` in colours or weights (keys of `_CODES`), plain when `to` (stdout) is no terminal."""
    if not has_colour(to or sys.stdout):
        return text
    return f"\033[{';'.join(_CODES[one] for one in styles)}m{text}\033[0m"


def table(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows of cells in aligned columns; the columns in `right` are aligned right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def human_bytes(count: int) -> str:
    """A byte count for people: 1.5 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
