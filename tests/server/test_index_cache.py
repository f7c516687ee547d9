"""Indexes follow the store and stay within their budget."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from xtrace_sdk import wire
from xtrace_sdk.server.index_cache import IndexCache
from xtrace_sdk.server.storage.base import Change, Ciphertexts, PublicContext, UnavailableError

ENGINES = ("sqlite", "postgresql")


def fill(org, client, vectors: int) -> tuple[str, np.ndarray]:
    kb = org.new_kb()
    bits = client.vectors(vectors, seed=vectors)
    org.insert(kb, client.context_id, client.chunks(bits))
    return kb, bits


@pytest.fixture
def tight(serve_with, client):
    """Room for about 100 vectors."""
    org = serve_with(index_bytes=100 * (client.encryptor.width + 8)).new_org()
    client.register(org)
    return org


def test_least_recently_used_goes_first(tight, client) -> None:
    indexes = tight.server.services.indexes
    kbs = [fill(tight, client, count) for count in (40, 41, 42)]
    for kb, bits in kbs:
        assert client.distances(tight, kb, bits[0])[1] == (bits ^ bits[0]).sum(axis=1).tolist()
        assert indexes.nbytes <= tight.server.settings.index_bytes
    assert [name[0] for name in indexes._entries] == [kbs[1][0], kbs[2][0]]
    client.distances(tight, kbs[1][0], kbs[1][1][0])
    client.distances(tight, kbs[0][0], kbs[0][1][0])
    assert [name[0] for name in indexes._entries] == [kbs[1][0], kbs[0][0]]


def test_an_index_above_the_budget_still_answers(tight, client) -> None:
    kb, bits = fill(tight, client, 150)
    for _ in range(2):
        assert client.distances(tight, kb, bits[3])[1] == (bits ^ bits[3]).sum(axis=1).tolist()
        assert len(tight.server.services.indexes) == 0


def test_two_servers_over_one_database(serve_with, client) -> None:
    """What one process writes, another process' index follows."""
    first = serve_with()
    second = serve_with(data=first.settings.data, database_url=first.settings.database_url)
    org = first.new_org()
    client.register(org)
    kb, bits = fill(org, client, 10)
    assert len(client.distances(org, kb, bits[0])[0]) == 10
    other = type(org)(second, org.id, org.admin_key, org.api_key)
    assert len(client.distances(other, kb, bits[0])[0]) == 10
    other.insert(kb, client.context_id, client.chunks(bits[:5]))
    other.api.delete(other.path(wire.CHUNKS), params={"kb_id": kb, "chunk_ids": [2, 11]})
    expected = [1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15]
    assert client.distances(org, kb, bits[0])[0] == expected
    assert client.distances(other, kb, bits[0])[0] == expected


def test_updates_and_moves_between_contexts(org, client, make_client) -> None:
    other = make_client()
    kb, bits = "", client.vectors(6)
    client.register(org)
    other.register(org)
    kb = org.new_kb()
    org.insert(kb, client.context_id, client.chunks(bits))
    assert client.distances(org, kb, bits[0])[0] == [1, 2, 3, 4, 5, 6]
    org.api.post(org.path(wire.KB_BIND, kb_id=kb, context_id=other.context_id))

    def update(owner, ids: list[int], new: np.ndarray) -> None:
        chunks = owner.chunks(new)
        for chunk_id, chunk in zip(ids, chunks, strict=True):
            chunk["chunk_id"] = chunk_id
        body = {"kb_id": kb, "chunk_updates": chunks, "context_id": owner.context_id}
        answer = org.api.put(org.path(wire.CHUNKS), json=body)
        assert (answer.status_code, answer.json()["updated_count"]) == (200, len(ids))

    update(client, [2], bits[5:])
    assert client.distances(org, kb, bits[0])[1] == (bits[[0, 5, 2, 3, 4, 5]] ^ bits[0]).sum(axis=1).tolist()
    update(other, [3, 4], bits[:2])
    assert client.distances(org, kb, bits[0])[0] == [1, 2, 5, 6]
    assert other.distances(org, kb, bits[0]) == ([3, 4], (bits[:2] ^ bits[0]).sum(axis=1).tolist())
    update(client, [3], bits[:1])
    assert client.distances(org, kb, bits[0])[0] == [1, 2, 3, 5, 6]
    assert other.distances(org, kb, bits[0])[0] == [4]
    patch = {"chunk_id": 4, "index": client.index(bits[:1])[0]}
    body = {"kb_id": kb, "chunk_patches": [patch], "context_id": client.context_id}
    assert org.api.patch(org.path(wire.CHUNKS), json=body).status_code == 200
    assert client.distances(org, kb, bits[0])[0] == [1, 2, 3, 4, 5, 6]
    assert other.distances(org, kb, bits[0])[0] == []


class BreaksOff:
    """Two chunks. The first reading breaks off after chunk 1, which is deleted before the second.

    Every reading begins at 0, so that none says that a chunk is gone.
    """

    def __init__(self) -> None:
        self.readings = 0

    async def changes(self, org_id, kb_id, context_id, since: int) -> AsyncIterator[Change]:
        assert since == 0
        row = Ciphertexts(1, (5).to_bytes(5, "little"))
        self.readings += 1
        if self.readings == 1:
            yield Change(1, np.empty(0, np.int64), [1], [row])
            raise UnavailableError("database: locked")
        yield Change(2, np.empty(0, np.int64), [2], [row])


async def test_a_first_build_that_broke_off_leaves_nothing_behind() -> None:
    cache = IndexCache(BreaksOff(), 1 << 20)
    context = PublicContext(1_000_003, 1)
    with pytest.raises(UnavailableError):
        await cache.snapshot("org", "kb", "context", context, 1)
    found = await cache.snapshot("org", "kb", "context", context, 2)
    assert found.rows.ids.tolist() == [2]


class BreaksOffLater:
    """Chunk 1 with the manifest ``one``. Reading on from there breaks off after chunk 2, once."""

    def __init__(self) -> None:
        self.whole = True

    async def changes(self, org_id, kb_id, context_id, since: int) -> AsyncIterator[Change]:
        row = Ciphertexts(1, (5).to_bytes(5, "little"))
        none = np.empty(0, np.int64)
        if since == 0:
            yield Change(1, none, [1], [row], b"one")
            return
        yield Change(3, none, [2], [row], b"three")
        if self.whole:
            self.whole = False
            raise UnavailableError("database: locked")
        yield Change(3, none, [3], [row], b"three")


async def test_no_search_sees_a_change_half_applied() -> None:
    """Also one that would have been content with the state before."""
    cache = IndexCache(BreaksOffLater(), 1 << 20)
    context = PublicContext(1_000_003, 1)

    async def search(sequence: int) -> tuple[list[int], bytes | None]:
        state = await cache.snapshot("org", "kb", "context", context, sequence)
        return state.rows.ids.tolist(), state.manifest

    assert await search(1) == ([1], b"one")
    with pytest.raises(UnavailableError):
        await search(3)
    assert await search(1) == ([1, 2, 3], b"three")
