"""`InMemoryVectorStore`: NumPy arrays in this process, gone with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from xtrace_sdk.stores import checks
from xtrace_sdk.stores.base import Chunk, EmbeddedChunk, RetrievalResult, Vector

_LEAST_ROWS: Final = 64


class InMemoryVectorStore:
    """Exact search by cosine similarity over vectors in memory. A `VectorStore`.

    Raises ConfigurationError unless `dimensions` is positive.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = checks.checked_dimensions(dimensions)
        self._namespaces: dict[str, _Namespace] = {}

    async def upsert(self, embedded_chunks: Sequence[EmbeddedChunk], namespace: str) -> None:
        checks.checked_namespace(namespace)
        chunks, vectors = checks.checked_chunks(embedded_chunks, self._dimensions)
        if chunks:
            found = self._namespaces.setdefault(namespace, _Namespace(self._dimensions))
            found.put([one.chunk for one in chunks], vectors)

    async def search(
        self,
        query_vector: Vector,
        namespace: str,
        limit: int = 10,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the documented name
    ) -> list[RetrievalResult]:
        checks.checked_namespace(namespace)
        checks.checked_limit(limit)
        query = checks.checked_vector(query_vector, self._dimensions, "query_vector")
        matches = checks.Matcher(checks.checked_filter(filter))
        found = self._namespaces.get(namespace)
        results: list[RetrievalResult] = []
        for chunk, score in found.ranked(query) if found else ():
            if len(results) == limit:
                break
            if matches(chunk.metadata):
                results.append(RetrievalResult(checks.own_copy(chunk), score))
        return results

    async def delete(self, chunk_ids: Sequence[str], namespace: str) -> None:
        checks.checked_namespace(namespace)
        ids = checks.checked_ids(chunk_ids)
        if found := self._namespaces.get(namespace):
            found.remove(ids)

    async def delete_namespace(self, namespace: str) -> None:
        self._namespaces.pop(checks.checked_namespace(namespace), None)

    async def get_all_chunks(
        self,
        namespace: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the documented name
    ) -> AsyncIterator[Chunk]:
        checks.checked_namespace(namespace)
        matches = checks.Matcher(checks.checked_filter(filter))
        found = self._namespaces.get(namespace)
        for chunk in list(found.chunks) if found else ():
            if chunk is not None and matches(chunk.metadata):
                yield checks.own_copy(chunk)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dimensions={self._dimensions})"


class _Namespace:
    """Rows in the order of insertion. A deleted one stays, empty, until more than half of the rows are."""

    def __init__(self, dimensions: int) -> None:
        self.chunks: list[Chunk | None] = []
        self._row_of: dict[str, int] = {}
        self._vectors = np.empty((0, dimensions), np.float32)
        self._norms = np.empty(0, np.float64)  # 0, of a zero vector or an empty row, is never found

    def put(self, chunks: Sequence[Chunk], vectors: checks.Matrix) -> None:
        """Store chunks with distinct ids."""
        rows = []
        for chunk in chunks:
            row = self._row_of.setdefault(chunk.id, len(self.chunks))
            if row == len(self.chunks):
                self.chunks.append(chunk)
            else:
                self.chunks[row] = chunk
            rows.append(row)
        self._reserve(len(self.chunks))
        self._vectors[rows] = vectors
        self._norms[rows] = np.linalg.norm(vectors.astype(np.float64), axis=1)

    def remove(self, ids: Sequence[str]) -> None:
        """Empty the rows of those `ids` that are here."""
        for chunk_id in ids:
            row = self._row_of.pop(chunk_id, None)
            if row is not None:
                self.chunks[row] = None
                self._norms[row] = 0.0
        if len(self.chunks) > 2 * len(self._row_of) + _LEAST_ROWS:
            self._compact()

    def ranked(self, query: checks.Matrix) -> Iterator[tuple[Chunk, float]]:
        """Chunks and scores, best first, equal ones in the order of insertion."""
        count = len(self.chunks)
        norms = self._norms[:count] * float(np.linalg.norm(query.astype(np.float64)))
        rows = np.flatnonzero(norms)
        scores = np.clip((self._vectors[:count] @ query)[rows] / norms[rows], -1.0, 1.0)
        for at in np.argsort(-scores, kind="stable"):
            chunk = self.chunks[rows[at]]
            if chunk is not None:  # always so: an empty row has no norm
                yield chunk, float(scores[at])

    def _reserve(self, count: int) -> None:
        present, dimensions = self._vectors.shape
        if count > present:
            more = max(count, 2 * present, _LEAST_ROWS) - present
            self._vectors = np.concatenate([self._vectors, np.empty((more, dimensions), np.float32)])
            self._norms = np.concatenate([self._norms, np.zeros(more)])

    def _compact(self) -> None:
        rows = list(self._row_of.values())
        rows.sort()
        kept = [chunk for chunk in self.chunks if chunk is not None]
        self._row_of = {chunk.id: row for row, chunk in enumerate(kept)}
        self.chunks = [*kept]
        self._vectors, self._norms = self._vectors[rows], self._norms[rows]
