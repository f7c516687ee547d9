"""Searching, patching and deleting by metadata over HTTP."""

import json
from typing import Any

import pytest

from xtrace_sdk import wire

ENGINES = ("sqlite", "postgresql")

METAS: list[dict[str, Any]] = [
    {"tag1": "a", "tag3": "0010", "facets": ["x", "y"]},
    {"tag1": "b", "tag3": "0002", "facets": ["x"]},
    {"tag1": "a", "tag2": None, "own": {"deep": [1]}},
    {"tag1": "c", "tag3": "0007", "facets": ["z", "z"]},
]


@pytest.fixture
def filled(org, client, kb) -> str:
    chunks = client.chunks(client.vectors(4))
    for number, (chunk, meta) in enumerate(zip(chunks, METAS, strict=True)):
        chunk["meta_data"] = meta
        chunk["name"] = f"n{9 - number}"
    assert org.insert(kb, client.context_id, chunks).status_code == 200
    return kb


def post(org, template: str, **body: Any):
    return org.api.post(org.path(template), json=body)


def ids(answer) -> list[int]:
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return [one["chunk_id"] for one in (found["results"] if isinstance(found, dict) else found)]


def test_meta_search(org, client, filled) -> None:
    common = {"kb_id": filled, "context_id": client.context_id}
    answer = post(org, wire.CHUNKS_META, meta_filter=json.dumps({"tag1": "a"}), **common)
    assert answer.json() == [
        {"chunk_id": 1, "name": "n9", "meta_data": METAS[0]},
        {"chunk_id": 3, "name": "n7", "meta_data": METAS[2]},
    ]
    assert ids(post(org, wire.CHUNKS_META, meta_filter={"facets": "x"}, **common)) == [1, 2]
    assert ids(post(org, wire.CHUNKS_META, meta_filter="{}", **common)) == [1, 2, 3, 4]
    assert ids(post(org, wire.CHUNKS_META, **common)) == [1, 2, 3, 4]
    assert ids(post(org, wire.CHUNKS_META, kb_id=filled)) == [1, 2, 3, 4]
    assert ids(post(org, wire.CHUNKS_META, kb_id=filled, context_id="another")) == []
    (with_content,) = post(
        org, wire.CHUNKS_META, meta_filter={"chunk_id": 2}, return_content=True, **common
    ).json()
    assert with_content["chunk_content"] == "sealed 1" and "index" not in with_content
    (projected,) = post(
        org, wire.CHUNKS_META, meta_filter={"chunk_id": 2}, projection=["index", "tag1"], **common
    ).json()
    assert set(projected) == {"chunk_id", "index", "meta_data"} and projected["meta_data"] == {"tag1": "b"}


def test_facets_are_stored_once_each(org, filled) -> None:
    assert org.fetch(filled, [4], "facets")[0]["meta_data"] == {"facets": ["z"]}


def test_distances_within_a_filter(org, client, filled) -> None:
    query = client.vectors(1)[0]
    everything = dict(zip(*client.distances(org, filled, query), strict=True))
    for given in ({"tag1": "a"}, json.dumps({"tag1": "a"})):
        found = client.distances(org, filled, query, meta_filter=given)
        assert found == ([1, 3], [everything[1], everything[3]])
    assert client.distances(org, filled, query, meta_filter="{}", range=[2, 3])[0] == [2, 3]
    assert client.distances(org, filled, query, meta_filter={"facets": "x"}, range=[2, 9])[0] == [2]
    assert client.distances(org, filled, query, meta_filter={"tag1": "nobody"}) == ([], [])
    refused = client.search(org, filled, query, meta_filter={"tag9": 1})
    assert refused.status_code == 400 and "meta_filter.tag9" in refused.json()["message"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [4, 3, 2, 1]),
        ({"sort_order": "asc"}, [1, 2, 3, 4]),
        ({"sort_by": "tag3", "sort_order": "asc"}, [2, 4, 1, 3]),
        ({"sort_by": "tag3", "sort_order": "desc"}, [1, 4, 2, 3]),
        ({"sort_by": "tag1", "sort_order": "asc"}, [1, 3, 2, 4]),
        ({"sort_by": "tag1"}, [4, 2, 1, 3]),
        ({"sort_by": "name", "sort_order": "asc"}, [4, 3, 2, 1]),
        ({"sort_by": "created_at", "sort_order": "asc"}, [1, 2, 3, 4]),
        ({"sort_by": "tag5"}, [1, 2, 3, 4]),
        ({"meta_filter": {"tag1": "a"}}, [3, 1]),
    ],
)
def test_pages(org, client, filled, options: dict[str, Any], expected: list[int]) -> None:
    common = {"kb_id": filled, "context_id": client.context_id, **options}
    answer = post(org, wire.CHUNKS_META_PAGE, **common)
    assert ids(answer) == expected
    assert {name: answer.json()[name] for name in ("total", "offset", "limit", "has_more")} == {
        "total": len(expected),
        "offset": 0,
        "limit": None,
        "has_more": False,
    }
    seen: list[int] = []
    for offset in range(0, 6, 2):
        page = post(org, wire.CHUNKS_META_PAGE, offset=offset, limit=2, **common)
        seen += ids(page)
        assert page.json()["has_more"] == (offset + 2 < len(expected))
        assert (page.json()["offset"], page.json()["limit"]) == (offset, 2)
    assert seen == expected


