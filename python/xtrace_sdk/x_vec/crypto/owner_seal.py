"""Contents that writers seal to the owner, whose key they do not have.

::

    sealed = HPKE( tag[32] || content )      base mode, DHKEM(X25519, HKDF-SHA256), AES-256-GCM (RFC 9180)
    info   = "xtrace writer's content" || record
    tag    = HMAC-SHA256( writer's content key, record || content )

HPKE keeps a content from everybody but the owner, but anybody who has the public key could make one. The tag
does not: a content is of the writer whose name stands in the record beside it, or is refused.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from xtrace_sdk.x_vec.crypto.encryption.aes import KEY_BYTES, undecryptable
from xtrace_sdk.x_vec.crypto.secrets import SecretBytes, derived

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO: Final = b"xtrace writer's content"
_TAG_KEY: Final = b"xtrace writer's content key"
_TAG_BYTES: Final = 32


def seal_to_owner(content: bytes, record: bytes, owner: bytes, writer_secret: SecretBytes) -> bytes:
    """`owner`: the owner's public key, 32 bytes; `writer_secret`: the writer's in the record's epoch."""
    plain = _tag(content, record, writer_secret) + content
    return _SUITE.encrypt(plain, X25519PublicKey.from_public_bytes(owner), _INFO + record)


def open_from_writer(
    sealed: bytes, record: bytes, sealing_key: SecretBytes, writer_secret: SecretBytes
) -> bytes:
    """The content that this writer sealed beside this record. Raises DecryptionError for anything else."""
    try:
        plain = _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(sealing_key), _INFO + record)
    except (InvalidTag, ValueError):
        raise undecryptable() from None
    tag, content = plain[:_TAG_BYTES], plain[_TAG_BYTES:]
    if not hmac.compare_digest(tag, _tag(content, record, writer_secret)):
        raise undecryptable()
    return content


def public_half(sealing_key: SecretBytes) -> bytes:
    """The public key, 32 bytes, that belongs to the owner's sealing key of an epoch."""
    return X25519PrivateKey.from_private_bytes(sealing_key).public_key().public_bytes_raw()


def _tag(content: bytes, record: bytes, writer_secret: SecretBytes) -> bytes:
    key = derived(HKDFExpand(SHA256(), KEY_BYTES, _TAG_KEY), writer_secret, KEY_BYTES)
    return hmac.digest(key, len(record).to_bytes(8, "big") + record + content, "sha256")
