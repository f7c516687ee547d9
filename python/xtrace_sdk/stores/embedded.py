"""A server for one application: a process of its own, on loopback, that ends with the application.

The process is started with a bare environment, so that no passphrase or cloud credential of the application
reaches it; it computes with public values only, like any other server. Run as a module this file is that
process: ``python -m xtrace_sdk.stores.embedded DATA``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xtrace_sdk.errors import ConfigurationError

_READY: Final = "listening on "
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 40.0  # the server gives running requests 30
_NEEDED: Final = ("fastapi", "orjson", "uvicorn")  # the extra "server"
# What an interpreter needs to run and find its packages; everything else stays with the application.
_ENVIRONMENT: Final = frozenset(
    {
        *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TMPDIR", "TZ"),
        *("DYLD_LIBRARY_PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"),
        *("OMP_NUM_THREADS", "XTRACE_KERNEL"),
    }
)


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """How to call the server: access keys, which decrypt nothing."""

    org_id: str
    api_key: str
    admin_key: str


class EmbeddedServer:
    """A running server over the folder `data`. Blocks until it is ready; `stop` ends it.

    Warnings and errors of the server go to `log`. Raises ConfigurationError when it does not start.
    """

    def __init__(self, data: Path, log: Path) -> None:
        for name in _NEEDED:
            if importlib.util.find_spec(name) is None:
                raise ConfigurationError(f"an embedded server needs {name}: xtrace-sdk-native[server]")
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter, no shell
                [sys.executable, "-P", "-m", __spec__.name, str(data)],
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,  # Ctrl-C is for the application, which then ends this process
            )
        try:
            self.url = self._wait_until_ready(log)
            self.credentials = Credentials(**json.loads((data / "credentials.json").read_text("utf-8")))
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def _wait_until_ready(self, log: Path) -> str:
        watchdog = threading.Timer(_START_SECONDS, self._process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            assert self._process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
            for line in self._process.stdout:
                if line.startswith(_READY):
                    return line.removeprefix(_READY).strip()
        finally:
            watchdog.cancel()
        tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-5:])
        raise ConfigurationError(f"the embedded server did not start; the last lines of {log}:\n{tail}")

    def stop(self) -> None:
        """End the server, after the requests that it has begun. A second call does nothing."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()  # the server ends when its stdin does
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _end_with_parent() -> None:
    """Ends this process when stdin closes: the application has closed it, or is no more."""
    sys.stdin.buffer.read()
    while True:  # a signal before the server is up would be forgotten
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)


def _main(data: str) -> None:
    import logging

    from xtrace_sdk.server.run import serve
    from xtrace_sdk.server.settings import Settings

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    serve(Settings(port=0, data=Path(data)))


if __name__ == "__main__":
    _main(sys.argv[1])
