"""What a machine needs to add documents to a collection of which it shall read nothing.

Stored in format v2 (`xtrace_sdk.x_vec.utils.execution_context_v2`) with these differences::

    type    "AuthenticatedWriter"
    config  JSON text of {"writer", "owner": base64 of the owner's public sealing key, "public": the owner's
            stored pk, type and config}
    sk      nothing
    header  id and epoch are the owner's, keys has the writer's secret in place of the epoch's root key
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk._core import HammingEncryptor, PublicKey
from xtrace_sdk.errors import InputError
from xtrace_sdk.x_vec.crypto.authenticated import WriterKeys, fresh_nonces
from xtrace_sdk.x_vec.crypto.bits import as_bits
from xtrace_sdk.x_vec.crypto.encryption.aes import KEY_BYTES, undecryptable
from xtrace_sdk.x_vec.crypto.key_provider import KeyProvider
from xtrace_sdk.x_vec.crypto.numbers import load_numbers
from xtrace_sdk.x_vec.crypto.secrets import Secret, SecretBytes
from xtrace_sdk.x_vec.utils import execution_context_v2 as v2
from xtrace_sdk.x_vec.utils.execution_context_files import (
    keep_other,
    parse_object,
    prepare_target,
    read_stored,
    write_private,
)

if TYPE_CHECKING:
    from xtrace_sdk._core import Progress

TYPE: Final = v2.TYPE_PREFIX + "Writer"
_ROOT: Final = 0


class WriteOnlyClient(Secret):
    """Encrypts vectors with public values, masked with a writer's secret. It decodes nothing.

    Attributes:
        embed_len: dimension of the vectors.
    """

    def __init__(self, public: dict[str, str], records: WriterKeys) -> None:
        lookup = "g_n" in parse_object(public["pk"])
        numbers = load_numbers(public["pk"], ("n", "g_n") if lookup else ("n",), "pk")
        lengths = load_numbers(
            public["config"], ("embed_len", "alpha_len") if lookup else ("embed_len",), "config"
        )
        # Whatever g is, its power (1 + n)**m is the same to the owner: g differs from it by noise.
        key = PublicKey(numbers["n"], numbers["n"] + 1, numbers.get("g_n"))
        self.embed_len = lengths["embed_len"]
        self._encryptor = HammingEncryptor(key, self.embed_len, lengths.get("alpha_len"))
        self._records = records

    def encrypt_records(
        self,
        bits: NDArray[np.uint8],
        *,
        epoch: int | None = None,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Binary vectors (N, embed_len) -> ciphertexts (N, chunks, width), nonces (N, 24).

        Raises InputError or DimensionMismatchError, DecryptionError for another epoch than the writer's.
        """
        checked = as_bits(bits, self.embed_len, "bits")
        nonces = fresh_nonces(len(checked))
        key = self._records.own(epoch)
        return self._encryptor.encrypt_records(
            checked, nonces, key, threads=threads, progress=progress
        ), nonces


class WriterContext(Secret):
    """A context for a `DataLoader` that adds documents and reads none. Made by `ExecutionContext.writer`.

    It can forge records under its own name and under no other. It serves for one key epoch.

    Attributes:
        homomorphic: the client that encrypts vectors.
        records: seals contents to the owner.
        key_provider: where the key that protects the stored writer comes from.
        id: that of the owner's context.
    """

    def __init__(
        self,
        public: dict[str, str],
        roots: v2.RootKeys,
        name: str,
        owner: bytes,
        key_provider: KeyProvider | None,
    ) -> None:
        self._public = public
        self._roots = roots
        self._owner = owner
        self.key_provider = key_provider
        self.id = roots.id
        self.records = WriterKeys(roots.root(roots.epoch), roots.epoch, name, owner)
        self.homomorphic = WriteOnlyClient(public, self.records)

    @classmethod
    def new(
        cls,
        public: dict[str, str],
        context_id: str,
        epoch: int,
        name: str,
        secret: SecretBytes,
        owner: bytes,
        key_provider: KeyProvider | None,
    ) -> WriterContext:
        """The writer `name` in an epoch of the context with this id; `owner` is the public sealing key."""
        roots = v2.RootKeys(context_id, {_ROOT: SecretBytes.random(KEY_BYTES), epoch: secret}, epoch, 1)
        return cls(public, roots, name, owner, key_provider)

    @property
    def name(self) -> str:
        """The writer's name, which its records carry for everybody to read."""
        return self.records.writer

    @property
    def epoch(self) -> int:
        """The key epoch that it writes in."""
        return self._roots.epoch

    def embed_len(self) -> int:
        """Dimension of the vectors."""
        return self.homomorphic.embed_len

    def public_part(self) -> dict[str, str]:
        """The owner's ``pk``, ``type`` and ``config``."""
        return dict(self._public)

    def subkey(self, label: bytes, epoch: int) -> SecretBytes:
        """A 32-byte key for a purpose of the writer's own. Raises DecryptionError unless `epoch` is 0."""
        if epoch != _ROOT:
            raise undecryptable()
        return self._roots.subkey(label, epoch)

    def to_dict_enc(self) -> dict[str, str]:
        """The stored object. Raises InputError when the writer was made without passphrase and provider."""
        if self.key_provider is None:
            raise InputError("key_provider: a writer that is stored needs a passphrase or a provider")
        owner = b64encode(self._owner).decode("ascii")
        config = {"writer": self.name, "owner": owner, "public": self._public}
        stored = {"pk": self._public["pk"], "type": TYPE, "config": json.dumps(config)}
        return v2.seal(stored, "", self.key_provider, self._roots)

    def save_to_disk(self, path: str | os.PathLike[str]) -> None:
        """As `ExecutionContext.save_to_disk`."""
        target = Path(path)
        prepare_target(target)
        stored = self.to_dict_enc()
        keep_other(target, stored)
        write_private(target, json.dumps(stored).encode("ascii"))

    @classmethod
    def load_from_disk(
        cls,
        passphrase: str | None = None,
        path: str | os.PathLike[str] = "",
        key_provider: KeyProvider | None = None,
    ) -> WriterContext:
        """The writer that `save_to_disk` wrote.

        Raises DecryptionError, the same for a wrong passphrase and a changed or cut file; InputError for a
        missing argument or a context that is no writer's; OSError.
        """
        stored: dict[str, Any] = read_stored(Path(path))
        if stored.get("type") != TYPE:
            raise InputError(f"type: expected {TYPE}, got {str(stored.get('type'))[:80]!r}")
        provider, roots, _ = v2.open_stored(stored, passphrase, key_provider)
        config = parse_object(stored["config"])
        return cls(config["public"], roots, config["writer"], b64decode(config["owner"]), provider)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, id={self.id!r}, epoch={self.epoch})"
