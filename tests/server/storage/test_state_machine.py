"""Random sequences of all operations: memory, SQLite and PostgreSQL answer alike, and as a plain model says.

SEQUENCES=2000 STEPS=50 pytest tests/server/storage/test_state_machine.py    the long run
"""

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.metadata import merged
from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage.base import (
    ChunkPatch,
    Ciphertexts,
    ConflictError,
    GoneError,
    ManifestRow,
    NewChunk,
    NewManifest,
    NotFoundError,
    PreconditionError,
    PublicContext,
    Query,
    Replay,
    Selection,
    StoreError,
)
from xtrace_sdk.server.storage.opening import open_store
from xtrace_sdk.wire import NO_MANIFEST, manifest_tag

SEQUENCES = int(os.environ.get("SEQUENCES", "12"))
STEPS = int(os.environ.get("STEPS", "20"))
KBS = ("kb one", "kb two")
CONTEXTS = ("a", "b")
REFUSALS = (NotFoundError, ConflictError, PreconditionError)
ALL = frozenset({"content", "index", "record"})

kbs = st.sampled_from(KBS)
contexts = st.sampled_from(CONTEXTS)
keys = st.none() | st.sampled_from(["k1", "k2", "k3", "ä"])
tags = st.sampled_from([None, "", "x", "xy", "z" * 300])
facets = st.lists(st.sampled_from(["f", "g", "h" * 300]), unique=True, max_size=3)
metas = st.fixed_dictionaries(
    {}, optional={"tag1": tags, "tag5": tags, "facets": facets, "own": st.integers()}
)
vectors = st.builds(Ciphertexts, st.just(1), st.binary(min_size=4, max_size=4), st.binary(max_size=8))
news = st.builds(
    NewChunk,
    content=st.sampled_from(["", "c", "ß"]),
    name=tags.map(str),
    meta=metas,
    vector=vectors,
    key=keys,
)
batches = st.lists(news, max_size=4, unique_by=lambda one: one.key or object())
some_ids = st.lists(st.integers(1, 14), max_size=4, unique=True)
patch_metas = st.none() | metas | st.just({"facets": {"$add": ["g"], "$remove": ["f"]}, "tag1": None})
patches = st.lists(
    st.builds(
        ChunkPatch,
        id=st.integers(1, 14),
        content=st.none() | st.just("new"),
        name=st.none() | st.just("name"),
        vector=st.none() | vectors,
        meta=patch_metas,
    ),
    max_size=3,
    unique_by=lambda one: one.id,
)
#: Which manifests come with a change: as they should, none, a first one of context ``a``, one for another
#: manifest than is in force, those that came last.
ways = st.sampled_from(["right"] * 6 + ["none", "first", "stale", "again"])
#: A filter, and what it means.
queries = st.sampled_from(
    [
        ({"tag1": "x"}, lambda _, meta: meta.get("tag1") == "x"),
        ({"tag1": {"$begins_with": "x"}}, lambda _, meta: (meta.get("tag1") or "").startswith("x")),
        ({"tag5": {"$ne": "z" * 300}}, lambda _, meta: meta.get("tag5") != "z" * 300),
        ({"facets": "h" * 300}, lambda _, meta: "h" * 300 in (meta.get("facets") or [])),
        ({"facets": {"$none": ["f"]}}, lambda _, meta: "f" not in (meta.get("facets") or [])),
        ({"chunk_id": {"$lte": 5}}, lambda chunk_id, _: chunk_id <= 5),
    ]
)


@dataclass
class Kb:
    """What a knowledge base should hold."""

    next_id: int = 1
    bound: set[str] = field(default_factory=set)
    chunks: dict[int, tuple[str, NewChunk]] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)

    def settled(self, sent: Sequence[NewManifest], touched: set[str]) -> bool:
        """Exchange the manifests that came with a change of the vectors of `touched` contexts."""
        if sent and all(self.manifests.get(one.context_id) == one.sealed for one in sent):
            return True
        present = {under for under, _ in self.chunks.values()}
        for one in sent:
            if manifest_tag(self.manifests.get(one.context_id)) != one.expected:
                raise PreconditionError
            if one.expected == NO_MANIFEST and one.context_id in present:
                raise PreconditionError
        if touched & self.manifests.keys() - {one.context_id for one in sent}:
            raise PreconditionError
        self.manifests |= {one.context_id: one.sealed for one in sent}
        return False

    def contexts_of(self, ids: Iterable[int]) -> set[str]:
        return {self.chunks[one][0] for one in ids if one in self.chunks}

    def write_under(self, context: str) -> None:
        if self.bound and context not in self.bound:
            raise ConflictError
        self.bound.add(context)

    def check_keys(self) -> None:
        present = [chunk.key for _, chunk in self.chunks.values() if chunk.key is not None]
        if len(set(present)) < len(present):
            raise ConflictError

    def matching(self, test: Any, context: str | None) -> list[int]:
        return [
            chunk_id
            for chunk_id, (under, chunk) in sorted(self.chunks.items())
            if test(chunk_id, chunk.meta) and context in (None, under)
        ]


