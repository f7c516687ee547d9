"""A short run of every fuzz target, and every input of the kept corpus."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
RUNS = int(
    os.environ.get("FUZZ_RUNS", "3000")
)  # the long run: python tests/fuzz/run.py TARGET -max_total_time=3600

_spec = importlib.util.spec_from_file_location("fuzz_targets", FOLDER / "targets.py")
assert _spec is not None
assert _spec.loader is not None
targets = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(targets)


def fuzz(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "run.py"), name, *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_corpus_passes(name: str) -> None:
    inputs = sorted((FOLDER / "corpus" / name).iterdir())
    assert inputs, "a target needs seeds"
    for one in inputs:
        targets.TARGETS[name](one.read_bytes())


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no build for this platform")
    done = fuzz(name, tmp_path, f"-runs={RUNS}", "-seed=1", "-max_len=4096")
    assert done.returncode == 0, done.stderr[-3000:]
    executed = re.search(r"Done (\d+) runs", done.stderr)
    assert executed is not None, done.stderr[-3000:]
    assert int(executed[1]) >= RUNS


def test_a_finding_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no build for this platform")
    script = tmp_path / "planted.py"
    script.write_text(
        "import atheris, sys\n"
        "def target(data):\n"
        "    if data[:1] == b'!':\n"
        "        raise KeyError('planted')\n"
        "atheris.Setup(sys.argv, target)\n"
        "atheris.Fuzz()\n"
    )
    command = [sys.executable, str(script), "-runs=100000", "-seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert "planted" in done.stderr + done.stdout