@pytest.mark.parametrize(
    "bad",
    [
        {"sort_by": "content"},
        {"sort_by": "tag6"},
        {"sort_order": "up"},
        {"limit": -1},
        {"offset": -1},
        {"limit": "1"},
        {"projection": "name"},
        {"return_content": 1},
    ],
)
def test_bad_pages(org, filled, bad: dict[str, Any]) -> None:
    answer = post(org, wire.CHUNKS_META_PAGE, kb_id=filled, **bad)
    assert answer.status_code == 400 and next(iter(bad)) in answer.json()["message"]


def by_meta(org, method: str, **body: Any):
    return org.api.request(method, org.path(wire.CHUNKS_BY_META), json=body)


def test_delete_by_meta(org, client, filled) -> None:
    common = {"kb_id": filled, "context_id": client.context_id, "meta_filter": {"tag1": "a"}}
    assert by_meta(org, "DELETE", dry_run=True, **common).json() == {"would_delete_count": 2}
    assert org.count(filled) == 4
    elsewhere = {**common, "context_id": "another"}
    assert by_meta(org, "DELETE", **elsewhere).json() == {"deleted_count": 0}
    assert by_meta(org, "DELETE", **common).json() == {"deleted_count": 2}
    assert client.distances(org, filled, client.vectors(1)[0])[0] == [2, 4]
    assert org.count(filled) == 2


@pytest.mark.parametrize("meta_filter", [None, {}, "", "{}"])
def test_everything_is_not_changed_by_accident(org, filled, meta_filter: Any) -> None:
    for method, more in (("DELETE", {}), ("PATCH", {"patch": {"tag1": "x"}})):
        body = {"kb_id": filled, "meta_filter": meta_filter, **more}
        refused = by_meta(org, method, **body)
        assert refused.status_code == 400 and "meta_filter" in refused.json()["message"]
        assert list(by_meta(org, method, dry_run=True, **body).json().values()) == [4]
    assert org.count(filled) == 4


def test_patch_by_meta(org, client, filled) -> None:
    common = {
        "kb_id": filled,
        "context_id": client.context_id,
        "meta_filter": {"tag1": "a", "facets": {"$contains": "x"}},
    }
    patch = {"facets": ["published"], "tag5": "new", "tag3": None}
    assert by_meta(org, "PATCH", patch=patch, dry_run=True, **common).json() == {"would_update_count": 1}
    assert org.fetch(filled, [1], "meta_data")[0]["meta_data"] == METAS[0]
    assert by_meta(org, "PATCH", patch=patch, **common).json() == {"updated_count": 1}
    changed = {"tag1": "a", "facets": ["published"], "tag5": "new"}
    assert org.fetch(filled, [1], "meta_data")[0]["meta_data"] == changed
    for condition, expected in [
        ({"facets": "x"}, [2]),
        ({"facets": "published"}, [1]),
        ({"tag5": "new"}, [1]),
    ]:
        assert ids(post(org, wire.CHUNKS_META, kb_id=filled, meta_filter=condition)) == expected
    nested = {"meta_data": {"tag2": "n"}, "facets": {"$add": ["new", "published"], "$remove": ["gone"]}}
    by_meta(org, "PATCH", patch=nested, kb_id=filled, meta_filter={"chunk_id": 1})
    assert org.fetch(filled, [1], "meta_data")[0]["meta_data"] == {
        **changed,
        "tag2": "n",
        "facets": ["published", "new"],
    }


@pytest.mark.parametrize(
    ("patch", "named"),
    [
        ({}, "patch"),
        ({"tag1": 1}, "patch.tag1"),
        ({"facets": "a"}, "patch.facets"),
        ({"facets": {}}, "patch.facets"),
        ({"facets": {"$push": ["a"]}}, "patch.facets"),
        ({"facets": {"$add": "a"}}, "patch.facets.$add"),
        ({"facets": {"$add": [1]}}, "patch.facets.$add[0]"),
        ({"tag1": "a", "meta_data": {"tag1": "b"}}, "patch.tag1: given twice"),
        ({"tag1": "\0"}, "patch.tag1"),
        ([], "patch"),
    ],
)
def test_bad_patches_by_meta(org, filled, patch: Any, named: str) -> None:
    answer = by_meta(org, "PATCH", kb_id=filled, meta_filter={"tag1": "a"}, patch=patch)
    assert answer.status_code == 400 and answer.json()["message"].startswith(named)
    assert org.fetch(filled, [1], "meta_data")[0]["meta_data"] == METAS[0]


