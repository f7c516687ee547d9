"""``xtrace keys manifest``"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import FAILED, command, confirm, print_json
from xtrace_sdk.cli.settings import Settings

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.manifest_care import Findings


@command
async def manifest(
    kb_id: options.KbId,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Make a manifest of what the server has now, once all was opened."),
    ] = False,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Keep none, so that writers can add; omissions go unnoticed then."),
    ] = False,
    yes: options.Yes = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Hold a knowledge base against its manifest.

    By it searches notice what is missing, foreign or old. Opens every row under the context of the
    settings; exits with 1 unless all fits. After a backup was restored, accept what is there, on every device
    that has seen more.
    """
    from tqdm import tqdm

    from xtrace_sdk.x_vec.manifest_care import ManifestCare

    if accept and remove:
        raise typer.BadParameter("--accept and --remove exclude each other")
    settings = Settings.load(env_file, api_key)
    context = settings.open_context()
    async with settings.connect() as client:
        care = ManifestCare(context, client, kb_id)
        if remove:
            confirm("Let omissions go unnoticed from now on?", yes=yes, as_json=json_output)
            await care.remove()
            if json_output:
                print_json({"kb_id": kb_id, "removed": True})
            else:
                print("The knowledge base keeps no manifest, and this device asks for none.")
            return
        quiet = json_output or not sys.stderr.isatty()
        with tqdm(desc="Opening", unit=" chunks", disable=quiet, leave=False) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            found = await care.examine(progress)
        if not json_output:
            _show(found)
        if accept:
            confirm(f"Accept these {found.rows:,} rows as complete?", yes=yes, as_json=json_output)
            await care.accept()
    if json_output:
        print_json({"kb_id": kb_id, **asdict(found), "accepted": accept})
    elif accept:
        print("Accepted.")
    if not accept and not found.complete:
        raise typer.Exit(FAILED)


def _show(found: Findings) -> None:
    listed = "none, or none that opens" if found.listed is None else f"{found.listed:,} rows"
    print(f"manifest  {listed}")
    print(f"server    {found.rows:,} rows, {found.opened:,} opened", end="")
    print(f", {found.retired:,} of retired epochs" if found.retired else "")
    if found.complete:
        print("They are the same rows, and nothing that this device has seen was later.")
    elif found.listed is not None:
        print("They are not the same rows, or this device has seen a later state.")
