import json

import pytest


@pytest.fixture
def environment(tmp_path, sealed, project):
    """That of the writer's machine, and that of the owner's."""
    model = tmp_path / "model"
    model.write_text(json.dumps({"provider": "simhash", "model_name": "simhash", "dim": 64}))
    model.chmod(0o600)
    owner = {
        "XTRACE_EXECUTION_CONTEXT_PATH": str(sealed),
        "XTRACE_EMBEDDING_MODEL_PATH": str(model),
        "XTRACE_ALLOW_INSECURE": "1",
        "XTRACE_NEW_PASS_PHRASE": "writer's",
    }
    path = {"XTRACE_EXECUTION_CONTEXT_PATH": str(tmp_path / "writer"), "XTRACE_PASS_PHRASE": "writer's"}
    return {**owner, **path}, owner


def test_a_machine_that_adds_and_reads_nothing(invoke, sealed, environment, tmp_path, kb):
    writers, owners = environment
    made = invoke("keys", "writer", "scanner", tmp_path / "writer", "--json", **owners)
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["writer"] == "scanner"
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(3):
        (texts / f"{number}.txt").write_text(f"The page number {number} of the scanner.")
    loaded = invoke("xvec", "load", texts, kb, "--json", **writers)
    assert loaded.exit_code == 0, loaded.output
    assert json.loads(loaded.stdout)["stored"] == 3
    again = json.loads(invoke("xvec", "load", texts, kb, "--json", **writers).stdout)
    assert (again["stored"], again["unchanged"]) == (0, 3)
    for reading in (["head", kb], ["retrieve", kb, "page"], ["fetch", kb, "1"]):
        done = invoke("xvec", *reading, **writers)
        assert (done.exit_code, "reads nothing" in done.stderr) == (2, True), reading
    shown = json.loads(invoke("xvec", "head", kb, "--json", **owners).stdout)
    assert sorted(chunk["chunk_content"] for chunk in shown) == [
        f"The page number {number} of the scanner." for number in range(3)
    ]
    asked = ("xvec", "retrieve", kb, "The page number 2 of the scanner.", "--json")
    refused = invoke(*asked, **owners)
    assert (refused.exit_code, "no manifest" in refused.output) == (1, True)
    removed = invoke("keys", "manifest", kb, "--remove", "--yes", **owners)
    assert removed.exit_code == 0, removed.output
    found = invoke(*asked, **owners)
    assert found.exit_code == 0, found.output
    assert "number 2" in found.stdout


def test_an_existing_file_is_kept(invoke, sealed, environment, tmp_path):
    (tmp_path / "writer").write_text("x")
    done = invoke("keys", "writer", "a", tmp_path / "writer", **environment[1])
    assert (done.exit_code, "is there already" in done.stderr) == (1, True)
    assert (tmp_path / "writer").read_text() == "x"


def test_the_doctor_knows_writers(invoke, environment, tmp_path):
    made = invoke("keys", "writer", "a", tmp_path / "writer", **environment[1])
    assert made.exit_code == 0, made.output
    done = invoke("keys", "doctor", tmp_path / "writer", "--json")
    said = {one["subject"]: one["verdict"] for one in json.loads(done.stdout)[0]["findings"]}
    assert (said["modulus"], said["seal"], said["key derivation"]) == ("broken", "good", "good")
