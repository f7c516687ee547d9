"""What each call sends, as the HTTP specification pins it, and what it makes of the answer."""

import json
import re

import msgpack
import numpy as np
import pytest

from xtrace_sdk import wire
from xtrace_sdk.errors import ConfigurationError, InputError, KeyMismatchError
from xtrace_sdk.integrations.errors import (
    BadRequestError,
    MissingAdminKeyError,
    MissingApiKeyError,
    MissingFieldError,
    NotFoundError,
    UnexpectedAnswerError,
    WrongTypeError,
)
from xtrace_sdk.integrations.uploads import UploadReport
from xtrace_sdk.integrations.xtrace import ADMIN_API_URL, API_URL, XTraceIntegration

ORG = "org123456789"
PUBLIC = {"pk": '{"g": "2", "n": "3", "n_squared": "9"}', "type": "PaillierClient", "config": "{}"}


def chunks(count):
    return [{"chunk_content": b"QUJD", "meta_data": {}, "name": ""} for _ in range(count)]


def rows(count):
    return np.arange(count * 8, dtype=np.uint8).reshape(count, 1, 8)


# Construction


def test_documented_defaults():
    client = XTraceIntegration("org", "key")
    assert (client.org_id, client.api_key, client.admin_key) == ("org", "key", None)
    assert (client.api_url, client.admin_api_url) == (API_URL, ADMIN_API_URL)
    assert client.batch_size == 500
    assert client.session is None


def test_keys_and_admin_url_of_the_environment(monkeypatch):
    monkeypatch.setenv("XTRACE_API_KEY", "from-env")
    monkeypatch.setenv("XTRACE_ADMIN_KEY", "admin-from-env")
    monkeypatch.setenv("XTRACE_ADMIN_API_URL", "http://admin.example/api/")
    client = XTraceIntegration("org")
    assert (client.api_key, client.admin_key) == ("from-env", "admin-from-env")
    assert client.admin_api_url == "http://admin.example/api"
    assert XTraceIntegration("org", admin_api_url="http://other").admin_api_url == "http://other"


def test_admin_calls_go_to_the_same_server_unless_told_otherwise():
    """The admin key never goes to the vendor's host when the data goes elsewhere."""
    assert XTraceIntegration("org", "key", api_url="http://own:8700/").admin_api_url == "http://own:8700"


@pytest.mark.parametrize("key", [None, ""])
def test_missing_api_key(monkeypatch, key):
    monkeypatch.setenv("XTRACE_API_KEY", "")
    with pytest.raises(MissingApiKeyError, match="XTRACE_API_KEY") as caught:
        XTraceIntegration("org", key)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value).startswith("api_key:")


@pytest.mark.parametrize("key", ["a\r\nx-admin: b", "schlüssel", " key"])
def test_key_that_is_no_header_value(key):
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        XTraceIntegration("org", key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:8700", "ftp://host", "http://", "http://h?x=1", None, "http://[::1"]
)
def test_malformed_url(url):
    with pytest.raises(ConfigurationError, match="api_url"):
        XTraceIntegration("org", "key", api_url=url)


@pytest.mark.parametrize("org_id", ["", ".", "..", None, 3])
def test_malformed_org_id(org_id):
    with pytest.raises(InputError, match="org_id"):
        XTraceIntegration(org_id, "key")


async def test_admin_calls_need_the_admin_key(recorder):
    client = XTraceIntegration(ORG, "key", api_url=recorder.url)
    for call in (
        client.list_kbs(),
        client.create_kb("n"),
        client.delete_kb("kb"),
        client.revoke_api_key("h"),
    ):
        with pytest.raises(MissingAdminKeyError, match="XTRACE_ADMIN_KEY") as caught:
            await call
        assert isinstance(caught.value, RuntimeError)
    assert recorder.asked == []


# Requests: method, target and body of every call, one after another


