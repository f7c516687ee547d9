"""``python -m xtrace_sdk.server``: a server with the default settings, or those of two arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

from xtrace_sdk.server.run import serve
from xtrace_sdk.server.settings import Settings


def main() -> None:
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m xtrace_sdk.server", description=__doc__)
    parser.add_argument("--host", default=defaults.host)
    parser.add_argument("--port", type=int, default=defaults.port)
    parser.add_argument("--data", type=Path, default=defaults.data)
    arguments = parser.parse_args()
    serve(Settings(arguments.host, arguments.port, arguments.data))


if __name__ == "__main__":
    main()