def test_patch_by_id(org, client, filled) -> None:
    patches = [
        {"chunk_id": 1, "meta_data": {"tag1": None, "own": 5}, "tag2": "flat", "facets": {"$remove": ["x"]}},
        {"chunk_id": 2, "name": "renamed", "chunk_content": "replaced", "facets": None},
        {"chunk_id": 3},
    ]
    body = {"kb_id": filled, "context_id": client.context_id, "chunk_patches": patches}
    answer = org.api.patch(org.path(wire.CHUNKS), json=body)
    assert (answer.status_code, answer.json()["updated_count"]) == (200, 3)
    one, two, three = org.fetch(filled, [1, 2, 3])
    assert one["meta_data"] == {"tag3": "0010", "facets": ["y"], "own": 5, "tag2": "flat"}
    assert two["meta_data"] == {"tag1": "b", "tag3": "0002"}
    assert (two["name"], two["chunk_content"]) == ("renamed", "replaced")
    assert (three["name"], three["meta_data"]) == ("n7", METAS[2])
    assert ids(post(org, wire.CHUNKS_META, kb_id=filled, meta_filter={"facets": None})) == [2, 3]


def test_updates_and_patches_are_all_or_nothing(org, client, filled) -> None:
    before = org.fetch(filled, [1, 2, 3, 4])
    chunk = client.chunks(client.vectors(1))[0]
    updates = [{**chunk, "chunk_id": 1}, {**chunk, "chunk_id": 0}, {**chunk, "chunk_id": 77}]
    body = {"kb_id": filled, "context_id": client.context_id, "chunk_updates": updates}
    refused = org.api.put(org.path(wire.CHUNKS), json=body)
    assert refused.status_code == 404 and "0, 77" in refused.json()["message"]
    patches = [{"chunk_id": 1, "name": "x"}, {"chunk_id": 99, "name": "x"}]
    body = {"kb_id": filled, "context_id": client.context_id, "chunk_patches": patches}
    refused = org.api.patch(org.path(wire.CHUNKS), json=body)
    assert refused.status_code == 404 and "99" in refused.json()["message"]
    twice = {**body, "chunk_patches": [{"chunk_id": 1}, {"chunk_id": 1}]}
    assert org.api.patch(org.path(wire.CHUNKS), json=twice).status_code == 400
    both = {"chunk_id": 1, "tag1": "x", "meta_data": {"tag1": "y"}}
    refused = org.api.patch(org.path(wire.CHUNKS), json={**body, "chunk_patches": [both]})
    assert refused.status_code == 400 and "chunk_patches[0].tag1: given twice" in refused.json()["message"]
    assert org.fetch(filled, [1, 2, 3, 4]) == before


def test_update_replaces_everything_but_the_key(org, client, kb) -> None:
    first = client.chunks(client.vectors(2), meta_data={"tag1": "a", "facets": ["f"]})
    first[0]["key"], first[1]["key"] = "k0", "k1"
    org.insert(kb, client.context_id, first)
    new = {**client.chunks(client.vectors(1))[0], "chunk_content": "new", "chunk_id": 1}
    body = {"kb_id": kb, "context_id": client.context_id, "chunk_updates": [new]}
    assert org.api.put(org.path(wire.CHUNKS), json=body).json()["updated_count"] == 1
    got = org.fetch(kb, [1])[0]
    assert (got["chunk_content"], got["meta_data"], got["key"]) == ("new", {}, "k0")
    assert ids(post(org, wire.CHUNKS_META, kb_id=kb, meta_filter={"facets": "f"})) == [2]
    body["chunk_updates"] = [{**new, "key": "k1"}]
    refused = org.api.put(org.path(wire.CHUNKS), json=body)
    assert refused.status_code == 409 and "key" in refused.json()["message"]
    assert org.fetch(kb, [1])[0]["key"] == "k0"


def test_large_answers_stream(org, client, kb) -> None:
    """More than one page of the streamed array, in order, with repeats."""
    chunk = client.chunks(client.vectors(1))[0]
    org.insert(kb, client.context_id, [chunk] * 600)
    wanted = [*range(600, 0, -1), 5, 5]
    assert [one["chunk_id"] for one in org.fetch(kb, wanted, "chunk_id")] == wanted
    page = post(org, wire.CHUNKS_META_PAGE, kb_id=kb, limit=500, offset=50, sort_order="asc")
    assert ids(page) == list(range(51, 551))
