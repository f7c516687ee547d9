"""``xtrace shell``: a prompt for commands."""

from __future__ import annotations

import os
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from xtrace_sdk.cli.console import command

if TYPE_CHECKING:
    from types import ModuleType

_HISTORY: Final = Path("~/.xtrace_cli_history")
_SECRET: Final = re.compile(r"\s(--api[-_]key|-\w*a)")  # a key was typed after it
_LEAVE: Final = ("quit", "exit", ":q")


@command
def shell() -> None:
    """Take commands at a prompt, without `xtrace` before them. Leave with quit, exit or :q."""
    from xtrace_sdk.cli.main import app

    commands = typer.main.get_command(app)
    readline = _readline(_words(commands))
    prompt = "xtrace> " if sys.stdin.isatty() else ""
    try:
        while True:
            try:
                line = input(prompt).strip()
            except EOFError:
                break
            except KeyboardInterrupt:
                print()
                continue
            if line in _LEAVE:
                break
            if readline is not None and _SECRET.search(line):
                readline.remove_history_item(readline.get_current_history_length() - 1)
            if line:
                _run(commands, line)
    finally:
        if readline is not None:
            _keep_history(readline)


def _run(commands: Any, line: str) -> None:
    try:
        arguments = shlex.split(line)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return
    if arguments[0] == "shell":
        return
    if arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    with suppress(SystemExit):  # each command ends so; the shell goes on
        commands.main(arguments, prog_name="xtrace", standalone_mode=True)


def _words(commands: Any) -> list[str]:
    """All that can begin a line: commands, groups and their commands."""
    words = ["help", *_LEAVE]
    for name, one in commands.commands.items():
        words.append(name)
        words += [f"{name} {inner}" for inner in getattr(one, "commands", {})]
    return sorted(words)


def _readline(words: list[str]) -> ModuleType | None:
    """The module readline with history and completion, None when there is no terminal or no such module."""
    if not sys.stdin.isatty():
        return None
    try:
        import readline
    except ImportError:
        return None

    def complete(_text: str, state: int) -> str | None:
        begun = readline.get_line_buffer()[: readline.get_endidx()]
        start = readline.get_begidx()
        fitting = [word[start:] for word in words if word.startswith(begun)]
        return fitting[state] if state < len(fitting) else None

    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
    history = _HISTORY.expanduser()
    if history.is_file():
        readline.read_history_file(history)
    return readline


def _keep_history(readline: ModuleType) -> None:
    history = _HISTORY.expanduser()
    os.close(os.open(history, os.O_WRONLY | os.O_CREAT, 0o600))  # texts may stand in it: ours alone
    history.chmod(0o600)
    readline.set_history_length(1000)
    readline.write_history_file(history)
