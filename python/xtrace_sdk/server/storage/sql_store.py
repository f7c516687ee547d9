"""`base.Store` over an engine that runs `statements.Steps`: every call is some steps in one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar

from xtrace_sdk.server.metadata import Meta
from xtrace_sdk.server.storage import (
    admin_statements,
    base,
    change_statements,
    chunk_statements,
    manifest_statements,
    read_statements,
)
from xtrace_sdk.server.storage.statements import MAX_INTEGER, Dialect, Steps

P = ParamSpec("P")
T = TypeVar("T")


class Snapshot(Protocol):
    """One state of the store, to read from at leisure."""

    async def run(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T: ...


class SqlStore(ABC):
    """The calls of `base.Store`. An engine says how to run steps, and how they differ for it."""

    dialect: ClassVar[Dialect]

    @abstractmethod
    async def close(self) -> None:
        """Finish what was begun and close the database."""

    @abstractmethod
    async def check(self) -> dict[str, Any]: ...

    @abstractmethod
    async def examine(self) -> list[str]:
        """What the engine finds wrong with its own structures, a line each."""

    @abstractmethod
    async def _write(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """A change that locks first what it will change."""

    @abstractmethod
    async def alone(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """A change as if no other went on at the same time."""

    @abstractmethod
    async def _read(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Read from one state."""

    @abstractmethod
    async def _look_up(self, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """One quick statement, which waits for no other read."""

    @abstractmethod
    async def _search(
        self, call: Callable[Concatenate[Dialect, P], Steps[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """A read whose length the caller decides: ends with TooSlowError when it takes too long."""

    @abstractmethod
    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Several reads from one state, on a connection of their own: a slow reader blocks nobody."""

    # Organisations and keys

    async def has_org(self) -> bool:
        return await self._read(admin_statements.has_org)

    async def create_org(self, org_id: str, keys: Sequence[base.Key], *, first: bool = True) -> bool:
        return await self.alone(admin_statements.create_org, org_id, keys, first)

    async def find_key(self, key_hash: str) -> base.Key | None:
        return await self._look_up(admin_statements.find_key, key_hash)

    async def touch_key(self, key_hash: str) -> None:
        await self._write(admin_statements.touch_key, key_hash)

    async def create_key(self, key: base.Key) -> base.Key:
        return await self.alone(admin_statements.create_key, key)

    async def list_keys(self, org_id: str) -> list[base.Key]:
        return await self._read(admin_statements.list_keys, org_id)

    async def revoke_key(self, org_id: str, key_hash: str) -> None:
        await self.alone(admin_statements.revoke_key, org_id, key_hash)

    async def permissions(self, org_id: str, key_hash: str) -> list[base.Permission]:
        return await self._read(admin_statements.permissions, org_id, key_hash)

    async def set_permission(
        self, org_id: str, key_hash: str, kb_id: str, permission: int
    ) -> base.Permission:
        return await self.alone(admin_statements.set_permission, org_id, key_hash, kb_id, permission)

    async def access(self, org_id: str, key_hash: str, kb_id: str) -> base.Access:
        return await self._look_up(admin_statements.access, org_id, key_hash, kb_id)

    async def rights(self, org_id: str, key_hash: str) -> int:
        return await self._look_up(admin_statements.rights, org_id, key_hash)

    # Knowledge bases

    async def create_kb(self, org_id: str, kb_id: str, name: str, description: str) -> base.KnowledgeBase:
        return await self._write(admin_statements.create_kb, org_id, kb_id, name, description)

    async def list_kbs(self, org_id: str) -> list[base.KnowledgeBase]:
        return await self._read(admin_statements.list_kbs, org_id)

    async def get_kb(self, org_id: str, kb_id: str) -> base.KnowledgeBase:
        return await self._read(admin_statements.get_kb, org_id, kb_id)

    async def delete_kb(self, org_id: str, kb_id: str) -> None:
        await self._write(admin_statements.delete_kb, org_id, kb_id)

    # Execution contexts

    async def store_context(
        self, org_id: str, context_id: str, data: Meta, public: str, parsed: base.PublicContext
    ) -> None:
        await self.alone(admin_statements.store_context, org_id, context_id, data, public, parsed)

    async def get_context(self, org_id: str, context_id: str) -> str:
        return await self._read(admin_statements.get_context, org_id, context_id)

    async def public_context(self, org_id: str, context_id: str) -> base.PublicContext | None:
        return await self._read(admin_statements.public_context, org_id, context_id)

    async def list_contexts(self, org_id: str) -> list[str]:
        return await self._read(admin_statements.list_contexts, org_id)

    async def delete_context(self, org_id: str, context_id: str) -> None:
        await self.alone(admin_statements.delete_context, org_id, context_id)

    async def bind(self, org_id: str, kb_id: str, context_id: str) -> None:
        await self._write(admin_statements.bind, org_id, kb_id, context_id)

    async def contexts_of_kb(self, org_id: str, kb_id: str) -> list[str]:
        return await self._read(admin_statements.contexts_of_kb, org_id, kb_id)

    async def kbs_of_context(self, org_id: str, context_id: str) -> list[str]:
        return await self._read(admin_statements.kbs_of_context, org_id, context_id)

    # Chunks

    async def insert(
        self,
        org_id: str,
        kb_id: str,
        context_id: str,
        chunks: Sequence[base.NewChunk],
        replay: base.Replay | None,
        manifests: Sequence[base.NewManifest] = (),
    ) -> base.Inserted:
        return await self._write(
            chunk_statements.insert, org_id, kb_id, context_id, chunks, replay, manifests
        )

    async def update(
        self,
        org_id: str,
        kb_id: str,
        context_id: str,
        updates: Sequence[tuple[int, base.NewChunk]],
        manifests: Sequence[base.NewManifest] = (),
    ) -> int:
        return await self._write(chunk_statements.update, org_id, kb_id, context_id, updates, manifests)

    async def patch(
        self,
        org_id: str,
        kb_id: str,
        context_id: str,
        patches: Sequence[base.ChunkPatch],
        manifests: Sequence[base.NewManifest] = (),
    ) -> int:
        return await self._write(chunk_statements.patch, org_id, kb_id, context_id, patches, manifests)

    async def patch_matching(self, org_id: str, kb_id: str, query: base.Query, changes: Meta) -> int:
        # A filter that takes too long is found out before it keeps others from writing.
        await self._search(read_statements.count, org_id, kb_id, query)
        return await self._write(chunk_statements.patch_matching, self.dialect, org_id, kb_id, query, changes)

    async def delete(
        self,
        org_id: str,
        kb_id: str,
        ids: Sequence[int],
        manifests: Sequence[base.NewManifest] = (),
    ) -> int:
        return await self._write(chunk_statements.delete, org_id, kb_id, ids, manifests)

    async def delete_matching(self, org_id: str, kb_id: str, query: base.Query) -> int:
        await self._search(read_statements.count, org_id, kb_id, query)
        return await self._write(chunk_statements.delete_matching, self.dialect, org_id, kb_id, query)

    async def fetch(
        self, org_id: str, kb_id: str, ids: Sequence[int], fields: frozenset[base.ChunkField]
    ) -> dict[int, base.StoredChunk]:
        return await self._read(read_statements.fetch, org_id, kb_id, ids, fields)

    async def select(self, org_id: str, kb_id: str, query: base.Query) -> base.Ids:
        return await self._search(read_statements.select, org_id, kb_id, query)

    async def count(self, org_id: str, kb_id: str, query: base.Query) -> int:
        return await self._search(read_statements.count, org_id, kb_id, query)

    async def page(
        self,
        org_id: str,
        kb_id: str,
        query: base.Query,
        *,
        sort_by: base.SortField,
        descending: bool,
        limit: int | None,
        offset: int,
    ) -> tuple[list[int], int]:
        return await self._search(
            read_statements.page, org_id, kb_id, query, sort_by, descending, limit, offset
        )

    async def changes(
        self, org_id: str, kb_id: str, context_id: str, since: int
    ) -> AsyncIterator[base.Change]:
        async with self.snapshot() as state:
            feed, first = await state.run(change_statements.begin_changes, org_id, kb_id, context_id, since)
            yield first
            last = (since, MAX_INTEGER if since else -1)
            while page := await state.run(change_statements.more_changes, feed, last):
                last, change = page
                yield replace(change, sequence=first.sequence, manifest=first.manifest)

    async def feed(
        self,
        org_id: str,
        kb_id: str,
        context_id: str | None,
        since: int,
        after: int | None,
        limit: int,
        began: int | None = None,
    ) -> base.FeedPage:
        return await self._read(change_statements.feed, org_id, kb_id, context_id, since, after, limit, began)

    # Manifests

    async def manifest(
        self, org_id: str, kb_id: str, context_id: str, selection: base.Selection
    ) -> AsyncIterator[base.ManifestPage]:
        if selection.filter is not None:
            # A filter that takes too long is found out where it can be ended.
            query = base.Query(context_id, selection.filter)
            await self._search(read_statements.count, org_id, kb_id, query)
        async with self.snapshot() as state:
            look_up, first = await state.run(
                manifest_statements.begin_look_up, self.dialect, org_id, kb_id, context_id, selection
            )
            yield first
            last = -1
            while page := await state.run(manifest_statements.more_rows, look_up, last):
                last, found = page
                yield replace(first, rows=found)

    async def set_manifest(
        self, org_id: str, kb_id: str, context_id: str, expected: str, sealed: bytes | None
    ) -> None:
        await self._write(chunk_statements.set_manifest, org_id, kb_id, context_id, expected, sealed)
