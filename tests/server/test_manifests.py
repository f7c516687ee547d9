"""Manifests over HTTP: headers, addresses, status codes, and the state that a search answers from."""

import base64
import os
import threading
from typing import Any

import httpx
import pytest

from xtrace_sdk import wire

ENGINES = ("sqlite", "postgresql")


class Keeper:
    """Sends changes of a knowledge base with manifests, as an owner does."""

    def __init__(self, org: Any, client: Any, kb: str) -> None:
        self.org, self.client, self.kb = org, client, kb

    def look_up(self, **selection: Any) -> dict[str, Any]:
        body = {"kb_id": self.kb, "context_id": self.client.context_id, **selection}
        answer = self.org.api.post(self.org.path(wire.MANIFESTS), json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def in_force(self) -> bytes | None:
        found = self.look_up()["manifest"]
        return None if found is None else base64.b64decode(found)

    def header(self, sealed: bytes, expected: str | None = None) -> dict[str, str]:
        expected = wire.manifest_tag(self.in_force()) if expected is None else expected
        value = wire.encode_manifest_header(self.client.context_id, expected, sealed)
        return {wire.MANIFEST_HEADER: value}

    def insert(self, count: int, headers: Any = None, **fields: Any) -> httpx.Response:
        chunks = self.client.chunks(self.client.vectors(count), **fields)
        return self.org.insert(self.kb, self.client.context_id, chunks, **(headers or {}))

    def send(self, method: str, template: str, headers: Any = None, **more: Any) -> httpx.Response:
        return self.org.api.request(method, self.org.path(template), headers=headers, **more)

    def store(self, expected: str, manifest: str | None) -> httpx.Response:
        body = {
            "kb_id": self.kb,
            "context_id": self.client.context_id,
            "expected": expected,
            "manifest": manifest,
        }
        return self.send("PUT", wire.MANIFESTS, json=body)

    def search(self, **more: Any) -> httpx.Response:
        answer = self.client.search(self.org, self.kb, self.client.vectors(1)[0], **more)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture
def keeper(org, client, kb) -> Keeper:
    """Chunks 1 to 3 with the manifest ``first``."""
    keeper = Keeper(org, client, kb)
    chunks = client.chunks(client.vectors(3), record=base64.b64encode(b"record").decode())
    chunks[0]["key"] = "key"
    chunks[1]["meta_data"] = {"tag1": "x"}
    answer = org.insert(kb, client.context_id, chunks, **keeper.header(b"first", "none"))
    assert answer.status_code == 200, answer.text
    return keeper


FIRST = wire.manifest_tag(b"first")


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["error"]["type"] == {400: "bad_request", 412: "precondition_failed", 404: "not_found"}[status]
    for word in words:
        assert word in body["message"]


def test_writes_exchange_manifests_and_name_the_tag_in_force(keeper: Keeper) -> None:
    row = keeper.client.index(keeper.client.vectors(1))[0]
    at = {"kb_id": keeper.kb, "context_id": keeper.client.context_id}
    for number, (method, more) in enumerate(
        [
            ("PUT", {"json": at | {"chunk_updates": [{"chunk_id": 2, "chunk_content": "", "index": row}]}}),
            ("PATCH", {"json": at | {"chunk_patches": [{"chunk_id": 1, "index": row}]}}),
            ("DELETE", {"params": {"kb_id": keeper.kb, "chunk_ids": "1,3"}}),
        ]
    ):
        before = keeper.in_force()
        refused(keeper.send(method, wire.CHUNKS, **more), 412, "x-xtrace-manifest: missing", "DataLoader")
        stale = keeper.send(method, wire.CHUNKS, keeper.header(b"new", "0" * 64), **more)
        refused(stale, 412, "x-xtrace-manifest: another")
        assert keeper.in_force() == before
        sealed = b"sealed %d" % number
        answer = keeper.send(method, wire.CHUNKS, keeper.header(sealed), **more)
        assert answer.status_code == 200, answer.text
        assert answer.headers[wire.MANIFEST_TAG_HEADER] == wire.manifest_tag(sealed)
        assert keeper.in_force() == sealed
    assert [row["chunk_id"] for row in keeper.look_up(all=True)["rows"]] == [2]
    plain = keeper.send("PATCH", wire.CHUNKS, json=at | {"chunk_patches": [{"chunk_id": 2, "name": "n"}]})
    assert plain.status_code == 200 and wire.MANIFEST_TAG_HEADER not in plain.headers


def test_an_insert_again_gets_its_answer_and_the_tag_in_force(keeper: Keeper) -> None:
    chunks = keeper.client.chunks(keeper.client.vectors(2))
    headers = keeper.header(b"second") | {wire.IDEMPOTENCY_KEY_HEADER: "key"}
    answers = [keeper.org.insert(keeper.kb, keeper.client.context_id, chunks, **headers) for _ in range(2)]
    assert [one.json()["chunk_ids"] for one in answers] == [[4, 5], [4, 5]]
    third = keeper.header(b"third")
    for _ in range(2):
        answer = keeper.send("DELETE", wire.CHUNKS, third, params={"kb_id": keeper.kb, "chunk_ids": "1"})
        assert (answer.status_code, answer.json()["deleted_count"]) == (200, 1)
    again = keeper.org.insert(keeper.kb, keeper.client.context_id, chunks, **headers)
    assert again.json()["chunk_ids"] == [4, 5]
    assert again.headers[wire.MANIFEST_TAG_HEADER] == wire.manifest_tag(b"third")


def test_manifests_are_looked_up_with_the_records_of_chunks(keeper: Keeper) -> None:
    record = base64.b64encode(b"record").decode()
    row = {"chunk_id": 1, "key": "key", "record": record}
    whole = {"manifest": base64.b64encode(b"first").decode(), "sequence": 1}
    assert keeper.look_up() == whole | {"rows": []}
    assert keeper.look_up(chunk_ids=[1, 9]) == whole | {"rows": [row]}
    assert keeper.look_up(keys=["absent", "key"]) == whole | {"rows": [row]}
    assert keeper.look_up(meta_filter={"tag1": "x"})["rows"] == [
        {"chunk_id": 2, "key": None, "record": record}
    ]
    assert [one["chunk_id"] for one in keeper.look_up(all=True)["rows"]] == [1, 2, 3]
    assert keeper.look_up(chunk_ids=[])["rows"] == keeper.look_up(keys=[])["rows"] == []
    none = Keeper(keeper.org, keeper.client, keeper.org.new_kb())
    none.insert(1)
    assert none.look_up(all=True) == {
        "manifest": None,
        "sequence": 1,
        "rows": [{"chunk_id": 1, "key": None, "record": None}],
    }


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"all": True, "keys": ["k"]}, "at most one"),
        ({"chunk_ids": [1], "meta_filter": {"tag1": "x"}}, "at most one"),
        ({"meta_filter": {}}, "meta_filter"),
        ({"chunk_ids": [-1]}, "chunk_ids[0]"),
        ({"context_id": "no context"}, "context_id"),
    ],
)
def test_a_wrong_look_up_is_refused(keeper: Keeper, more: dict[str, Any], word: str) -> None:
    body = {"kb_id": keeper.kb, "context_id": keeper.client.context_id} | more
    refused(keeper.send("POST", wire.MANIFESTS, json=body), 400, word)


