"""The demo's work: encrypt a corpus, upload it, ask, and compare every answer with the plain one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from xtrace_sdk.cli.demo.corpus import Corpus, Document
from xtrace_sdk.errors import DecryptionError, XTraceError
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.xtrace_types import Chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xtrace_sdk.integrations.xtrace import XTraceIntegration
    from xtrace_sdk.x_vec.utils.pins import Pins

DIMENSIONS: Final = 512
KEY_LEN: Final = 1024
HITS: Final = 3
_SEARCHED_TEXTS: Final = 64

Progress = Callable[[int, int], None]


class ProofError(XTraceError):
    """An encrypted answer differs from the plain one."""


@dataclass(frozen=True)
class Hit:
    """One of the nearest documents of a question."""

    chunk_id: int
    distance: int
    document: Document


@dataclass(frozen=True)
class Answered:
    """A question, its nearest documents, and the seconds it took (in all, and waiting for the server)."""

    question: str
    hits: list[Hit]
    seconds: float
    server_seconds: float


@dataclass
class Demo:
    """A corpus, a client of the server, and what was made of them on the way."""

    corpus: Corpus
    client: XTraceIntegration
    pins: Pins | None = None
    answered: list[Answered] = field(default_factory=list)
    kb_id: str = ""

    async def embed(self) -> None:
        """Texts to bits (N, DIMENSIONS)."""
        self.embedding = Embedding("simhash", "simhash", DIMENSIONS)
        texts = [document.text for document in self.corpus.documents]
        self.bits: NDArray[np.uint8] = np.asarray(await self.embedding.bin_embed_many(texts), dtype=np.uint8)

    def make_keys(self) -> None:
        """A context under a passphrase that nobody keeps."""
        self.context = ExecutionContext.create(
            secrets.token_urlsafe(24), "paillier_lookup", DIMENSIONS, KEY_LEN, encoding="authenticated"
        )

    async def encrypt(self, *, quiet: bool) -> None:
        """Texts and bits to sealed chunks and ciphertexts, in this process."""
        self.loader = DataLoader(self.context, self.client, pins=self.pins)
        chunks: list[Chunk] = [{"chunk_content": document.text} for document in self.corpus.documents]
        self.index, self.sealed = await self.loader.load_data_from_memory(
            chunks, self.bits, disable_progress=quiet
        )

    async def upload(self, progress: Progress) -> None:
        """Create a knowledge base and store everything in it."""
        self.kb_id = str((await self.client.create_kb("xtrace demo"))["id"])
        answers = await self.loader.dump_db(self.sealed, self.index, self.kb_id, progress=progress)
        ids = [chunk_id for answer in answers for chunk_id in answer["chunk_ids"]]
        self.documents = dict(zip(ids, self.corpus.documents, strict=True))
        self.rows = {chunk_id: row for row, chunk_id in enumerate(ids)}

    async def clean_up(self) -> None:
        """Delete the knowledge base from a server that outlives the demo."""
        if self.kb_id:
            with suppress(XTraceError):  # what ended the demo matters more
                await self.client.delete_kb(self.kb_id)

    async def ask(self, question: str) -> Answered:
        """Search, fetch and prove: all distances equal the plain ones, the fetched texts equal the originals.

        Raises ProofError naming the first difference.
        """
        vector = np.asarray(await self.embedding.bin_embed(question), dtype=np.uint8)
        retriever = Retriever(self.context, self.client, pins=self.pins)
        begin, waited = time.perf_counter(), self.client.traffic.seconds
        try:
            ranked = await retriever.nn_search_for_ids(
                vector, k=len(self.documents), kb_id=self.kb_id, include_scores=True
            )
            ids, distances = cast("tuple[list[int], list[int]]", ranked)
            found = await retriever.retrieve_and_decrypt(ids[:HITS], self.kb_id)
        except DecryptionError as error:
            raise ProofError(f"{question!r}: the server's answer is not what was stored ({error})") from error
        seconds = time.perf_counter() - begin
        self._prove_distances(question, vector, ids, distances)
        texts = {chunk["chunk_id"]: chunk["chunk_content"] for chunk in found}
        for chunk_id in ids[:HITS]:
            if texts.get(chunk_id) != self.documents[chunk_id].text:
                raise ProofError(f"{question!r}: the text of chunk {chunk_id} is not the one that was stored")
        hits = [
            Hit(chunk_id, distance, self.documents[chunk_id])
            for chunk_id, distance in zip(ids[:HITS], distances[:HITS], strict=True)
        ]
        self.answered.append(Answered(question, hits, seconds, self.client.traffic.seconds - waited))
        return self.answered[-1]

    def _prove_distances(
        self, question: str, vector: NDArray[np.uint8], ids: list[int], distances: list[int]
    ) -> None:
        if sorted(ids) != sorted(self.documents):
            raise ProofError(
                f"{question!r}: distances of {len(set(ids))} documents came back, "
                f"{len(self.documents)} are stored"
            )
        plain = (self.bits != vector).sum(axis=1)
        expected = plain[[self.rows[chunk_id] for chunk_id in ids]]
        wrong = np.flatnonzero(expected != np.asarray(distances))
        if wrong.size:
            first = wrong[0]
            raise ProofError(
                f"{question!r}: {wrong.size} of {len(ids)} distances are wrong; "
                f"the first is chunk {ids[first]}, encrypted {distances[first]}, plain {expected[first]}"
            )

    def prove_secrecy(self, folder: Path) -> tuple[int, int]:
        """Look for plain texts in the server's files -> (texts looked for, bytes searched).

        Raises ProofError when there is one.
        """
        documents = self.corpus.documents[:: max(1, len(self.corpus.documents) // _SEARCHED_TEXTS)]
        needles = [document.body.encode()[:80] for document in documents]
        size = 0
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                size += len(content)
                if any(needle in content for needle in needles):
                    raise ProofError(f"the server's file {path.name} holds a plain text")
        return len(needles), size
