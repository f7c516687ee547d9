"""``xtrace keys``: how good the keys of contexts are, and how to change them."""

from __future__ import annotations

import typer

from xtrace_sdk.cli.keys.change import begin_epoch, retire_epoch, rewrap
from xtrace_sdk.cli.keys.doctor import doctor
from xtrace_sdk.cli.keys.manifest import manifest
from xtrace_sdk.cli.keys.migrate import migrate
from xtrace_sdk.cli.keys.recovery import recover, shares
from xtrace_sdk.cli.keys.writer import writer

app = typer.Typer(
    name="keys", help="Keys of contexts: examine, change and replace them.", no_args_is_help=True
)
app.command()(doctor)
app.command()(rewrap)
app.command()(migrate)
app.command()(manifest)
app.command()(shares)
app.command()(recover)
app.command()(writer)
app.command("begin-epoch")(begin_epoch)
app.command("retire-epoch")(retire_epoch)
