"""One worker process: requests out, answers in, one JSON object a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .peers import PEERS, WORKERS, PeerError, environment, foreign_environ
from .results import NATIVE


class Process:
    """A running implementation. `name` is unique within a run, e.g. "xtrace-sdk-native (ifma)"."""

    def __init__(self, name: str, command: list[str], environ: Mapping[str, str], cpus: list[int]) -> None:
        self.name = name
        self.about: dict[str, Any] = {}
        pinned = ["taskset", "--cpu-list", ",".join(map(str, cpus)), *command]
        self._process = subprocess.Popen(
            pinned, env=dict(environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises PeerError when the worker failed or died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"{self.name}: the worker died during {op!r} (exit {self._process.wait()})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: {op!r} failed\n{answer['error']}")
        return answer

    def close(self) -> None:
        """Let the worker finish, and reap it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def start_native(kernel: str, cpus: list[int]) -> Process:
    """Our own worker with one kernel, in this interpreter, on these CPUs."""
    environ = {**os.environ, "XTRACE_KERNEL": kernel}
    return Process(f"{NATIVE} ({kernel})", [sys.executable, str(WORKERS / "native.py")], environ, cpus)


def start_peer(name: str, environments: Path, cpus: list[int]) -> Process:
    """A peer's worker, in its own environment, on these CPUs."""
    interpreter = environment(name, environments)
    return Process(name, [str(interpreter), str(WORKERS / PEERS[name].script)], foreign_environ(), cpus)
