"""The published tables and the picture are those of the recorded run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "bench" / "baseline" / "search.json"


def bench(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "bench", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_tables_and_picture_are_those_of_the_recorded_run():
    done = bench("record", "--check")
    assert done.returncode == 0, done.stderr


def test_another_run_would_be_noticed(tmp_path):
    run = json.loads(RECORDED.read_text())
    run["rows"][0]["samples"] = [2 * sample for sample in run["rows"][0]["samples"]]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(run))
    done = bench("record", "--check", other)
    assert done.returncode == 1
    assert done.stderr.count("differs") == 4


def test_readme_shows_the_recorded_medians():
    """Read from the JSON file without the code that wrote the table."""
    run = json.loads(RECORDED.read_text())
    table = (ROOT / "README.md").read_text().partition("<!-- table:")[2].partition("<!-- end of table")[0]
    header, _rule, *lines = [line for line in table.splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in header.split("|")[2:-1]]
    (decode,) = [line for line in lines if line.startswith("| decode, per vector")]
    shown = [re.fullmatch(r"([\d.]+) (µs|ms)", cell.strip()) for cell in decode.split("|")[2:-1]]
    seconds = [float(match[1]) * {"µs": 1e-6, "ms": 1e-3}[match[2]] for match in shown]
    samples = {
        row["implementation"]: sorted(row["samples"])
        for row in run["rows"]
        if row["work"] == "decode" and row["threads"] == "1"
    }
    assert list(samples) == names
    for name, figure in zip(names, seconds, strict=True):
        middle = samples[name][(len(samples[name]) - 1) // 2], samples[name][len(samples[name]) // 2]
        assert abs(figure / (sum(middle) / 2) - 1) < 0.01


def test_a_smoke_run_cannot_be_recorded(tmp_path):
    run = json.loads(RECORDED.read_text()) | {"mode": "smoke"}
    smoke = tmp_path / "smoke.json"
    smoke.write_text(json.dumps(run))
    done = bench("record", smoke)
    assert done.returncode == 1
    assert "smoke" in done.stderr


@pytest.mark.parametrize("name", ["kernels.json", "python.json"])
def test_the_recorded_runs_of_other_harnesses_serve_for_comparison(name, tmp_path):
    recorded = RECORDED.parent / name
    assert bench("compare", recorded, recorded).returncode == 0
    slower = json.loads(recorded.read_text())
    for entry in slower["benchmarks"]:
        times = entry.get("stats", entry)
        times.update({what: 2 * time for what, time in times.items() if isinstance(time, float)})
    other = tmp_path / name
    other.write_text(json.dumps(slower))
    done = bench("compare", recorded, other)
    assert done.returncode == 1
    assert done.stderr.count("slower: ") == len({entry["name"] for entry in slower["benchmarks"]})