def test_an_owner_accepts_or_removes_without_a_change(keeper: Keeper) -> None:
    second = base64.b64encode(b"second").decode()
    refused(keeper.store("none", second), 412, "expected")
    answer = keeper.store(FIRST, second)
    tag = wire.manifest_tag(b"second")
    assert (answer.status_code, answer.json()) == (200, {"tag": tag})
    assert answer.headers[wire.MANIFEST_TAG_HEADER] == tag
    assert keeper.search().headers[wire.MANIFEST_HEADER] == second
    answer = keeper.store(tag, None)
    assert (answer.status_code, answer.json()) == (200, {"tag": "none"})
    assert wire.MANIFEST_HEADER not in keeper.search().headers
    assert keeper.insert(1).status_code == 200
    refused(keeper.insert(1, keeper.header(b"third", "none")), 412, "vectors already")
    assert keeper.store("none", second).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("manifest", ""),
        ("manifest", "no base64"),
        ("manifest", base64.b64encode(bytes(513)).decode()),
        ("expected", "None"),
        ("expected", FIRST.upper()),
    ],
)
def test_a_wrong_manifest_is_refused(keeper: Keeper, field: str, value: str) -> None:
    right = {"expected": FIRST, "manifest": base64.b64encode(b"second").decode()}
    refused(keeper.store(**(right | {field: value})), 400, field)
    assert keeper.in_force() == b"first"


