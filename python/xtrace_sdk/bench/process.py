"""One worker process: requests out, answers in, one JSON object a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from .machine import pinned
from .peers import PEERS, WORKERS, PeerError, environment, foreign_environ
from .results import NATIVE


class Process:
    """A running implementation. `name` is unique within a run, e.g. "xtrace-sdk-native (ifma)"."""

    def __init__(self, name: str, command: list[str], environ: Mapping[str, str], cpus: list[int]) -> None:
        self.name = name
        self.about: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [*pinned(cpus), *command],
            env={**environ, "OMP_NUM_THREADS": str(len(cpus))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._requests = cast("TextIO", self._process.stdin)
        self._answers = cast("TextIO", self._process.stdout)

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises PeerError when the worker failed or died."""
        try:
            self._requests.write(json.dumps({"op": op, **request}) + "\n")
            self._requests.flush()
            line = self._answers.readline()
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
        self._requests.close()
        self._process.wait()
        self._answers.close()


def start_native(kernel: str, cpus: list[int]) -> Process:
    """Our own worker with one kernel, in this interpreter, on these CPUs."""
    environ = {**os.environ, "XTRACE_KERNEL": kernel}
    return Process(f"{NATIVE} ({kernel})", [sys.executable, str(WORKERS), "native"], environ, cpus)


def start_peer(name: str, environments: Path, cpus: list[int]) -> Process:
    """A peer's worker, in its own environment, on these CPUs."""
    interpreter = environment(name, environments)
    return Process(name, [str(interpreter), str(WORKERS), PEERS[name].worker], foreign_environ(), cpus)
