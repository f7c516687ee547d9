"""The unmodified xtrace-ai-sdk 0.1.1, in its own environment and process."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(_BENCH))  # the peers' environments are the benchmark's

from xtrace_bench import machine, peers  # noqa: E402
from xtrace_bench.process import Process  # noqa: E402


class Original:
    """Calls of the original's public interface; a ValueError there is one here."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __call__(self, op: str, **request: Any) -> Any:
        answer = self._process.ask(op, **request)
        if "refused" in answer:
            raise ValueError(answer["refused"])
        return answer["result"]


@pytest.fixture(scope="session")
def original_python() -> Path:
    """The interpreter of an environment that holds the original; made on first use."""
    return peers.environment("xtrace-ai-sdk", _BENCH / ".envs")


@pytest.fixture(scope="session")
def original(original_python: Path) -> Iterator[Original]:
    worker = Path(__file__).with_name("original_worker.py")
    command = [str(original_python), str(worker)]
    process = Process("xtrace-ai-sdk", command, peers.foreign_environ(), machine.cpus())
    original = Original(process)
    assert original("version") == "0.1.1"
    yield original
    process.close()
