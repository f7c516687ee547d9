"""The protocol that all vector stores speak, and what goes in and out of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

Vector: TypeAlias = Sequence[float] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document.

    Attributes:
        id: names the chunk within its namespace; 1 to 1024 bytes of UTF-8.
        document_id: the document it comes from.
        content: its text.
        position: its number within the document.
        metadata: any JSON object; its top-level values can be filtered by.
        content_hash: for the application's own bookkeeping; stored and given back.
    """

    id: str
    document_id: str
    content: str
    position: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    content_hash: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedChunk:
    """A chunk with its vector, and the name of the model that made it."""

    chunk: Chunk
    embedding: Vector
    embedding_model: str = ""


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """A chunk that was found. `score` lies in [-1, 1], 1 for the same direction."""

    chunk: Chunk
    score: float
    retriever: str = "vector"


class VectorStore(Protocol):
    """Chunks with vectors of one dimension, in namespaces that know nothing of each other.

    Every method raises InputError for a malformed argument before anything is done, and
    DimensionMismatchError, one of them, for a vector of another dimension.

    Strings hold no NUL and no lone surrogates. Vectors are taken as float32 and must be finite there. A
    filter maps names of top-level metadata to JSON values, all of which a chunk must have, exactly: 1 equals
    1.0 but not true, objects are equal whatever the order of their names, null equals only a null that is
    there. An empty filter is none.
    """

    async def upsert(self, embedded_chunks: Sequence[EmbeddedChunk], namespace: str) -> None:
        """Store chunks; one whose id is taken replaces the chunk that has it, whole, and keeps its place.

        Of several chunks with one id in a call the last one counts.
        """

    async def search(
        self,
        query_vector: Vector,
        namespace: str,
        limit: int = 10,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the documented name
    ) -> list[RetrievalResult]:
        """The chunks nearest to `query_vector`, at most `limit`; equal scores in the order of insertion.

        An unknown namespace holds nothing. A zero vector has no direction: as a query it finds nothing, and a
        chunk stored with one is never found.
        """

    async def delete(self, chunk_ids: Sequence[str], namespace: str) -> None:
        """Delete chunks by id. Ids and namespaces that do not exist are no error."""

    async def delete_namespace(self, namespace: str) -> None:
        """Delete a namespace with everything in it. One that does not exist is no error."""

    def get_all_chunks(
        self,
        namespace: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the documented name
    ) -> AsyncIterator[Chunk]:
        """Every chunk of a namespace, in the order of insertion, without the vectors."""
        ...
