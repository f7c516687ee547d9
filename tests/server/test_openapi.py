"""The OpenAPI document is served and true: schemathesis asks a live server whatever it allows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xtrace_sdk import wire

CASES = int(os.environ.get("SCHEMATHESIS_CASES", "3"))  # per operation; docs/testing.md has the long run
SECONDS = 600 + 20 * CASES
CONFIG = Path(__file__).with_name("schemathesis.toml")


def test_the_document_is_served_without_a_key(live) -> None:
    document = live.client({}).get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {"InsertBody", "HammingBody", "ErrorAnswer"} <= set(document["components"]["schemas"])
    insert = document["paths"][wire.CHUNKS]["post"]
    assert insert["requestBody"]["content"][wire.JSON]["schema"]["$ref"].endswith("/InsertBody")
    assert insert["security"] == [{"api key": []}]
    answers = document["paths"][wire.HAMMING]["post"]["responses"]
    assert set(answers["200"]["content"]) == {wire.MSGPACK, wire.COLUMNS}
    assert "default" in answers
    assert not any(path.startswith("/api/") for path in document["paths"])


def test_every_reference_resolves(live) -> None:
    document = live.app.openapi()

    def references(node):
        if isinstance(node, dict):
            yield from (value for name, value in node.items() if name == "$ref")
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= schemas


@pytest.mark.timeout(SECONDS)
def test_schemathesis_finds_nothing(org, client, kb, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    org.insert(kb, client.context_id, client.chunks(client.vectors(5), meta_data={"tag1": "a"}))
    config = CONFIG.read_text()
    for name, value in {
        "API_KEY": org.api_key,
        "ADMIN_KEY": org.admin_key,
        "ORG_ID": org.id,
        "KB_ID": kb,
        "CONTEXT_ID": client.context_id,
    }.items():
        config = config.replace(f'"{name}"', f'"{value}"')
    (tmp_path / "schemathesis.toml").write_text(config)
    command = [
        sys.executable, "-m", "schemathesis.cli",
        "--config-file", str(tmp_path / "schemathesis.toml"), "--no-color",
        "run", f"{org.server.url}/openapi.json", "--max-examples", str(CASES),
        "--generation-deterministic",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS - 20)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Tested: 31" in done.stdout
