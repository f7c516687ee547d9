"""Chunks as JSON: which fields, and long answers in pieces, so that memory does not grow with them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from xtrace_sdk import wire
from xtrace_sdk.server.ciphertexts import encode_vector
from xtrace_sdk.server.storage.base import ChunkField, Store, StoredChunk

_PAGE = 256
_STORED: dict[str, ChunkField] = {"chunk_content": "content", "index": "index", wire.RECORD: "record"}


class Fields:
    """The fields of an answer. Unknown names are ignored; `chunk_id` and `meta_data` are always there."""

    def __init__(self, projection: Sequence[str] | None, default: Sequence[str]) -> None:
        names = set(projection or default)
        if "chunk_content" in names:
            names.add(wire.RECORD)  # without which nobody could open it
        self.names = names
        self.meta = None if "meta_data" in names else names & {*wire.TAGS, wire.FACETS}
        self.stored = frozenset(field for name, field in _STORED.items() if name in names)

    def of(self, chunk: StoredChunk) -> dict[str, Any]:
        """One chunk as a JSON object."""
        meta = chunk.meta
        if self.meta is not None:
            meta = {name: value for name, value in meta.items() if name in self.meta}
        answer: dict[str, Any] = {"chunk_id": chunk.id, "meta_data": meta}
        if "name" in self.names:
            answer["name"] = chunk.name
        if "key" in self.names and chunk.key is not None:
            answer["key"] = chunk.key
        if chunk.content is not None:
            answer["chunk_content"] = chunk.content
        if chunk.vector is not None:
            answer["index"] = encode_vector(chunk.vector)
        if chunk.record:
            answer[wire.RECORD] = wire.encode_record(chunk.record)
        return answer


async def json_array(
    store: Store, org_id: str, kb_id: str, ids: Sequence[int], fields: Fields
) -> AsyncIterator[bytes]:
    """A JSON array of the chunks under `ids`, in that order, repeated as often as asked for.

    Ids that do not exist are left out.
    """
    separator = b"["
    for at in range(0, len(ids), _PAGE):
        page = ids[at : at + _PAGE]
        found = await store.fetch(org_id, kb_id, page, fields.stored)
        for chunk_id in page:
            chunk = found.get(chunk_id)
            if chunk is not None:
                yield separator + json.dumps(fields.of(chunk), ensure_ascii=False).encode()
                separator = b","
    yield b"]" if separator == b"," else b"[]"