CALLS = [
    (
        lambda c: c.get_chunk_by_id([3, 1], "KB", ["chunk_id", "meta_data"]),
        [],
        "GET",
        f"/v1/chunk/{ORG}?chunk_ids=3&chunk_ids=1&kb_id=KB&projection=chunk_id&projection=meta_data",
        None,
    ),
    (
        lambda c: c.insert_chunks("KB", [{"name": "x"}], "CTX"),
        {"response": "ok"},
        "POST",
        f"/v1/chunk/{ORG}",
        {"kb_id": "KB", "chunks": [{"name": "x"}], "context_id": "CTX"},
    ),
    (
        lambda c: c.update_chunks([[258]], [{"chunk_content": b"QQ==", "chunk_id": 4}], "CTX", "KB"),
        {},
        "PUT",
        f"/v1/chunk/{ORG}",
        {
            "kb_id": "KB",
            "chunk_updates": [
                {
                    "chunk_content": "QQ==",
                    "index": ["AgEAAAAAAAA="],
                    "meta_data": {},
                    "name": "default_name_chunk_0",
                    "chunk_id": 4,
                }
            ],
            "context_id": "CTX",
        },
    ),
    (
        lambda c: c.delete_chunks([1, 2], "KB"),
        {"deleted_count": 2},
        "DELETE",
        f"/v1/chunk/{ORG}?kb_id=KB&chunk_ids=1&chunk_ids=2",
        None,
    ),
    (
        lambda c: c.patch_chunks("KB", "CTX", [{"chunk_id": 1, "meta_data": {"tag1": None}}]),
        {},
        "PATCH",
        f"/v1/chunk/{ORG}",
        {"kb_id": "KB", "context_id": "CTX", "chunk_patches": [{"chunk_id": 1, "meta_data": {"tag1": None}}]},
    ),
    (
        lambda c: c.meta_search("KB", {"tag1": "a"}, "CTX", return_content=True, projection=["name"]),
        [],
        "POST",
        f"/v1/chunk/meta/{ORG}",
        {
            "kb_id": "KB",
            "meta_filter": '{"tag1": "a"}',
            "context_id": "CTX",
            "projection": ["name"],
            "return_content": True,
        },
    ),
    (
        lambda c: c.meta_search("KB", '{ "tag1":"a" }', "CTX"),
        [],
        "POST",
        f"/v1/chunk/meta/{ORG}",
        {"kb_id": "KB", "meta_filter": '{ "tag1":"a" }', "context_id": "CTX"},
    ),
    (
        lambda c: c.meta_search_paginated("KB", "CTX"),
        {"results": []},
        "POST",
        f"/v1/chunk/meta/page/{ORG}",
        {"kb_id": "KB", "context_id": "CTX", "offset": 0, "sort_order": "desc", "sort_by": "chunk_id"},
    ),
    (
        lambda c: c.meta_search_paginated("KB", "CTX", '{"tag1": "a"}', ["name"], 5, 10, "asc", "name", True),
        {"results": []},
        "POST",
        f"/v1/chunk/meta/page/{ORG}",
        {
            "kb_id": "KB",
            "context_id": "CTX",
            "offset": 10,
            "sort_order": "asc",
            "sort_by": "name",
            "meta_filter": {"tag1": "a"},
            "projection": ["name"],
            "limit": 5,
            "return_content": True,
        },
    ),
    (
        lambda c: c.delete_chunks_by_meta("KB", "CTX", '{"tag1": "a"}', dry_run=True),
        {"would_delete_count": 1},
        "DELETE",
        f"/v1/chunk/by-meta/{ORG}",
        {"kb_id": "KB", "context_id": "CTX", "meta_filter": {"tag1": "a"}, "dry_run": True},
    ),
    (
        lambda c: c.patch_chunks_by_meta("KB", "CTX", {"tag1": "a"}, {"facets": ["b"]}),
        {"updated_count": 1},
        "PATCH",
        f"/v1/chunk/by-meta/{ORG}",
        {
            "kb_id": "KB",
            "context_id": "CTX",
            "meta_filter": {"tag1": "a"},
            "patch": {"facets": ["b"]},
            "dry_run": False,
        },
    ),
    (
        lambda c: c.store_exec_context(PUBLIC, "CTX"),
        {"context_id": "CTX"},
        "POST",
        f"/v1/exec_context/{ORG}",
        {"data": PUBLIC, "context_id": "CTX"},
    ),
    (lambda c: c.get_serialized_exec_context("CTX"), PUBLIC, "GET", f"/v1/exec_context/{ORG}/CTX", None),
    (lambda c: c.list_exec_contexts(), {"contexts": []}, "GET", f"/v1/exec_context/{ORG}", None),
    (lambda c: c.delete_exec_context("CTX"), {}, "DELETE", f"/v1/exec_context/{ORG}/CTX", None),
    (
        lambda c: c.get_ctx_for_kb("KB"),
        {"context_ids": []},
        "GET",
        f"/v1/exec_context/{ORG}/KB/context",
        None,
    ),
    (lambda c: c.get_kbs_for_ctx("CTX"), {"kb_ids": []}, "GET", f"/v1/exec_context/{ORG}/CTX/kb", None),
    (lambda c: c.register_kb_binding("KB", "CTX"), {}, "POST", f"/v1/exec_context/{ORG}/KB/bind/CTX", None),
    (lambda c: c.list_kbs(), [], "GET", "/v1/kbs", None),
    (lambda c: c.get_kb("KB"), {}, "GET", "/v1/kbs/KB", None),
    (
        lambda c: c.create_kb("n", "d"),
        {"id": "KB"},
        "POST",
        "/v1/kbs",
        {"name": "n", "description": "d"},
    ),
    (lambda c: c.delete_kb("KB"), b"", "DELETE", "/v1/kbs/KB", None),
    (lambda c: c.list_api_keys(), [], "GET", "/v1/keys", None),
    (
        lambda c: c.create_api_key("n"),
        {"apiKey": {}, "secretKey": "s"},
        "POST",
        "/v1/keys",
        {"name": "n", "description": ""},
    ),
    (lambda c: c.revoke_api_key("H"), b"", "PATCH", "/v1/keys/H/status/revoke", None),
    (lambda c: c.get_key_permissions("H"), [], "GET", "/v1/keys/H/permissions", None),
    (
        lambda c: c.set_key_permission("H", "KB", 3),
        {"permission": 3},
        "PUT",
        "/v1/keys/H/permissions/KB",
        {"permission": 3},
    ),
]


