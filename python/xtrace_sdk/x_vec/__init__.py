"""Encrypted vector search: contexts, encryption, loading and retrieval.

Names are imported on first use, so that ``import xtrace_sdk.x_vec`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.crypto.key_provider import AWSKMSKeyProvider, KeyProvider, PassphraseKeyProvider
    from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
    from xtrace_sdk.x_vec.inference.embedding import Embedding
    from xtrace_sdk.x_vec.inference.llm import InferenceClient
    from xtrace_sdk.x_vec.retrievers.retriever import Retriever
    from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.utils.execution_context_writer import WriterContext

__all__ = [
    "AWSKMSKeyProvider",
    "DataLoader",
    "Embedding",
    "ExecutionContext",
    "InferenceClient",
    "KeyProvider",
    "PassphraseKeyProvider",
    "Retriever",
    "WriterContext",
]

_HOMES: Final = {
    "AWSKMSKeyProvider": "crypto.key_provider",
    "DataLoader": "data_loaders.loader",
    "Embedding": "inference.embedding",
    "ExecutionContext": "utils.execution_context",
    "InferenceClient": "inference.llm",
    "KeyProvider": "crypto.key_provider",
    "PassphraseKeyProvider": "crypto.key_provider",
    "Retriever": "retrievers.retriever",
    "WriterContext": "utils.execution_context_writer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
