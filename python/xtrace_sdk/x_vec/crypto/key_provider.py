"""Where the 32-byte key of an execution context comes from.

A provider knows the key and how to store what is needed to get it again (the *wrapped* key): a salt beside a
passphrase, or a data key that AWS KMS encrypted. What the key is used for is written once, elsewhere.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final, Protocol, Self, runtime_checkable

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from xtrace_sdk.errors import ConfigurationError, DecryptionError, InputError, NotLoadedError, XTraceError
from xtrace_sdk.x_vec.crypto.encryption.aes import KEY_BYTES, as_bytes, undecryptable
from xtrace_sdk.x_vec.crypto.secrets import Secret, SecretBytes, derived

# scrypt's cost N: fixed by context format v1, which does not store it; that of new sealed contexts; and what
# stored contexts may ask for, so that no file is weak and none keeps its reader busy (1 GiB at most).
ORIGINAL_COST: Final = 2**14
COST: Final = 2**17
COSTS: Final = tuple(2**exponent for exponent in range(14, 21))
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
SALT_BYTES: Final = 16
# What the original SDK uses when it is given no salt. Read, never chosen: it is the same for everybody.
ORIGINAL_SALT: Final = b"xtrace-aes-gcm-v1"


@runtime_checkable
class KeyProvider(Protocol):
    """What an execution context asks of a provider.

    A provider is made again from its wrapped key by a classmethod of its own, usually ``from_wrapped``.
    """

    def get_key(self) -> bytes:
        """The 32-byte key."""
        ...

    def wrap_key(self) -> bytes:
        """Bytes to be stored in the clear, from which (with the passphrase, KMS, ...) the key comes again."""
        ...

    def provider_id(self) -> str:
        """Stored in the context: ``"passphrase"``, ``"aws_kms"``, or a name of your own."""
        ...


class PassphraseKeyProvider(Secret):
    """Derives the key from a passphrase by scrypt (r = 8, p = 1), on first use.

    Args:
        passphrase: not empty; taken as UTF-8 without normalisation.
        salt: 16 fresh random bytes unless given. It is stored with the context and need not be secret.
        cost: scrypt's N, a power of two from 2**14 to 2**20. Unless given, it is what a context's format
            asks for (2**14 in the original's, 2**17 in sealed ones), so one provider opens contexts of both;
            `get_key` of a provider without a context then derives at 2**14.

    Raises InputError for an empty passphrase or salt, and another cost.
    """

    __slots__ = ("_cost", "_key", "_passphrase", "_salt")

    def __init__(self, passphrase: str, salt: bytes | None = None, *, cost: int | None = None) -> None:
        if not isinstance(passphrase, str):
            raise InputError(f"passphrase: expected str, got {type(passphrase).__name__}")
        if not passphrase:
            raise InputError("passphrase: must not be empty")
        if salt is None:
            salt = os.urandom(SALT_BYTES)
        elif not salt:
            raise InputError("salt: must not be empty; leave it out for a random one")
        self._passphrase = SecretBytes.of(as_bytes(passphrase, "passphrase"))
        if cost is not None and cost not in COSTS:
            raise InputError(f"cost: expected a power of two from 2**14 to 2**20, got {cost!r}")
        self._salt = as_bytes(salt, "salt")
        self._cost = cost
        self._key: SecretBytes | None = None

    @classmethod
    def from_wrapped(cls, wrapped: bytes, *, passphrase: str, cost: int | None = None) -> Self:
        """The provider for a stored salt; an empty one stands for the original SDK's constant."""
        return cls(passphrase, as_bytes(wrapped, "wrapped") or ORIGINAL_SALT, cost=cost)

    def with_salt(self, salt: bytes, cost: int = ORIGINAL_COST) -> PassphraseKeyProvider:
        """This passphrase with another salt and cost, as found in a stored context (empty as in
        `from_wrapped`)."""
        salt = salt or ORIGINAL_SALT
        if salt == self._salt and cost == self.cost:
            return self
        return type(self)(self._passphrase.decode("utf-8"), salt, cost=cost)

    def in_format(self, cost: int) -> PassphraseKeyProvider:
        """This provider at the `cost` of a context's format, unless another one was chosen."""
        return self.with_salt(self._salt, self._cost or cost)

    @property
    def cost(self) -> int:
        """scrypt's N."""
        return self._cost or ORIGINAL_COST

    def get_key(self) -> bytes:
        """The 32-byte key; derived once, in some 40 milliseconds at cost 2**14, 0.4 seconds at 2**17."""
        return bytes(self.secret_key())

    def secret_key(self) -> SecretBytes:
        """The key itself, which `close` wipes."""
        key = self._key
        if key is None:
            kdf = Scrypt(salt=self._salt, length=KEY_BYTES, n=self.cost, r=SCRYPT_R, p=SCRYPT_P)
            key = derived(kdf, self._passphrase, KEY_BYTES)
            self._key = key  # only now: another thread may ask meanwhile
        return key

    def close(self) -> None:
        """Wipe the key; it is derived again when it is needed."""
        self._key = None

    def wrap_key(self) -> bytes:
        """The salt."""
        return self._salt

    def provider_id(self) -> str:
        """``"passphrase"``."""
        return "passphrase"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(passphrase=***)"


def provider_key(provider: KeyProvider) -> SecretBytes:
    """A provider's key: itself where the provider is of this package, else a copy of what it hands out."""
    own = getattr(provider, "secret_key", None)
    return own() if own is not None else SecretBytes.of(provider.get_key())


def stored_provider(
    stored: Mapping[str, str], passphrase: str | None, key_provider: KeyProvider | None, cost: int | None
) -> KeyProvider:
    """The provider for a stored context: the given one, or that of a passphrase at scrypt's `cost`.

    A given provider of a passphrase takes salt and cost of the context; `cost` is None where the context has
    none. Raises InputError when none fits, DecryptionError for a malformed wrapped key.
    """
    try:
        wrapped = b64decode(stored["wrapped_key"], validate=True)
    except ValueError:
        raise undecryptable() from None
    if isinstance(key_provider, PassphraseKeyProvider) and cost is not None:
        return key_provider.with_salt(wrapped, cost)
    if key_provider is not None:
        return key_provider
    if passphrase is None:
        raise InputError("Either key_provider or passphrase must be given")
    if stored["key_provider"] != "passphrase":
        raise InputError(
            f"key_provider: this context's key is held by {stored['key_provider'][:80]!r}, "
            "not by a passphrase; give that provider (its from_wrapped takes the stored wrapped_key)"
        )
    return PassphraseKeyProvider.from_wrapped(wrapped, passphrase=passphrase, cost=cost)


class KeyProviderError(XTraceError, RuntimeError):
    """A key service refused or failed. The message says what to do about it; `code` is the service's word."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


_KMS_ADVICE: Final = {
    "AccessDeniedException": "the credentials may not do this; grant {action} on the key",
    "DependencyTimeoutException": "KMS timed out; try again",
    "DisabledException": "the key is disabled; enable it in KMS",
    "ExpiredTokenException": "the AWS session has expired; sign in again",
    "InvalidGrantTokenException": "the grant token is not valid; use another",
    "InvalidKeyUsageException": "the key is not for ENCRYPT_DECRYPT; use a symmetric encryption key",
    "KMSInternalException": "KMS failed; try again",
    "KMSInvalidStateException": (
        "the key's state does not allow it (pending deletion or import); cancel that or use another key"
    ),
    "KeyUnavailableException": "the key is not available for the moment; try again",
    "NotFoundException": "no such key or alias in this account and region; check key_id and the region",
    "ThrottlingException": "KMS limits the request rate; try again later",
    "UnrecognizedClientException": "AWS does not know the credentials; check the access key and the region",
}
# The wrapped key, the EncryptionContext or the key is not the one it was made with: not told apart.
_KMS_MISMATCH: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class AWSKMSKeyProvider(Secret):
    """Takes the key from AWS KMS by envelope encryption; made by `create` or `from_wrapped`.

    `kms_client` is what ``boto3.client("kms")`` returns. KMS makes a random data key and returns it twice: in
    plain text, which stays in this process, and encrypted under the KMS key, to be stored in the context.
    """

    __slots__ = ("_key", "_key_id", "_wrapped")
    _key: SecretBytes
    _key_id: str
    _wrapped: bytes

    def __init__(self, kms_client: Any, key_id: str) -> None:
        raise NotLoadedError(
            "no key yet: use AWSKMSKeyProvider.create(kms_client, key_id) for a new key, or "
            "AWSKMSKeyProvider.from_wrapped(wrapped, kms_client=..., key_id=...) for a stored one"
        )

    @classmethod
    def create(
        cls, kms_client: Any, key_id: str, *, encryption_context: dict[str, str] | None = None
    ) -> Self:
        """A new data key under `key_id` (id, ARN or alias).

        `encryption_context` is bound to the wrapped key and must be given again to `from_wrapped`; KMS logs
        it in the clear. Raises KeyProviderError.
        """
        answer = _kms(
            kms_client, "GenerateDataKey", key_id, encryption_context, KeyId=key_id, KeySpec="AES_256"
        )
        return cls._made(answer["Plaintext"], answer["CiphertextBlob"], key_id)

    @classmethod
    def from_wrapped(
        cls,
        wrapped: bytes,
        *,
        kms_client: Any,
        key_id: str,
        encryption_context: dict[str, str] | None = None,
    ) -> Self:
        """The data key that `wrap_key` returned, decrypted by KMS.

        Raises DecryptionError when `wrapped`, the key or the encryption context is not the one it was made
        with, and KeyProviderError when KMS refuses or cannot be reached.
        """
        answer = _kms(
            kms_client,
            "Decrypt",
            key_id,
            encryption_context,
            CiphertextBlob=as_bytes(wrapped, "wrapped"),
            KeyId=key_id,
        )
        return cls._made(answer["Plaintext"], wrapped, key_id)

    @classmethod
    def _made(cls, key: bytes, wrapped: bytes, key_id: str) -> Self:
        if len(key) != KEY_BYTES:
            raise DecryptionError(f"the wrapped key holds {len(key)} bytes, expected a 32-byte key")
        provider = object.__new__(cls)
        provider._key = SecretBytes.of(key)
        provider._wrapped = bytes(wrapped)
        provider._key_id = key_id
        return provider

    def get_key(self) -> bytes:
        """The 32-byte data key."""
        return bytes(self._key)

    def secret_key(self) -> SecretBytes:
        """The key itself, wiped with the provider."""
        return self._key

    def wrap_key(self) -> bytes:
        """The data key as encrypted by KMS (``CiphertextBlob``)."""
        return self._wrapped

    def provider_id(self) -> str:
        """``"aws_kms"``."""
        return "aws_kms"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key_id={self._key_id!r})"


def _kms(
    client: Any, action: str, key_id: str, encryption_context: dict[str, str] | None, **arguments: Any
) -> dict[str, Any]:
    """One call of KMS, with its failures made ours."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
    except ImportError:
        raise ConfigurationError(
            "AWSKMSKeyProvider needs boto3; install the extra: xtrace-sdk-native[kms]"
        ) from None
    if not isinstance(key_id, str) or not key_id:
        raise InputError("key_id: expected the id, ARN or alias of a KMS key")
    if encryption_context:
        arguments["EncryptionContext"] = encryption_context
    method = {"GenerateDataKey": "generate_data_key", "Decrypt": "decrypt"}[action]
    try:
        answer: dict[str, Any] = getattr(client, method)(**arguments)
    except ClientError as error:
        details = error.response.get("Error", {})
        code = str(details.get("Code", "Unknown"))
        if code in _KMS_MISMATCH:
            raise DecryptionError(
                "cannot decrypt: wrong KMS key or encryption context, or the wrapped key was changed"
            ) from None
        advice = _KMS_ADVICE.get(code, str(details.get("Message", ""))).format(action=f"kms:{action}")
        raise KeyProviderError(f"KMS {action} with key {key_id}: {code}: {advice}", code) from error
    except ParamValidationError as error:
        raise InputError(f"KMS {action}: {error}") from None
    except BotoCoreError as error:
        raise KeyProviderError(
            f"KMS {action} with key {key_id}: {error}; check network, region and credentials",
            type(error).__name__,
        ) from error
    return answer
