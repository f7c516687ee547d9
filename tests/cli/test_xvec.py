import json
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

TEXTS = {
    "boiler.txt": "The boiler in the cellar was serviced in March.",
    "bicycle.md": "# Bicycle\n\nThe rear tyre of the bicycle is flat.",
    "deep/taxes.html": "<html><script>var x;</script><p>Taxes are due in <b>April</b>.</p></html>",
    "plants.csv": "plant,water\nTomato,daily\nCactus,rarely\n",
    "songs.json": '["The song of the river", {"title": "A sad song", "year": 1999}]',
    "ignored.bin": "binary",
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "texts"
    for name, text in TEXTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def loaded(done):
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    return shown["stored"], shown["unchanged"], shown["removed"]


def contents(invoke, kb):
    return [
        chunk["chunk_content"] for chunk in json.loads(invoke("xvec", "head", kb, "--all", "--json").stdout)
    ]


def test_load_and_retrieve(invoke, kb, folder):
    done = invoke("xvec", "load", folder, kb)
    assert done.exit_code == 0, done.output
    assert done.stdout == "5 files: 7 pieces stored, 0 unchanged, 0 removed\n"
    assert set(contents(invoke, kb)) == {
        TEXTS["boiler.txt"],
        TEXTS["bicycle.md"],
        "Taxes are due in April.",
        "plant: Tomato\nwater: daily",
        "plant: Cactus\nwater: rarely",
        "The song of the river",
        '{\n "title": "A sad song",\n "year": 1999\n}',
    }
    for name in ("retrieve", "query"):
        found = json.loads(invoke("xvec", name, kb, "flat tyre of the bicycle", "-k", 2, "--json").stdout)
        assert found[0]["chunk_content"] == TEXTS["bicycle.md"]
        assert len(found) == 2
        assert found[0]["distance"] < found[1]["distance"]
    shown = invoke("xvec", "retrieve", kb, "flat tyre of the bicycle").stdout
    assert "The rear tyre of the bicycle is flat." in shown
    assert "distance" in shown


def test_second_load_does_only_what_changed(invoke, kb, folder):
    assert loaded(invoke("xvec", "load", folder, kb, "--json")) == (7, 0, 0)
    assert loaded(invoke("xvec", "load", folder, kb, "--json")) == (0, 7, 0)
    (folder / "boiler.txt").write_text("The boiler was replaced in May.")
    (folder / "plants.csv").write_text("plant,water\nTomato,daily\n")
    (folder / "new.txt").write_text("A new text.")
    assert loaded(invoke("xvec", "load", folder, kb, "--json")) == (2, 5, 1)
    now = contents(invoke, kb)
    assert len(now) == len(set(now)) == 7
    assert "The boiler was replaced in May." in now
    assert TEXTS["boiler.txt"] not in now
    assert "plant: Cactus\nwater: rarely" not in now
    assert loaded(invoke("xvec", "load", folder, kb, "--json")) == (0, 7, 0)
    # other labels are a change, too
    assert loaded(invoke("xvec", "load", folder, kb, "--json", "--tag", "tag1=house")) == (7, 0, 0)
    assert len(contents(invoke, kb)) == 7


def test_interrupted_load_goes_on_where_it_was(invoke, kb, tmp_path, project, keys):
    """Killed in the middle: what was stored stays, the next load adds the rest, nothing is there twice."""
    root = tmp_path / "many"
    root.mkdir()
    for number in range(1200):
        (root / f"{number:04}.txt").write_text(f"Text number {number} says {number * 7919} and no more.")
    process = subprocess.Popen(
        [sys.executable, "-m", "xtrace_sdk.cli", "xvec", "load", str(root), kb],
        cwd=project,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **keys},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        stored = 0
        while not stored and process.poll() is None:
            (described,) = json.loads(invoke("kb", "describe", kb, "--json").stdout)
            stored = described["numberOfVectors"]
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert stored > 0
    again, kept, removed = loaded(invoke("xvec", "load", root, kb, "--json"))
    assert kept >= stored
    assert (again + kept, removed) == (1200, 0)
    assert json.loads(invoke("kb", "describe", kb, "--json").stdout)[0]["numberOfVectors"] == 1200


def test_server_learns_neither_names_nor_texts(invoke, kb, folder, server):
    invoke("xvec", "load", folder, kb)
    invoke("xvec", "upsert", kb, "A very secret sentence indeed.", "--key", "my secret key name")
    stored = b"".join(path.read_bytes() for path in server.data.iterdir() if path.is_file())
    for needle in (b"boiler", b"deep/taxes", b"Tomato", b"very secret", b"my secret key"):
        assert needle not in stored


def test_long_texts_are_cut(invoke, kb, tmp_path):
    root = tmp_path / "long"
    root.mkdir()
    sentences = [f"Sentence number {number} is here." for number in range(100)]
    (root / "long.txt").write_text(" ".join(sentences))
    stored, _, _ = loaded(invoke("xvec", "load", root, kb, "--max-chunk-chars", 200, "--json"))
    assert stored > 15
    pieces = contents(invoke, kb)
    assert max(map(len, pieces)) <= 200
    assert all(any(sentence in piece for piece in pieces) for sentence in sentences)
    # fewer, longer pieces: those beyond are removed
    stored, _, removed = loaded(invoke("xvec", "load", root, kb, "--max-chunk-chars", 1000, "--json"))
    assert 0 < stored < 15 and removed > 0
    assert len(contents(invoke, kb)) == stored


def test_only_some_types(invoke, kb, folder):
    assert loaded(invoke("xvec", "load", folder, kb, "-f", "md, .CSV", "--json"))[0] == 3
    done = invoke("xvec", "load", folder, kb, "-f", "exe")
    assert (done.exit_code, "expected some of txt" in done.stderr) == (2, True)
    done = invoke("xvec", "load", folder / "deep", kb, "-f", "txt")
    assert (done.exit_code, "holds no file of type txt" in done.stderr) == (1, True)
    done = invoke("xvec", "load", folder / "missing", kb)
    assert (done.exit_code, "is not a folder" in done.stderr) == (1, True)


def test_unreadable_file_is_named_and_the_others_loaded(invoke, kb, folder):
    (folder / "broken.json").write_text("{not json")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    done = invoke("xvec", "load", folder, kb, "--json")
    assert done.exit_code == 1
    shown = json.loads(done.stdout)
    assert shown["stored"] == 7
    assert [message.split(": ")[1] for message in shown["unreadable"]] == ["not JSON", "not UTF-8 text"]


def test_metadata_and_filters(invoke, kb):
    invoke("xvec", "upsert", kb, "A text about rivers", "--tag", "tag1=water", "--tag", "facets=a,b")
    invoke("xvec", "upsert", kb, "A text about rivers, too", "--tag", "tag1=air")
    found = json.loads(
        invoke("xvec", "retrieve", kb, "rivers", "--filter", '{"tag1": "water"}', "--json").stdout
    )
    assert [chunk["meta_data"] for chunk in found] == [{"tag1": "water", "facets": ["a", "b"]}]
    done = invoke("xvec", "retrieve", kb, "rivers", "--filter", '{"tag9": "water"}', "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]["status"]) == (1, 400)
    for tag in ("tag9=x", "tag1", "=x"):
        done = invoke("xvec", "upsert", kb, "text", "--tag", tag)
        assert (done.exit_code, "expected tag1 to tag5" in done.stderr) == (2, True)


def test_upsert_replaces_by_key_and_by_id(invoke, kb):
    first = int(invoke("xvec", "upsert", kb, "first", "--key", "k").stdout)
    second = json.loads(invoke("xvec", "upsert", kb, "second", "--key", "k", "--json").stdout)["chunk_id"]
    assert contents(invoke, kb) == ["second"]
    assert invoke("xvec", "upsert", kb, "-", "--id", second, stdin="third, from a pipe").exit_code == 0
    assert contents(invoke, kb) == ["third, from a pipe"]
    assert first >= 1
    assert invoke("xvec", "upsert", kb, "x", "--key", "k", "--id", 1).exit_code == 2
    done = invoke("xvec", "upsert", kb, "x", "--id", 999)
    assert (done.exit_code, "404" in done.stderr) == (1, True)
    assert invoke("xvec", "upsert", kb, " ").exit_code == 1


def test_upsert_file(invoke, kb, folder):
    first = json.loads(invoke("xvec", "upsert-file", folder / "plants.csv", kb, "--json").stdout)
    assert (first["stored"], len(first["chunk_ids"])) == (2, 2)
    assert invoke("xvec", "upsert-file", folder / "plants.csv", kb).stdout == (
        "0 pieces stored, 2 unchanged, 0 removed\n"
    )
    done = invoke("xvec", "upsert-file", folder / "ignored.bin", kb)
    assert (done.exit_code, "expected a file of type txt" in done.stderr) == (1, True)


def test_head_and_fetch_and_delete(invoke, kb, tmp_path):
    root = tmp_path / "many"
    root.mkdir()
    (root / "rows.json").write_text(json.dumps([f"Text {number}" for number in range(30)]))
    loaded(invoke("xvec", "load", root, kb, "--json"))
    done = invoke("xvec", "delete", kb, 1, 2, 999, "--yes")
    assert done.stdout == "2 deleted\n"
    head = json.loads(invoke("xvec", "head", kb, "--json").stdout)
    assert [chunk["chunk_id"] for chunk in head] == list(range(3, 28))
    assert "and more; --all" in invoke("xvec", "head", kb).stdout
    assert len(contents(invoke, kb)) == 28

    done = invoke("xvec", "fetch", kb, 99, 5, "--json")
    assert done.exit_code == 1
    shown = json.loads(done.stdout)
    assert shown["missing"] == [99]
    assert [(chunk["chunk_id"], chunk["chunk_content"]) for chunk in shown["chunks"]] == [(5, "Text 4")]
    done = invoke("xvec", "fetch", kb, 5, 4, "--full-chunks")
    assert done.exit_code == 0
    assert done.stdout.index("Text 4") < done.stdout.index("Text 3")
    assert invoke("xvec", "delete", kb, 3).exit_code == 2


def test_empty_knowledge_base(invoke, kb):
    done = invoke("xvec", "retrieve", kb, "anything")
    assert (done.exit_code, "nothing found" in done.stdout) == (0, True), done.output
    assert json.loads(invoke("xvec", "retrieve", kb, "anything", "--json").stdout) == []
    assert json.loads(invoke("xvec", "head", kb, "--json").stdout) == []


@pytest.mark.parametrize(
    ("environment", "code", "message"),
    [
        ({"XTRACE_PASS_PHRASE": "wrong"}, 1, "error:"),
        ({"XTRACE_PASS_PHRASE": ""}, 2, "XTRACE_PASS_PHRASE"),
        ({"XTRACE_API_KEY": "wrong"}, 1, "401"),
        ({"XTRACE_API_URL": "http://127.0.0.1:1"}, 1, "is the server running"),
        ({"XTRACE_EXECUTION_CONTEXT_PATH": "missing"}, 2, "no context at missing"),
        ({"XTRACE_EMBEDDING_MODEL_PATH": "missing"}, 2, "no model at missing"),
    ],
)
def test_what_goes_wrong_is_one_line(invoke, kb, environment, code, message):
    done = invoke("xvec", "retrieve", kb, "anything", **environment)
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
    first, *notes = done.stderr.splitlines()
    assert first.startswith("error:")
    assert all(note.startswith("       It is ") for note in notes)


class Model(BaseHTTPRequestHandler):
    """A language model that says what it was asked, in the protocol of OpenAI."""

    asked: ClassVar[list] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers["Authorization"], body))
        answer = {"choices": [{"message": {"role": "assistant", "content": "It is flat."}}]}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_answer_of_a_language_model(invoke, kb):
    invoke("xvec", "upsert", kb, "The rear tyre of the bicycle is flat.")
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as service:
        Thread(target=service.serve_forever, daemon=True).start()
        environment = {
            "INFERENCE_BASE_URL": f"http://127.0.0.1:{service.server_port}/v1",
            "INFERENCE_API_KEY": "key-of-the-model",
        }
        arguments = [
            "xvec",
            "retrieve",
            kb,
            "What is the tyre like?",
            "--inference",
            "custom",
            "--model",
            "m",
        ]
        done = invoke(*arguments, "--json", **environment)
        assert done.exit_code == 0, done.output
        shown = json.loads(done.stdout)
        people = invoke(*arguments, **environment).stdout
        service.shutdown()
    assert shown["answer"] == "It is flat."
    assert shown["chunks"][0]["chunk_content"] == "The rear tyre of the bicycle is flat."
    assert people.startswith("It is flat.\n\n")
    path, authorization, body = Model.asked[0]
    assert (path, authorization, body["model"]) == ("/v1/chat/completions", "Bearer key-of-the-model", "m")
    assert "The rear tyre of the bicycle is flat." in json.dumps(body["messages"])
    done = invoke("xvec", "retrieve", kb, "x", "--inference", "custom")
    assert (done.exit_code, "go together" in done.stderr) == (2, True)
    done = invoke("xvec", "retrieve", kb, "x", "--inference", "nonsense", "--model", "m")
    assert (done.exit_code, "nonsense" in done.stderr) == (2, True)


def test_unknown_knowledge_base(invoke):
    done = invoke("xvec", "retrieve", "absent000000", "anything", "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]["status"]) == (1, 404)
