"""Texts of files into a knowledge base: what is new or changed, in bounded memory, stoppable at any time.

Every piece of a text has a key, a keyed hash of its file's name and its place there, and a name, a keyed hash
of its text; neither tells the server anything. A piece that is stored under its key with its name is
unchanged. The server replaces a piece whose key it knows, so a load that was stopped goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

import numpy as np

from xtrace_sdk.cli.texts import split
from xtrace_sdk.cli.xvec.session import Session, has_more
from xtrace_sdk.integrations.uploads import in_order
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.utils.xtrace_types import Chunk, MetaData

_OVERLAP: Final = 200
_BLOCK: Final = 256
_PAGE: Final = 10_000


class Options(TypedDict):
    """How texts are cut (characters), embedded (requests at once) and labelled for the server to read."""

    longest: int
    parallel: int
    metadata: MetaData


@dataclass
class Outcome:
    """What became of the pieces; `chunk_ids` of those that were stored now."""

    stored: int = 0
    unchanged: int = 0
    removed: int = 0
    chunk_ids: list[int] = field(default_factory=list)


class Ingest:
    """Loads texts into one knowledge base, which holds the pieces `stored` already. Make it by `open`."""

    def __init__(
        self,
        session: Session,
        kb_id: str,
        stored: dict[str, tuple[int, str]],
        *,
        longest: int,
        parallel: int,
        metadata: MetaData,
    ) -> None:
        self.outcome = Outcome()
        self._session = session
        self._kb_id = kb_id
        self._stored = stored
        self._longest = longest
        self._parallel = parallel
        self._metadata = metadata
        self._loader = DataLoader(session.writing, session.client)
        self._waiting: list[Chunk] = []

    @classmethod
    async def open(cls, session: Session, kb_id: str, **options: Unpack[Options]) -> Ingest:
        """Ask the server what it holds already."""
        stored: dict[str, tuple[int, str]] = {}
        more = True
        last = 0
        while more:
            page = await session.client.meta_search_paginated(
                kb_id,
                session.writing.id,
                {"chunk_id": {"$gt": last}},
                projection=["key", "name"],
                limit=_PAGE,
                sort_order="asc",
            )
            more = has_more(page, last)
            for chunk in page["results"]:
                last = chunk["chunk_id"]
                if isinstance(chunk.get("key"), str):
                    stored[chunk["key"]] = (last, chunk.get("name") or "")
        return cls(session, kb_id, stored, **options)

    async def add(self, source: str, texts: list[str]) -> None:
        """Take the texts of one file; store them when enough wait. Pieces it no longer has are removed."""
        number = 0
        for number, piece in enumerate(self._pieces(texts), 1):
            key, name = self._session.label("piece", source, number), self._name(piece)
            found = self._stored.get(key)
            if found is not None and found[1] == name:
                self.outcome.unchanged += 1
                continue
            self._waiting.append(
                {"chunk_content": piece, "meta_data": self._metadata, "key": key, "name": name}
            )
            if len(self._waiting) >= _BLOCK:
                await self.flush()
        await self._remove_after(source, number)

    async def flush(self) -> None:
        """Embed, encrypt and store what waits."""
        block, self._waiting = self._waiting, []
        if not block:
            return
        texts = [chunk["chunk_content"] for chunk in block]
        size = -(-len(texts) // self._parallel)
        groups = [texts[start : start + size] for start in range(0, len(texts), size)]
        embed = self._session.embedding.bin_embed_many
        bits = await in_order([partial(embed, group) for group in groups], self._parallel)
        index, db = await self._loader.load_data_from_memory(
            block, np.concatenate(bits), disable_progress=True
        )
        for answer in await self._loader.dump_db(db, index, self._kb_id):
            self.outcome.chunk_ids += answer.get("chunk_ids", [])
        self.outcome.stored += len(block)

    def _pieces(self, texts: list[str]) -> Iterator[str]:
        overlap = min(_OVERLAP, self._longest // 4)
        for text in texts:
            yield from split(text, self._longest, overlap)

    def _name(self, text: str) -> str:
        return self._session.label("text", text, json.dumps(self._metadata, sort_keys=True))

    async def _remove_after(self, source: str, last: int) -> None:
        """Delete the pieces of `source` beyond number `last`: the file has become shorter."""
        stale: list[int] = []
        for number in count(last + 1):
            found = self._stored.pop(self._session.label("piece", source, number), None)
            if found is None:
                break
            stale.append(found[0])
        if stale:
            await self._loader.delete_chunks(stale, self._kb_id)
            self.outcome.removed += len(stale)
