import json

import pytest

from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

pytest.importorskip("shamir_mnemonic", reason="needs the extra xtrace-sdk-native[recovery]")
ENVIRONMENT = {"XTRACE_ALLOW_INSECURE": "1", "XTRACE_NEW_PASS_PHRASE": "battery staple"}


def test_a_lost_passphrase(invoke, sealed, keys):
    before = ExecutionContext.load_from_disk(keys["XTRACE_PASS_PHRASE"], sealed, allow_insecure=True)
    done = invoke("keys", "shares", "--context", sealed, "--json", **ENVIRONMENT)
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert (made["id"], made["threshold"], len(made["shares"])) == (before.id, 2, 3)
    lost = {**ENVIRONMENT, "XTRACE_PASS_PHRASE": ""}
    few = invoke("keys", "recover", "--context", sealed, stdin=made["shares"][0], **lost)
    assert (few.exit_code, "too few" in few.stderr) == (1, True)
    two = "\n".join(made["shares"][1:])
    done = invoke("keys", "recover", "--context", sealed, stdin=two, **lost)
    assert done.exit_code == 0, done.output
    again = ExecutionContext.load_from_disk("battery staple", sealed, allow_insecure=True)
    assert again == before and again.subkey(b"x", 1) == before.subkey(b"x", 1)
    done = invoke("keys", "recover", "--context", sealed, stdin=two, **lost)
    assert (done.exit_code, "cannot decrypt" in done.stderr) == (1, True)


def test_shares_for_people(invoke, sealed):
    done = invoke("keys", "shares", "--context", sealed, "--threshold", 3, "--count", 4, **ENVIRONMENT)
    assert "4. " in done.stdout and "5. " not in done.stdout
    assert "Any 3 of them" in done.stdout


def test_no_shares(invoke, sealed):
    done = invoke("keys", "recover", "--context", sealed, **ENVIRONMENT)
    assert (done.exit_code, "no shares" in done.stderr) == (1, True)
