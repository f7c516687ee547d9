"""`xtrace bench` from end to end: real workers, checked answers, on the caller's own vectors."""

import json
import subprocess
import sys

import numpy as np
import pytest

from xtrace_sdk import _core
from xtrace_sdk.bench.report import report, summary
from xtrace_sdk.bench.results import Results, Row


def xtrace_bench(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "xtrace_sdk.cli", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_own_vectors_as_json(tmp_path):
    bits = np.random.default_rng(1).integers(0, 2, (50, 96), dtype=np.uint8)
    np.save(tmp_path / "bits.npy", bits)
    kernel = _core.kernels()[-1]
    done = xtrace_bench("--smoke", "--kernel", kernel, "--bits", tmp_path / "bits.npy", "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert run["parameters"] == {"key_len": 1024, "alpha_len": 448, "dimensions": 96}
    assert list(run["implementations"]) == [f"xtrace-sdk-native ({kernel})"]
    measured = {row["work"] for row in run["rows"] if row["threads"] == "1"}
    assert measured == {
        *("client", "keys", "tables", "encrypt", "product"),
        *("decode", "decode_vartime", "search", "search_vartime"),
        *("encrypt_authenticated", "decode_authenticated", "search_authenticated"),
    }
    paired = [row for row in run["rows"] if row["work"].endswith("_authenticated")]
    assert all(len(row["over_plain"]) == len(row["samples"]) > 0 for row in paired)
    assert all(ratio > 0 for row in paired for ratio in row["over_plain"])
    assert run["row_bytes"] == {"ciphertext": 512, "record": 29}
    assert all(sample > 0 for row in run["rows"] for sample in row["samples"])
    assert run["checks"]["distances equal to NumPy's"] > 0
    assert run["variants"] == []
    assert run["index"]["rows"] == 1024
    assert run["took"].keys() >= {"builds, 1 thread", "searches, 1 thread", "index"}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 8), 2), "zeros and ones"),
        (np.zeros(8, dtype=np.uint8), "shape (N, dimensions)"),
        (np.zeros((0, 8), dtype=np.uint8), "shape (N, dimensions)"),
        (np.zeros((2, 1025), dtype=np.uint8), "dimensions must be in [1, 1024]"),
        (np.array([["0", "1"]]), "zeros and ones"),
    ],
)
def test_unusable_vectors_are_one_clear_error(tmp_path, array, message):
    np.save(tmp_path / "bits.npy", array)
    done = xtrace_bench("--bits", tmp_path / "bits.npy", "--json")
    assert done.returncode == 1
    assert message in json.loads(done.stdout)["error"]["message"]


def test_a_file_of_something_else_is_one_clear_error(tmp_path):
    path = tmp_path / "bits.npy"
    path.write_text("0,1,0\n")
    done = xtrace_bench("--bits", path)
    assert done.returncode == 1
    assert done.stderr == f"error: bits: {path} is not a .npy file of numbers\n"


@pytest.mark.parametrize("option", ["--peer", "--kernel"])
def test_unknown_names_are_named(option):
    done = xtrace_bench(option, "nonesuch")
    assert done.returncode == 2
    assert "nonesuch" in done.stderr


def results(rows):
    return Results(
        started="2026-01-01T00:00:00+00:00",
        mode="quick",
        parameters={"key_len": 1024, "alpha_len": 448, "dimensions": 512},
        machine={"cpus": 4},
        speed={"ghz": 2.0},
        rows=rows,
    )


def row(implementation, threads, seconds, work="decode", items=8, projected=None):
    return Row(work, implementation, threads, items, [seconds], 1.0, projected)


def test_arithmetic_on_rows():
    one, four = row("ours", "1", 8e-6), row("ours", "all", 2.5e-6)
    theirs = row("gmpy2", "1", 16e-6)
    run = results([one, four, theirs])
    assert run.ratio(one, "gmpy2") == 2.0
    assert run.ratio(four, "gmpy2") is None
    assert run.efficiency(four) == pytest.approx(0.8)
    assert run.efficiency(one) is None
    assert run.cycles(one) == pytest.approx(16_000)
    assert run.cycles(four) is None


def test_the_cost_of_authentication_is_the_median_of_pairs():
    name = "xtrace-sdk-native (ifma)"
    authenticated = row(name, "1", 9e-6, "encrypt_authenticated")
    authenticated.over_plain = [1.5, 1.02, 1.01]
    run = results([row(name, "1", 10e-6, "encrypt"), authenticated, row("gmpy2", "1", 27e-6, "encrypt")])
    run.implementations = {name: {"versions": {}, "note": ""}, "gmpy2": {"versions": {}, "note": ""}}
    run.machine |= {"cpu": "a", "cpu_family_model": "1/2/3", "memory_gib": 8, "system": "b", "python": "3"}
    run.row_bytes = {"ciphertext": 512, "record": 29}
    assert run.ratio(authenticated, "gmpy2") == pytest.approx(3)
    assert "| encrypt, authenticated | 9.00 µs (+2.0 %) |" in report(run)
    assert "29 bytes beside its ciphertext of 512 (5.7%)" in report(run)
    assert "| encrypt, authenticated (more than plain) | 9.00 µs (+2.0 %) |" in summary(run)


def test_efficiency_compares_measured_with_measured_only():
    one = row("ours", "1", 1.0, "search", 100_000, projected=8192)
    four = row("ours", "all", 0.3, "search", 100_000)
    assert results([one, four]).efficiency(four) is None
