"""Contexts whose root keys AWS KMS keeps.

``XTRACE_KMS_KEY_ID`` names the KMS key; account and region come from boto3's own settings. KMS's
EncryptionContext is the JSON object in ``XTRACE_KMS_ENCRYPTION_CONTEXT``, if it is set; sealed contexts have
their id beside it, so that KMS logs what was opened.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from xtrace_sdk.errors import ConfigurationError, DecryptionError

if TYPE_CHECKING:
    from xtrace_sdk.cli.settings import Settings
    from xtrace_sdk.x_vec.crypto.key_provider import AWSKMSKeyProvider

KEY_ID: Final = "XTRACE_KMS_KEY_ID"
ENCRYPTION_CONTEXT: Final = "XTRACE_KMS_ENCRYPTION_CONTEXT"


def new_provider(settings: Settings, context_id: str | None) -> AWSKMSKeyProvider:
    """A new data key for a sealed context, or (None) one of the original's format.

    Raises ConfigurationError, KeyProviderError.
    """
    from xtrace_sdk.x_vec.crypto.key_provider import AWSKMSKeyProvider

    binding = _binding(settings, context_id)
    return AWSKMSKeyProvider.create(_client(), _key_id(settings), encryption_context=binding)


def stored_provider(settings: Settings, stored: Mapping[str, Any]) -> AWSKMSKeyProvider:
    """The data key of a stored context. Raises as `new_provider`, and DecryptionError."""
    from xtrace_sdk.x_vec.crypto.key_provider import AWSKMSKeyProvider
    from xtrace_sdk.x_vec.utils import execution_context_v2 as v2

    try:
        wrapped = b64decode(stored["wrapped_key"], validate=True)
    except (KeyError, TypeError, ValueError):
        raise DecryptionError("wrapped_key: not valid base64") from None
    binding = _binding(settings, v2.read_header(stored)["id"] if v2.is_v2(stored) else None)
    return AWSKMSKeyProvider.from_wrapped(
        wrapped, kms_client=_client(), key_id=_key_id(settings), encryption_context=binding
    )


def _binding(settings: Settings, context_id: str | None) -> dict[str, str] | None:
    given = _given(settings)
    return given if context_id is None else {**(given or {}), "xtrace-context": context_id}


def pairs(options: list[str]) -> str:
    """``["a=b"]`` as the settings keep it. Raises ConfigurationError naming the option."""
    parted = [option.partition("=") for option in options]
    if not all(name and equals for name, equals, _ in parted):
        raise ConfigurationError("--kms-context: expected NAME=VALUE")
    return json.dumps({name: value for name, _, value in parted})


def _given(settings: Settings) -> dict[str, str] | None:
    text = settings.values.get(ENCRYPTION_CONTEXT)
    if not text:
        return None
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict) or not all(isinstance(value, str) for value in parsed.values()):
        raise ConfigurationError(f"{ENCRYPTION_CONTEXT}: expected a JSON object of strings")
    return parsed


def _key_id(settings: Settings) -> str:
    found = settings.values.get(KEY_ID)
    if not found:
        raise ConfigurationError(f"{KEY_ID}: set it to the id, ARN or alias of the KMS key")
    return found


def _client() -> Any:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise ConfigurationError("AWS KMS needs boto3; install the extra: xtrace-sdk-native[kms]") from None
    try:
        return boto3.client("kms")
    except (BotoCoreError, ValueError) as error:  # no region, a malformed endpoint
        raise ConfigurationError(f"AWS KMS: {error}") from None
