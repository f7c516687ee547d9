"""What an encrypted store shows of an application's data: keyed hashes, and sealed texts.

A token is ``base64url(HMAC-SHA256(key, kind || parts)[:24])``, kind and parts each preceded by their length
in eight bytes, the key an HKDF subkey of the context's key. Equal inputs have equal tokens, which is how the
server finds them; nothing else can be learnt from one without the key.

A sealed text is an AES-256-GCM blob (`xtrace_sdk.x_vec.crypto.encryption.aes`) of a JSON object::

    v                version of this format, 1
    namespace, id    where the chunk belongs; checked when it is opened
    document_id, content, position, metadata, content_hash, embedding_model
    signs            base64 of the vector's sign bits, eight a byte, the first one highest
    zero             true for a zero vector, which has no direction
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.stores.base import Chunk, EmbeddedChunk
from xtrace_sdk.stores.checks import canonical
from xtrace_sdk.x_vec.crypto.encryption.aes import undecryptable
from xtrace_sdk.x_vec.crypto.secrets import Secret
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

_INFO: Final = b"xtrace-sdk stores tokens v1"
_TOKEN_BYTES: Final = 24  # 192 bits: no collisions by chance; 32 characters
_VERSION: Final = 1


class Tokens(Secret):
    """Keyed hashes of names, ids and metadata values under one execution context."""

    __slots__ = ("_key",)

    def __init__(self, context: ExecutionContext) -> None:
        self._key = context.subkey(_INFO, 0)  # lasts as long as the context: epochs come and go

    def namespace(self, namespace: str) -> str:
        """Stands for a namespace."""
        return self._token("namespace", namespace)

    def chunk(self, namespace: str, chunk_id: str) -> str:
        """Stands for an id; the same id in another namespace has another token."""
        return self._token("chunk", namespace, chunk_id)

    def field(self, namespace: str, name: str, value: Any) -> str:
        """Stands for one value of one field of metadata in one namespace."""
        return self._token("field", namespace, name, canonical(value))

    def _token(self, *parts: str) -> str:
        encoded = [part.encode() for part in parts]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
        return urlsafe_b64encode(hmac.digest(self._key, message, "sha256")[:_TOKEN_BYTES]).decode("ascii")


@dataclass(frozen=True, slots=True)
class Opened:
    """A chunk with the sign bits, packed, that its vector had when it was sealed."""

    chunk: Chunk
    signs: bytes
    zero: bool

    def distance(self, signs: bytes) -> int:
        """Hamming distance to other packed sign bits, which are as many."""
        return (int.from_bytes(self.signs, "big") ^ int.from_bytes(signs, "big")).bit_count()


def sealed_text(embedded: EmbeddedChunk, namespace: str, signs: bytes, zero: bool) -> str:
    """The JSON text to be encrypted."""
    fields = {
        "v": _VERSION,
        "namespace": namespace,
        **asdict(embedded.chunk),
        "embedding_model": embedded.embedding_model,
        "signs": b64encode(signs).decode("ascii"),
        "zero": zero,
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def opened(text: str, namespace: str, sign_bytes: int) -> Opened:
    """The chunk in a decrypted text. Raises DecryptionError when it is none, or of another namespace."""
    try:
        fields = json.loads(text)
        if fields.pop("v") != _VERSION or fields.pop("namespace") != namespace:
            raise undecryptable()
        signs, zero = b64decode(fields.pop("signs"), validate=True), bool(fields.pop("zero"))
        del fields["embedding_model"]
        if len(signs) != sign_bytes:
            raise undecryptable()
        return Opened(Chunk(**fields), signs, zero)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise undecryptable() from None


def packed(bits: NDArray[np.uint8]) -> bytes:
    """Bits (d,) -> bytes, the first bit highest."""
    return np.packbits(bits).tobytes()
