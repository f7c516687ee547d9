"""The commands of ``xtrace``, put together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer
from typer.core import TyperGroup

from xtrace_sdk.cli import api_keys, kb, keys, org, xvec
from xtrace_sdk.cli.bench import bench
from xtrace_sdk.cli.console import USAGE, fail
from xtrace_sdk.cli.demo import demo
from xtrace_sdk.cli.init import init
from xtrace_sdk.cli.serve import serve
from xtrace_sdk.cli.shell import shell
from xtrace_sdk.cli.storage import backup, restore, verify
from xtrace_sdk.cli.version import version

# Before the core is loaded: threads that wait sleep, rather than spin away the time of those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# The base of all that is wrong with arguments, of whichever click this version of Typer stands on.
_UsageError: Final[Any] = typer.BadParameter.__mro__[1]
_AS_JSON: Final = "xtrace_sdk.json"


class Commands(TyperGroup):
    """All commands. Where ``--json`` is among the arguments, wrong ones are reported as JSON too."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        as_json = "--json" in (args[: args.index("--")] if "--" in args else args)
        with _usage_errors(as_json=as_json):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[_AS_JSON] = as_json
        return context

    def invoke(self, ctx: Any) -> Any:
        with _usage_errors(as_json=ctx.meta[_AS_JSON]):
            return super().invoke(ctx)


@contextmanager
def _usage_errors(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        if not as_json:
            raise
        fail(error.format_message(), as_json=True, code=USAGE)


app = typer.Typer(
    name="xtrace",
    cls=Commands,
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