def test_a_wrong_header_changes_nothing(keeper: Keeper) -> None:
    right = keeper.header(b"second")[wire.MANIFEST_HEADER]
    wrong = [
        "",
        "text",
        right + ";",
        right.replace(FIRST, "first"),
        keeper.header(b"", FIRST)[wire.MANIFEST_HEADER],
        keeper.header(bytes(513), FIRST)[wire.MANIFEST_HEADER],
        keeper.header(b"first", FIRST)[wire.MANIFEST_HEADER],
        f"{right}, {right}",
        ", ".join(right.replace(keeper.client.context_id, f"c{at}") for at in range(9)),
    ]
    for value in wrong:
        refused(keeper.insert(1, {wire.MANIFEST_HEADER: value}), 400, wire.MANIFEST_HEADER)
    assert keeper.in_force() == b"first" and len(keeper.look_up(all=True)["rows"]) == 3
    unknown = keeper.header(b"second")[wire.MANIFEST_HEADER].replace(keeper.client.context_id, "unknown")
    refused(keeper.insert(1, {wire.MANIFEST_HEADER: f"{right},{unknown}"}), 404)
    assert keeper.in_force() == b"first"


@pytest.mark.parametrize("repeated", [True, False], ids=["two lines", "one line"])
def test_two_contexts_exchange_in_one_request(keeper: Keeper, make_client, repeated: bool) -> None:
    other = make_client()
    other.register(keeper.org)
    bind = keeper.org.path(wire.KB_BIND, kb_id=keeper.kb, context_id=other.context_id)
    assert keeper.org.api.post(bind).status_code == 200
    values = [
        keeper.header(b"second")[wire.MANIFEST_HEADER],
        wire.encode_manifest_header(other.context_id, "none", b"of the other"),
    ]
    headers = [(wire.MANIFEST_HEADER, one) for one in (values if repeated else [", ".join(values)])]
    update = other.chunks(other.vectors(1))[0] | {"chunk_id": 2}
    body = {"kb_id": keeper.kb, "context_id": other.context_id, "chunk_updates": [update]}
    answer = keeper.send("PUT", wire.CHUNKS, headers, json=body)
    assert answer.status_code == 200, answer.text
    tags = [wire.manifest_tag(b"second"), wire.manifest_tag(b"of the other")]
    assert answer.headers[wire.MANIFEST_TAG_HEADER] == ",".join(tags)
    assert keeper.in_force() == b"second"
    assert Keeper(keeper.org, other, keeper.kb).in_force() == b"of the other"


def test_a_filter_and_a_manifest_do_not_go_together(keeper: Keeper) -> None:
    for method, more in (("DELETE", {}), ("PATCH", {"patch": {"tag2": "y"}})):
        body = {"kb_id": keeper.kb, "meta_filter": {"tag1": "x"}} | more
        refused(keeper.send(method, wire.CHUNKS_BY_META, keeper.header(b"second"), json=body), 400, "filter")
    body = {"kb_id": keeper.kb, "meta_filter": {"tag1": "x"}}
    refused(keeper.send("DELETE", wire.CHUNKS_BY_META, json=body), 412, "missing")
    answer = keeper.send("PATCH", wire.CHUNKS_BY_META, json=body | {"patch": {"tag2": "y"}})
    assert answer.json() == {"updated_count": 1}
    assert keeper.in_force() == b"first"


