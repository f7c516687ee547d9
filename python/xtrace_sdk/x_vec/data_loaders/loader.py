"""Documents and their vectors become encrypted chunks on a server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InputError
from xtrace_sdk.x_vec.crypto.bits import binarise
from xtrace_sdk.x_vec.utils.background import in_thread
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.xtrace_types import (
    Chunk,
    DocumentCollection,
    EncryptedChunk,
    EncryptedDB,
    EncryptedIndex,
)

if TYPE_CHECKING:
    from xtrace_sdk._core import Progress

_EMBEDDINGS_AT_ONCE: Final = 8


class ChunkStore(Protocol):
    """Where chunks go: the calls of ``XTraceIntegration`` that this module makes."""

    async def register_public_context(self, data: Mapping[str, Any], context_id: str) -> None: ...
    async def store_db(
        self, db: Any, index: Any, kb_id: str, context_id: str, concurrent: bool = False
    ) -> list[Any]: ...
    async def update_chunks(
        self, index_updates: Any, chunk_updates: Any, context_id: str, kb_id: str
    ) -> list[Any]: ...
    async def delete_chunks(self, chunk_ids: Sequence[int], kb_id: str) -> dict[str, Any]: ...


class DataLoader:
    """Encrypts documents and stores them in a knowledge base.

    On its first upload the public part of the context (never the secret key) is registered with the server.
    """

    def __init__(self, execution_context: ExecutionContext, integration: ChunkStore) -> None:
        self.execution_context = execution_context
        self.integration = integration

    async def load_data_from_memory(
        self,
        chunks: DocumentCollection,
        vectors: Sequence[Any] | NDArray[Any] | Awaitable[Any],
        disable_progress: bool = False,
    ) -> tuple[EncryptedIndex, EncryptedDB]:
        """Encrypt documents with their vectors; nothing is sent.

        Args:
            chunks: dicts with ``chunk_content``; ``meta_data``, ``name``, ``chunk_id``, ``key`` may follow.
            vectors: one per chunk: sequences of numbers or awaitables of them, or one array (N, dimension).
                An element counts as 1 when it is greater than 0.
            disable_progress: show no progress bar.

        Returns the encrypted vectors and the encrypted chunks. Raises InputError naming the chunk or vector,
        DimensionMismatchError for a vector of another dimension than the context's.
        """
        resolved = await _resolve(vectors, len(chunks))
        plain = [_checked(chunk, number) for number, chunk in enumerate(chunks)]
        context = self.execution_context

        def encrypt(progress: Progress) -> tuple[EncryptedIndex, EncryptedDB]:
            bits = binarise(resolved, context.embed_len(), "vectors")
            rows = context.homomorphic.encrypt_to_array(bits, progress=progress)
            return EncryptedIndex(rows), [self._sealed(chunk) for chunk in plain]

        return await in_thread(encrypt, "Encrypting", len(plain), quiet=disable_progress)

    async def load_data_from_memory_batch(
        self,
        chunks: DocumentCollection,
        vectors: Sequence[Any] | NDArray[Any] | Awaitable[Any],
        disable_progress: bool = False,
    ) -> tuple[EncryptedIndex, EncryptedDB]:
        """The same as `load_data_from_memory`, which always works on whole batches."""
        return await self.load_data_from_memory(chunks, vectors, disable_progress)

    async def dump_db(
        self,
        db: EncryptedDB,
        index: EncryptedIndex | Sequence[Sequence[Any]],
        kb_id: str,
        concurrent: bool = False,
    ) -> list[Any]:
        """Store what `load_data_from_memory` returned; the server's answers, one per batch."""
        await self._register()
        return await self.integration.store_db(
            db, index, kb_id, self.execution_context.id, concurrent=concurrent
        )

    async def upsert_one(self, chunk: Chunk, vector: Any, kb_id: str) -> list[Any]:
        """Store one chunk, replacing the one with the same ``chunk_id`` or ``key`` if it carries one."""
        if not isinstance(chunk, Mapping):
            raise InputError(f"chunk: expected a dict, got {type(chunk).__name__}")
        if "chunk_id" in chunk:
            return await self.update_chunks([chunk], [vector], kb_id)
        index, db = await self.load_data_from_memory([chunk], [vector], disable_progress=True)
        return await self.dump_db(db, index, kb_id)

    async def update_chunks(
        self, chunk_updates: Sequence[Chunk], vectors: Sequence[Any] | NDArray[Any], kb_id: str
    ) -> list[Any]:
        """Replace contents, vectors and metadata of the chunks that the items' ``chunk_id`` name."""
        for number, chunk in enumerate(chunk_updates):
            if chunk.get("chunk_id") is None:
                raise InputError(f"chunk_updates[{number}]: chunk_id is missing")
        index, db = await self.load_data_from_memory(chunk_updates, vectors, disable_progress=True)
        await self._register()
        return await self.integration.update_chunks(index, db, self.execution_context.id, kb_id)

    async def delete_chunks(self, chunk_ids: Sequence[int], kb_id: str) -> dict[str, Any]:
        """Delete chunks by their ids."""
        return await self.integration.delete_chunks(chunk_ids, kb_id)

    async def _register(self) -> None:
        # The server multiplies modulo n**2, so it needs the public key. The integration asks it only once.
        context = self.execution_context
        await self.integration.register_public_context(context.public_part(), context.id)

    def _sealed(self, chunk: Chunk) -> EncryptedChunk:
        sealed: EncryptedChunk = {
            "chunk_content": self.execution_context.aes.encrypt(chunk["chunk_content"]),
            "meta_data": chunk.get("meta_data", {}),
            "name": chunk.get("name", ""),
        }
        if "chunk_id" in chunk:
            sealed["chunk_id"] = chunk["chunk_id"]
        if "key" in chunk:
            sealed["key"] = chunk["key"]
        return sealed


def _checked(chunk: Chunk, number: int) -> Chunk:
    if not isinstance(chunk, Mapping):
        raise InputError(f"chunks[{number}]: expected a dict, got {type(chunk).__name__}")
    for name, kind in (("chunk_content", str), ("meta_data", Mapping), ("name", str), ("key", str)):
        if (name in chunk or name == "chunk_content") and not isinstance(chunk.get(name), kind):
            raise InputError(f"chunks[{number}].{name}: expected {kind.__name__}")
    return chunk


async def _resolve(vectors: Any, count: int) -> Any:
    """The vectors themselves: a sequence or array of `count` of them, awaited where need be."""
    if inspect.isawaitable(vectors):
        vectors = await vectors
    if not isinstance(vectors, np.ndarray):
        vectors = list(vectors)
    try:
        if len(vectors) != count:
            raise InputError(f"vectors: got {len(vectors)} for {count} chunks")
        if isinstance(vectors, list) and any(map(inspect.isawaitable, vectors)):
            return await _await_all(vectors)
    finally:
        _close(vectors)
    return vectors


async def _await_all(vectors: list[Any]) -> list[Any]:
    turn = asyncio.Semaphore(_EMBEDDINGS_AT_ONCE)

    async def one(vector: Any) -> Any:
        async with turn:
            return await vector if inspect.isawaitable(vector) else vector

    tasks = [asyncio.ensure_future(one(vector)) for vector in vectors]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _close(vectors: Iterable[Any]) -> None:
    """Close coroutines that were never awaited; Python would warn of each."""
    if not isinstance(vectors, np.ndarray):
        for vector in vectors:
            if inspect.iscoroutine(vector):
                vector.close()