class Model:
    """The operations on plain dictionaries. Whatever raises leaves no trace."""

    def __init__(self) -> None:
        self.kbs: dict[str, Kb] = {}
        self.replays: dict[str, list[int]] = {}

    def kb(self, name: str) -> Kb:
        if name not in self.kbs:
            raise NotFoundError
        return self.kbs[name]

    def insert(
        self,
        name: str,
        context: str,
        chunks: list[NewChunk],
        token: str | None,
        sent: Sequence[NewManifest],
    ) -> Any:
        kb = self.kb(name)
        if token in self.replays:
            return self.replays[token], tuple(manifest_tag(kb.manifests.get(one.context_id)) for one in sent)
        kb.write_under(context)
        taken = {chunk.key: one for one, (_, chunk) in kb.chunks.items() if chunk.key is not None}
        replaced = kb.contexts_of(taken[chunk.key] for chunk in chunks if chunk.key in taken)
        if kb.settled(sent, replaced | ({context} if chunks else set())):
            raise PreconditionError
        ids = []
        for chunk in chunks:
            chunk_id = taken.get(chunk.key)
            if chunk_id is None:
                chunk_id = kb.next_id
                kb.next_id += 1
            kb.chunks[chunk_id] = (context, chunk)
            ids.append(chunk_id)
        if token is not None:
            self.replays[token] = ids
        return ids, tuple(manifest_tag(one.sealed) for one in sent)

    def update(
        self, name: str, context: str, updates: list[tuple[int, NewChunk]], sent: Sequence[NewManifest]
    ) -> int:
        kb = self.kb(name)
        kb.write_under(context)
        touched = kb.contexts_of(one for one, _ in updates) | ({context} if updates else set())
        if kb.settled(sent, touched):
            return len(updates)
        for chunk_id, chunk in updates:
            if chunk_id not in kb.chunks:
                raise NotFoundError
            kept = chunk.key if chunk.key is not None else kb.chunks[chunk_id][1].key
            kb.chunks[chunk_id] = (context, replace(chunk, key=kept))
        kb.check_keys()
        return len(updates)

    def patch(
        self, name: str, context: str, changes: list[ChunkPatch], sent: Sequence[NewManifest] = ()
    ) -> int:
        kb = self.kb(name)
        moving = [one.id for one in changes if one.vector is not None]
        if moving:
            kb.write_under(context)
        if kb.settled(sent, kb.contexts_of(moving) | ({context} if moving else set())):
            return len(changes)
        if any(one.id not in kb.chunks for one in changes):
            raise NotFoundError
        for one in changes:
            under, chunk = kb.chunks[one.id]
            chunk = replace(
                chunk,
                content=chunk.content if one.content is None else one.content,
                name=chunk.name if one.name is None else one.name,
                meta=chunk.meta if one.meta is None else merged(chunk.meta, one.meta),
                vector=chunk.vector if one.vector is None else one.vector,
            )
            kb.chunks[one.id] = (under if one.vector is None else context, chunk)
        return len(changes)

    def delete(self, name: str, ids: list[int], sent: Sequence[NewManifest] = ()) -> int:
        kb = self.kb(name)
        if kb.settled(sent, kb.contexts_of(ids)):
            return len(ids)
        return sum(kb.chunks.pop(one, None) is not None for one in ids)


