"""``python -m xtrace_sdk.cli`` is ``xtrace``."""

from xtrace_sdk.cli import app

app(prog_name="xtrace")
