"""What the server asks of a store. Every call is one transaction: it happens whole or not at all.

A call that returns has made its change durable. Absent objects and those of another organisation are the same
to every call: `NotFoundError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.server.filters import Filter
from xtrace_sdk.server.metadata import Meta

Ids = NDArray[np.int64]
ChunkField = Literal["content", "index", "record"]
SortField = Literal["chunk_id", "name", "tag1", "tag2", "tag3", "tag4", "tag5", "created_at"]


class StoreError(Exception):
    """Base of what a store raises on purpose; the message may be shown to the caller."""


class NotFoundError(StoreError):
    """No such knowledge base, context, key or chunk in this organisation."""


class ConflictError(StoreError):
    """The change contradicts what is stored."""


class PreconditionError(StoreError):
    """Another manifest is in force than the change was made for. Nothing was changed."""


class GoneError(StoreError):
    """What was deleted so long ago is not known any more; beginning again helps."""


class UnavailableError(StoreError):
    """The database is locked, full or gone. Nothing was changed; trying again later may succeed."""


class DamagedError(UnavailableError):
    """A row that this call needs is not as it was written."""


class TooSlowError(StoreError):
    """A search by metadata took longer than a caller may take."""


def too_slow(seconds: float) -> TooSlowError:
    """The error of a search that was ended after `seconds`."""
    return TooSlowError(f"meta_filter: the search takes longer than {seconds:g} seconds; give a simpler one")


class FormatError(StoreError):
    """The database was written by a newer version of this server."""


@dataclass(frozen=True, slots=True)
class Key:
    """An admin or API key. `hash` is the SHA-256 of the secret, in hex; the secret is stored nowhere."""

    hash: str
    org_id: str
    admin: bool
    first_n: str
    name: str = ""
    description: str = ""
    default_permission: int = 0
    active: bool = True
    created_at: str = ""
    last_used_at: str | None = None


@dataclass(frozen=True, slots=True)
class Permission:
    """The rights of a key on a knowledge base: bits 1 read, 2 write, 4 delete."""

    kb_id: str
    permission: int
    updated_at: str


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """A knowledge base; `count` is the number of its chunks."""

    id: str
    name: str
    description: str
    created_at: str
    updated_at: str
    count: int
    context_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Access:
    """What a key may do in a knowledge base, and the number of its last change."""

    permission: int
    sequence: int


@dataclass(frozen=True, slots=True)
class PublicContext:
    """What the server computes with: the public modulus and the number of ciphertexts per vector."""

    n: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Ciphertexts:
    """The ciphertexts of one vector: `count` of equal width, one after the other in `data`.

    `record` is what the caller stores beside them, unread; empty if nothing.
    """

    count: int
    data: bytes
    record: bytes = b""


@dataclass(frozen=True, slots=True)
class NewChunk:
    """All fields of a chunk that a caller sets."""

    content: str
    name: str
    meta: Meta
    vector: Ciphertexts
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkPatch:
    """Fields to change of one chunk; None leaves a field alone. `meta` was checked by `checked_changes`."""

    id: int
    content: str | None = None
    name: str | None = None
    vector: Ciphertexts | None = None
    meta: Meta | None = None


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as stored. `content`, `vector` and `record` are None when they were not asked for."""

    id: int
    name: str
    key: str | None
    meta: Meta
    content: str | None
    vector: Ciphertexts | None
    record: bytes | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """Makes an insert repeatable: the same `token` within `seconds` gets the first answer again.

    `digest` is that of the request. If `strict`, another digest under the same token is a conflict, and the
    answer is given again even when the chunks have been deleted meanwhile.
    """

    token: str
    digest: str
    seconds: float
    strict: bool


