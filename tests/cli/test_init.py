import json
import stat

import pytest
from typer.testing import CliRunner

from xtrace_sdk.cli import app
from xtrace_sdk.cli.settings import read_env_file
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

PASSPHRASE = "quoted ' and spaced "


@pytest.fixture
def init(tmp_path, monkeypatch, server):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **environment):
        keys = {"XTRACE_API_KEY": server.api_key, "XTRACE_PASS_PHRASE": PASSPHRASE}
        return CliRunner().invoke(app, ["init", *map(str, arguments)], env={**keys, **environment})

    return run


def options(server):
    return ["--api-url", server.url, "--org-id", server.org_id]


def test_project_is_prepared(init, server, tmp_path):
    done = init(*options(server), "--dimensions", 64, "--json")
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert read_env_file(tmp_path / ".env") == {
        "XTRACE_API_URL": server.url,
        "XTRACE_EXECUTION_CONTEXT_PATH": "data/exec_context",
        "XTRACE_EMBEDDING_MODEL_PATH": "data/embed_model",
        "XTRACE_ORG_ID": "demo",
        "XTRACE_CONTEXT_ID": shown["context_id"],
    }
    assert json.loads((tmp_path / "data/embed_model").read_text()) == {
        "provider": "simhash",
        "model_name": "simhash",
        "dim": 64,
        "base_url": None,
    }
    context = ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "data/exec_context")
    assert context.id == shown["context_id"]
    assert context.embed_len() == 64


def test_secrets_are_in_no_file_and_files_are_private(init, server, tmp_path):
    assert init(*options(server), "--dimensions", 64).exit_code == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content = path.read_text()
        assert server.api_key not in content
        assert PASSPHRASE not in content


def test_second_time_everything_is_kept(init, server, tmp_path):
    first = init(*options(server), "--dimensions", 64, "--json")
    context = (tmp_path / "data/exec_context").read_bytes()
    (tmp_path / ".env").write_text((tmp_path / ".env").read_text() + "MINE=1\n")
    again = init("--json")
    assert json.loads(again.stdout)["context_id"] == json.loads(first.stdout)["context_id"]
    assert (tmp_path / "data/exec_context").read_bytes() == context
    assert read_env_file(tmp_path / ".env")["MINE"] == "1"


def test_context_of_other_dimensions_is_not_overwritten(init, server, tmp_path):
    assert init(*options(server), "--dimensions", 64).exit_code == 0
    context = (tmp_path / "data/exec_context").read_bytes()
    done = init("--provider", "simhash", "--dimensions", 128)
    assert done.exit_code == 1
    assert "holds 64 dimensions, not 128" in done.stderr
    assert (tmp_path / "data/exec_context").read_bytes() == context


def test_credentials_of_an_own_server(init, server, tmp_path):
    credentials = tmp_path / "credentials.json"
    credentials.write_text(
        json.dumps({"org_id": server.org_id, "api_key": server.api_key, "admin_key": server.admin_key})
    )
    done = init("--api-url", server.url, "--credentials", credentials, "--dimensions", 64, XTRACE_API_KEY="")
    assert done.exit_code == 0, done.output
    assert server.api_key not in (tmp_path / ".env").read_text()
    done = CliRunner().invoke(app, ["kb", "list", "--json"])  # finds the keys where init was told they are
    assert done.exit_code == 0, done.output
    assert isinstance(json.loads(done.stdout), list)


def test_context_on_the_server(init, server, tmp_path):
    done = init(*options(server), "--dimensions", 64, "--remote", "--json")
    one = json.loads(done.stdout)["context_id"]
    import asyncio

    from xtrace_sdk.integrations.xtrace import XTraceIntegration

    async def restore():
        async with XTraceIntegration(server.org_id, server.api_key, api_url=server.url) as client:
            return await ExecutionContext.load_from_remote(PASSPHRASE, one, client)

    assert asyncio.run(restore()).id == one


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        (["--dimensions", 64], {"XTRACE_API_KEY": "wrong"}, 1, "401"),
        (["--dimensions", 64, "--api-url", "http://127.0.0.1:1"], {}, 1, "is the server running"),
        (["--dimensions", 64, "--api-url", "nonsense"], {}, 2, "api_url"),
        (["--provider", "word2vec"], {}, 2, "expected one of simhash"),
        (["--provider", "openai"], {}, 2, "Embedding model"),
        (["--dimensions", 64], {"XTRACE_API_KEY": ""}, 2, "XTRACE_API_KEY"),
        (["--dimensions", 64], {"XTRACE_PASS_PHRASE": ""}, 2, "XTRACE_PASS_PHRASE"),
        (["--dimensions", 64, "--key-len", 512], {}, 2, "key-len"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    init, server, tmp_path, arguments, environment, code, message
):
    done = init(*options(server), *arguments, **environment)
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
    assert list(tmp_path.iterdir()) == []
