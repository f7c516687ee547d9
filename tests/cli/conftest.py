"""A real server process, shared by the tests of this folder, and ways to run the command line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xtrace_sdk.cli.demo.process import ServerProcess

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def xtrace(tmp_path: Path) -> Run:
    """Runs ``xtrace`` in an empty folder with an empty environment."""

    def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")}
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "xtrace_sdk.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**kept, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run
