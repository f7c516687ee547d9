import copy
import pickle
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from xtrace_sdk.errors import DecryptionError, InputError
from xtrace_sdk.x_vec.crypto.encryption import aes
from xtrace_sdk.x_vec.crypto.encryption.aes import AESClient

KEY = bytes(range(32))


def test_known_answers(load_vectors, monkeypatch):
    for case in load_vectors("aes_blob")["cases"]:
        client = AESClient(bytes.fromhex(case["key"]))
        assert client.decrypt(case["blob"]) == case["text"]
        assert client.decrypt(case["blob"].encode()) == case["text"]
        monkeypatch.setattr(aes.os, "urandom", lambda size, case=case: bytes.fromhex(case["nonce"])[:size])
        assert client.encrypt(case["text"]).decode() == case["blob"]


def test_layout_is_nonce_tag_ciphertext():
    raw = b64decode(AESClient(KEY).encrypt(b"abc"), validate=True)
    assert len(raw) == 16 + 16 + 3
    assert AESGCM(KEY).decrypt(raw[:16], raw[32:] + raw[16:32], None) == b"abc"


@given(st.text())
def test_round_trip(text):
    client = AESClient(KEY)
    assert client.decrypt(client.encrypt(text)) == text
    assert client.decrypt(client.encrypt(text.encode())) == text


def test_nonces_are_fresh():
    client = AESClient(KEY)
    assert len({client.encrypt("same") for _ in range(1000)}) == 1000


@pytest.mark.parametrize("key", [b"", b"x" * 16, b"x" * 31, b"x" * 33, "x" * 32, None, 32])
def test_a_key_has_32_bytes(key):
    with pytest.raises(InputError, match="32-byte key"):
        AESClient(key)


def test_every_flipped_bit_and_every_cut_raises_the_same_error():
    client = AESClient(KEY)
    raw = b64decode(client.encrypt("attack at dawn"))
    broken = [
        bytes(byte ^ (1 << bit if place == at else 0) for place, byte in enumerate(raw))
        for at in range(len(raw))
        for bit in range(8)
    ]
    broken += [raw[:length] for length in range(len(raw))] + [raw + b"\0"]
    errors = set()
    for blob in broken:
        with pytest.raises(DecryptionError) as caught:
            client.decrypt(b64encode(blob))
        errors.add(str(caught.value))
    with pytest.raises(DecryptionError) as caught:
        AESClient(bytes(32)).decrypt(b64encode(raw))
    assert errors == {str(caught.value)}


@pytest.mark.parametrize(
    "blob",
    [
        "",
        "AAEC",
        "é",
        "AA==",
        "AAECAwQF\n",
        " AAEC",
        "A",
        "AAECAwQFBgcICQoLDA0OD5MLQioO506jTlAYtrIe134PrwkaVYs",
    ],
)
def test_what_is_not_a_blob_raises_the_same_error(blob):
    with pytest.raises(DecryptionError, match="wrong key"):
        AESClient(KEY).decrypt(blob)


def test_plaintext_that_is_not_text_raises_the_same_error():
    client = AESClient(KEY)
    with pytest.raises(DecryptionError, match="wrong key"):
        client.decrypt(client.encrypt(b"\xff\xfe"))


@pytest.mark.parametrize("value", [None, 7, ["x"]])
def test_other_types_are_refused(value):
    with pytest.raises(InputError, match="plaintext"):
        AESClient(KEY).encrypt(value)
    with pytest.raises(InputError, match="blob"):
        AESClient(KEY).decrypt(value)


def test_lone_surrogates_are_refused():
    with pytest.raises(InputError, match="surrogate"):
        AESClient(KEY).encrypt("\ud800")


def test_the_key_stays_inside():
    client = AESClient(KEY)
    assert KEY.hex() not in repr(client)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            leak(client)
