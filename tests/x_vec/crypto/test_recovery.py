import copy
import itertools
import pickle
import sys

import pytest

from xtrace_sdk.errors import ConfigurationError, DecryptionError, InputError
from xtrace_sdk.x_vec.crypto.key_provider import KeyProvider, PassphraseKeyProvider
from xtrace_sdk.x_vec.crypto.recovery import RecoveredKeyProvider, recovery_shares
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

pytest.importorskip("shamir_mnemonic", reason="needs the extra xtrace-sdk-native[recovery]")


@pytest.fixture(scope="module")
def provider():
    return PassphraseKeyProvider("forgotten", cost=2**14)


@pytest.fixture(scope="module")
def shares(provider):
    return recovery_shares(provider, 3, 5)


def test_any_three_of_five_give_the_key(provider, shares):
    assert len(set(shares)) == 5 and all(len(share.split()) == 33 for share in shares)
    for some in itertools.combinations(shares, 3):
        assert RecoveredKeyProvider(some).get_key() == provider.get_key()
    spoken = [f"  {share.upper()}\n" for share in shares[:3]]
    assert RecoveredKeyProvider(spoken).get_key() == provider.get_key()


def test_two_are_too_few_and_others_do_not_fit(provider, shares):
    others = recovery_shares(provider, 3, 5)
    words = shares[2].split()
    mistyped = " ".join([*words[:10], "acid" if words[10] != "acid" else "acne", *words[11:]])
    for wrong in (shares[:2], [*shares[:2], others[2]], [*shares[:2], mistyped], ["word"], []):
        with pytest.raises(DecryptionError, match="the shares do not give a key") as caught:
            RecoveredKeyProvider(wrong)
        assert not any(word in str(caught.value).split() for word in ("acid", "acne"))
        assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize("encoding", ["plain", "authenticated"])
def test_they_open_a_context_that_is_then_rewrapped(provider, encoding):
    context = ExecutionContext.create(
        None, "paillier", 8, 128, key_provider=provider, encoding=encoding, allow_insecure=True
    )
    stored = context.to_dict_enc()
    recovered = RecoveredKeyProvider(recovery_shares(context.key_provider, 2, 2))
    again = ExecutionContext._from_serialized_exec_context(
        stored, key_provider=recovered, allow_insecure=True
    )
    assert again == context
    with pytest.raises(InputError, match="rewrap it before it is saved"):
        again.to_dict_enc()
    if encoding == "authenticated":
        again.rewrap(key_provider=PassphraseKeyProvider("new", cost=2**14))
        with pytest.raises(DecryptionError):
            ExecutionContext._from_serialized_exec_context(
                again.to_dict_enc(), key_provider=recovered, allow_insecure=True
            )


@pytest.mark.parametrize(("threshold", "count"), [(1, 3), (4, 3), (2, 17), (0, 0)])
def test_thresholds(provider, threshold, count):
    with pytest.raises(InputError, match="threshold, count"):
        recovery_shares(provider, threshold, count)


def test_they_do_not_leak(provider, shares):
    recovered = RecoveredKeyProvider(shares[:3])
    assert isinstance(recovered, KeyProvider)
    assert recovered.get_key().hex() not in repr(recovered)
    for leak in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            leak(recovered)


def test_the_extra_is_named(provider, monkeypatch):
    monkeypatch.setitem(sys.modules, "shamir_mnemonic", None)
    with pytest.raises(ConfigurationError, match=r"xtrace-sdk-native\[recovery\]"):
        recovery_shares(provider, 2, 3)
