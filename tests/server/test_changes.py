"""The change feed: whoever applies its pages has what is stored."""

import pytest

from xtrace_sdk import wire

ENGINES = ("sqlite", "postgresql")


def page(org, kb, **params):
    answer = org.api.get(org.path(wire.CHANGES), params={"kb_id": kb, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


def follow(org, kb, known: dict[int, dict], place: dict[str, int], **params) -> int:
    """Apply all pages from `place` on; the number of pages."""
    pages = 0
    while True:
        answer = page(org, kb, **place, **params)
        pages += 1
        for one in answer["removed"]:
            known.pop(one["chunk_id"], None)
        for one in answer["changed"]:
            known[one["chunk_id"]] = one
        place.clear()
        place["since"] = answer["sequence"]
        place |= {name: answer[name] for name in ("after", "began") if name in answer}
        if not answer["has_more"]:
            assert place.keys() == {"since"}
            return pages


def stored(org, kb, known) -> dict[int, list[str]]:
    return {one["chunk_id"]: one["index"] for one in org.fetch(kb, list(range(1, 60)), "index")}


def test_a_follower_has_what_is_stored(org, client, kb) -> None:
    known: dict[int, dict] = {}
    place: dict[str, int] = {}
    bits = client.vectors(7)
    org.insert(kb, client.context_id, client.chunks(bits))
    org.insert(kb, client.context_id, client.chunks(bits[:4]))
    assert follow(org, kb, known, place, limit=3) == 4
    assert {one: chunk["index"] for one, chunk in known.items()} == stored(org, kb, known)
    assert {chunk["sequence"] for chunk in known.values()} == {1, 2} and place == {"since": 2}
    assert {chunk["context_id"] for chunk in known.values()} == {client.context_id}
    assert page(org, kb, since=2) == {"sequence": 2, "has_more": False, "removed": [], "changed": []}

    org.api.delete(org.path(wire.CHUNKS), params={"kb_id": kb, "chunk_ids": [2, 5]})
    chunk = {**client.chunks(bits[:1])[0], "chunk_id": 3}
    body = {"kb_id": kb, "context_id": client.context_id, "chunk_updates": [chunk]}
    assert org.api.put(org.path(wire.CHUNKS), json=body).status_code == 200
    patches = [{"chunk_id": 9, "meta_data": {"tag1": "a"}}]
    body = {"kb_id": kb, "context_id": client.context_id, "chunk_patches": patches}
    assert org.api.patch(org.path(wire.CHUNKS), json=body).status_code == 200
    answer = page(org, kb, since=2)
    assert answer["removed"] == [{"chunk_id": 2, "sequence": 3}, {"chunk_id": 5, "sequence": 3}]
    assert [(one["chunk_id"], one["sequence"]) for one in answer["changed"]] == [(3, 4), (9, 5)]
    follow(org, kb, known, place, limit=1)
    assert {one: chunk["index"] for one, chunk in known.items()} == stored(org, kb, known)
    assert set(known) == {1, 3, 4, 6, 7, 8, 9, 10, 11}


def test_many_removals_are_paged(org, client, kb) -> None:
    known: dict[int, dict] = {}
    place: dict[str, int] = {}
    org.insert(kb, client.context_id, client.chunks(client.vectors(9)))
    follow(org, kb, known, place)
    for chunk_id in range(1, 9):
        org.api.delete(org.path(wire.CHUNKS), params={"kb_id": kb, "chunk_ids": [chunk_id]})
    assert follow(org, kb, known, place, limit=3) == 3
    assert set(known) == {9} and place == {"since": 9}


def delete(org, kb, chunk_id: int) -> None:
    org.api.delete(org.path(wire.CHUNKS), params={"kb_id": kb, "chunk_ids": [chunk_id]})


@pytest.fixture
def forgetful(monkeypatch) -> None:
    """Of two changes it is known for sure what they deleted, of four at most."""
    monkeypatch.setattr("xtrace_sdk.server.storage.change_statements._KEPT_CHANGES", 2)
    monkeypatch.setattr("xtrace_sdk.server.storage.change_statements._BATCH", 2)


def test_a_follower_that_was_away_too_long_begins_again(org, client, kb, forgetful) -> None:
    known: dict[int, dict] = {}
    place: dict[str, int] = {}
    org.insert(kb, client.context_id, client.chunks(client.vectors(9)))
    follow(org, kb, known, place)
    for chunk_id in (1, 2, 3, 4):
        delete(org, kb, chunk_id)
    assert [one["chunk_id"] for one in page(org, kb, since=1)["removed"]] == [1, 2, 3, 4]
    delete(org, kb, 5)
    answer = org.api.get(org.path(wire.CHANGES), params={"kb_id": kb, **place})
    assert (answer.status_code, answer.json()["error"]["type"]) == (410, "gone")
    assert "begin again at 0" in answer.json()["message"]
    assert [one["chunk_id"] for one in page(org, kb, since=4)["removed"]] == [4, 5]
    known, place = {}, {}
    follow(org, kb, known, place)
    assert set(known) == {6, 7, 8, 9} and place == {"since": 6}


def test_a_first_round_goes_on_whatever_was_deleted_before(org, client, kb, forgetful) -> None:
    org.insert(kb, client.context_id, client.chunks(client.vectors(9)))
    org.insert(kb, client.context_id, client.chunks(client.vectors(3)))
    for chunk_id in range(1, 8):
        delete(org, kb, chunk_id)
    first = page(org, kb, limit=1)
    assert [one["chunk_id"] for one in first["changed"]] == [8]
    assert (first["sequence"], first["after"], first["began"]) == (1, 8, 9)
    delete(org, kb, 8)
    known = {one["chunk_id"]: one for one in first["changed"]}
    place = {"since": 1, "after": 8, "began": 9}
    assert follow(org, kb, known, place, limit=1) == 4
    assert set(known) == {9, 10, 11, 12} and place == {"since": 10}
    assert org.api.get(org.path(wire.CHANGES), params={"kb_id": kb, "since": 1}).status_code == 410


def test_an_index_that_was_left_behind_is_built_anew(org, client, kb, forgetful) -> None:
    bits = client.vectors(9)
    org.insert(kb, client.context_id, client.chunks(bits))
    assert len(client.distances(org, kb, bits[0])[0]) == 9
    for chunk_id in range(1, 8):
        delete(org, kb, chunk_id)
    assert client.distances(org, kb, bits[0]) == ([8, 9], (bits[7:] ^ bits[0]).sum(axis=1).tolist())


def test_one_context(org, client, make_client) -> None:
    """A chunk that moves to another context is gone from the first and new in the second."""
    other = make_client()
    kb = org.new_kb()
    for owner in (client, other):
        owner.register(org)
        org.api.post(org.path(wire.KB_BIND, kb_id=kb, context_id=owner.context_id))
    org.insert(kb, client.context_id, client.chunks(client.vectors(3)))
    chunk = {**other.chunks(client.vectors(1))[0], "chunk_id": 2}
    body = {"kb_id": kb, "context_id": other.context_id, "chunk_updates": [chunk]}
    assert org.api.put(org.path(wire.CHUNKS), json=body).status_code == 200
    mine = page(org, kb, since=1, context_id=client.context_id)
    assert mine["removed"] == [{"chunk_id": 2, "sequence": 2}] and mine["changed"] == []
    theirs = page(org, kb, context_id=other.context_id)
    assert [one["chunk_id"] for one in theirs["changed"]] == [2]
    assert [one["chunk_id"] for one in page(org, kb)["changed"]] == [1, 3, 2]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({}, 400),
        ({"kb_id": "none"}, 404),
        ({"since": -1}, 400),
        ({"limit": 0}, 400),
        ({"limit": 10_001}, 400),
        ({"after": "x"}, 400),
        ({"began": -1}, 400),
        ({"context_id": "none"}, 404),
    ],
)
def test_refusals(org, kb, params, status) -> None:
    if params and "kb_id" not in params:
        params = {**params, "kb_id": kb}
    assert org.api.get(org.path(wire.CHANGES), params=params).status_code == status


def test_needs_the_right_to_read(org, kb) -> None:
    for permission, status in ((0, 403), (1, 200)):
        with org.client_with(kb, permission) as reader:
            answer = reader.get(org.path(wire.CHANGES), params={"kb_id": kb})
            assert answer.status_code == status
