"""``python -m xtrace_sdk.server``: a server without the command line."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from xtrace_sdk.errors import ConfigurationError
from xtrace_sdk.server.settings import Settings, environment

_USAGE = 2
# As `xtrace` does, before the core is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def main() -> None:
    """Serve with the settings of the arguments. What cannot be used is named in one line; then status 2."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m xtrace_sdk.server", description=__doc__)
    parser.add_argument("--host", default=defaults.host)
    parser.add_argument("--port", type=int, default=defaults.port)
    parser.add_argument("--data", type=Path, default=defaults.data)
    parser.add_argument("--database-url", default=environment("XTRACE_DATABASE_URL"))
    parser.add_argument("--ssl-certfile", type=Path)
    parser.add_argument("--ssl-keyfile", type=Path)
    parser.add_argument("--workers", type=int, default=defaults.workers)
    arguments = vars(parser.parse_args())
    try:
        from xtrace_sdk.server.run import serve

        serve(Settings(**arguments))
    except ConfigurationError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("xtrace_sdk"):
            raise
        _fail(f"needs {error.name}, of the extra 'server': pip install 'xtrace-sdk-native[server]'")


def _fail(message: str) -> NoReturn:
    print(f"python -m xtrace_sdk.server: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(_USAGE)


if __name__ == "__main__":
    main()