@dataclass(frozen=True, slots=True)
class NewManifest:
    """A sealed manifest of a context that comes with a change, to replace the one with the tag `expected`."""

    context_id: str
    expected: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Inserted:
    """Chunk ids in the order of the request, and how many of them replaced a chunk with the same key.

    `tags` are those of the manifests in force, in the order of the manifests that came with the request.
    """

    ids: list[int]
    replaced: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """Which chunks: those of a context, within a filter and an inclusive range of ids."""

    context_id: str | None = None
    filter: Filter | None = None
    id_range: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which chunks: those under `ids`, or under `keys`, or within a filter, or all; none otherwise."""

    ids: Sequence[int] = ()
    keys: Sequence[str] = ()
    filter: Filter | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """A chunk as its owner's manifest sees it."""

    id: int
    key: str | None
    record: bytes


@dataclass(frozen=True, slots=True)
class ManifestPage:
    """The sealed manifest of a context, None if there is none, and rows of it, as of change `sequence`."""

    sealed: bytes | None
    sequence: int
    rows: list[ManifestRow]


@dataclass(frozen=True, slots=True)
class Change:
    """A part of what happened to the vectors of a context: ids that are gone, then vectors that are there.

    Applied in order they lead to the state at `sequence`, in which `manifest` is in force.
    """

    sequence: int
    removed: Ids
    ids: list[int]
    vectors: list[Ciphertexts]
    manifest: bytes | None = None


@dataclass(frozen=True, slots=True)
class FedChunk:
    """A chunk that is new or was changed by the change `sequence`."""

    id: int
    sequence: int
    context_id: str
    vector: Ciphertexts


@dataclass(frozen=True, slots=True)
class FeedPage:
    """What happened, in order, up to the place (`sequence`, `after`) from which the next page goes on.

    `after` is a chunk id within the change `sequence`, None at its end. `removed` are (chunk id, sequence),
    and are gone before `changed` are there. `began` is None except in a round from the beginning: the number
    of the last change when it began.
    """

    sequence: int
    after: int | None
    more: bool
    removed: list[tuple[int, int]]
    changed: list[FedChunk]
    began: int | None = None


