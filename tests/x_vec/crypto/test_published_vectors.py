"""Published vectors of AES-GCM, HKDF and scrypt, through the functions that contexts and contents use."""

import os
from base64 import b64encode

import pytest

from xtrace_sdk.errors import DecryptionError
from xtrace_sdk.x_vec.crypto.encryption.aes import AESClient
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils import execution_context_v2 as v2


def fields(case, *names):
    return [bytes.fromhex(case[name]) for name in names]


def test_aes_gcm_with_associated_data(load_vectors, monkeypatch):
    """The seal of format v2: 96-bit nonces."""
    tried = {"valid": 0, "invalid": 0}
    for case in load_vectors("wycheproof_aes_gcm")["cases"]:
        key, nonce, data, plain, sealed, tag = fields(case, "key", "iv", "aad", "msg", "ct", "tag")
        if len(nonce) != 12:
            continue
        blob = b64encode(nonce + sealed + tag).decode()
        tried[case["result"]] += 1
        if case["result"] == "valid":
            assert v2._open(key, blob, data) == plain, case["tcId"]
            with monkeypatch.context() as patch:
                patch.setattr(os, "urandom", lambda size, nonce=nonce: nonce if size == 12 else None)
                assert v2._seal(key, plain, data) == blob, case["tcId"]
        else:
            with pytest.raises(DecryptionError):
                v2._open(key, blob, data)
    assert tried == {"valid": 39, "invalid": 27}


def test_aes_gcm_of_the_originals_blobs(load_vectors, monkeypatch):
    """128-bit nonces, which GHASH turns into the counter; no associated data."""
    tried = opened = 0
    for case in load_vectors("wycheproof_aes_gcm")["cases"]:
        key, nonce, plain, sealed, tag = fields(case, "key", "iv", "msg", "ct", "tag")
        if len(nonce) != 16:
            continue
        tried += 1
        blob = b64encode(nonce + tag + sealed)
        with monkeypatch.context() as patch:
            patch.setattr(os, "urandom", lambda size, nonce=nonce: nonce if size == 16 else None)
            assert AESClient(key).encrypt(plain) == blob, case["tcId"]
        try:
            text = plain.decode()
        except UnicodeDecodeError:
            continue
        opened += 1
        assert AESClient(key).decrypt(blob) == text, case["tcId"]
    assert tried == 19 and opened >= 1


def test_hkdf(load_vectors):
    cases = load_vectors("wycheproof_hkdf_sha256")["cases"]
    for case in cases:
        ikm, info, okm = fields(case, "ikm", "info", "okm")
        assert v2._hkdf(ikm, case["salt"], info)[: case["size"]] == okm, case["tcId"]
    assert len(cases) == 83


def test_scrypt(load_vectors):
    """The case of N = 2**20 takes 1 GiB and some seconds: with LONG_TESTS=1."""
    greatest = 2**20 if os.environ.get("LONG_TESTS") == "1" else 2**14
    tried = 0
    for case in load_vectors("scrypt_rfc7914")["cases"]:
        if case["n"] <= greatest:
            provider = PassphraseKeyProvider(case["passphrase"], case["salt"].encode(), cost=case["n"])
            assert provider.get_key().hex() == case["key"]
            tried += 1
    assert tried >= 1
