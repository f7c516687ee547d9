"""``xtrace keys writer``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import command, print_json
from xtrace_sdk.cli.keys.change import File, new_passphrase
from xtrace_sdk.cli.settings import Settings
from xtrace_sdk.errors import InputError


@command
def writer(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the writer; stands in the clear beside its data.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write its context.")],
    context: File = None,
    json_output: options.Json = False,
    env_file: options.EnvFile = None,
) -> None:
    """Make a context for a machine that adds and does not read.

    It cannot read what it added itself, either. There, XTRACE_EXECUTION_CONTEXT_PATH names FILE, and
    `xtrace xvec load` and `upsert` work. Its passphrase is XTRACE_NEW_PASS_PHRASE, or asked for. It
    serves for the present key epoch.
    """
    settings = Settings.load(env_file)
    if file.exists():
        raise InputError(f"{file} is there already")
    opened = settings.open_context(context)
    made = opened.writer(name, key_provider=new_passphrase(settings))
    made.save_to_disk(file)
    if json_output:
        print_json({"id": made.id, "writer": made.name, "epoch": made.epoch, "file": str(file)})
    else:
        print(f"{file}: writer {made.name} of context {made.id[:12]}…, epoch {made.epoch}.")
