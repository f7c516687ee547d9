"""``python -m xtrace_sdk.server``: a server without the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from xtrace_sdk.server.run import serve
from xtrace_sdk.server.settings import Settings


def main() -> None:
    """Serve with the settings of the arguments."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m xtrace_sdk.server", description=__doc__)
    parser.add_argument("--host", default=defaults.host)
    parser.add_argument("--port", type=int, default=defaults.port)
    parser.add_argument("--data", type=Path, default=defaults.data)
    parser.add_argument("--ssl-certfile", type=Path)
    parser.add_argument("--ssl-keyfile", type=Path)
    parser.add_argument("--workers", type=int, default=defaults.workers)
    serve(Settings(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
