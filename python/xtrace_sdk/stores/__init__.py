"""Vector stores for applications: one asynchronous protocol, three stores behind it.

Names are imported on first use: each store loads only what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from xtrace_sdk.stores.base import Chunk, EmbeddedChunk, RetrievalResult, Vector, VectorStore
    from xtrace_sdk.stores.encrypted import EncryptedVectorStore
    from xtrace_sdk.stores.memory import InMemoryVectorStore
    from xtrace_sdk.stores.pgvector import PgVectorStore

__all__ = [
    "Chunk",
    "EmbeddedChunk",
    "EncryptedVectorStore",
    "InMemoryVectorStore",
    "PgVectorStore",
    "RetrievalResult",
    "Vector",
    "VectorStore",
]

_HOMES: Final = {
    "Chunk": "base",
    "EmbeddedChunk": "base",
    "EncryptedVectorStore": "encrypted",
    "InMemoryVectorStore": "memory",
    "PgVectorStore": "pgvector",
    "RetrievalResult": "base",
    "Vector": "base",
    "VectorStore": "base",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
