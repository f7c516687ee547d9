"""The commands of ``xtrace``, put together."""

from __future__ import annotations

import os

import typer

from xtrace_sdk.cli import api_keys, kb, keys, org, xvec
from xtrace_sdk.cli.bench import bench
from xtrace_sdk.cli.demo import demo
from xtrace_sdk.cli.init import init
from xtrace_sdk.cli.serve import serve
from xtrace_sdk.cli.shell import shell
from xtrace_sdk.cli.storage import backup, restore, verify
from xtrace_sdk.cli.version import version

# Before the core is loaded: threads that wait sleep, rather than spin away the time of those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

app = typer.Typer(
    name="xtrace",
    help="Vector search that the server cannot read.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(serve)
app.command()(verify)
app.command()(backup)
app.command()(restore)
app.command()(init)
app.command()(shell)
app.command()(bench)
app.command()(version)
app.add_typer(kb.app)
app.add_typer(api_keys.app)
app.add_typer(org.app)
app.add_typer(keys.app)
app.add_typer(xvec.app)
