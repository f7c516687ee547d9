"""Manifests: every change of vectors exchanges them in its own transaction, or does not happen."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.storage.base import (
    ChunkPatch,
    Ciphertexts,
    ConflictError,
    DamagedError,
    ManifestRow,
    NewChunk,
    NewManifest,
    NotFoundError,
    PreconditionError,
    PublicContext,
    Query,
    Replay,
    Selection,
)
from xtrace_sdk.server.storage.integrity import verify
from xtrace_sdk.server.storage.statements import rows
from xtrace_sdk.wire import NO_MANIFEST, manifest_tag

ORG = "org"
ALL = Selection(everything=True)
OTHER_TAG = "0" * 64
_count = 0


def chunk(record: bytes = b"record", key: str | None = None, tag: str | None = None) -> NewChunk:
    return NewChunk("content", "", {"tag1": tag} if tag else {}, Ciphertexts(1, b"data", record), key)


class Base:
    """A knowledge base with two contexts, ``a`` and ``b``."""

    def __init__(self, opened: Any) -> None:
        global _count
        _count += 1
        self.run = opened.run
        self.store = opened.store
        self.kb = f"kb {_count}"
        self.versions = 0
        if not self.run(self.store.has_org()):
            self.run(self.store.create_org(ORG, []))
        self.run(self.store.create_kb(ORG, self.kb, "", ""))
        for context in ("a", "b"):
            self.run(self.store.store_context(ORG, context, {"pk": 1}, "p", PublicContext(15, 1)))
            self.run(self.store.bind(ORG, self.kb, context))

    def sealed(self) -> bytes:
        """Another one every time, as from a client."""
        self.versions += 1
        return b"sealed %d" % self.versions

    def look_up(
        self, context: str = "a", selection: Selection = ALL
    ) -> tuple[bytes | None, list[ManifestRow]]:
        async def pages() -> tuple[bytes | None, list[ManifestRow]]:
            found = [page async for page in self.store.manifest(ORG, self.kb, context, selection)]
            assert {(page.sealed, page.sequence) for page in found} == {(found[0].sealed, found[0].sequence)}
            return found[0].sealed, [row for page in found for row in page.rows]

        return self.run(pages())

    def ids(self, context: str = "a") -> list[int]:
        return [row.id for row in self.look_up(context)[1]]

    def sent(self, *contexts: str) -> tuple[NewManifest, ...]:
        return tuple(
            NewManifest(context, manifest_tag(self.look_up(context)[0]), self.sealed())
            for context in contexts
        )

    def insert(
        self,
        chunks: Sequence[NewChunk],
        manifests: Sequence[NewManifest] = (),
        context: str = "a",
        replay: Replay | None = None,
    ) -> Any:
        return self.run(self.store.insert(ORG, self.kb, context, chunks, replay, manifests))

    def update(self, ids: list[int], manifests: Sequence[NewManifest] = (), context: str = "a") -> int:
        updates = [(one, chunk(b"updated")) for one in ids]
        return self.run(self.store.update(ORG, self.kb, context, updates, manifests))

    def patch(
        self, patches: list[ChunkPatch], manifests: Sequence[NewManifest] = (), context: str = "a"
    ) -> int:
        return self.run(self.store.patch(ORG, self.kb, context, patches, manifests))

    def delete(self, ids: list[int], manifests: Sequence[NewManifest] = ()) -> int:
        return self.run(self.store.delete(ORG, self.kb, ids, manifests))

    def set(self, expected: str, sealed: bytes | None, context: str = "a") -> None:
        self.run(self.store.set_manifest(ORG, self.kb, context, expected, sealed))

    def sequence(self) -> int:
        async def first() -> int:
            async for page in self.store.manifest(ORG, self.kb, "a", Selection()):
                return page.sequence
            raise AssertionError

        return self.run(first())


@pytest.fixture
def base(open_store) -> Base:
    return Base(open_store)


@pytest.fixture
def kept(base: Base) -> Base:
    """Chunks 1 to 3 under ``a``, which has a manifest."""
    base.insert([chunk(b"r1", "k1"), chunk(b"r2", tag="x"), chunk(b"", "k3")], base.sent("a"))
    return base


def vector(record: bytes = b"patched") -> Ciphertexts:
    return Ciphertexts(1, b"new!", record)


def test_a_first_manifest_comes_with_the_first_chunks(base: Base) -> None:
    assert base.look_up() == (None, [])
    sent = base.sent("a")
    done = base.insert([chunk(b"one"), chunk(b"two", "key")], sent)
    assert done.tags == (manifest_tag(sent[0].sealed),)
    assert base.look_up() == (
        sent[0].sealed,
        [ManifestRow(1, None, b"one"), ManifestRow(2, "key", b"two")],
    )
    assert base.look_up("b") == (None, [])


def test_every_change_exchanges_the_manifest(kept: Base) -> None:
    for change in (
        lambda sent: kept.insert([chunk(b"r4"), chunk(b"again", "k1")], sent),
        lambda sent: kept.update([2], sent),
        lambda sent: kept.patch([ChunkPatch(3, vector=vector())], sent),
        lambda sent: kept.delete([4, 99], sent),
    ):
        before = kept.sequence()
        sent = kept.sent("a")
        change(sent)
        assert kept.look_up()[0] == sent[0].sealed
        assert kept.sequence() == before + 1
    assert kept.look_up()[1] == [
        ManifestRow(1, "k1", b"again"),
        ManifestRow(2, None, b"updated"),
        ManifestRow(3, "k3", b"patched"),
    ]


CHANGES = {
    "insert": lambda base, sent: base.insert([chunk()], sent),
    "insert by key": lambda base, sent: base.insert([chunk(key="k1")], sent),
    "update": lambda base, sent: base.update([2], sent),
    "patch": lambda base, sent: base.patch([ChunkPatch(2, vector=vector())], sent),
    "delete": lambda base, sent: base.delete([2], sent),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("expected", [NO_MANIFEST, OTHER_TAG], ids=["none", "another"])
def test_another_manifest_than_expected_changes_nothing(kept: Base, change, expected: str) -> None:
    before = kept.look_up(), kept.sequence()
    with pytest.raises(PreconditionError, match="another manifest"):
        change(kept, [NewManifest("a", expected, kept.sealed())])
    assert (kept.look_up(), kept.sequence()) == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_kept_vectors_without_a_manifest_is_refused(kept: Base, change) -> None:
    before = kept.look_up(), kept.sequence()
    with pytest.raises(PreconditionError, match="missing; this knowledge base keeps a manifest"):
        change(kept, ())
    assert (kept.look_up(), kept.sequence()) == before


def test_a_filter_deletes_no_kept_vectors(kept: Base) -> None:
    query = Query(filter=parse_filter({"tag1": "x"}))
    with pytest.raises(PreconditionError, match="missing"):
        kept.run(kept.store.delete_matching(ORG, kept.kb, query))
    assert kept.ids() == [1, 2, 3]
    nothing = Query(filter=parse_filter({"tag1": "y"}))
    assert kept.run(kept.store.delete_matching(ORG, kept.kb, nothing)) == 0


def test_a_manifest_of_a_context_with_vectors_is_not_a_first_one(base: Base) -> None:
    base.insert([chunk()])
    for change in (
        lambda sent: base.insert([chunk()], sent),
        lambda sent: base.delete([1], sent),
        lambda sent: base.update([1], sent),
    ):
        with pytest.raises(PreconditionError, match="vectors already"):
            change([NewManifest("a", NO_MANIFEST, base.sealed())])
    assert base.look_up() == (None, [ManifestRow(1, None, b"record")])
    base.delete([1])
    base.insert([chunk()], base.sent("a"))
    assert base.ids() == [2]


def test_metadata_and_names_need_no_manifest(kept: Base) -> None:
    sealed, found = kept.look_up()
    kept.patch([ChunkPatch(1, name="name", meta={"tag2": "y"}, content="other")])
    query = Query(filter=parse_filter({"tag1": "x"}))
    assert kept.run(kept.store.patch_matching(ORG, kept.kb, query, {"tag1": "z"})) == 1
    assert kept.look_up() == (sealed, found)


def test_contexts_without_a_manifest_go_on_beside_one(kept: Base) -> None:
    kept.insert([chunk()], context="b")
    kept.delete([4])
    assert kept.ids() == [1, 2, 3]


MOVES = {
    "update": lambda base, sent: base.update([2], sent, "b"),
    "patch": lambda base, sent: base.patch([ChunkPatch(2, vector=vector())], sent, "b"),
    "insert by key": lambda base, sent: base.insert([chunk(key="k1")], sent, "b"),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_move_between_contexts_exchanges_both(kept: Base, move) -> None:
    kept.insert([chunk()], kept.sent("b"), "b")
    before = kept.look_up("a"), kept.look_up("b")
    for part in (("a",), ("b",), ()):
        with pytest.raises(PreconditionError, match="missing"):
            move(kept, kept.sent(*part))
    stale = [*kept.sent("a"), NewManifest("b", OTHER_TAG, kept.sealed())]
    with pytest.raises(PreconditionError, match="another"):
        move(kept, stale)
    assert (kept.look_up("a"), kept.look_up("b")) == before
    sent = kept.sent("a", "b")
    move(kept, sent)
    assert [kept.look_up(one.context_id)[0] for one in sent] == [one.sealed for one in sent]
    assert len(kept.ids("a")) == 2 and len(kept.ids("b")) == 2


def test_what_is_in_force_was_applied_already(kept: Base) -> None:
    """A caller who lost the answer sends the same again."""
    for change, count in (
        (lambda sent: kept.update([2, 3], sent), 2),
        (lambda sent: kept.patch([ChunkPatch(2, vector=vector())], sent), 1),
        (lambda sent: kept.delete([3, 3, 77], sent), None),
    ):
        sent = kept.sent("a")
        first = change(sent)
        state = kept.look_up(), kept.sequence()
        again = change(sent)
        assert again == (count or 2) and first in (again, 1)
        assert (kept.look_up(), kept.sequence()) == state


def test_an_insert_is_answered_again_with_the_tag_in_force(kept: Base) -> None:
    replay = Replay(f"token {kept.kb}", "digest", 3600, strict=True)
    sent = kept.sent("a")
    first = kept.insert([chunk()], sent, replay=replay)
    assert kept.insert([chunk()], sent, replay=replay) == first
    later = kept.sent("a")
    kept.delete([1], later)
    again = kept.insert([chunk()], sent, replay=replay)
    assert again.ids == first.ids and again.tags == (manifest_tag(later[0].sealed),)
    assert kept.look_up()[0] == later[0].sealed
    # Without the record of the insert nobody knows its ids.
    newest = kept.sent("a")
    kept.insert([chunk()], newest)
    with pytest.raises(PreconditionError, match="in force already"):
        kept.insert([chunk()], newest)
    assert kept.ids() == [2, 3, *first.ids, first.ids[0] + 1]


def test_a_refused_insert_leaves_no_record_behind(kept: Base) -> None:
    """After the refusal the same request goes through with the right manifest."""
    replay = Replay(f"token {kept.kb}", "digest", 3600, strict=True)
    with pytest.raises(PreconditionError):
        kept.insert([chunk()], [NewManifest("a", OTHER_TAG, kept.sealed())], replay=replay)
    assert kept.insert([chunk()], kept.sent("a"), replay=replay).ids == [4]


def test_manifests_are_exchanged_without_a_change(kept: Base) -> None:
    sealed, found = kept.look_up()
    before = kept.sequence()
    with pytest.raises(PreconditionError, match="expected"):
        kept.set(OTHER_TAG, b"accepted")
    with pytest.raises(PreconditionError):
        kept.set(NO_MANIFEST, None)
    kept.set(manifest_tag(sealed), b"accepted")
    assert kept.look_up() == (b"accepted", found) and kept.sequence() == before + 1
    kept.set(manifest_tag(sealed), b"accepted")  # sent again
    assert kept.sequence() == before + 1
    kept.set(manifest_tag(b"accepted"), None)
    assert kept.look_up() == (None, found) and kept.sequence() == before + 2
    kept.set(NO_MANIFEST, None)
    kept.delete([1])
    kept.set(NO_MANIFEST, b"first")  # though there are vectors
    assert kept.look_up()[0] == b"first"


def test_absent_things_are_not_found(kept: Base) -> None:
    with pytest.raises(NotFoundError):
        kept.look_up("nobody's")
    with pytest.raises(NotFoundError):
        kept.set(NO_MANIFEST, b"sealed", "nobody's")
    with pytest.raises(NotFoundError):
        kept.delete([1], [*kept.sent("a"), NewManifest("nobody's", NO_MANIFEST, b"sealed")])
    assert kept.ids() == [1, 2, 3]
    kept.kb = "nowhere"
    with pytest.raises(NotFoundError):
        kept.look_up()
    with pytest.raises(NotFoundError):
        kept.set(NO_MANIFEST, b"sealed")


def test_a_failed_change_exchanges_nothing(kept: Base) -> None:
    before = kept.look_up(), kept.sequence()
    with pytest.raises(NotFoundError, match="no chunk 9"):
        kept.update([1, 9], kept.sent("a"))
    with pytest.raises(NotFoundError, match="no chunk 9"):
        kept.patch([ChunkPatch(9, vector=vector())], kept.sent("a"))
    with pytest.raises(ConflictError, match="key"):
        kept.run(kept.store.update(ORG, kept.kb, "a", [(2, chunk(key="k1"))], kept.sent("a")))
    assert (kept.look_up(), kept.sequence()) == before


def test_chunks_are_looked_up_by_id_key_and_filter(kept: Base) -> None:
    kept.insert([chunk(b"other", "k4", "x")], context="b")
    by_id = Selection(ids=(3, 1, 3, 4, 99))
    assert kept.look_up("a", by_id)[1] == [ManifestRow(1, "k1", b"r1"), ManifestRow(3, "k3", b"")]
    assert kept.look_up("b", by_id)[1] == [ManifestRow(4, "k4", b"other")]
    by_key = Selection(keys=("k3", "k4", "absent", "k1"))
    assert [row.id for row in kept.look_up("a", by_key)[1]] == [1, 3]
    assert [row.id for row in kept.look_up("b", by_key)[1]] == [4]
    by_filter = Selection(filter=parse_filter({"tag1": "x"}))
    assert [row.id for row in kept.look_up("a", by_filter)[1]] == [2]
    assert kept.look_up("a", Selection())[1] == []


def test_long_answers_come_in_pages_of_one_state(base: Base, monkeypatch) -> None:
    monkeypatch.setattr("xtrace_sdk.server.storage.manifest_statements._PAGE", 4)
    base.insert([chunk(b"%d" % at) for at in range(10)], base.sent("a"))
    assert base.ids() == list(range(1, 11))
    assert [row.id for row in base.look_up("a", Selection(ids=tuple(range(9, 0, -1))))[1]] == list(
        range(1, 10)
    )

    if getattr(base.store, "_in_memory", False):
        return  # there a reader keeps writers waiting

    async def changed_meanwhile() -> list[int]:
        found: list[int] = []
        changed = False
        async for page in base.store.manifest(ORG, base.kb, "a", ALL):
            if not changed:
                changed = True
                sent = NewManifest("a", manifest_tag(page.sealed), base.sealed())
                await base.store.delete(ORG, base.kb, [2, 9], [sent])
            found += [row.id for row in page.rows]
        return found

    assert base.run(changed_meanwhile()) == list(range(1, 11))
    assert base.ids() == [1, 3, 4, 5, 6, 7, 8, 10]


def test_the_changes_bring_the_manifest_of_their_state(kept: Base) -> None:
    async def manifests(since: int) -> set[bytes | None]:
        return {one.manifest async for one in kept.store.changes(ORG, kept.kb, "a", since)}

    assert kept.run(manifests(0)) == {kept.look_up()[0]}
    since = kept.sequence()
    kept.delete([1], kept.sent("a"))
    assert kept.run(manifests(since)) == kept.run(manifests(0)) == {kept.look_up()[0]}
    kept.insert([chunk()], context="b")
    kept.set(manifest_tag(kept.look_up()[0]), None)
    assert kept.run(manifests(since)) == {None}


def test_a_deleted_knowledge_base_leaves_no_manifest(kept: Base) -> None:
    kept.run(kept.store.delete_kb(ORG, kept.kb))
    assert not any("manifests" in line for line in kept.run(verify(kept.store)).damage)
    kept.run(kept.store.create_kb(ORG, kept.kb, "", ""))
    assert kept.look_up() == (None, [])


def test_a_damaged_manifest_is_told_and_can_be_replaced(kept: Base) -> None:
    def damage(sql: str) -> Any:
        def steps() -> Any:
            yield from rows(sql)

        return steps

    async def read_changes() -> None:
        async for _ in kept.store.changes(ORG, kept.kb, "a", 0):
            pass

    async def written() -> None:
        await kept.store._write(damage("UPDATE manifests SET checksum = checksum - 1"))

    sent = kept.sent("a")
    kept.run(written())
    for call in (
        kept.look_up,
        lambda: kept.delete([1], sent),
        lambda: kept.run(read_changes()),
    ):
        with pytest.raises(DamagedError, match="manifest is damaged"):
            call()
    with pytest.raises(PreconditionError, match="missing"):
        kept.delete([1])
    assert any(line.startswith("manifests ") for line in kept.run(verify(kept.store)).damage)
    kept.set(NO_MANIFEST, b"accepted")
    assert kept.look_up()[0] == b"accepted" and kept.ids() == [1, 2, 3]
    kept.run(written())
    kept.set(NO_MANIFEST, None)
    assert kept.look_up()[0] is None


def test_damaged_vectors_are_left_out_as_they_are_of_a_search(kept: Base) -> None:
    def damage() -> Any:
        (no,) = (yield from rows("SELECT no FROM kbs WHERE id = ?", kept.kb))[0]
        yield from rows("UPDATE vectors SET seq = 77 WHERE kb = ? AND id = 2", no)
        yield from rows("UPDATE chunks SET key = 'changed' WHERE kb = ? AND id = 1", no)

    kept.run(kept.store._write(damage))
    assert kept.look_up()[1] == [ManifestRow(1, None, b"r1"), ManifestRow(3, "k3", b"")]


def test_writers_at_once_are_settled_one_by_one(base: Base) -> None:
    """Each looks up, changes and tries again when it is refused: no change is lost, none is made twice."""

    async def write(writer: int) -> int:
        refused = 0
        for number in range(5):
            while True:
                async for page in base.store.manifest(ORG, base.kb, "a", Selection()):
                    listed = (page.sealed or b"").split()
                name = b"%d-%d" % (writer, number)
                sent = NewManifest("a", manifest_tag(b" ".join(listed) or None), b" ".join([*listed, name]))
                try:
                    await base.store.insert(ORG, base.kb, "a", [chunk(name)], None, [sent])
                    break
                except PreconditionError:
                    refused += 1
        return refused

    async def write_all() -> list[int]:
        return await asyncio.gather(*(write(writer) for writer in range(4)))

    base.run(write_all())
    sealed, found = base.look_up()
    assert sealed is not None
    assert sealed.split() == [row.record for row in found]
    assert len(found) == len({row.record for row in found}) == 20