class Store(Protocol):
    """Durable storage of one server."""

    async def close(self) -> None: ...
    async def check(self) -> dict[str, Any]:
        """Engine, format version and sizes, for the detailed health report."""

    # Organisations and keys
    async def has_org(self) -> bool:
        """Whether there is any organisation yet."""

    async def create_org(self, org_id: str, keys: Sequence[Key], *, first: bool = True) -> bool:
        """An organisation with its keys; False, and nothing done, when there is one of this id already.

        As the `first` one it is made only when there is none of any id.
        """

    async def find_key(self, key_hash: str) -> Key | None:
        """An active key of any organisation."""

    async def touch_key(self, key_hash: str) -> None:
        """Note that the key was used now."""

    async def create_key(self, key: Key) -> Key:
        """ConflictError when an active key of the organisation begins with the same characters."""

    async def list_keys(self, org_id: str) -> list[Key]:
        """The active API keys."""

    async def revoke_key(self, org_id: str, key_hash: str) -> None: ...
    async def permissions(self, org_id: str, key_hash: str) -> list[Permission]: ...
    async def set_permission(self, org_id: str, key_hash: str, kb_id: str, permission: int) -> Permission: ...
    async def access(self, org_id: str, key_hash: str, kb_id: str) -> Access: ...
    async def rights(self, org_id: str, key_hash: str) -> int:
        """The union of the key's permissions over the organisation's knowledge bases, and its default."""

    # Knowledge bases
    async def create_kb(self, org_id: str, kb_id: str, name: str, description: str) -> KnowledgeBase: ...
    async def list_kbs(self, org_id: str) -> list[KnowledgeBase]: ...
    async def get_kb(self, org_id: str, kb_id: str) -> KnowledgeBase: ...
    async def delete_kb(self, org_id: str, kb_id: str) -> None:
        """With everything in it."""

    # Execution contexts
    async def store_context(
        self, org_id: str, context_id: str, data: Meta, public: str, parsed: PublicContext
    ) -> None:
        """Store `data` as it is. ConflictError when another `public` part is stored under this id.

        Data without a secret key never replaces data with one.
        """

    async def get_context(self, org_id: str, context_id: str) -> str:
        """The stored data as JSON text."""

    async def public_context(self, org_id: str, context_id: str) -> PublicContext | None: ...
    async def list_contexts(self, org_id: str) -> list[str]: ...
    async def delete_context(self, org_id: str, context_id: str) -> None:
        """With its bindings; chunks stored under it remain."""

    async def bind(self, org_id: str, kb_id: str, context_id: str) -> None: ...
    async def contexts_of_kb(self, org_id: str, kb_id: str) -> list[str]: ...
    async def kbs_of_context(self, org_id: str, context_id: str) -> list[str]: ...

    # Chunks. A change of vectors of a context with a manifest brings the next one, else PreconditionError;
    # where the next one is in force already, the change was made before and is not made again.
    async def insert(
        self,
        org_id: str,
        kb_id: str,
        context_id: str,
        chunks: Sequence[NewChunk],
        replay: Replay | None,
        manifests: Sequence[NewManifest] = (),
    ) -> Inserted: ...
    async def update(
        self,
        org_id: str,
        kb_id: str,
        context_id: str,
        updates: Sequence[tuple[int, NewChunk]],
        manifests: Sequence[NewManifest] = (),
    ) -> int:
        """Replace all fields (a key of None keeps the present one). NotFoundError names absent ids."""

    async def patch(
        self,
        org_id: str,
        kb_id: str,
        context_id: str,
        patches: Sequence[ChunkPatch],
        manifests: Sequence[NewManifest] = (),
    ) -> int: ...
    async def patch_matching(self, org_id: str, kb_id: str, query: Query, changes: Meta) -> int: ...
    async def delete(
        self, org_id: str, kb_id: str, ids: Sequence[int], manifests: Sequence[NewManifest] = ()
    ) -> int:
        """Absent ids are ignored and not counted."""

    async def delete_matching(self, org_id: str, kb_id: str, query: Query) -> int: ...
    async def fetch(
        self, org_id: str, kb_id: str, ids: Sequence[int], fields: frozenset[ChunkField]
    ) -> dict[int, StoredChunk]:
        """Those of `ids` that exist, by id."""

    async def select(self, org_id: str, kb_id: str, query: Query) -> Ids:
        """Ids of the chunks that match, ascending."""

    async def count(self, org_id: str, kb_id: str, query: Query) -> int:
        """Number of the chunks that match."""

    async def page(
        self,
        org_id: str,
        kb_id: str,
        query: Query,
        *,
        sort_by: SortField,
        descending: bool,
        limit: int | None,
        offset: int,
    ) -> tuple[list[int], int]:
        """(ids of one page, number of all that match); absent values last, equal ones by chunk id."""

    def changes(self, org_id: str, kb_id: str, context_id: str, since: int) -> AsyncIterator[Change]:
        """What changed after number `since`, seen from one state of the store.

        DamagedError or GoneError when what is gone cannot be told; beginning again at 0 then helps.
        """

    async def feed(
        self,
        org_id: str,
        kb_id: str,
        context_id: str | None,
        since: int,
        after: int | None,
        limit: int,
        began: int | None = None,
    ) -> FeedPage:
        """At most `limit` changed chunks of a context, or of all, after the place (`since`, `after`).

        In a round from the beginning, which starts at (0, None) and goes on with `began` of the page before,
        nothing is told of chunks that were gone when it began. GoneError when `since` is too long ago to tell
        what is gone; beginning again helps.
        """

    # Manifests
    def manifest(
        self, org_id: str, kb_id: str, context_id: str, selection: Selection
    ) -> AsyncIterator[ManifestPage]:
        """The manifest of a context, then pages of its selected chunks, all from one state of the store.

        Chunks whose vectors are damaged are left out, as they are of a search.
        """

    async def set_manifest(
        self, org_id: str, kb_id: str, context_id: str, expected: str, sealed: bytes | None
    ) -> None:
        """Without a change of chunks; None removes it. PreconditionError unless `expected` is in force."""
