"""Whatever is wrong gets one error that names it, and changes nothing."""

import base64
import json
import socket
import threading
from contextlib import suppress
from typing import Any

import httpx
import pytest

from xtrace_sdk import wire
from xtrace_sdk.server.ciphertexts import decode_vectors
from xtrace_sdk.server.models import MAX_CHUNKS, MAX_VALUES
from xtrace_sdk.server.routes import chunks

ENGINES = ("sqlite", "postgresql")


def refused(answer, status: int, named: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert named in body["message"]
    assert body["error"]["message"] == body["message"] and body["error"]["code"] == status
    assert body["error"]["type"].replace("_", "").isalpha()
    assert body["request_id"] == answer.headers[wire.REQUEST_ID_HEADER]
    assert answer.headers["content-type"] == wire.JSON


def b64(value: int, width: int) -> str:
    return base64.b64encode(value.to_bytes(width, "little")).decode()


CHUNK = "chunks[1]"
INSERTS: list[tuple[str, Any, str]] = [
    ("chunk_content", None, f"{CHUNK}.chunk_content"),
    ("chunk_content", 5, f"{CHUNK}.chunk_content"),
    ("chunk_content", "a\0b", f"{CHUNK}.chunk_content"),
    ("chunk_content", "\ud800", "body"),
    ("index", "AAAA", f"{CHUNK}.index"),
    ("index", [5], f"{CHUNK}.index[0]"),
    ("index", [], f"{CHUNK}.index: expected 1 ciphertexts, got 0"),
    ("index", ["BQ==", "BQ=="], f"{CHUNK}.index: expected 1 ciphertexts, got 2"),
    ("index", ["!"], f"{CHUNK}.index[0]: not valid base64"),
    ("index", [""], f"{CHUNK}.index: a ciphertext is 0"),
    ("index", ["AAAA"], f"{CHUNK}.index: a ciphertext is 0"),
    ("meta_data", [], f"{CHUNK}.meta_data"),
    ("meta_data", {"tag1": 7}, f"{CHUNK}.meta_data.tag1: expected a string"),
    ("meta_data", {"tag5": True}, f"{CHUNK}.meta_data.tag5: expected a string"),
    ("meta_data", {"tag1": "a\0"}, f"{CHUNK}.meta_data.tag1: contains a NUL"),
    ("meta_data", {"facets": "a"}, f"{CHUNK}.meta_data.facets: expected a list"),
    ("meta_data", {"facets": ["a", 1]}, f"{CHUNK}.meta_data.facets[1]: expected a string"),
    ("meta_data", {"facets": ["a", "\0"]}, f"{CHUNK}.meta_data.facets[1]: contains a NUL"),
    ("meta_data", {"own": [{"x": "\0"}]}, f"{CHUNK}.meta_data.own[0].x: contains a NUL"),
    ("meta_data", {"own": float("nan")}, f"{CHUNK}.meta_data.own: not a finite number"),
    ("name", None, f"{CHUNK}.name"),
    ("name", "\0", f"{CHUNK}.name"),
    ("key", "", f"{CHUNK}.key"),
    ("key", "k" * 513, f"{CHUNK}.key"),
    ("key", "taken", "chunks: the same key is given twice"),
]


@pytest.mark.parametrize(("field", "value", "named"), INSERTS)
def test_bad_chunks(org, client, kb, field: str, value: Any, named: str) -> None:
    chunks = client.chunks(client.vectors(2))
    chunks[0]["key"] = "taken"
    chunks[1][field] = value
    body = json.dumps({"kb_id": kb, "chunks": chunks, "context_id": client.context_id})
    refused(org.api.post(org.path(wire.CHUNKS), content=body), 400, named)
    assert org.count(kb) == 0
    assert client.distances(org, kb, client.vectors(1)[0]) == ([], [])


def test_ciphertexts_out_of_range(org, client, kb) -> None:
    width = client.encryptor.width
    chunk = client.chunks(client.vectors(1))[0]
    for value, size in [
        (client.n_squared, width),
        (client.n_squared + 1, width),
        (1 << 8 * width, width + 1),
    ]:
        bad = {**chunk, "index": [b64(value, size)]}
        refused(org.insert(kb, client.context_id, [chunk, bad]), 400, "chunks[1].index")
    good = {**chunk, "index": [b64(client.n_squared - 1, width)]}
    assert org.insert(kb, client.context_id, [good]).status_code == 200
    assert org.count(kb) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kb_id": 7}, "kb_id"),
        ({"kb_id": None}, "kb_id"),
        ({"context_id": "a b"}, "context_id"),
        ({"context_id": ""}, "context_id"),
        ({"context_id": "c" * 129}, "context_id"),
        ({"chunks": {}}, "chunks"),
        ({"chunks": [7]}, "chunks[0]"),
    ],
)
def test_bad_inserts(org, client, kb, changes: dict[str, Any], named: str) -> None:
    body = {"kb_id": kb, "chunks": [], "context_id": client.context_id, **changes}
    refused(org.api.post(org.path(wire.CHUNKS), json=body), 400, named)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"kb_id": "' + b"[" * 100, b"[" * 100_000]
)
def test_malformed_json(org, body: bytes) -> None:
    for template in (wire.CHUNKS, wire.HAMMING, wire.CHUNKS_META, wire.CONTEXTS):
        refused(org.api.post(org.path(template), content=body), 400, "body")
    refused(org.admin.post(wire.KBS, content=body), 400, "body")


def test_bad_queries(org, client, kb) -> None:
    org.insert(kb, client.context_id, client.chunks(client.vectors(2)))
    width = client.encryptor.width
    for query, named in [
        ([], "query: expected 1 ciphertexts, got 0"),
        (["BQ==", "BQ=="], "query: expected 1 ciphertexts, got 2"),
        (["BQ"], "query[0]: not valid base64"),
        ([""], "query: a ciphertext is 0"),
        ([b64(client.n_squared, width)], "query: a ciphertext is 0 or not below"),
        ([b64(1, width + 1)], "query[0]"),
        ("BQ==", "query"),
        ([5], "query[0]"),
    ]:
        body = {"kb_id": kb, "query": query, "context_id": client.context_id}
        refused(org.api.post(org.path(wire.HAMMING), json=body), 400, named)
    for bounds in ([1], [1, 2, 3], [2, 1], [1.5, 2], ["1", "2"], [True, 2], "12"):
        refused(client.search(org, kb, client.vectors(1)[0], range=bounds), 400, "range")


def test_more_chunks_than_one_request_takes(org, client, kb) -> None:
    chunk, patch = {"chunk_content": "", "index": []}, {"chunk_id": 1}
    for method, name, one in [
        ("POST", "chunks", chunk),
        ("PUT", "chunk_updates", chunk | patch),
        ("PATCH", "chunk_patches", patch),
    ]:
        body = {"kb_id": kb, "context_id": client.context_id, name: [one] * (MAX_CHUNKS + 1)}
        refused(org.api.request(method, org.path(wire.CHUNKS), json=body), 400, f"{name}: List should have")
    assert org.count(kb) == 0


@pytest.mark.parametrize("value", ['""', "[]", "{}", '","'])
def test_more_values_than_one_request_holds(org, client, kb, value: str) -> None:
    """Refused unparsed: the chunk's own faults are not what is said."""
    values = ",".join([value] * (MAX_VALUES // 2 + 1) * (2 if value == '""' else 1))
    body = f'{{"kb_id": "{kb}", "context_id": "{client.context_id}", "chunks": [{values}]}}'
    answer = org.api.post(org.path(wire.CHUNKS), content=body, headers={"content-type": wire.JSON})
    refused(answer, 400, "body: more than 1,000,000 commas and brackets")


def test_chunks_are_checked_beside_the_event_loop(org, client, kb, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def decode(*args: Any) -> Any:
        threads.append(threading.current_thread())
        return decode_vectors(*args)

    monkeypatch.setattr(chunks, "decode_vectors", decode)
    assert org.insert(kb, client.context_id, client.chunks(client.vectors(1))).status_code == 200
    patch = {"chunk_id": 1, "index": client.index(client.vectors(1))[0]}
    body = {"kb_id": kb, "chunk_patches": [patch], "context_id": client.context_id}
    assert org.api.patch(org.path(wire.CHUNKS), json=body).status_code == 200
    assert len(threads) == 2 and org.server._thread not in threads


def test_ranges_beyond_64_bits(org, client, kb) -> None:
    """No chunk lies there; bounds on either side of all ids leave every chunk in."""
    bits = client.vectors(2)
    org.insert(kb, client.context_id, client.chunks(bits))
    for bounds in ([10**30, 10**31], [-(10**31), -(10**30)], [2**63, 2**63]):
        assert client.distances(org, kb, bits[0], range=bounds)[0] == []
    assert client.distances(org, kb, bits[0], range=[-(10**30), 10**30])[0] == [1, 2]


def test_unknown_objects(org, client, kb) -> None:
    chunks = client.chunks(client.vectors(1))
    refused(org.insert("nothingthere", client.context_id, chunks), 404, "knowledge base not found")
    refused(client.search(org, "nothingthere", client.vectors(1)[0]), 404, "knowledge base not found")
    absent = {"kb_id": "nothingthere", "chunk_ids": 1}
    refused(org.api.get(org.path(wire.CHUNKS), params=absent), 404, "knowledge base not found")
    refused(org.api.delete(org.path(wire.CHUNKS), params=absent), 404, "knowledge base not found")
    body = {"kb_id": kb, "query": chunks[0]["index"], "context_id": "unknown"}
    refused(org.api.post(org.path(wire.HAMMING), json=body), 404, "execution context not found")


@pytest.mark.parametrize(
    "params",
    [
        {"chunk_ids": "x"},
        {"chunk_ids": "-1"},
        {"chunk_ids": "1.0"},
        {"chunk_ids": "9223372036854775808"},
        {"chunk_ids": "1" * 100},
        {"chunk_ids": "\u0661"},
    ],
)
def test_bad_ids(org, kb, params: dict[str, str]) -> None:
    for method in ("GET", "DELETE"):
        answer = org.api.request(method, org.path(wire.CHUNKS), params={"kb_id": kb, **params})
        refused(answer, 400, "chunk_ids")


def test_missing_parameters(org) -> None:
    refused(org.api.get(org.path(wire.CHUNKS)), 400, "kb_id")


def test_unknown_routes_and_methods(org) -> None:
    refused(org.api.get("/"), 404, "Not Found")
    refused(org.api.get("/v1/chunk"), 404, "Not Found")
    answer = org.api.put(org.path(wire.HAMMING), json={})
    refused(answer, 405, "Method Not Allowed")
    assert answer.headers["allow"] == "POST"
    answer = org.admin.put(wire.KBS)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


def test_keys_are_checked(org, live, client, kb) -> None:
    chunks = {"kb_id": kb, "chunks": client.chunks(client.vectors(1)), "context_id": client.context_id}
    path = org.path(wire.CHUNKS)
    for headers in (
        {},
        {wire.API_KEY_HEADER: ""},
        {wire.API_KEY_HEADER: "x"},
        {wire.API_KEY_HEADER: org.admin_key},
    ):
        refused(live.client(headers).post(path, json=chunks), 401, wire.API_KEY_HEADER)
    for headers in ({}, {wire.ADMIN_KEY_HEADER: "x"}, {wire.ADMIN_KEY_HEADER: org.api_key}):
        stranger = live.client({wire.ORG_ID_HEADER: org.id, **headers})
        refused(stranger.get(wire.KBS), 401, wire.ADMIN_KEY_HEADER)
    wrong_org = live.client({wire.ADMIN_KEY_HEADER: org.admin_key, wire.ORG_ID_HEADER: "other"})
    refused(wrong_org.get(wire.KBS), 403, wire.ORG_ID_HEADER)
    assert org.count(kb) == 0


def test_unauthorized_callers_with_large_bodies_get_an_answer(live, org) -> None:
    """Not a broken connection: what was sent is read and dropped."""
    body = b"x" * (5 << 20)
    answer = live.client({wire.API_KEY_HEADER: "x"}).post(org.path(wire.CHUNKS), content=body)
    refused(answer, 401, wire.API_KEY_HEADER)


@pytest.fixture(scope="module")
def small(serve_with):
    return serve_with(max_body_bytes=1 << 20).new_org()


def padding(size: int):
    for _ in range(0, size, 1 << 16):
        yield b" " * (1 << 16)


@pytest.mark.parametrize("streamed", [False, True])
def test_oversized_bodies(small, streamed: bool) -> None:
    body = padding(3 << 19) if streamed else b" " * (3 << 19)
    refused(small.api.post(small.path(wire.CHUNKS), content=body), 413, "body")


def test_endless_bodies_are_cut_off(small) -> None:
    sent = 0

    def endless():
        nonlocal sent
        while sent < 1 << 30:
            sent += 1 << 16
            yield b" " * (1 << 16)

    with suppress(httpx.HTTPError):  # the server may hang up while the client is still sending
        refused(small.api.post(small.path(wire.CHUNKS), content=endless()), 413, "body")
    assert sent < 1 << 28


def test_bodies_up_to_the_limit(small, client) -> None:
    client.register(small)
    kb = small.new_kb()
    body = json.dumps(
        {"kb_id": kb, "chunks": client.chunks(client.vectors(1)), "context_id": client.context_id}
    )
    body = body.ljust(1 << 20)
    assert small.api.post(small.path(wire.CHUNKS), content=body).status_code == 200


def test_not_http(live) -> None:
    host, port = live.url.removeprefix("http://").split(":")
    for noise in (b"\0" * 100, b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET " + b"a" * 100):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
            assert not answer or answer.startswith(b"HTTP/1.1 400")
    assert live.client({}).get(wire.HEALTH).json()["status"] == "ok"
