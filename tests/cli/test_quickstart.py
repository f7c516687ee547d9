"""docs/quickstart.md, run as it is printed: only the port is another."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from xtrace_sdk.cli import app

TEXT = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text("utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
HERE = "http://127.0.0.1:8700"


@pytest.fixture
def served(tmp_path):
    """The first terminal. -> (environment of the others, address)"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*SHELL[0].split(), "--port", "0"], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as lines:
        said = next((line for line in lines if line.startswith("listening on ")), None)
        assert said, (tmp_path / "log").read_text()
        yield environment, said.split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()


def run(command, cwd, environment):
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)


def test_the_command_line(served, tmp_path):
    environment, url = served
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "rent.md").write_text("The rent is due on the third of each month.")
    (tmp_path / "notes" / "birds.txt").write_text("Swallows leave in September.")
    secrets = {"XTRACE_API_URL": url, "XTRACE_PASS_PHRASE": "a passphrase"}  # else asked for at a terminal
    done = run(["bash", "-euc", SHELL[1]], tmp_path, environment | secrets)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^2 files: 2 pieces stored, 0 unchanged, 0 removed$", done.stdout, re.MULTILINE)
    results = done.stdout.partition("removed\n")[2]
    assert results.index("The rent is due") < results.index("Swallows")


def test_python(served, tmp_path):
    environment, url = served
    (sample,) = PYTHON
    assert sample.count(HERE) == 1
    done = run([sys.executable, "-W", "error", "-c", sample.replace(HERE, url)], tmp_path, environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"It prints `{done.stdout.strip()}`" in TEXT


def test_every_command_is_there():
    group = typer.main.get_command(app)
    named = re.findall(r"^\| `xtrace ([a-z-]+)(?: ([a-z|\\-]+|…))?` \|", TEXT, re.MULTILINE)
    assert len(named) == 7
    for name, inner in named:
        command = group.commands[name]
        if inner not in ("", "…"):
            assert set(inner.split("\\|")) <= set(command.commands), name
