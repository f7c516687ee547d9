"""Contexts that AWS KMS holds the key of, from ``init`` to a search, against moto's HTTP server."""

import json

import pytest
from typer.testing import CliRunner

from xtrace_sdk.cli import app
from xtrace_sdk.cli.settings import read_env_file

boto3 = pytest.importorskip("boto3", reason="needs the extra xtrace-sdk-native[kms]")
moto_server = pytest.importorskip("moto.server", reason="needs moto[kms,server]")

ALIAS = "alias/xtrace-command-line"  # moto keeps one state a process, which other tests use too


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    """Runs ``xtrace`` in an empty folder with a KMS that boto3 finds, without a passphrase."""
    kms = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    kms.start()
    host, port = kms.get_host_and_port()
    account = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for name, value in account.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("XTRACE_PASS_PHRASE", raising=False)
    monkeypatch.chdir(tmp_path)
    client = boto3.client("kms")
    key = client.create_key()["KeyMetadata"]["KeyId"]
    aliases = {alias["AliasName"] for alias in client.list_aliases()["Aliases"]}
    if ALIAS not in aliases:
        client.create_alias(AliasName=ALIAS, TargetKeyId=key)
    client.close()
    keys = {"XTRACE_API_KEY": server.api_key, "XTRACE_ADMIN_KEY": server.admin_key}

    def invoke(*arguments, **environment):
        return CliRunner().invoke(app, [str(one) for one in arguments], env={**keys, **environment})

    yield invoke
    kms.stop()


@pytest.fixture
def init(run, server):
    def invoke(*arguments, **environment):
        where = ["--api-url", server.url, "--org-id", server.org_id, "--dimensions", 64]
        return run("init", *where, *arguments, **environment)

    return invoke


def test_from_init_to_a_search(run, init, tmp_path):
    done = init("--kms-key", ALIAS, "--kms-context", "team=search", "--kms-context", "stage=a=b", "--json")
    assert done.exit_code == 0, done.output
    settings = read_env_file(tmp_path / ".env")
    assert settings["XTRACE_KMS_KEY_ID"] == ALIAS
    assert json.loads(settings["XTRACE_KMS_ENCRYPTION_CONTEXT"]) == {"team": "search", "stage": "a=b"}
    stored = json.loads((tmp_path / "data/exec_context").read_text())
    assert stored["key_provider"] == "aws_kms"

    kb = run("kb", "create", "kms").stdout.strip()
    for text in ("a letter about taxes", "the song of a bird"):
        assert run("xvec", "upsert", kb, text).exit_code == 0
    found = run("xvec", "retrieve", kb, "taxes in a letter", "-k", 1, "--json")
    assert [one["chunk_content"] for one in json.loads(found.stdout)] == ["a letter about taxes"]

    again = init("--json")  # what is there is kept, and the settings say how to open it
    assert json.loads(again.stdout)["context_id"] == json.loads(done.stdout)["context_id"]
    other = run("xvec", "head", kb, XTRACE_KMS_ENCRYPTION_CONTEXT='{"team": "other"}')
    assert (other.exit_code, other.stderr.count("\n")) == (1, 1)
    assert "wrong KMS key or encryption context" in other.stderr


def test_what_is_missing_is_named(run, init):
    assert init("--kms-key", ALIAS).exit_code == 0
    kb = run("kb", "create", "kms").stdout.strip()
    for environment, code, said in (
        ({"XTRACE_KMS_KEY_ID": ""}, 2, "XTRACE_KMS_KEY_ID: set it"),
        (
            {"XTRACE_KMS_ENCRYPTION_CONTEXT": "[1]"},
            2,
            "ENCRYPTION_CONTEXT: expected a JSON object",
        ),
        ({"AWS_DEFAULT_REGION": None}, 2, "AWS KMS: You must specify a region"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, 1, "check network, region and credentials"),
    ):
        done = run("xvec", "head", kb, **environment)
        assert (done.exit_code, said in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--kms-context", "a=b"], 2, "goes together with --kms-key"),
        (["--kms-key", ALIAS, "--kms-context", "a"], 2, "expected NAME=VALUE"),
        (["--kms-key", "alias/absent"], 1, "no such key or alias"),
    ],
)
def test_wrong_options_are_told_before_anything_is_made(init, tmp_path, options, code, said):
    done = init(*options)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / ".env").exists() and not (tmp_path / "data/exec_context").exists()
