"""``xtrace org``: organisations of a server of one's own. These commands work on its database."""

from __future__ import annotations

from typing import Annotated

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import command, print_json, table
from xtrace_sdk.cli.serve import DATA, Data, DatabaseUrl, missing_extra

app = typer.Typer(name="org", help="Organisations of a server of your own.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Organisations of a server of your own."""


@app.command()
@command
async def create(
    data: Data = DATA,
    database_url: DatabaseUrl = None,
    org_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Its id; a random one unless given.")
    ] = None,
    json_output: options.Json = False,
) -> None:
    """Make another organisation and show its keys, this once.

    It has an admin key and an API key. Run it where the server keeps its data; the server may be running.
    Organisations see nothing of each other.
    """
    try:
        from xtrace_sdk.server.organisations import create_org
        from xtrace_sdk.server.settings import Settings
    except ModuleNotFoundError as error:
        missing_extra(error)
    made = await create_org(Settings(data=data, database_url=database_url), org_id)
    if json_output:
        print_json(made)
    else:
        print(table(list(made.items())))
        print("The keys are shown only now.")