class Machine(RuleBasedStateMachine):
    """One step after another on every store and on the model."""

    stores: dict[str, Any]
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        type(self).count += 1
        self.org = f"org{type(self).count}"
        self.model = Model()
        self.last_sent: tuple[NewManifest, ...] = ()
        self.sealed = 0
        self.fed: dict[tuple[str, str], tuple[int, dict[int, Any]]] = {}
        self.followers: dict[tuple[str, str, str], tuple[int, dict[int, Ciphertexts]]] = {}
        self.each(lambda store: store.create_org(self.org, [], first=False))
        for context in CONTEXTS:
            self.each(
                lambda store, one=context: store.store_context(
                    self.org, one, {"pk": 1}, "p", PublicContext(15, 1)
                )
            )

    count = 0

    def each(self, call: Any) -> Any:
        """The common answer of all stores."""
        answers: dict[str, Any] = {}
        for name, store in self.stores.items():
            try:
                answers[name] = self.runner.run(call(store))
            except REFUSALS as error:
                answers[name] = type(error)
            except StoreError as error:
                raise AssertionError(f"{name}: {error!r}") from error
        first, *others = answers.values()
        assert all(one == first for one in others), answers
        return first

    def both(self, call: Any, expected: Any) -> Any:
        """The common answer, which is also the model's."""
        before = {
            name: (kb.next_id, set(kb.bound), dict(kb.chunks), dict(kb.manifests))
            for name, kb in self.model.kbs.items()
        }
        try:
            wanted = expected()
        except REFUSALS as error:
            wanted = type(error)
            self.model.kbs = {name: Kb(*one) for name, one in before.items()}
        answer = self.each(call)
        assert answer == wanted
        return answer

    def name(self, kb: str) -> str:
        return f"{self.org} {kb}"

    def sent(self, kb: str, way: str) -> tuple[NewManifest, ...]:
        """The manifests that come with a change."""
        present = self.model.kbs[kb].manifests if kb in self.model.kbs else {}
        self.sealed += 1
        sealed = b"%d" % self.sealed
        if way == "again":
            return self.last_sent
        if way == "right":
            found = [NewManifest(one, manifest_tag(held), sealed) for one, held in sorted(present.items())]
        elif way == "first":
            found = [NewManifest("a", NO_MANIFEST, sealed)]
        else:
            found = [NewManifest("a", "0" * 64, sealed)] if way == "stale" else []
        self.last_sent = tuple(found)
        return self.last_sent

    @rule(kb=kbs)
    def create_kb(self, kb: str) -> None:
        if kb not in self.model.kbs:
            self.model.kbs[kb] = Kb()
            for store in self.stores.values():
                self.runner.run(store.create_kb(self.org, self.name(kb), "n", "d"))

    @rule(kb=kbs, sure=st.integers(0, 3))
    def delete_kb(self, kb: str, sure: int) -> None:
        if sure == 0:

            def expected() -> None:
                self.model.kb(kb)
                del self.model.kbs[kb]
                if kb == KBS[0]:
                    self.model.replays.clear()
                for one in [one for one in self.followers if one[1] == kb]:
                    del self.followers[one]
                for one in [one for one in self.fed if one[1] == self.name(kb)]:
                    del self.fed[one]

            self.both(lambda store: store.delete_kb(self.org, self.name(kb)), expected)

    @rule(kb=kbs, context=contexts)
    def bind(self, kb: str, context: str) -> None:
        self.both(
            lambda store: store.bind(self.org, self.name(kb), context),
            lambda: self.model.kb(kb).bound.add(context),
        )

    @rule(kb=kbs, context=contexts, chunks=batches, way=ways)
    def insert(self, kb: str, context: str, chunks: list[NewChunk], way: str) -> None:
        self.insert_under(None, kb, context, chunks, way)

    @rule(context=contexts, chunks=batches, way=ways, token=st.integers(0, 2))
    def insert_once(self, context: str, chunks: list[NewChunk], way: str, token: int) -> None:
        self.insert_under(f"{self.org} token {token}", KBS[0], context, chunks, way)

    def insert_under(
        self, token: str | None, kb: str, context: str, chunks: list[NewChunk], way: str
    ) -> None:
        replay = None if token is None else Replay(token, "same", 3600, strict=True)
        sent = self.sent(kb, way)

        async def call(store: Any) -> Any:
            done = await store.insert(self.org, self.name(kb), context, chunks, replay, sent)
            return done.ids, done.tags

        self.both(call, lambda: self.model.insert(kb, context, chunks, token, sent))

    @rule(kb=kbs, context=contexts, ids=some_ids, chunks=batches, way=ways)
    def update(self, kb: str, context: str, ids: list[int], chunks: list[NewChunk], way: str) -> None:
        updates = list(zip(ids, chunks, strict=False))
        sent = self.sent(kb, way)
        self.both(
            lambda store: store.update(self.org, self.name(kb), context, updates, sent),
            lambda: self.model.update(kb, context, updates, sent),
        )

    @rule(kb=kbs, context=contexts, changes=patches, way=ways)
    def patch(self, kb: str, context: str, changes: list[ChunkPatch], way: str) -> None:
        sent = self.sent(kb, way)
        self.both(
            lambda store: store.patch(self.org, self.name(kb), context, changes, sent),
            lambda: self.model.patch(kb, context, changes, sent),
        )

    @rule(kb=kbs, ids=some_ids, way=ways)
    def delete(self, kb: str, ids: list[int], way: str) -> None:
        sent = self.sent(kb, way)
        self.both(
            lambda store: store.delete(self.org, self.name(kb), ids, sent),
            lambda: self.model.delete(kb, ids, sent),
        )

    @rule(kb=kbs, context=contexts, right=st.booleans(), remove=st.booleans())
    def set_manifest(self, kb: str, context: str, right: bool, remove: bool) -> None:
        present = self.model.kbs[kb].manifests.get(context) if kb in self.model.kbs else None
        self.sealed += 1
        sealed = None if remove else b"%d" % self.sealed
        expected = manifest_tag(present) if right else "0" * 64

        def wanted() -> None:
            manifests = self.model.kb(kb).manifests
            if manifest_tag(present) not in (expected, manifest_tag(sealed)):
                raise PreconditionError
            manifests.pop(context, None)
            if sealed is not None:
                manifests[context] = sealed

        self.both(
            lambda store: store.set_manifest(self.org, self.name(kb), context, expected, sealed), wanted
        )

    @rule(kb=kbs, context=contexts, ids=some_ids, key=keys, wanted=queries, by=st.integers(0, 3))
    def look_up(self, kb: str, context: str, ids: list[int], key: Any, wanted: Any, by: int) -> None:
        """A manifest with chunks of its context, selected in every way."""
        selection, test = (
            (Selection(everything=True), lambda *_: True),
            (Selection(ids=ids), lambda chunk_id, _: chunk_id in ids),
            (Selection(keys=[key] if key else []), lambda _, chunk: chunk.key == (key or "")),
            (
                Selection(filter=parse_filter(wanted[0])),
                lambda chunk_id, chunk: wanted[1](chunk_id, chunk.meta),
            ),
        )[by]

        async def call(store: Any) -> Any:
            pages = [page async for page in store.manifest(self.org, self.name(kb), context, selection)]
            return pages[-1].sealed, [row for page in pages for row in page.rows]

        def expected() -> Any:
            found = self.model.kb(kb)
            return found.manifests.get(context), [
                ManifestRow(one, chunk.key, chunk.vector.record)
                for one, (under, chunk) in sorted(found.chunks.items())
                if under == context and test(one, chunk)
            ]

        self.both(call, expected)

    @rule(kb=kbs, wanted=queries, context=st.none() | contexts)
    def delete_matching(self, kb: str, wanted: Any, context: str | None) -> None:
        query = Query(context, parse_filter(wanted[0]))
        self.both(
            lambda store: store.delete_matching(self.org, self.name(kb), query),
            lambda: self.model.delete(kb, self.model.kb(kb).matching(wanted[1], context)),
        )

    @rule(kb=kbs, wanted=queries, meta=patch_metas.filter(bool))
    def patch_matching(self, kb: str, wanted: Any, meta: dict[str, Any]) -> None:
        query = Query(filter=parse_filter(wanted[0]))

        def expected() -> int:
            found = self.model.kb(kb).matching(wanted[1], None)
            return self.model.patch(kb, "", [ChunkPatch(one, meta=meta) for one in found])

        self.both(lambda store: store.patch_matching(self.org, self.name(kb), query, meta), expected)

    @rule(kb=kbs, wanted=queries, context=st.none() | contexts, sort=st.sampled_from(["tag1", "chunk_id"]))
    def search(self, kb: str, wanted: Any, context: str | None, sort: Any) -> None:
        query = Query(context, parse_filter(wanted[0]))

        async def select(store: Any) -> list[int]:
            return (await store.select(self.org, self.name(kb), query)).tolist()

        found = self.both(select, lambda: self.model.kb(kb).matching(wanted[1], context))
        page = self.each(
            lambda store: store.page(
                self.org, self.name(kb), query, sort_by=sort, descending=True, limit=3, offset=1
            )
        )
        assert found is NotFoundError or page[1] == len(found)

    @rule(kb=kbs, context=contexts)
    def follow(self, kb: str, context: str) -> None:
        """An index that follows the changes, and a feed, have what the model has."""
        if kb not in self.model.kbs:
            return
        should = {
            one: chunk.vector for one, (under, chunk) in self.model.kbs[kb].chunks.items() if under == context
        }
        for name, store in self.stores.items():
            place = (name, kb, context)
            sequence, known = self.followers.get(place, (0, {}))
            try:
                sequence = self.runner.run(self.read_changes(store, self.name(kb), context, sequence, known))
            except GoneError:
                known = {}
                sequence = self.runner.run(self.read_changes(store, self.name(kb), context, 0, known))
            assert known == should, (name, sequence)
            assert self.manifest == self.model.kbs[kb].manifests.get(context), (name, sequence)
            self.followers[place] = (sequence, known)
            model = self.model.kbs[kb].chunks
            assert self.runner.run(self.read_feed(store, self.name(kb), name)) == {
                one: (under, chunk.vector) for one, (under, chunk) in model.items()
            }

    async def read_feed(self, store: Any, kb: str, name: str) -> dict[int, Any]:
        """What one knows who reads the feed in small pages, from where it was read last time."""
        at, fed = self.fed.get((name, kb), (0, {}))
        after, began, more = None, None, True
        while more:
            try:
                page = await store.feed(self.org, kb, None, at, after, 2, began)
            except GoneError:
                at, after, began = 0, None, None
                fed.clear()
                continue
            for one, _ in page.removed:
                fed.pop(one, None)
            fed |= {one.id: (one.context_id, one.vector) for one in page.changed}
            at, after, began, more = page.sequence, page.after, page.began, page.more
        self.fed[name, kb] = (at, fed)
        return fed

    async def read_changes(
        self, store: Any, kb: str, context: str, sequence: int, known: dict[int, Ciphertexts]
    ) -> int:
        async for change in store.changes(self.org, kb, context, sequence):
            for one in np.concatenate([change.removed, np.array(change.ids, np.int64)]).tolist():
                known.pop(one, None)
            known.update(zip(change.ids, change.vectors, strict=True))
            last, self.manifest = change.sequence, change.manifest
        return last

    def teardown(self) -> None:
        for kb, model in self.model.kbs.items():
            found = self.each(lambda store, kb=kb: store.fetch(self.org, self.name(kb), range(1, 400), ALL))
            assert {
                one: (chunk.content, chunk.name, chunk.meta, chunk.key, chunk.record)
                for one, chunk in found.items()
            } == {
                one: (chunk.content, chunk.name, chunk.meta, chunk.key, chunk.vector.record)
                for one, (_, chunk) in model.chunks.items()
            }
            (count,) = {
                self.runner.run(store.get_kb(self.org, self.name(kb))).count for store in self.stores.values()
            }
            assert count == len(model.chunks)


@pytest.mark.timeout(100_000 if SEQUENCES > 100 else 120)
def test_all_engines_agree(tmp_path: Path, new_database, monkeypatch) -> None:
    monkeypatch.setattr("xtrace_sdk.server.storage.change_statements._KEPT_CHANGES", 1)
    monkeypatch.setattr("xtrace_sdk.server.storage.change_statements._BATCH", 0)
    with asyncio.Runner() as runner:
        Machine.runner = runner
        Machine.stores = {
            "memory": runner.run(open_store(Settings(data=Path(":memory:")))),
            "sqlite": runner.run(open_store(Settings(data=tmp_path))),
            "postgresql": runner.run(open_store(Settings(database_url=new_database()))),
        }
        try:
            run_state_machine_as_test(
                Machine, settings=settings(max_examples=SEQUENCES, stateful_step_count=STEPS)
            )
            print(Machine.count, "sequences")
        finally:
            for store in Machine.stores.values():
                runner.run(store.close())
