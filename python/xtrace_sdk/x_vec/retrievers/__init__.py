"""From a query to decrypted chunks."""

from xtrace_sdk.x_vec.retrievers.retriever import Retriever

__all__ = ["Retriever"]
