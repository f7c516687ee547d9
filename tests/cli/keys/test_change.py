import json

import pytest

from xtrace_sdk.errors import DecryptionError
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

INSECURE = {"XTRACE_ALLOW_INSECURE": "1"}
NEW = {"XTRACE_NEW_PASS_PHRASE": "battery staple", **INSECURE}


def load(path, passphrase):
    return ExecutionContext.load_from_disk(passphrase, path, allow_insecure=True)


def test_another_passphrase(invoke, sealed, keys):
    before = load(sealed, keys["XTRACE_PASS_PHRASE"])
    done = invoke("keys", "rewrap", "--context", sealed, "--json", **NEW)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"id": before.id, "key_provider": "passphrase", "revision": 2}
    again = load(sealed, "battery staple")
    assert again.subkey(b"x", 1) == before.subkey(b"x", 1)
    assert again.key_provider.cost == 2**17
    with pytest.raises(DecryptionError):
        load(sealed, keys["XTRACE_PASS_PHRASE"])


def test_the_new_passphrase_must_come_from_somewhere(invoke, sealed):
    before = sealed.read_bytes()
    done = invoke("keys", "rewrap", "--context", sealed, **INSECURE)
    assert (done.exit_code, "XTRACE_NEW_PASS_PHRASE" in done.stderr) == (2, True)
    assert sealed.read_bytes() == before


def test_a_wrong_passphrase_changes_nothing(invoke, sealed):
    before = sealed.read_bytes()
    done = invoke("keys", "rewrap", "--context", sealed, XTRACE_PASS_PHRASE="wrong", **NEW)
    assert (done.exit_code, "cannot decrypt" in done.stderr) == (1, True)
    assert sealed.read_bytes() == before


def test_to_kms_and_back(invoke, sealed, keys, kms_key):
    before = load(sealed, keys["XTRACE_PASS_PHRASE"])
    kms = {"XTRACE_KMS_KEY_ID": kms_key, **INSECURE}
    done = invoke("keys", "rewrap", "--to-kms", "--context", sealed, **INSECURE)
    assert (done.exit_code, "XTRACE_KMS_KEY_ID" in done.stderr) == (2, True)
    done = invoke("keys", "rewrap", "--to-kms", "--context", sealed, **kms)
    assert done.exit_code == 0, done.output
    stored = json.loads(sealed.read_text())
    assert stored["key_provider"] == "aws_kms"
    assert json.loads(stored["header"])["scrypt"] is None
    begun = invoke("keys", "begin-epoch", "--context", sealed, "--json", XTRACE_PASS_PHRASE="", **kms)
    assert json.loads(begun.stdout)["epoch"] == 2
    back = invoke("keys", "rewrap", "--context", sealed, **kms, XTRACE_NEW_PASS_PHRASE="battery staple")
    assert back.exit_code == 0, back.output
    again = load(sealed, "battery staple")
    assert again.subkey(b"x", 1) == before.subkey(b"x", 1)
    assert (again.epoch, again.revision) == (2, 4)


def test_epochs_come_and_go(invoke, sealed, keys):
    begun = invoke("keys", "begin-epoch", "--context", sealed, "--json", **INSECURE)
    assert json.loads(begun.stdout)["epochs"] == [1, 2]
    done = invoke("keys", "retire-epoch", 1, "--context", sealed, **INSECURE)
    assert (done.exit_code, "--yes" in done.stderr) == (2, True)
    assert load(sealed, keys["XTRACE_PASS_PHRASE"]).epochs == [1, 2]
    done = invoke("keys", "retire-epoch", 2, "--context", sealed, "--yes", **INSECURE)
    assert (done.exit_code, "not a past epoch" in done.stderr) == (1, True)
    done = invoke("keys", "retire-epoch", 1, "--context", sealed, "--yes", "--json", **INSECURE)
    assert json.loads(done.stdout)["epochs"] == [2]
    with pytest.raises(DecryptionError):
        load(sealed, keys["XTRACE_PASS_PHRASE"]).subkey(b"x", 1)
    assert [path.name for path in sealed.parent.iterdir()] == [sealed.name]


def test_the_servers_copy_is_replaced(invoke, sealed):
    done = invoke("keys", "rewrap", "--context", sealed, "--remote", **NEW)
    assert done.exit_code == 0, done.output
    context_id = load(sealed, "battery staple").id
    done = invoke("keys", "doctor", "--remote", context_id, "--json")
    said = {one["subject"]: one["verdict"] for one in json.loads(done.stdout)[0]["findings"]}
    assert (said["seal"], said["key derivation"]) == ("good", "good")


def test_the_originals_format_cannot_be_changed(invoke, tmp_path, keys):
    path = tmp_path / "plain"
    ExecutionContext.create(
        keys["XTRACE_PASS_PHRASE"], "paillier", 8, 128, path=path, encoding="plain", allow_insecure=True
    )
    for arguments in (["rewrap"], ["begin-epoch"], ["retire-epoch", "0"]):
        done = invoke("keys", *arguments, "--context", path, **NEW)
        assert (done.exit_code, "xtrace keys migrate" in done.stderr) == (1, True)


@pytest.fixture
def kms_key(monkeypatch):
    """A KMS key, found as boto3 finds any: by the environment."""
    boto3 = pytest.importorskip("boto3", reason="needs the extra xtrace-sdk-native[kms]")
    moto_server = pytest.importorskip("moto.server", reason="needs moto[kms,server]")
    service = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    service.start()
    host, port = service.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("kms")
    yield client.create_key()["KeyMetadata"]["KeyId"]
    client.close()
    service.stop()
