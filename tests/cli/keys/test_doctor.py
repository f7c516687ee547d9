import json

import pytest

from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

PASSPHRASE = "a passphrase # with ${odd} 'characters'"  # of the project


@pytest.fixture
def weak(tmp_path):
    """A context as the original SDK makes them, but for the random salt."""
    path = tmp_path / "weak"
    ExecutionContext.create("p", embedding_length=8, alpha_len=50, path=path, allow_insecure=True)
    return path


def findings(done):
    (report,) = json.loads(done.stdout)
    return {one["subject"]: one["verdict"] for one in report["findings"]}


def test_the_context_of_the_settings(invoke, project):
    done = invoke("keys", "doctor", "--json")
    said = findings(done)
    assert said["modulus"] == said["subgroup"] == said["permissions"] == "good"
    assert (done.exit_code == 0) == (set(said.values()) == {"good"})
    done = invoke("keys", "doctor")
    assert "data/exec_context" in done.stdout
    assert "2^112 steps" in done.stdout


def test_a_weak_key_and_loose_permissions(invoke, weak):
    weak.chmod(0o644)
    done = invoke("keys", "doctor", weak)
    assert done.exit_code == 1
    assert "broken" in done.stdout
    assert f"chmod 600 {weak}" in done.stdout
    assert "xtrace keys migrate" in done.stdout


def test_the_proof_factors_the_modulus(invoke, weak):
    done = invoke("keys", "doctor", weak, "--prove", "--json")
    assert done.exit_code == 1
    (report,) = json.loads(done.stdout)
    n = int(json.loads(json.loads(weak.read_text())["pk"])["n"])
    p, q = int(report["proof"]["p"]), int(report["proof"]["q"])
    assert p * q == n and 1 < p < n


def test_no_proof_against_a_strong_key(invoke):
    done = invoke("keys", "doctor", "--prove")
    assert done.exit_code == 1
    assert "224 bits takes too long" in done.stderr


def test_shared_salts(invoke, weak, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(weak.read_bytes())
    other.chmod(0o600)
    done = invoke("keys", "doctor", weak, other)
    assert f"shared with {other}" in done.stdout
    assert f"shared with {weak}" in done.stdout


def test_a_context_on_the_server(invoke, project, tmp_path):
    absent = invoke("keys", "doctor", "--remote", "0" * 64)
    assert (absent.exit_code, "404" in absent.stderr) == (1, True)
    text = tmp_path / "note.txt"
    text.write_text("one line")
    kb = invoke("kb", "create", "x").stdout.strip()
    assert invoke("xvec", "load", tmp_path, kb).exit_code == 0  # registers the public part
    context = ExecutionContext.load_from_disk(PASSPHRASE, project / "data" / "exec_context")
    said = findings(invoke("keys", "doctor", "--remote", context.id, "--json"))
    assert said == {"modulus": "good", "subgroup": "good", "randomiser": "good"}


def test_what_is_no_context(invoke, tmp_path):
    (tmp_path / "x").write_text("{}")
    done = invoke("keys", "doctor", tmp_path / "x", tmp_path / "absent")
    assert (done.exit_code, "not a stored context" in done.stderr) == (1, True)