@pytest.mark.parametrize(("call", "answer", "method", "target", "body"), CALLS)
async def test_request_of_each_call(recorder, client, call, answer, method, target, body):
    recorder.say(answer)
    await call(client)
    (asked,) = recorder.asked
    assert (asked.method, asked.target) == (method, target)
    if body is None:
        assert asked.body == b""
    else:
        assert asked.headers["Content-Type"] == "application/json"
        assert asked.json == body
        assert list(asked.json) == list(body)  # the order of the fields, too
    if target.startswith(("/v1/kbs", "/v1/keys")):
        assert asked.headers["x-xtrace-key"] == client.admin_key
        assert asked.headers["x-xtrace-org-id"] == ORG
        assert "x-api-key" not in asked.headers
    else:
        assert asked.headers["x-api-key"] == client.api_key
        assert "x-xtrace-key" not in asked.headers


@pytest.mark.parametrize("kb_id", ["a/../b", "a?x=1", "ü b", "%2e%2e", "a#b"])
async def test_ids_are_quoted_in_paths(recorder, client, kb_id):
    recorder.say({"id": kb_id})
    await client.get_kb(kb_id)
    (asked,) = recorder.asked
    assert asked.target == wire.path("/v1/kbs/{kb_id}", kb_id=kb_id)
    assert re.fullmatch(r"/v1/kbs/[A-Za-z0-9_.~%-]+", asked.target)


@pytest.mark.parametrize("kb_id", ["", ".", "..", None, 7])
async def test_ids_that_no_path_can_carry(recorder, client, kb_id):
    with pytest.raises(InputError, match="kb_id: expected a non-empty id"):
        await client.get_kb(kb_id)
    with pytest.raises(InputError, match="kb_id"):
        await client.get_chunk_by_id([1], kb_id)
    assert recorder.asked == []


# Chunks


async def test_long_id_lists_are_split(recorder, client):
    def answer(request):
        from aiohttp import web

        return web.json_response([{"chunk_id": int(one)} for one in request.query.getall("chunk_ids")])

    recorder.answers.append(answer)
    ids = [*range(1, 3001), 5, 5]
    assert [chunk["chunk_id"] for chunk in await client.get_chunk_by_id(ids, "KB")] == ids
    assert len(recorder.asked) > 5
    assert max(len(asked.target) for asked in recorder.asked) < 8000


