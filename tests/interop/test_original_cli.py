"""The command line of the unmodified xtrace-ai-sdk 0.1.1 against `xtrace serve`.

Its `init` and `shell` are left out: the one has the production address built in, the other wants a terminal.
"""

import json
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xtrace_sdk.cli.demo.process import ServerProcess

PASSPHRASE = "correct-horse"
DIMENSIONS = 128
NOTES = {
    "hashing.txt": "A cuckoo filter answers membership questions with few false positives.",
    "bread.txt": "Sourdough bread needs flour, water, salt and a good deal of patience.",
    "planets.md": "Jupiter is the largest planet of the solar system.",
}


def embed(text: str) -> list[float]:
    """Texts that share words are near each other."""
    words = [word.strip(".,?").lower() for word in text.split()]
    vectors = [np.random.default_rng(zlib.crc32(w.encode())).normal(size=DIMENSIONS) for w in words]
    total: list[float] = np.sum(vectors, axis=0).tolist()
    return total


class Ollama(BaseHTTPRequestHandler):
    """Speaks the protocol of Ollama's embeddings."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"embedding": embed(asked["prompt"])}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def ollama() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Ollama) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/embeddings"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def home(
    connected: Any, server: ServerProcess, ollama: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a context, an embedding model, documents and the .env that points at our server."""
    home = tmp_path_factory.mktemp("home")
    made = connected(
        "create", passphrase=PASSPHRASE, path=str(home / "context"), embed_len=DIMENSIONS, key_len=256
    )
    connected("save_to_remote", context=made["id"])
    connected("save_embedding", path=str(home / "model"), url=ollama, dim=DIMENSIONS)
    (home / "notes").mkdir()
    for name, text in NOTES.items():
        (home / "notes" / name).write_text(text)
    settings = {
        "XTRACE_ORG_ID": server.org_id,
        "XTRACE_API_KEY": server.api_key,
        "XTRACE_ADMIN_KEY": server.admin_key,
        "XTRACE_API_URL": server.url,
        "XTRACE_ADMIN_API_URL": server.url,
        "XTRACE_EXECUTION_CONTEXT_PATH": home / "context",
        "XTRACE_PASS_PHRASE": PASSPHRASE,
        "XTRACE_EMBEDDING_MODEL_PATH": home / "model",
    }
    (home / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return home


@pytest.fixture(scope="module")
def xtrace(home: Path, original_python: Path) -> Callable[..., str]:
    """Run the original's `xtrace`; its standard output."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(original_python.with_name("xtrace")), *arguments],
            cwd=home,
            env={"PATH": "/usr/bin:/bin", "HOME": str(home), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="module")
def kb(xtrace: Callable[..., str]) -> str:
    made = json.loads(xtrace("kb", "create", "notes", "-d", "of a test", "-p", "delete", "--json"))
    assert (made["name"], made["permission"]) == ("notes", "delete")
    assert "permissionError" not in made
    loaded = json.loads(xtrace("xvec", "load", "notes", made["id"], "--json"))
    assert (loaded["status"], loaded["chunks_loaded"]) == ("success", len(NOTES))
    found: str = made["id"]
    return found


def test_version(xtrace: Callable[..., str]) -> None:
    assert "0.1.1" in xtrace("version")


@pytest.mark.parametrize("question", ["largest planet of the solar system", "bread of flour, water and salt"])
def test_retrieve(xtrace: Callable[..., str], kb: str, question: str) -> None:
    found = json.loads(xtrace("xvec", "retrieve", kb, question, "-k", "2", "--json"))
    assert len(found["ids"]) == 2
    words = set(question.split()) - {"of", "the", "and"}
    assert words & set(found["chunks"][0]["content"].lower().replace(",", "").split())


def test_head_and_fetch(xtrace: Callable[..., str], kb: str) -> None:
    head = json.loads(xtrace("xvec", "head", kb, "--fullChunks", "--json"))
    assert sorted(one["content"] for one in head[: len(NOTES)]) == sorted(NOTES.values())
    fetched = json.loads(xtrace("xvec", "fetch", kb, "2", "1", "--fullChunks", "--json"))
    assert [one["content"] for one in fetched] == [head[1]["content"], head[0]["content"]]


def test_upserts(xtrace: Callable[..., str], kb: str, home: Path) -> None:
    assert "Upserted 1 chunk" in xtrace("xvec", "upsert", kb, "Penguins cannot fly but swim very well")
    (home / "more.txt").write_text("Violins are tuned in perfect fifths.")
    xtrace("xvec", "upsert-file", "more.txt", kb)
    for question, word in (("which birds swim, penguins?", "Penguins"), ("perfect fifths", "Violins")):
        found = json.loads(xtrace("xvec", "retrieve", kb, question, "-k", "1", "--json"))
        assert word in found["chunks"][0]["content"]


def test_knowledge_bases(xtrace: Callable[..., str], kb: str) -> None:
    listed = json.loads(xtrace("kb", "list", "--json"))
    assert kb in [one["id"] for one in listed]
    described = json.loads(xtrace("kb", "describe", kb, "--json"))
    assert [one["id"] for one in described] == [kb]
    made = json.loads(xtrace("kb", "create", "short-lived", "--json"))
    deleted = json.loads(xtrace("kb", "delete", made["id"], "absent", "--json"))
    assert [one["status"] for one in deleted] == ["deleted", "not_found"]
    assert made["id"] not in [one["id"] for one in json.loads(xtrace("kb", "list", "--all", "--json"))]
