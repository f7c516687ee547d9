"""The KMS provider against moto's HTTP server, and against botocore's Stubber where moto is not like AWS.

It lets disabled keys and keys pending deletion work, and says AccessDeniedException for a wrong key.
"""

import base64
import copy
import json
import pickle
import sys
from pathlib import Path

import pytest

from xtrace_sdk.errors import ConfigurationError, DecryptionError, InputError
from xtrace_sdk.x_vec.crypto.key_provider import AWSKMSKeyProvider, KeyProvider, KeyProviderError
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

boto3 = pytest.importorskip("boto3", reason="needs the extra xtrace-sdk-native[kms]")
moto_server = pytest.importorskip("moto.server", reason="needs moto[kms,server]")
from botocore.config import Config  # noqa: E402
from botocore.stub import Stubber  # noqa: E402

ALIAS = "alias/xtrace-provider"  # moto keeps one state a process, which other tests use too


def connect(endpoint, **more):
    return boto3.client(
        "kms",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5),
        **more,
    )


@pytest.fixture(scope="module")
def kms():
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    client = connect(f"http://{host}:{port}")
    key = client.create_key()["KeyMetadata"]["KeyId"]
    client.create_alias(AliasName=ALIAS, TargetKeyId=key)
    yield client
    client.close()
    server.stop()


def test_the_key_comes_back_from_its_wrapped_form(kms):
    provider = AWSKMSKeyProvider.create(kms, ALIAS)
    assert isinstance(provider, KeyProvider)
    assert provider.provider_id() == "aws_kms"
    assert len(provider.get_key()) == 32
    assert provider.get_key() not in provider.wrap_key()
    again = AWSKMSKeyProvider.from_wrapped(provider.wrap_key(), kms_client=kms, key_id=ALIAS)
    assert again.get_key() == provider.get_key()
    assert again.wrap_key() == provider.wrap_key()
    assert AWSKMSKeyProvider.create(kms, ALIAS).get_key() != provider.get_key()


def test_a_context_as_in_the_documents(kms, tmp_path):
    path = str(tmp_path / "exec_context")
    made = ExecutionContext.create(
        key_provider=AWSKMSKeyProvider.create(kms, ALIAS),
        homomorphic_client_type="paillier_lookup",
        embedding_length=48,
        key_len=256,
        path=path,
        allow_insecure=True,
    )
    stored = json.loads(Path(path).read_text())
    assert stored["key_provider"] == "aws_kms"
    edek = base64.b64decode(stored["wrapped_key"])
    provider = AWSKMSKeyProvider.from_wrapped(edek, kms_client=kms, key_id=ALIAS)
    again = ExecutionContext.load_from_disk(path=path, key_provider=provider, allow_insecure=True)
    assert again == made
    assert again.aes.decrypt(made.aes.encrypt("text")) == "text"
    with pytest.raises(InputError, match="aws_kms"):
        ExecutionContext.load_from_disk("a passphrase", path)
    with pytest.raises(DecryptionError):
        ExecutionContext.load_from_disk(
            path=path, key_provider=AWSKMSKeyProvider.create(kms, ALIAS), allow_insecure=True
        )


def test_an_encryption_context_is_bound(kms):
    bound = {"tenant": "a"}
    provider = AWSKMSKeyProvider.create(kms, ALIAS, encryption_context=bound)
    wrapped = provider.wrap_key()
    again = AWSKMSKeyProvider.from_wrapped(wrapped, kms_client=kms, key_id=ALIAS, encryption_context=bound)
    assert again.get_key() == provider.get_key()
    for wrong in (None, {}, {"tenant": "b"}, {"tenant": "a", "more": "x"}):
        with pytest.raises(DecryptionError, match="encryption context"):
            AWSKMSKeyProvider.from_wrapped(wrapped, kms_client=kms, key_id=ALIAS, encryption_context=wrong)


def test_changed_wrapped_keys_are_not_told_apart(kms):
    wrapped = AWSKMSKeyProvider.create(kms, ALIAS).wrap_key()
    said = set()
    for wrong in (wrapped[:-1], wrapped[:-1] + bytes([wrapped[-1] ^ 1]), wrapped + b"x"):
        with pytest.raises(DecryptionError) as caught:
            AWSKMSKeyProvider.from_wrapped(wrong, kms_client=kms, key_id=ALIAS)
        said.add(str(caught.value))
    assert len(said) == 1


