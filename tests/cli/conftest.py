"""A real server process, shared by the tests of this folder, and ways to run the command line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from xtrace_sdk.cli import app
from xtrace_sdk.cli.demo.process import ServerProcess
from xtrace_sdk.x_vec.utils import execution_context

# No test may write into the keyring of whoever runs it.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"

Run = Callable[..., subprocess.CompletedProcess[str]]
Invoke = Callable[..., Result]
PASSPHRASE = "a passphrase # with ${odd} 'characters'"


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


@pytest.fixture
def keys(server: ServerProcess) -> dict[str, str]:
    """The environment of somebody who may do all on the test server."""
    return {
        "XTRACE_API_URL": server.url,
        "XTRACE_ORG_ID": server.org_id,
        "XTRACE_API_KEY": server.api_key,
        "XTRACE_ADMIN_KEY": server.admin_key,
        "XTRACE_PASS_PHRASE": PASSPHRASE,
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, server: ServerProcess) -> Path:
    """A folder where ``xtrace init`` has been run, shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("project")
    environment = {"XTRACE_API_KEY": server.api_key, "XTRACE_PASS_PHRASE": PASSPHRASE}
    options = ["--api-url", server.url, "--org-id", server.org_id, "--dimensions", "256"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Every command opens the context; how dear that is, other tests look at.
        patch.setattr(execution_context, "COST", 2**14)
        done = CliRunner().invoke(app, ["init", *options], env=environment)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def invoke(project: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs ``xtrace`` in this process, in the project's folder, with all keys in the environment."""
    monkeypatch.chdir(project)

    def run(*arguments: object, stdin: str = "", **environment: str) -> Result:
        return CliRunner().invoke(
            app, [str(one) for one in arguments], input=stdin, env={**keys, **environment}
        )

    return run


@pytest.fixture
def kb(invoke: Invoke) -> str:
    """A new knowledge base."""
    return str(invoke("kb", "create", "test").stdout.strip())