async def test_deleting_many_counts_them_all(recorder, client):
    def answer(request):
        from aiohttp import web

        return web.json_response({"response": "ok", "deleted_count": len(request.query.getall("chunk_ids"))})

    recorder.answers.append(answer)
    assert await client.delete_chunks(list(range(2000)), "KB") == {"response": "ok", "deleted_count": 2000}
    assert len(recorder.asked) > 3


async def test_no_ids(recorder, client):
    recorder.say({"deleted_count": 0})
    assert await client.get_chunk_by_id([], "KB") == []
    assert recorder.asked == []
    assert await client.delete_chunks([], "KB") == {"deleted_count": 0}


@pytest.mark.parametrize("ids", [["1"], [1.5], [True], [None]])
async def test_malformed_ids(client, ids):
    with pytest.raises(InputError, match=r"chunk_ids\[0\]: expected an integer"):
        await client.get_chunk_by_id(ids, "KB")


async def test_index_of_a_fetched_chunk_is_bytes(recorder, client):
    recorder.say([{"chunk_id": 1, "index": ["AgE=", ""]}, {"chunk_id": 2, "index": None}, {"chunk_id": 3}])
    assert await client.get_chunk_by_id(np.array([1, 2, 3]), "KB") == [
        {"chunk_id": 1, "index": [b"\x02\x01", b""]},
        {"chunk_id": 2, "index": None},
        {"chunk_id": 3},
    ]


@pytest.mark.parametrize("index", [["?"], [3], "AgE=x"])
async def test_fetched_index_that_is_not_base64(recorder, client, index):
    recorder.say([{"chunk_id": 1, "index": index}])
    with pytest.raises(UnexpectedAnswerError, match="index"):
        await client.get_chunk_by_id([1], "KB")


