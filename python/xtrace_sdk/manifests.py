"""Manifests between those who send changes of rows and those who keep manifests of them.

A server stores a manifest of each knowledge base and context, and cannot read it. Whoever can is a `Keeper`:
it has every change of rows sent together with the manifest after it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from xtrace_sdk import wire

if TYPE_CHECKING:
    from xtrace_sdk.integrations.answers import Answer
    from xtrace_sdk.integrations.uploads import Batch

REFUSED: Final = 412  # the status of a change whose manifest does not follow from the one in force


class Send(Protocol):
    """Sends a change with these values of the header for manifests."""

    def __call__(self, manifests: Sequence[str] = ()) -> Awaitable[Answer]: ...


class StoredRow(NamedTuple):
    """What the server says of a row: its record, b"" for none."""

    chunk_id: int
    key: str | None
    record: bytes


class StoredManifest(NamedTuple):
    """A manifest as it is stored, None for none, and the rows that were asked for, all of one moment."""

    sealed: bytes | None
    rows: list[StoredRow]


class Change(NamedTuple):
    """Records that a request adds, and ids or keys of chunks that it replaces or deletes if they exist.

    `known` are the records that were read of these chunks: no others may be replaced then.
    """

    added: Sequence[bytes] = ()
    chunk_ids: Sequence[int] = ()
    keys: Sequence[str] = ()
    known: Collection[bytes] | None = None

    @classmethod
    def of(cls, chunks: Iterable[Mapping[str, Any]]) -> Change:
        """What an upload of these chunks, as the API takes them, changes."""
        added, ids, keys = [], [], []
        for chunk in chunks:
            added.append(wire.decode_record(chunk.get(wire.RECORD, ""), wire.RECORD))
            if chunk.get("chunk_id") is not None:
                ids.append(chunk["chunk_id"])
            elif chunk.get("key") is not None:
                keys.append(chunk["key"])
        return cls(added, ids, keys)


class Keeper(Protocol):
    """Keeps the manifests of knowledge bases in step with their rows."""

    async def write(self, kb_id: str, change: Change, send: Send, batch: Batch | None = None) -> Answer:
        """Send a change with the manifests after it -> the answer. `batch` remembers what was sent."""


def manifest_tags(answer: Answer) -> list[str]:
    """The tags in force that the answer to a change names, in the order of the request's manifests."""
    return answer.headers.get(wire.MANIFEST_TAG_HEADER, "").split(",")
