import copy
import pickle

import pytest

from xtrace_sdk.errors import InputError, NotLoadedError
from xtrace_sdk.x_vec.crypto.key_provider import AWSKMSKeyProvider, KeyProvider, PassphraseKeyProvider


def test_known_answers(load_vectors):
    known = load_vectors("scrypt")
    for case in known["cases"]:
        provider = PassphraseKeyProvider.from_wrapped(
            bytes.fromhex(case["wrapped"]), passphrase=known["passphrase"]
        )
        assert provider.get_key().hex() == case["key"]


def test_salts_are_random_and_stored():
    first, second = PassphraseKeyProvider("p"), PassphraseKeyProvider("p")
    assert len(first.wrap_key()) == 16
    assert first.wrap_key() != second.wrap_key()
    assert first.get_key() != second.get_key()
    again = PassphraseKeyProvider.from_wrapped(first.wrap_key(), passphrase="p")
    assert again.get_key() == first.get_key()


def test_with_salt_takes_the_stored_one():
    stored = PassphraseKeyProvider("p")
    other = PassphraseKeyProvider("p").with_salt(stored.wrap_key())
    assert other.get_key() == stored.get_key()
    assert stored.with_salt(stored.wrap_key()) is stored


def test_the_passphrase_is_utf8_without_normalisation():
    salt = b"0123456789abcdef"
    composed, decomposed = PassphraseKeyProvider("é", salt), PassphraseKeyProvider("e\u0301", salt)
    assert composed.get_key() != decomposed.get_key()


@pytest.mark.parametrize(
    ("passphrase", "salt", "named"),
    [
        ("", None, "passphrase"),
        (None, None, "passphrase"),
        (b"x", None, "passphrase"),
        ("\ud800", None, "passphrase"),
        ("p", b"", "salt"),
        ("p", 5, "salt"),
    ],
)
def test_bad_arguments_are_named(passphrase, salt, named):
    with pytest.raises(InputError, match=named):
        PassphraseKeyProvider(passphrase, salt)


def test_it_is_a_provider_that_does_not_leak():
    provider = PassphraseKeyProvider("hunter2")
    assert isinstance(provider, KeyProvider)
    assert provider.provider_id() == "passphrase"
    provider.get_key()
    assert "hunter2" not in repr(provider)
    assert provider.get_key().hex() not in repr(provider)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            leak(provider)


def test_a_kms_provider_is_made_with_a_key():
    with pytest.raises(NotLoadedError, match=r"AWSKMSKeyProvider\.create"):
        AWSKMSKeyProvider(object(), "alias/x")