@pytest.mark.parametrize("concurrent", [False, True])
async def test_store_db_in_batches(recorder, client, concurrent):
    recorder.say({"response": "stored"})
    seen = []
    answers = await client.store_db(
        chunks(1100),
        rows(1100),
        "KB",
        "CTX",
        concurrent,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert answers == [{"response": "stored"}] * 3
    assert sorted(len(asked.json["chunks"]) for asked in recorder.asked) == [100, 500, 500]
    assert seen[-1] == (1100, 1100)
    keys = {asked.headers["idempotency-key"] for asked in recorder.asked}
    assert len(keys) == 3
    sent = [text for asked in recorder.asked for chunk in asked.json["chunks"] for text in chunk["index"]]
    assert sorted(sent) == sorted(text for row in wire.encode_rows(rows(1100)) for text in row)


async def test_repeated_attempts_of_an_insert_share_the_idempotency_key(recorder, client):
    recorder.say({"message": "busy"}, 503)
    recorder.say({"chunk_ids": [1]})
    await client.store_db(chunks(1), rows(1), "KB", "CTX")
    first, second = recorder.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


async def test_interrupted_upload_goes_on_where_it_stopped(recorder, client):
    client.batch_size = 10
    recorder.say({"response": "first"})
    recorder.say({"message": "chunks: no"}, 400)
    report = UploadReport()
    with pytest.raises(BadRequestError, match="chunks: no") as caught:
        await client.store_db(chunks(25), rows(25), "KB", "CTX", report=report)
    assert report.stored == 10
    assert caught.value.__notes__ == ["10 of 25 chunks were stored"]
    assert [batch.response is not None for batch in report.batches][:2] == [True, False]
    failed_key = recorder.asked[1].headers["idempotency-key"]

    recorder.answers.clear()
    recorder.say({"response": "later"})
    answers = await client.store_db(chunks(25), rows(25), "KB", "CTX", report=report)
    assert answers == [{"response": "first"}, {"response": "later"}, {"response": "later"}]
    assert report.stored == 25
    assert [len(asked.json["chunks"]) for asked in recorder.asked] == [10, 10, 10, 5]
    assert recorder.asked[2].headers["idempotency-key"] == failed_key


async def test_what_json_cannot_carry(client):
    with pytest.raises(WrongTypeError, match="bytes"):
        await client.insert_chunks("KB", [{"chunk_content": b"raw"}], "CTX")
    with pytest.raises(InputError, match="request"):
        await client.patch_chunks("KB", "CTX", [{"chunk_id": 1, "meta_data": {"tag1": float("nan")}}])


def test_preprocess_chunks_as_documented():
    client = XTraceIntegration("org", "key")
    made = client._preprocess_chunks(chunks(501), [[1]] * 501)
    assert [len(batch) for batch in made] == [500, 1]
    with pytest.raises(MissingFieldError):
        client._preprocess_chunks(chunks(1), [[1]], update=True)


# Search


async def test_distances_as_documented(recorder, client):
    body = msgpack.packb([[[b"\x05"], 1], [[b"\x02\x01\x00"], 9]])
    recorder.say(body, Content_Type="application/x-msgpack")
    found = await client.compute_hamming_distances([2**100], "CTX", "KB", {"tag1": "a"}, [1, 9])
    assert [(chunk_id, [int.from_bytes(one, "little") for one in row]) for chunk_id, row in found] == [
        (1, [5]),
        (9, [258]),
    ]
    (asked,) = recorder.asked
    assert asked.target == f"/v1/compute_hamming/{ORG}"
    assert list(asked.json) == ["kb_id", "query", "context_id", "meta_filter", "range"]
    assert asked.json["meta_filter"] == json.dumps({"tag1": "a"})
    assert asked.json["range"] == [1, 9]
    assert (
        asked.json["query"]
        == wire.encode_rows(np.frombuffer((2**100).to_bytes(16, "little"), np.uint8).reshape(1, 1, 16))[0]
    )


@pytest.mark.parametrize("content_type", [wire.COLUMNS, wire.MSGPACK, wire.JSON])
async def test_distances_in_every_form(recorder, client, content_type):
    ids, products = np.array([1, 7, 9]), np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
    if content_type == wire.COLUMNS:
        body = b"".join(wire.pack_columns(ids, 2, 4, [products]))
    elif content_type == wire.MSGPACK:
        body = b"".join(wire.pack_distances(3, 2, 4, [(ids, products)]))
    else:
        body = json.dumps(
            [
                [[int.from_bytes(bytes(one), "little") for one in row], int(chunk_id)]
                for chunk_id, row in zip(ids, products, strict=True)
            ]
        ).encode()
    recorder.say(body, Content_Type=content_type)
    got_ids, got = await client.compute_hamming_distances_array(np.ones((2, 4), np.uint8), "CTX", "KB")
    assert got_ids.tolist() == ids.tolist()
    assert np.array_equal(got, products)
    (asked,) = recorder.asked
    assert asked.headers["Accept"].startswith(wire.COLUMNS)
    assert "meta_filter" not in asked.json and "range" not in asked.json


async def test_no_distances(recorder, client):
    recorder.say(b"\x90", Content_Type="application/x-msgpack")
    assert await client.compute_hamming_distances([1], "CTX", "KB") == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\x91\x92", wire.MSGPACK),
        (b"<html>", wire.JSON),
        (msgpack.packb([[b"bare", 1]]), wire.MSGPACK),
        (msgpack.packb([[[b"\x01" * 99], 1]]), wire.MSGPACK),
        (b"XTC1", wire.COLUMNS),
    ],
)
async def test_answer_that_is_no_list_of_distances(recorder, client, body, content_type):
    recorder.say(body, Content_Type=content_type)
    with pytest.raises(UnexpectedAnswerError, match="distances"):
        await client.compute_hamming_distances_array(np.ones((1, 8), np.uint8), "CTX", "KB")


@pytest.mark.parametrize("limits", [[1], [1, 2, 3], [3, 1], [1.0, 2], ["1", 2], [True, 2], 5, "12", {1, 2}])
async def test_malformed_range(recorder, client, limits):
    with pytest.raises(InputError, match="range"):
        await client.compute_hamming_distances([1], "CTX", "KB", range=limits)
    assert recorder.asked == []


async def test_range_of_one_chunk(recorder, client):
    recorder.say(b"\x90", Content_Type="application/x-msgpack")
    for limits in ((4, 4), np.array([4, 4]), range(4, 6)):
        await client.compute_hamming_distances([1], "CTX", "KB", range=limits)
    assert [asked.json["range"] for asked in recorder.asked] == [[4, 4], [4, 4], [4, 5]]