def test_only_whole_searches_bring_the_manifest(keeper: Keeper) -> None:
    first = base64.b64encode(b"first").decode()
    for accept in (wire.MSGPACK, wire.COLUMNS):
        assert keeper.search(accept=accept).headers[wire.MANIFEST_HEADER] == first
    for more in ({"meta_filter": {"tag1": "x"}}, {"range": [1, 9]}):
        assert wire.MANIFEST_HEADER not in keeper.search(**more).headers
    assert keeper.search(meta_filter={}).headers[wire.MANIFEST_HEADER] == first


def test_a_search_answers_from_the_state_of_its_manifest(keeper: Keeper) -> None:
    """The manifest says how many chunks there are; searches go on while it and they change."""
    stop = threading.Event()
    faults: list[str] = []
    searches = 0

    def search() -> None:
        nonlocal searches
        while not stop.is_set():
            answer = keeper.search()
            ids, _ = keeper.client.decode(answer)
            said = base64.b64decode(answer.headers[wire.MANIFEST_HEADER])
            if said not in (b"first", b"%d %d" % (len(ids), sum(ids))):
                faults.append(f"{said!r}: {ids}")
            searches += 1

    thread = threading.Thread(target=search)
    thread.start()
    ids = [1, 2, 3]
    for number in range(20):
        if number % 3:
            ids.append(max(ids) + 1)
            answer = keeper.insert(1, keeper.header(b"%d %d" % (len(ids), sum(ids))))
        else:
            gone = ids.pop(1)
            answer = keeper.send(
                "DELETE",
                wire.CHUNKS,
                keeper.header(b"%d %d" % (len(ids), sum(ids))),
                params={"kb_id": keeper.kb, "chunk_ids": gone},
            )
        assert answer.status_code == 200, answer.text
    stop.set()
    thread.join()
    assert faults == [] and searches > 0
    assert [row["chunk_id"] for row in keeper.look_up(all=True)["rows"]] == ids


def test_two_servers_settle_their_writers(keeper: Keeper, serve_with) -> None:
    """A manifest that one server has put in force is in force at the other one, too."""
    settings = keeper.org.server.settings
    second = serve_with(data=settings.data, database_url=settings.database_url)
    other = Keeper(
        type(keeper.org)(second, keeper.org.id, keeper.org.admin_key, keeper.org.api_key),
        keeper.client,
        keeper.kb,
    )
    assert other.search().headers[wire.MANIFEST_HEADER] == wire.encode_manifest(b"first")
    assert keeper.insert(1, keeper.header(b"second")).status_code == 200
    refused(other.insert(1, other.header(b"third", FIRST)), 412)
    assert other.search().headers[wire.MANIFEST_HEADER] == wire.encode_manifest(b"second")
    assert other.insert(1, other.header(b"third")).status_code == 200
    assert keeper.search().headers[wire.MANIFEST_HEADER] == wire.encode_manifest(b"third")


def test_who_may_do_what(keeper: Keeper, live) -> None:
    second = base64.b64encode(b"second").decode()
    look = {"kb_id": keeper.kb, "context_id": keeper.client.context_id}
    put = look | {"expected": FIRST, "manifest": second}
    path = keeper.org.path(wire.MANIFESTS)
    nobody = keeper.org.client_with(keeper.kb, 0)
    reader = keeper.org.client_with(keeper.kb, wire.READ)
    writer = keeper.org.client_with(keeper.kb, wire.WRITE)
    assert [one.post(path, json=look).status_code for one in (nobody, reader, writer)] == [403, 200, 200]
    assert [one.put(path, json=put).status_code for one in (nobody, reader, writer)] == [403, 403, 200]
    stranger = live.new_org()
    for method, body in (("POST", look), ("PUT", put)):
        theirs = stranger.api.request(method, stranger.path(wire.MANIFESTS), json=body)
        assert theirs.status_code == 404
        assert stranger.api.request(method, path, json=body).status_code == 403


def test_the_longest_manifest_goes_through(keeper: Keeper) -> None:
    sealed = os.urandom(wire.MANIFEST_LONGEST)
    assert keeper.insert(1, keeper.header(sealed)).status_code == 200
    assert base64.b64decode(keeper.search().headers[wire.MANIFEST_HEADER]) == sealed
