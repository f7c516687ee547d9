"""``xtrace keys shares`` and ``recover``: a lost passphrase, and how to be prepared for it."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import command, print_json
from xtrace_sdk.cli.keys.change import File, new_passphrase
from xtrace_sdk.cli.settings import Settings
from xtrace_sdk.errors import InputError


@command
def shares(
    threshold: Annotated[
        int, typer.Option("--threshold", min=2, max=16, metavar="N", help="Shares that suffice together.")
    ] = 2,
    count: Annotated[int, typer.Option("--count", min=2, max=16, metavar="N", help="Shares to be made.")] = 3,
    context: File = None,
    json_output: options.Json = False,
    env_file: options.EnvFile = None,
) -> None:
    """Make recovery shares of a context, shown this once.

    Give them to different people. Any THRESHOLD of them open the context's file without its passphrase;
    fewer tell nothing. They hold until the next `xtrace keys rewrap`.
    """
    from xtrace_sdk.x_vec.crypto.recovery import recovery_shares

    settings = Settings.load(env_file)
    opened = settings.open_context(context)
    made = recovery_shares(opened.key_provider, threshold, count)
    if json_output:
        print_json({"id": opened.id, "threshold": threshold, "shares": made})
        return
    for number, share in enumerate(made, 1):
        print(f"{number}. {share}\n")
    print(f"Any {threshold} of them, with the context's file, open context {opened.id[:12]}…")


@command
def recover(
    context: File = None,
    json_output: options.Json = False,
    env_file: options.EnvFile = None,
) -> None:
    """Open a context by its shares and give it a new passphrase.

    Reads shares from stdin, one a line. The new passphrase is XTRACE_NEW_PASS_PHRASE, or asked for.
    """
    from xtrace_sdk.x_vec.crypto.recovery import RecoveredKeyProvider
    from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

    settings = Settings.load(env_file)
    path = context or settings.context_path
    provider = RecoveredKeyProvider(_read_shares())
    insecure = settings.values.get("XTRACE_ALLOW_INSECURE") == "1"
    opened = ExecutionContext.load_from_disk(None, path, provider, allow_insecure=insecure)
    opened.rewrap(key_provider=new_passphrase(settings))
    opened.save_to_disk(path)
    if json_output:
        print_json({"id": opened.id, "revision": opened.revision})
    else:
        print(
            f"{path} has a new passphrase; the shares open it no longer. `xtrace keys shares` makes others."
        )


def _read_shares() -> list[str]:
    if sys.stdin.isatty():
        given = list(iter(lambda: getpass.getpass("A share (empty when all are given): ").strip(), ""))
    else:
        given = [line.strip() for line in sys.stdin if line.strip()]
    if not given:
        raise InputError("no shares: give them on stdin, one a line")
    return given
