"""An execution context: a homomorphic key pair, its configuration, and the AES key for contents.

Stored (on disk, or by the server) in one of two formats. That of sealed contexts, whose data are encoded so
that answers can be checked, is described in `xtrace_sdk.x_vec.utils.execution_context_v2`. The other is the
original SDK's, with the plain encoding: one JSON object of six strings::

    sk            AES blob of the secret key's JSON text
    pk            JSON text of the public key
    type          "PaillierClient" or "PaillierLookupClient"
    config        JSON text: dimension and key length
    key_provider  "passphrase", "aws_kms", or a provider of your own
    wrapped_key   base64 of what the provider needs to find the key again (for a passphrase: the salt)

    id = SHA-256( JSON of {sk, pk, type, config}, all in plain text )     64 hex digits

Only `sk` is authenticated by the latter, so whatever is read is checked to belong together, and a context
from a server must have the id that was asked for. A ``tables`` field is ignored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from xtrace_sdk.errors import DecryptionError, InputError, KeyMismatchError
from xtrace_sdk.wire import RECORD, decode_record
from xtrace_sdk.x_vec.crypto.authenticated import RecordKeys, altered
from xtrace_sdk.x_vec.crypto.core_client import CorePaillierClient, positive
from xtrace_sdk.x_vec.crypto.encryption.aes import AESClient, undecryptable
from xtrace_sdk.x_vec.crypto.key_provider import (
    COST,
    ORIGINAL_COST,
    KeyProvider,
    PassphraseKeyProvider,
    provider_key,
    stored_provider,
)
from xtrace_sdk.x_vec.crypto.paillier_client import PaillierClient
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.crypto.secrets import Secret, SecretBytes
from xtrace_sdk.x_vec.utils import execution_context_v2 as v2
from xtrace_sdk.x_vec.utils.execution_context_files import (
    check_fields,
    check_pin,
    keep_other,
    parse_object,
    prepare_target,
    read_stored,
    write_private,
)

if TYPE_CHECKING:
    from xtrace_sdk._core import Progress
    from xtrace_sdk.x_vec.utils.execution_context_writer import WriterContext

_TYPES: Final[dict[str, type[PaillierClient | PaillierLookupClient]]] = {
    "paillier": PaillierClient,
    "paillier_lookup": PaillierLookupClient,
}
Encoding = Literal["authenticated", "plain"]
_CHUNKS: Final = b"xtrace chunks"
_FIELDS: Final = ("sk", "pk", "type", "config", "key_provider", "wrapped_key")
# CPython reads no integer of more than 4,300 digits: n**2 in the original's format, n in the other.
_MAX_KEY_LEN: Final = {"plain": 3570, "authenticated": 7100}


@runtime_checkable
class HomomorphicClient(Protocol):
    """What a context, the loader and the retriever ask of a homomorphic client."""

    embed_len: int
    key_len: int

    def encrypt_vec_one(self, embd: Any) -> list[mpz]: ...
    def encrypt_vec_batch(self, embds: Any) -> list[list[mpz]]: ...
    def decode_hamming_client_one(self, cipher: Any) -> int: ...
    def decode_hamming_client_batch(self, ciphers: Any) -> list[int]: ...
    def encrypt_to_array(
        self, bits: NDArray[np.uint8], *, threads: int = 0, progress: Progress | None = None
    ) -> NDArray[np.uint8]: ...
    def decode_from_array(
        self, rows: NDArray[np.uint8], *, threads: int = 0, progress: Progress | None = None
    ) -> NDArray[np.int32]: ...
    def stringify_sk(self) -> str: ...
    def stringify_pk(self) -> str: ...
    def stringify_config(self) -> str: ...
    def load_stringified_keys(self, pk: str, sk: str) -> None: ...


class ContextStore(Protocol):
    """Where contexts are kept remotely: the two calls of ``XTraceIntegration`` that this module makes."""

    async def store_exec_context(self, exec_context_dict: dict[str, Any], context_id: str) -> str: ...
    async def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]: ...


class ExecutionContext(Secret):
    """Keys and configuration of one encrypted collection. Equal when the ids are; neither copied nor pickled.

    Attributes:
        homomorphic: the client that encrypts vectors and decodes distances.
        key_provider: where the AES key comes from.
        aes: seals and opens contents.
        id: 64 hex digits.
        encoding: ``"authenticated"``, or ``"plain"``: the original SDK's, whose answers cannot be checked.
        records: seals contents to the records of their vectors; None with the plain encoding.

    Raises KeyMismatchError if `context_id` is given and is not the id of these keys.
    """

    def __init__(
        self,
        homomorphic_client: HomomorphicClient,
        key_provider: KeyProvider,
        context_id: str | None = None,
        *,
        roots: v2.RootKeys | None = None,
    ) -> None:
        self.homomorphic = homomorphic_client
        self.key_provider = key_provider
        self.encoding: Encoding = "plain" if roots is None else "authenticated"
        self.records: RecordKeys | None = None
        if roots is None:
            self.id = context_hash(
                homomorphic_client.stringify_sk(),
                homomorphic_client.stringify_pk(),
                type(homomorphic_client).__name__,
                homomorphic_client.stringify_config(),
            )
            key = provider_key(key_provider)
            self._roots = v2.RootKeys(self.id, {0: key}, 0, 0)
            self.aes = AESClient(key)
        else:
            self.id = roots.id
            self._roots = roots
            self.aes = AESClient(self.subkey(_CHUNKS, self.epoch))
            self.records = RecordKeys.of_owner(roots.subkey, lambda: roots.epoch)
            cast("CorePaillierClient", homomorphic_client).use_records(self.records)
        if context_id is not None and context_id != self.id:
            raise KeyMismatchError(
                f"context_id: {context_id!r} is not the id of these keys ({self.id}); "
                "keys or configuration were replaced, or it is another context"
            )

    @classmethod
    def create(
        cls,
        passphrase: str | None = None,
        homomorphic_client_type: str = "paillier_lookup",
        embedding_length: int = 512,
        key_len: int = 1024,
        salt: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
        key_provider: KeyProvider | None = None,
        *,
        alpha_len: int | None = None,
        encoding: Encoding = "authenticated",
        allow_insecure: bool = False,
    ) -> ExecutionContext:
        """A context with new keys.

        Args:
            passphrase: protects the keys at rest; not needed with a `key_provider`, which wins.
            homomorphic_client_type: ``"paillier_lookup"`` or ``"paillier"``, in any case.
            embedding_length: dimension of the vectors, at least 1.
            key_len: bits of each prime, at least 1024; 1536 for data that must last.
            salt: of the passphrase; random unless given.
            path: save there at once (see `save_to_disk`); refused before any key is made if it cannot be.
            alpha_len: bits of the subgroup's order (``"paillier_lookup"`` only); by `key_len` unless given.
            encoding: ``"authenticated"``, or ``"plain"`` for data that the original SDK shall read.
            allow_insecure: accept keys that can be broken, for tests.

        Raises InputError, WeakKeyError, OSError.
        """
        if encoding not in get_args(Encoding):
            raise InputError(f"encoding: expected one of {', '.join(get_args(Encoding))}, got {encoding!r}")
        provider = _provider(passphrase, key_provider, salt, encoding)
        client_type = _TYPES.get(str(homomorphic_client_type).lower())
        if client_type is None:
            raise InputError(
                f"homomorphic_client_type: Unsupported type {homomorphic_client_type!r}, "
                f"expected one of {', '.join(_TYPES)}"
            )
        positive(embedding_length, "embedding_length")
        if positive(key_len, "key_len") > _MAX_KEY_LEN[encoding]:
            raise InputError(f"key_len: the context format holds keys up to {_MAX_KEY_LEN[encoding]}")
        if path is not None:
            prepare_target(Path(path))
        client: CorePaillierClient
        if client_type is PaillierLookupClient:
            client = PaillierLookupClient(embedding_length, key_len, alpha_len, allow_insecure=allow_insecure)
        elif alpha_len is not None:
            raise InputError("alpha_len: only paillier_lookup keys have one")
        else:
            client = PaillierClient(embedding_length, key_len, allow_insecure=allow_insecure)
        client.check_exact()
        context = cls(client, provider, roots=v2.RootKeys.new() if encoding == "authenticated" else None)
        if path is not None:
            context.save_to_disk(path)
        return context

    # Serialised forms

    def to_dict_enc(self) -> dict[str, str]:
        """The stored object: strings, the secret key encrypted (afresh, so `sk` differs every time)."""
        public = self.public_part()
        if self.encoding == "authenticated":
            return v2.seal(public, self.homomorphic.stringify_sk(), self.key_provider, self._roots)
        return {
            "sk": self.aes.encrypt(self.homomorphic.stringify_sk()).decode("ascii"),
            "pk": public["pk"],
            "type": public["type"],
            "config": public["config"],
            "key_provider": self.key_provider.provider_id(),
            "wrapped_key": b64encode(self.key_provider.wrap_key()).decode("ascii"),
        }

    def public_part(self) -> dict[str, str]:
        """What a server needs to know: ``pk``, ``type`` and ``config``."""
        if self.encoding == "authenticated":
            return v2.public_part(cast("CorePaillierClient", self.homomorphic))
        return {
            "pk": self.homomorphic.stringify_pk(),
            "type": type(self.homomorphic).__name__,
            "config": self.homomorphic.stringify_config(),
        }

    def serialize_exec_context(self) -> str:
        """The JSON text of `to_dict_enc`."""
        return json.dumps(self.to_dict_enc())

    # On disk

    def save_to_disk(self, path: str | os.PathLike[str]) -> None:
        """Write the context to `path`: atomically, readable by its owner only, parent folders created.

        Another context that is already there is kept beside it, as ``PATH.<8 hex digits>.bak``. Raises
        OSError, in which case `path` is as it was.
        """
        target = Path(path)
        prepare_target(target)
        keep_other(target, self.public_part())
        write_private(target, self.serialize_exec_context().encode("ascii"))

    @classmethod
    def load_from_disk(
        cls,
        passphrase: str | None = None,
        path: str | os.PathLike[str] = "",
        key_provider: KeyProvider | None = None,
        *,
        allow_insecure: bool = False,
    ) -> ExecutionContext:
        """The context that `save_to_disk` (or the original SDK) wrote.

        Raises DecryptionError, the same for a wrong passphrase and a changed or cut file; KeyMismatchError
        when public key, secret key and configuration do not belong together; WeakKeyError for keys that can
        be broken, unless `allow_insecure`; InputError for a missing argument or another type; OSError.
        """
        if not os.fspath(path):
            raise InputError("path: must not be empty")
        stored = read_stored(Path(path))
        return cls._from_serialized_exec_context(
            stored, passphrase, key_provider, allow_insecure=allow_insecure
        )

    # Remote

    async def save_to_remote(self, integration: ContextStore) -> str:
        """Store the context, its secret key encrypted, with the server; returns its id."""
        stored: str = await integration.store_exec_context(self.to_dict_enc(), self.id)
        if stored != self.id:
            raise KeyMismatchError(f"the server stored the context under {stored!r}, expected {self.id}")
        return stored

    @classmethod
    async def load_from_remote(
        cls,
        passphrase: str | None = None,
        context_id: str = "",
        integration: ContextStore | None = None,
        key_provider: KeyProvider | None = None,
        *,
        pin: str | os.PathLike[str] | None = None,
        allow_insecure: bool = False,
    ) -> ExecutionContext:
        """The context with this id from the server, which need not be trusted: the id is checked.

        With `pin`, a file of this device that remembers the newest revision seen of each context, an earlier
        state of a sealed context is refused; without it the server can give any that the passphrase opens.

        Raises as `load_from_disk`, KeyMismatchError when the server's answer has another id, IntegrityError
        for an earlier revision.
        """
        if integration is None:
            raise InputError("integration: needed to load a context from a server")
        if not context_id:
            raise InputError("context_id: must not be empty")
        stored = await integration.get_serialized_exec_context(context_id)
        if isinstance(stored, dict) and "sk" not in stored:
            raise DecryptionError(
                f"the server holds only the public part of context {context_id}; "
                "load it from where it was created, and save_to_remote it there"
            )

        def load() -> ExecutionContext:
            context = cls._from_serialized_exec_context(
                stored, passphrase, key_provider, context_id, allow_insecure=allow_insecure
            )
            if pin is not None:
                check_pin(Path(pin), context.id, context.revision)
            return context

        return await asyncio.to_thread(load)

    @classmethod
    def _from_serialized_exec_context(
        cls,
        json_obj: Any,
        passphrase: str | None = None,
        key_provider: KeyProvider | None = None,
        context_id: str | None = None,
        *,
        allow_insecure: bool = False,
    ) -> ExecutionContext:
        sealed = isinstance(json_obj, dict) and v2.is_v2(json_obj)
        check_fields(json_obj, v2.FIELDS if sealed else _FIELDS)
        roots: v2.RootKeys | None = None
        if sealed:
            provider, roots, secret = v2.open_stored(json_obj, passphrase, key_provider)
        else:
            provider = stored_provider(json_obj, passphrase, key_provider, ORIGINAL_COST)
            secret = AESClient(provider_key(provider)).decrypt(json_obj["sk"])
        prefix = v2.TYPE_PREFIX if sealed else ""
        client_type = next(
            (known for known in _TYPES.values() if prefix + known.__name__ == json_obj["type"]), None
        )
        if client_type is None:
            raise InputError(f"type: Unsupported type of context {json_obj['type'][:80]!r}")
        client = client_type(skip_key_gen=True, allow_insecure=allow_insecure)
        try:
            pk = v2.original_pk(json_obj["pk"]) if sealed else json_obj["pk"]
            client.load_stringified_keys(pk, secret)
            client.load_config(parse_object(json_obj["config"]))
        except InputError:  # malformed: not what was written
            raise undecryptable() from None
        client.check_exact()
        return cls(client, provider, context_id, roots=roots)

    # Contents

    def open_content(self, chunk: Mapping[str, Any]) -> str:
        """The content of a chunk as a server gave it, with its ``record`` under the authenticated encoding.

        Raises DecryptionError; IntegrityError under the authenticated encoding.
        """
        content = chunk.get("chunk_content", "")
        if self.records is None:
            return self.aes.decrypt(content)
        record = chunk.get(RECORD, b"")
        try:
            return self.records.open(
                content, decode_record(record, RECORD) if isinstance(record, str) else record
            )
        except InputError:
            raise altered() from None

    # Changing keys; what is changed lasts once the context is saved

    @property
    def epoch(self) -> int:
        """The key epoch that new data belong to; 0 with the plain encoding, which has no others."""
        return self._roots.epoch

    @property
    def epochs(self) -> list[int]:
        """The key epochs whose data can be read."""
        return self._roots.epochs

    @property
    def revision(self) -> int:
        """How often the keys were changed; 0 with the plain encoding."""
        return self._roots.revision

    def begin_epoch(self) -> int:
        """Start a key epoch with a root key of its own -> its number. Data of earlier ones stay readable.

        Raises InputError with the plain encoding.
        """
        self._only_sealed("begin_epoch")
        self._roots.begin_epoch()
        self.aes = AESClient(self.subkey(_CHUNKS, self.epoch))
        return self.epoch

    def retire_epoch(self, epoch: int) -> None:
        """Forget the root key of a past epoch. Nothing stored under it can be read any more, wherever it is,
        once no copy of the context is left that still has the key.

        Raises InputError for the current epoch, an unknown one, and with the plain encoding.
        """
        self._only_sealed("retire_epoch")
        self._roots.retire(epoch)
        if self.records is not None:
            self.records.forget()

    def rewrap(self, passphrase: str | None = None, key_provider: KeyProvider | None = None) -> None:
        """Protect the root keys by another passphrase or provider. Stored data are not touched.

        Whoever has a copy of the context and the old passphrase can still open that copy. Raises InputError
        with the plain encoding, where the passphrase's key itself encrypts the data.
        """
        self._only_sealed("rewrap")
        self.key_provider = _provider(passphrase, key_provider, None, self.encoding)
        self._roots.revision += 1

    def writer(
        self, name: str, passphrase: str | None = None, key_provider: KeyProvider | None = None
    ) -> WriterContext:
        """A context for a machine that adds documents in this epoch and reads none, not even its own.

        `name` stands in the clear beside what it stores; at most 64 bytes. With a `passphrase` or a
        `key_provider`, which wins, the writer can be saved. Raises InputError, also with the plain encoding.
        """
        from xtrace_sdk.x_vec.utils.execution_context_writer import WriterContext

        if self.records is None:
            raise InputError(
                "writer: contexts of the plain encoding have none; with their key all can be read"
            )
        if passphrase is not None or key_provider is not None:
            key_provider = _provider(passphrase, key_provider, None, self.encoding)
        secret, owner = self.records.for_writer(name)
        return WriterContext.new(self.public_part(), self.id, self.epoch, name, secret, owner, key_provider)

    def _only_sealed(self, call: str) -> None:
        if self.encoding == "plain":
            raise InputError(
                f"{call}: contexts of the original's format have one key for ever, which encrypts the data "
                "itself; `xtrace keys migrate` moves the data to a new context"
            )

    def subkey(self, label: bytes, epoch: int) -> SecretBytes:
        """A 32-byte key for one purpose: HKDF-SHA256 of the root key of `epoch`, salted with the id.

        Epoch 0 lasts as long as the context; the keys of the others go with `retire_epoch`. Raises
        DecryptionError for an epoch that is retired or never was.
        """
        return self._roots.subkey(label, epoch)

    def close(self) -> None:
        """Wipe the keys, as the end of the context's life does.

        Later use raises NotLoadedError or DecryptionError. A provider of a passphrase derives its key again
        when another context needs it.
        """
        if isinstance(self.homomorphic, CorePaillierClient):
            self.homomorphic.close()
        if self.records is not None:
            self.records.forget()
        self.aes.close()
        self._roots.close()
        if isinstance(self.key_provider, PassphraseKeyProvider):
            self.key_provider.close()

    # Identity

    def hash(self) -> str:
        """The id: 64 hex digits."""
        return self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, ExecutionContext) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, {self.homomorphic!r}, {self.key_provider!r})"

    def __str__(self) -> str:
        """The stored object, indented for reading, without the encrypted secret key: it might be logged."""
        shown = self.public_part() | {"key_provider": self.key_provider.provider_id()}
        return json.dumps({"id": self.id, **shown}, indent=4)

    # Properties

    @property
    def device(self) -> str:
        """Where the homomorphic arithmetic runs: ``"cpu"``."""
        return getattr(self.homomorphic, "device", "unknown")

    def embed_len(self) -> int:
        """Dimension of the vectors."""
        return self.homomorphic.embed_len

    def key_len(self) -> int:
        """Bits of each prime."""
        return self.homomorphic.key_len

    def dump_tables(self) -> dict[str, Any]:
        """Always empty: tables are made in milliseconds and never leave the process."""
        return {}


def context_hash(sk: str, pk: str, type_name: str, config: str) -> str:
    """The id of a context, from its plain texts. Holders of the secret key alone can compute it."""
    plain = json.dumps({"sk": sk, "pk": pk, "type": type_name, "config": config})
    return hashlib.sha256(plain.encode("ascii")).hexdigest()


def _provider(
    passphrase: str | None, key_provider: KeyProvider | None, salt: bytes | None, encoding: Encoding
) -> KeyProvider:
    if key_provider is None:
        if passphrase is None:
            raise InputError("Either key_provider or passphrase must be given")
        key_provider = PassphraseKeyProvider(passphrase, salt)
    if not isinstance(key_provider, PassphraseKeyProvider):
        return key_provider
    if encoding == "plain":  # a format without room for another cost
        return key_provider.with_salt(key_provider.wrap_key(), ORIGINAL_COST)
    return key_provider.in_format(COST)
