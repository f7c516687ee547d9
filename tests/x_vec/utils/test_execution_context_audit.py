import base64
import json

import pytest

from xtrace_sdk.errors import DecryptionError, InputError
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.execution_context_audit import (
    _ORIGINAL_NOISE,
    PublicKeyFacts,
    examine,
    examine_file,
    shared_salts,
)
from xtrace_sdk.x_vec.utils.execution_context_files import read_stored


def stored(key_len=256, alpha_len=128, kind="paillier_lookup", encoding="plain", cost=None, salt=None):
    return ExecutionContext.create(
        None,
        kind,
        8,
        key_len,
        key_provider=PassphraseKeyProvider("p", salt, cost=cost),
        alpha_len=alpha_len if kind == "paillier_lookup" else None,
        encoding=encoding,
        allow_insecure=True,
    ).to_dict_enc()


@pytest.fixture(scope="module")
def plain():
    return stored(key_len=1024, alpha_len=50)


@pytest.fixture(scope="module")
def sealed():
    return stored(key_len=1024, alpha_len=448, encoding="authenticated")


def verdicts(findings):
    return {one.subject: str(one.verdict) for one in findings}


def by_subject(findings, subject):
    (found,) = [one for one in findings if one.subject == subject]
    return found


def test_a_strong_sealed_context_is_good_in_all(sealed):
    findings = examine(sealed)
    assert verdicts(findings) == dict.fromkeys(
        ("modulus", "subgroup", "randomiser", "seal", "key derivation", "salt"), "good"
    )
    assert not any(one.advice for one in findings)
    assert "2047 bits" in findings[0].found or "2048 bits" in findings[0].found
    assert by_subject(findings, "subgroup").found.endswith("2^112 steps")
    assert by_subject(findings, "key derivation").found == "scrypt, N = 2^17"


def test_the_originals_default_is_broken(plain):
    findings = examine(plain)
    assert verdicts(findings) == {
        "modulus": "good",
        "subgroup": "broken",
        "randomiser": "weak",
        "seal": "weak",
        "key derivation": "weak",
        "salt": "good",
    }
    subgroup = by_subject(findings, "subgroup")
    assert "25 bits" in subgroup.found and "2^12 steps" in subgroup.found
    assert "--prove" in subgroup.advice and "xtrace keys migrate" in subgroup.advice
    assert all(one.advice for one in findings if one.verdict != "good")


@pytest.mark.parametrize(
    ("alpha_len", "verdict"), [(448, "good"), (446, "weak"), (256, "weak"), (254, "broken"), (64, "broken")]
)
def test_the_square_root_rule(plain, alpha_len, verdict):
    config = {**json.loads(plain["config"]), "alpha_len": alpha_len}
    findings = examine({**plain, "config": json.dumps(config)})
    assert verdicts(findings)["subgroup"] == verdict


def test_a_longer_modulus_wants_a_larger_subgroup(plain):
    pk = {**json.loads(plain["pk"]), "n": (1 << 3071) + 1}
    config = {**json.loads(plain["config"]), "alpha_len": 448, "key_len": 1536}
    findings = examine({**plain, "pk": json.dumps(pk), "config": json.dumps(config)})
    assert by_subject(findings, "modulus").found == "3072 bits, 128 bits of security"
    assert "wants 256 bits" in by_subject(findings, "subgroup").advice


@pytest.mark.parametrize(("key_len", "verdict"), [(256, "broken"), (640, "weak")])
def test_short_moduli(key_len, verdict):
    context = stored(key_len, kind="paillier")
    findings = verdicts(examine(context))
    assert (findings["modulus"], findings["subgroup"], findings["randomiser"]) == (verdict, "good", "good")


def test_the_entropy_of_the_originals_noise(plain):
    assert round(_ORIGINAL_NOISE, 1) == 75.7
    config = {**json.loads(plain["config"]), "alpha_len": 448}
    assert "75.7 bits" in by_subject(examine({**plain, "config": json.dumps(config)}), "randomiser").found


def test_salts(plain):
    for salt, verdict in ((b"", "broken"), (b"xtrace-aes-gcm-v1", "broken"), (b"short", "weak")):
        findings = examine({**plain, "wrapped_key": base64.b64encode(salt).decode()})
        assert verdicts(findings)["salt"] == verdict
    with pytest.raises(DecryptionError, match="wrapped_key"):
        examine({**plain, "wrapped_key": "!"})


def test_shared_salts_are_found(plain, sealed):
    same = {**sealed, "wrapped_key": plain["wrapped_key"]}
    findings = shared_salts([("a", plain), ("b", sealed), ("c", same)])
    assert [(name, one.found) for name, one in findings] == [("a", "shared with c"), ("c", "shared with a")]
    kms = {**plain, "key_provider": "aws_kms"}
    assert shared_salts([("a", plain), ("b", kms)]) == []
    assert verdicts(examine(kms))["key derivation"] == "good"
    assert "salt" not in verdicts(examine(kms))


def test_a_cheap_sealed_context_is_weak():
    findings = examine(stored(encoding="authenticated", cost=2**14))
    derivation = by_subject(findings, "key derivation")
    assert (derivation.verdict, "rewrap" in derivation.advice) == ("weak", True)


def test_permissions(tmp_path, plain):
    path = tmp_path / "context"
    path.write_text(json.dumps(plain))
    for mode, verdict in ((0o600, "good"), (0o400, "good"), (0o640, "weak"), (0o604, "weak")):
        path.chmod(mode)
        (finding,) = examine_file(path)
        assert (finding.found, finding.verdict) == (f"{mode:04o}", verdict)
    assert read_stored(path) == plain


def test_the_public_part_alone(plain):
    public = {name: plain[name] for name in ("pk", "type", "config")}
    assert set(verdicts(examine(public))) == {"modulus", "subgroup", "randomiser"}


@pytest.mark.parametrize(
    "change", [{"pk": 1}, {"pk": "{}"}, {"config": "{}"}, {"config": "x" * (1 << 19)}, {"type": "Other"}]
)
def test_what_is_no_context(plain, change):
    with pytest.raises(InputError):
        examine({**plain, **change})


def test_facts(plain, sealed):
    for context, bits in ((plain, 25), (sealed, 224)):
        facts = PublicKeyFacts.of(context)
        assert facts.n == int(json.loads(context["pk"])["n"])
        assert facts.element == int(json.loads(context["pk"])["g_n"])
        assert facts.subgroup_bits == bits
