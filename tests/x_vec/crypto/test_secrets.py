"""Bytes that are overwritten, and contexts that are closed."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from xtrace_sdk.errors import DecryptionError, NotLoadedError
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.crypto.secrets import SecretBytes
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


def test_secret_bytes_are_overwritten() -> None:
    secret = SecretBytes.of(b"a key")
    assert secret == b"a key"
    view = memoryview(secret)
    secret.wipe()
    assert view.tobytes() == bytes(5)


def test_secret_bytes_are_random_in_all_their_parts() -> None:
    drawn = [bytes(SecretBytes.random(37)) for _ in range(2)]
    for at in range(0, 37, 8):
        assert drawn[0][at : at + 8] != drawn[1][at : at + 8]
    assert len(drawn[0]) == 37


def test_secret_bytes_are_not_shown_or_copied() -> None:
    secret = SecretBytes.of(b"a key")
    assert repr(secret) == str(secret) == f"{secret}" == "SecretBytes(***)"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="SecretBytes holds key material"):
            attempt(secret)


def test_no_thread_sees_a_key_that_is_being_derived() -> None:
    provider = PassphraseKeyProvider("correct horse", b"salt")
    with ThreadPoolExecutor(4) as threads:
        keys = {bytes(key) for key in threads.map(lambda _: provider.get_key(), range(16))}
    assert keys == {PassphraseKeyProvider("correct horse", b"salt").get_key()}


@pytest.mark.parametrize("encoding", ["authenticated", "plain"])
def test_a_closed_context_reads_and_writes_nothing(encoding: str) -> None:
    passphrase = "correct horse battery staple"
    context = ExecutionContext.create(passphrase, embedding_length=64, encoding=encoding)  # type: ignore[arg-type]
    sealed = context.aes.encrypt("text")
    stored = context.to_dict_enc()
    context.close()
    context.close()
    with pytest.raises(NotLoadedError):
        context.aes.decrypt(sealed)
    with pytest.raises(NotLoadedError):
        context.homomorphic.encrypt_vec_one([0] * 64)
    with pytest.raises((NotLoadedError, DecryptionError)):
        context.to_dict_enc()
    with pytest.raises(DecryptionError):
        context.subkey(b"any", 0)
    if context.records is not None:
        with pytest.raises(DecryptionError):
            context.records.seal("text", bytes([1, 1]) + bytes(27))
    opened = ExecutionContext._from_serialized_exec_context(stored, passphrase)
    assert opened.aes.decrypt(sealed) == "text"
