"""Requests with something broken in them: an answer below 500, a live server, flat memory."""

import copy
import json
import logging
import os
import random
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import pytest

from xtrace_sdk import wire

COUNT = int(os.environ.get("MALFORMED_REQUESTS", "600"))  # the long run: 100000
JUNK: list[Any] = [
    None, True, -1, 0, 1.5, 5.0, 1e308, 1 << 63, 1 << 200,
    "", "\0", "a" * 5000, "é", "\U0010ffff", "%s", "' OR 1=1 --", "../..", "{}", '{"tag1":', "BQ==",
    [], [[]], [None], ["x"] * 50, [0, -1], [2, 1], ["BQ=="],
    {}, {"": {}}, {"$and": []}, {"$not": {"$not": {}}}, {"tag1": {"$gt": 1}}, {"facets": {"$add": 1}},
    {"a": [{"b": "\0"}]},
]  # fmt: skip


def requests_for(org, client, kb: str) -> list[tuple[str, str, dict[str, Any], Any]]:
    """One valid request of every kind that takes input: method, path, query, body."""
    chunk = {**client.chunks(client.vectors(1))[0], "meta_data": {"tag1": "a", "facets": ["x"]}, "key": "k"}
    common = {"kb_id": kb, "context_id": client.context_id}
    where = {**common, "meta_filter": {"tag1": {"$gte": "a"}, "$or": [{"facets": {"$any": ["x"]}}]}}
    path = org.path
    return [
        ("POST", path(wire.CHUNKS), {}, {**common, "chunks": [chunk]}),
        ("PUT", path(wire.CHUNKS), {}, {**common, "chunk_updates": [{**chunk, "chunk_id": 1}]}),
        ("PATCH", path(wire.CHUNKS), {}, {**common, "chunk_patches": [{"chunk_id": 1, "tag2": "x"}]}),
        ("GET", path(wire.CHUNKS), {"kb_id": kb, "chunk_ids": "1,2", "projection": "index"}, None),
        ("DELETE", path(wire.CHUNKS), {"kb_id": kb, "chunk_ids": "999"}, None),
        ("POST", path(wire.HAMMING), {}, {**where, "query": chunk["index"], "range": [1, 9]}),
        ("POST", path(wire.CHUNKS_META), {}, {**where, "projection": ["name"], "return_content": True}),
        ("POST", path(wire.CHUNKS_META_PAGE), {}, {**where, "limit": 2, "offset": 0, "sort_by": "tag1"}),
        ("DELETE", path(wire.CHUNKS_BY_META), {}, {**where, "dry_run": True}),
        ("PATCH", path(wire.CHUNKS_BY_META), {}, {**where, "patch": {"tag3": "x"}, "dry_run": False}),
        ("GET", path(wire.CHANGES), {"kb_id": kb, "since": 1, "after": 2, "began": 3, "limit": 2}, None),
        ("POST", path(wire.MANIFESTS), {}, {**common, "chunk_ids": [1, 2]}),
        ("POST", path(wire.MANIFESTS), {}, {**common, "keys": ["k"], "all": False}),
        ("PUT", path(wire.MANIFESTS), {}, {**common, "expected": "none", "manifest": "c2VhbGVk"}),
        ("POST", path(wire.CONTEXTS), {}, {"data": client.data, "context_id": "c"}),
        ("POST", wire.KBS, {}, {"name": "n", "description": "d"}),
        ("PUT", wire.path(wire.KEY_PERMISSION, key_hash="0" * 64, kb_id=kb), {}, {"permission": 1}),
    ]


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(place for key, child in children for place in places(child, (*at, key)))]


def broken(body: Any, chance: random.Random) -> Any:
    """A copy with one to three of its parts replaced or removed."""
    body = copy.deepcopy(body)
    for _ in range(chance.randint(1, 3)):
        place = chance.choice(places(body))
        if not place:
            return chance.choice(JUNK)
        parent = body
        for key in place[:-1]:
            parent = parent[key]
        if chance.random() < 0.25:
            del parent[place[-1]]
        else:
            parent[place[-1]] = copy.deepcopy(chance.choice(JUNK))
    return body


def encoded(body: Any, chance: random.Random) -> bytes:
    raw = json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if chance.random() < 0.2:
        at = chance.randrange(len(raw))
        raw = raw[:at] + bytes([chance.randrange(256)]) + raw[at + chance.randrange(3) :]
    return raw[: chance.randrange(len(raw))] if chance.random() < 0.1 else raw


def test_malformed_requests(serve_with, client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)  # pytest would keep two lines for every request
    org = serve_with().new_org()
    client.register(org)
    kb = org.new_kb()
    org.insert(kb, client.context_id, client.chunks(client.vectors(3)))
    chance = random.Random(COUNT)
    valid = requests_for(org, client, kb)
    keys = {
        wire.API_KEY_HEADER: org.api_key,
        wire.ADMIN_KEY_HEADER: org.admin_key,
        wire.ORG_ID_HEADER: org.id,
        "content-type": "application/json",
    }
    connection = HTTPConnection(org.server.url.removeprefix("http://"), timeout=30)
    process = psutil.Process()
    statuses: dict[int, int] = {}
    resident = 0
    for number in range(COUNT):
        method, path, query, body = chance.choice(valid)
        headers = dict(keys)
        target = path
        raw = None if body is None else encoded(broken(body, chance), chance)
        if query:
            target += "?" + urlencode(
                {name: str(chance.choice([value, *JUNK])) for name, value in query.items()}
            )
        if chance.random() < 0.1:
            headers[chance.choice([*keys, "accept", "idempotency-key", wire.MANIFEST_HEADER])] = (
                "x" * chance.randrange(300)
            )
        if chance.random() < 0.1:
            at = chance.randrange(1, len(path))
            target = path[:at] + quote(chr(chance.randrange(0x110000)), errors="replace") + path[at:]
        if chance.random() < 0.05:
            method = chance.choice(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"])
        try:
            connection.request(method, target, raw, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (HTTPException, ConnectionError):  # the server may hang up on what is not HTTP
            connection.close()
            continue
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        assert answer.status < 500, (method, target, raw, content)
        if answer.status >= 400 and method != "HEAD":
            error = json.loads(content)
            assert error["error"]["code"] == answer.status and error["message"], (method, target, raw)
        if number == COUNT // 2:
            resident = process.memory_info().rss
    connection.close()
    assert sum(statuses.values()) > 0.9 * COUNT
    assert statuses[400] > COUNT / 4 and statuses[200] > 0
    assert process.memory_info().rss - resident < 32 << 20
    bits = client.vectors(1)
    fresh = org.new_kb()
    org.insert(fresh, client.context_id, client.chunks(bits))
    assert client.distances(org, fresh, bits[0]) == ([1], [0])
