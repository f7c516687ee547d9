"""``xtrace xvec``: encrypted texts: load, search, show, replace, delete."""

from __future__ import annotations

import typer

from xtrace_sdk.cli.xvec.chunks import delete, fetch, head
from xtrace_sdk.cli.xvec.load import load
from xtrace_sdk.cli.xvec.retrieve import retrieve
from xtrace_sdk.cli.xvec.upsert import upsert, upsert_file

app = typer.Typer(name="xvec", help="Encrypted texts in a knowledge base.", no_args_is_help=True)
app.command()(load)
app.command()(retrieve)
app.command("query", help="The same as retrieve.")(retrieve)
app.command()(head)
app.command()(fetch)
app.command()(upsert)
app.command("upsert-file")(upsert_file)
app.command()(delete)