@pytest.mark.parametrize(
    "query", [np.zeros(8, np.uint8), np.zeros((1, 8), np.int64), np.zeros((1, 1, 8), np.uint8)]
)
async def test_malformed_query(client, query):
    with pytest.raises(InputError, match="query: expected uint8"):
        await client.compute_hamming_distances_array(query, "CTX", "KB")


@pytest.mark.parametrize("wrong", [{"tag1": object()}, {"tag1": {1, 2}}, {"chunk_id": float("nan")}])
async def test_filter_that_json_cannot_hold(recorder, client, wrong):
    for call in (
        client.compute_hamming_distances([1], "CTX", "KB", wrong),
        client.meta_search("KB", wrong, "CTX"),
        client.meta_search_paginated("KB", "CTX", wrong),
        client.delete_chunks_by_meta("KB", "CTX", wrong),
    ):
        with pytest.raises(InputError):
            await call
    assert recorder.asked == []


async def test_updates_are_counted_when_one_fails(recorder, client):
    recorder.say({"updated_count": 1})
    recorder.say({"message": "no such chunk"}, 404)
    client.batch_size = 1
    updates = [{"chunk_content": b"QQ==", "chunk_id": number} for number in (1, 2, 3)]
    with pytest.raises(NotFoundError) as caught:
        await client.update_chunks([[1], [2], [3]], updates, "CTX", "KB")
    assert caught.value.__notes__ == ["1 of 3 chunks were updated"]
    assert len(recorder.asked) == 2


async def test_filter_that_is_not_json(client):
    with pytest.raises(InputError, match="meta_filter: not JSON"):
        await client.delete_chunks_by_meta("KB", "CTX", "{tag1: x}")


# Contexts


async def test_public_context_is_registered_once_without_the_secret(recorder, client):
    recorder.say({"message": "no such context"}, 404)
    recorder.say({"context_id": "CTX"})
    data = {**PUBLIC, "sk": "sealed", "wrapped_key": "w", "tables": {}}
    await client.register_public_context(data, "CTX")
    await client.register_public_context(data, "CTX")
    assert [asked.method for asked in recorder.asked] == ["GET", "POST"]
    assert recorder.asked[1].json == {"data": PUBLIC, "context_id": "CTX"}


async def test_public_context_that_is_there_is_left_alone(recorder, client):
    recorder.say({**PUBLIC, "sk": "sealed"})
    await client.register_public_context(PUBLIC, "CTX")
    assert [asked.method for asked in recorder.asked] == ["GET"]


@pytest.mark.parametrize("field", ["pk", "type", "config"])
async def test_public_context_that_differs_is_refused(recorder, client, field):
    recorder.say({**PUBLIC, field: "another"})
    with pytest.raises(KeyMismatchError, match="another public key under this id"):
        await client.register_public_context(PUBLIC, "CTX")


async def test_public_context_with_a_part_missing(client):
    with pytest.raises(MissingFieldError, match=r"data\.config: missing"):
        await client.register_public_context({"pk": "", "type": ""}, "CTX")


async def test_lists_of_ids(recorder, client):
    recorder.say({"contexts": ["a"], "context_ids": ["b"], "kb_ids": ["c"]})
    assert await client.list_exec_contexts() == ["a"]
    assert await client.get_ctx_for_kb("KB") == ["b"]
    assert await client.get_kbs_for_ctx("CTX") == ["c"]
    recorder.answers.clear()
    recorder.say({})
    assert await client.get_kbs_for_ctx("CTX") == []
    assert await client.register_kb_binding("KB", "CTX") is True
    assert await client.delete_exec_context("CTX") is True


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"contexts": [1]}', b'"text"', b"1" * 5000])
async def test_answer_that_is_not_the_protocol(recorder, client, body):
    recorder.say(body, Content_Type="application/json")
    with pytest.raises(UnexpectedAnswerError):
        await client.list_exec_contexts()
    with pytest.raises(UnexpectedAnswerError):
        await client.list_kbs()
    with pytest.raises(UnexpectedAnswerError):
        await client.create_kb("n")
