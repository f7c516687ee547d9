"""The unmodified xtrace-ai-sdk 0.1.1, in its own environment and process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xtrace_sdk.bench import machine, peers
from xtrace_sdk.bench.process import Process
from xtrace_sdk.cli.demo.process import ServerProcess

_ENVIRONMENTS = Path(__file__).parents[2] / "bench" / ".envs"  # the benchmark's


class OriginalError(Exception):
    """The original raised: the name of the type, and the message."""


class Original:
    """Asks the worker."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __call__(self, op: str, **request: Any) -> Any:
        answer = self._process.ask(op, **request)
        if "raised" in answer:
            raise OriginalError(f"{answer['raised']}: {answer['message']}")
        return answer["result"]

    def call(self, target: str, method: str, *args: Any, keep_as: tuple[str, ...] = (), **kwargs: Any) -> Any:
        """Call a method of the original's ``integration``, ``loader`` or ``retriever``."""
        return self("call", target=target, method=method, args=args, kwargs=kwargs, keep_as=keep_as)


@pytest.fixture(scope="session")
def original_python() -> Path:
    """The interpreter of an environment that holds the original; made on first use."""
    return peers.environment("xtrace-ai-sdk", _ENVIRONMENTS)


@pytest.fixture(scope="session")
def original(original_python: Path) -> Iterator[Original]:
    worker = Path(__file__).with_name("original_worker.py")
    command = [str(original_python), str(worker)]
    process = Process("xtrace-ai-sdk", command, peers.foreign_environ(), machine.cpus())
    original = Original(process)
    assert original("version") == "0.1.1"
    yield original
    process.close()


@pytest.fixture(scope="session")
def original_error() -> type[OriginalError]:
    return OriginalError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`xtrace serve` with a data folder of its own."""
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def connected(original: Original, server: ServerProcess) -> Original:
    """The original, its two URLs pointing at our server."""
    original(
        "connect", url=server.url, org_id=server.org_id, api_key=server.api_key, admin_key=server.admin_key
    )
    return original
