"""``xtrace keys migrate``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import command, print_json
from xtrace_sdk.cli.settings import OLD_PASSPHRASE, Settings

_BATCH: Final = 200


@command
async def migrate(
    old_context: Annotated[
        Path, typer.Argument(metavar="OLD_CONTEXT", help="File of the context that the data are under.")
    ],
    kb_id: options.KbId,
    batch: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Chunks that are moved in one transaction.")
    ] = _BATCH,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Encrypt a knowledge base anew, under another context.

    From an old context, also the original SDK's, to that of the settings, and in place: chunks keep their
    ids. Every row is verified. What was stopped goes on where it was. Searches meanwhile find the half
    that is under their context. The old context's passphrase is XTRACE_OLD_PASS_PHRASE, or asked for.
    """
    from tqdm import tqdm

    from xtrace_sdk.x_vec.migration import migrate as move

    settings = Settings.load(env_file, api_key)
    # Keys that can be broken are what people migrate from.
    old = settings.open_context(old_context, OLD_PASSPHRASE, allow_insecure=True)
    new = settings.open_context()
    async with settings.connect() as client:
        quiet = json_output or not sys.stderr.isatty()
        with tqdm(desc="Migrating", unit=" chunks", disable=quiet, leave=False) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            moved = await move(old, new, client, kb_id, batch_size=batch, progress=progress)
    if json_output:
        print_json({"kb_id": kb_id, "from": old.id, "to": new.id, "moved": moved})
    else:
        print(f"{moved:,} chunks moved and verified; none is left under {old.id[:12]}…")
        print("When no knowledge base needs the old context, delete it, its copies and the server's backups.")
