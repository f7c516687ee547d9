"""The short runs of `crash.py`: counts of a long one are given on its command line."""

import subprocess
import sys
from pathlib import Path

import pytest

CRASH = Path(__file__).with_name("crash.py")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CRASH), *arguments], capture_output=True, text=True, timeout=110
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("kill", "--count", "2"),
        ("kill", "--count", "1", "--engine", "postgresql"),
        ("stop", "--count", "2"),
        ("power", "--count", "3"),
        ("pair", "--seconds", "3"),
    ],
    ids=" ".join,
)
def test_nothing_acknowledged_is_lost(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 faults" in done.stdout


def test_the_power_cut_is_noticed_when_nothing_is_synchronised() -> None:
    done = run("power", "--count", "5", "--lies")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "fsync off: 5 times" in done.stdout and " 0 faults" not in done.stdout
