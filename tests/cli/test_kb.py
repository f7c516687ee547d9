import hashlib
import json

import pytest


def test_create_describe_list_delete(invoke):
    created = json.loads(invoke("kb", "create", "notes", "-d", "my notes", "--json").stdout)
    assert (created["name"], created["description"]) == ("notes", "my notes")
    assert created["permission"] == "delete"  # the first key has every right, and keeps it
    (described,) = json.loads(invoke("kb", "describe", created["id"], "--json").stdout)
    assert described["id"] == created["id"]
    assert "my notes" in invoke("kb", "describe", created["id"]).stdout
    listed = {kb["id"]: kb for kb in json.loads(invoke("kb", "list", "--json").stdout)}
    assert listed[created["id"]]["permissionLabel"] == 7
    assert created["id"] in invoke("kb", "list", "--all").stdout
    done = invoke("kb", "delete", created["id"], "--yes")
    assert (done.exit_code, "deleted" in done.stdout) == (0, True)
    assert created["id"] not in invoke("kb", "list").stdout


@pytest.mark.parametrize(("permission", "label"), [("read", 1), ("write", 3), ("delete", 7)])
def test_right_of_the_creator(invoke, permission, label):
    created = json.loads(invoke("kb", "create", "x", "-p", permission, "--json").stdout)
    assert created["permission"] == permission
    listed = {kb["id"]: kb for kb in json.loads(invoke("kb", "list", "--json").stdout)}
    assert listed[created["id"]]["permissionLabel"] == label


def test_no_right_for_the_creator(invoke):
    created = json.loads(invoke("kb", "create", "x", "-p", "none", "--json").stdout)
    assert created["permission"] is None


def test_key_that_the_server_does_not_know(invoke):
    done = invoke("kb", "create", "x", "--json", XTRACE_API_KEY="unknown")
    assert done.exit_code == 0
    assert "permissionError" in json.loads(done.stdout)


def test_absent_knowledge_bases(invoke, kb):
    done = invoke("kb", "describe", kb, "absent", "--json")
    assert done.exit_code == 1
    there, absent = json.loads(done.stdout)
    assert there["id"] == kb
    assert (absent["status"], absent["code"]) == ("error", 404)
    done = invoke("kb", "delete", "absent", kb, "--json", "--yes")
    assert done.exit_code == 1
    assert [one["status"] for one in json.loads(done.stdout)] == ["not_found", "deleted"]


def test_deleting_wants_a_yes(invoke, kb):
    done = invoke("kb", "delete", kb)
    assert (done.exit_code, "--yes" in done.stderr) == (2, True)
    done = invoke("kb", "delete", kb, "--json")
    assert (done.exit_code, "--yes" in json.loads(done.stdout)["error"]["message"]) == (2, True)
    assert invoke("kb", "describe", kb).exit_code == 0


def test_wrong_admin_key(invoke):
    done = invoke("kb", "list", "--json", XTRACE_ADMIN_KEY="wrong")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["status"] == 401
    done = invoke("kb", "list", XTRACE_ADMIN_KEY="")
    assert (done.exit_code, "XTRACE_ADMIN_KEY" in done.stderr) == (2, True)


def test_admin_commands_need_no_api_key(invoke):
    assert invoke("kb", "list", XTRACE_API_KEY="").exit_code == 0


def test_api_keys(invoke, kb):
    created = json.loads(invoke("api-keys", "create", "reader", "-d", "reads", "--json").stdout)
    secret, key_hash = created["secretKey"], created["apiKey"]["hash"]
    assert key_hash == hashlib.sha256(secret.encode()).hexdigest()
    listed = invoke("api-keys", "list")
    assert key_hash in listed.stdout and secret not in listed.stdout
    assert key_hash in [key["hash"] for key in json.loads(invoke("api-keys", "list", "--json").stdout)]

    assert kb not in invoke("kb", "list", XTRACE_API_KEY=secret).stdout
    assert invoke("api-keys", "grant", key_hash, kb, "read").stdout == f"{kb}: read\n"
    assert kb in invoke("kb", "list", XTRACE_API_KEY=secret).stdout
    assert kb in invoke("kb", "list", "--api_key", secret).stdout
    granted = json.loads(invoke("api-keys", "grant", key_hash, kb, "none", "--json").stdout)
    assert granted["permission"] == 0
    assert kb not in invoke("kb", "list", XTRACE_API_KEY=secret).stdout

    assert invoke("api-keys", "revoke", key_hash).exit_code == 2
    assert json.loads(invoke("api-keys", "revoke", key_hash, "-y", "--json").stdout)["status"] == "revoked"
    assert key_hash not in invoke("api-keys", "list").stdout
    done = invoke("api-keys", "revoke", "0" * 64, "-y")
    assert (done.exit_code, "404" in done.stderr) == (1, True)
