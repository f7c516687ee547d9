"""The server as a process of its own, on loopback, in a folder of its own, ended with the demo."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from xtrace_sdk.errors import XTraceError

_READY: Final = re.compile(r"^listening on (http://\S+)$", re.MULTILINE)
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0


class ServerStartError(XTraceError):
    """The server process did not start."""


class ServerProcess:
    """``xtrace serve`` with fresh random credentials, between ``with`` and its end.

    Its output goes to ``folder/server.log``, its data to ``folder/data``.
    """

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.org_id = "demo"
        self.admin_key = secrets.token_urlsafe(32)
        self.api_key = secrets.token_urlsafe(32)
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if _is_for_server(name)}
        environment |= {
            "XTRACE_ORG_ID": self.org_id,
            "XTRACE_ADMIN_KEY": self.admin_key,
            "XTRACE_API_KEY": self.api_key,
            "PYTHONUNBUFFERED": "1",
        }
        arguments = ["serve", "--host", "127.0.0.1", "--port", "0", "--data", str(self.data)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter, no shell
                [sys.executable, "-m", "xtrace_sdk.cli", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.url = self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stop()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> str:
        give_up = time.monotonic() + _START_SECONDS
        while time.monotonic() < give_up:
            ended = process.poll() is not None
            output = self.log.read_text(errors="replace")
            if ready := _READY.search(output):
                return ready[1]
            if ended:
                raise ServerStartError(f"the server ended at once; its last words:\n{_tail(output)}")
            time.sleep(0.02)
        raise ServerStartError(
            f"the server was not ready after {_START_SECONDS:.0f} s; its last words:\n{_tail(output)}"
        )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_for_server(name: str) -> bool:
    # The user's own keys and passphrases are no business of this server.
    return not name.startswith("XTRACE_") or name in ("XTRACE_KERNEL", "XTRACE_ALLOW_INSECURE")


def _tail(output: str) -> str:
    return "\n".join(f"    {line}" for line in output.splitlines()[-12:]) or "    (none)"