def test_an_unknown_key(kms):
    with pytest.raises(KeyProviderError, match=r"NotFoundException.*check key_id") as caught:
        AWSKMSKeyProvider.create(kms, "alias/nowhere")
    assert caught.value.code == "NotFoundException"


def test_no_kms_at_all(unused_tcp_port):
    client = connect(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(KeyProviderError, match="check network, region and credentials"):
        AWSKMSKeyProvider.create(client, ALIAS)
    client.close()


CODES = [
    ("DisabledException", "enable it"),
    ("KMSInvalidStateException", "pending deletion"),
    ("AccessDeniedException", "grant kms:"),
    ("NotFoundException", "check key_id"),
    ("KeyUnavailableException", "try again"),
    ("InvalidKeyUsageException", "symmetric"),
    ("InvalidGrantTokenException", "grant token"),
    ("DependencyTimeoutException", "try again"),
    ("KMSInternalException", "try again"),
    ("ThrottlingException", "later"),
    ("ExpiredTokenException", "sign in"),
    ("UnrecognizedClientException", "access key"),
    ("SomethingNewException", "what KMS said"),
]


@pytest.mark.parametrize(("code", "advice"), CODES)
@pytest.mark.parametrize("action", ["GenerateDataKey", "Decrypt"])
def test_every_failure_says_what_to_do(code, advice, action):
    client = connect("http://127.0.0.1:9")
    method = {"GenerateDataKey": "generate_data_key", "Decrypt": "decrypt"}[action]
    with Stubber(client) as stubber:
        stubber.add_client_error(method, code, "what KMS said", 400)
        call = {
            "GenerateDataKey": lambda: AWSKMSKeyProvider.create(client, ALIAS),
            "Decrypt": lambda: AWSKMSKeyProvider.from_wrapped(b"x", kms_client=client, key_id=ALIAS),
        }[action]
        with pytest.raises(KeyProviderError, match=advice) as caught:
            call()
    assert caught.value.code == code
    for part in (action, ALIAS, code):
        assert part in str(caught.value)
    client.close()


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
def test_what_does_not_fit_is_a_decryption_error(code):
    client = connect("http://127.0.0.1:9")
    with Stubber(client) as stubber:
        stubber.add_client_error("decrypt", code)
        with pytest.raises(DecryptionError):
            AWSKMSKeyProvider.from_wrapped(b"wrapped", kms_client=client, key_id=ALIAS)
    client.close()


def test_what_kms_is_asked():
    client = connect("http://127.0.0.1:9")
    key = bytes(range(32))
    with Stubber(client) as stubber:
        stubber.add_response(
            "generate_data_key",
            {"Plaintext": key, "CiphertextBlob": b"wrapped", "KeyId": "k"},
            {"KeyId": ALIAS, "KeySpec": "AES_256"},
        )
        provider = AWSKMSKeyProvider.create(client, ALIAS)
        stubber.add_response(
            "decrypt",
            {"Plaintext": key, "KeyId": "k"},
            {"CiphertextBlob": b"wrapped", "KeyId": ALIAS, "EncryptionContext": {"a": "b"}},
        )
        AWSKMSKeyProvider.from_wrapped(
            b"wrapped", kms_client=client, key_id=ALIAS, encryption_context={"a": "b"}
        )
        stubber.add_response("decrypt", {"Plaintext": b"short", "KeyId": "k"})
        with pytest.raises(DecryptionError, match="32-byte"):
            AWSKMSKeyProvider.from_wrapped(b"wrapped", kms_client=client, key_id=ALIAS)
        stubber.assert_no_pending_responses()
    assert key.hex() not in repr(provider)
    assert repr(provider) == f"AWSKMSKeyProvider(key_id='{ALIAS}')"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            leak(provider)
    client.close()


def test_wrong_arguments_are_named():
    client = connect("http://127.0.0.1:9")
    with pytest.raises(InputError, match="wrapped"):
        AWSKMSKeyProvider.from_wrapped(None, kms_client=client, key_id=ALIAS)
    with pytest.raises(InputError, match="EncryptionContext"):
        AWSKMSKeyProvider.create(client, ALIAS, encryption_context={"tenant": 5})
    for key_id in ("", None):
        with pytest.raises(InputError, match="key_id"):
            AWSKMSKeyProvider.create(client, key_id)
    client.close()


def test_without_boto3_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(ConfigurationError, match=r"xtrace-sdk-native\[kms\]"):
        AWSKMSKeyProvider.create(object(), ALIAS)
