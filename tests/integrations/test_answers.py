"""A server that lies: one typed error, in bounded time and memory."""

import asyncio
import json

import msgpack
import numpy as np
import pytest
from aiohttp import web

from xtrace_sdk import wire
from xtrace_sdk.integrations import transport
from xtrace_sdk.integrations.errors import (
    AnswerTimeoutError,
    BadRequestError,
    RateLimitError,
    UnexpectedAnswerError,
)

QUERY = np.ones((1, 8), np.uint8)
DEEP = b"[" * 200_000


@pytest.mark.parametrize("body", [DEEP, b'{"a":' * 200_000, b"9" * 100_000, b"\xff\xfe\x00\xd8"])
async def test_json_that_python_cannot_read(recorder, client, body):
    recorder.say(body, Content_Type="application/json")
    with pytest.raises(UnexpectedAnswerError, match="expected JSON"):
        await client.list_kbs()


async def test_error_of_absurd_depth(recorder, client):
    recorder.say(DEEP[:50_000], 400)
    with pytest.raises(BadRequestError, match=r"^400 - "):
        await client.list_kbs()


async def test_error_of_absurd_length(recorder, client):
    recorder.say({"message": "A" * 60_000, "request_id": "B" * 5000}, 400)
    with pytest.raises(BadRequestError) as caught:
        await client.list_kbs()
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize(
    "advice",
    [
        "nan",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2025 99999999999999999999:00:00 GMT",
    ],
)
async def test_retry_after_without_sense(recorder, client, advice):
    recorder.say({"message": "slow down"}, 429, Retry_After=advice)
    with pytest.raises(RateLimitError):
        await client.list_kbs()
    assert len(recorder.asked) == 4


async def test_endless_answer(recorder, client):
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * (1 << 16))

    recorder.answers.append(endless)
    client.max_answer_bytes = 1 << 20
    with pytest.raises(UnexpectedAnswerError, match="longer than 1048576 bytes"):
        await client.compute_hamming_distances_array(QUERY, "CTX", "KB")
    assert len(recorder.asked) == 1


async def test_answer_that_trickles(recorder, connect):
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    recorder.answers.append(trickle)
    client = connect(recorder.url, timeout=0.3, retries=0)
    with pytest.raises(AnswerTimeoutError):
        await client.list_kbs()


async def test_slow_answer_that_keeps_coming(recorder, connect, monkeypatch):
    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in (b"[", *[b" " * 500] * 5, b"]"):
            await response.write(piece)
            await asyncio.sleep(0.1)
        return response

    recorder.answers.append(slowly)
    monkeypatch.setattr(transport, "_SLOWEST", 1000)
    client = connect(recorder.url, timeout=0.3, retries=0)
    assert await client.list_kbs() == []


@pytest.mark.parametrize("call", ["delete_exec_context", "delete_kb", "revoke_api_key"])
async def test_web_page_is_no_acknowledgement(recorder, client, call):
    recorder.say(b"<html>Log in to the hotel's network</html>", Content_Type="text/html")
    with pytest.raises(UnexpectedAnswerError, match="expected JSON, got text/html"):
        await getattr(client, call)("id")


@pytest.mark.parametrize("count", ["abc", [1], {"a": 1}, -1, 1.5, True, float("inf")])
async def test_count_that_is_none(recorder, client, count):
    recorder.say(json.dumps({"deleted_count": count}).encode(), Content_Type="application/json")
    with pytest.raises(UnexpectedAnswerError, match="'deleted_count' is not a count"):
        await client.delete_chunks([1], "KB")


@pytest.mark.parametrize(
    ("chunk", "problem"),
    [
        ({}, "no 'chunk_id'"),
        ({"chunk_id": "1"}, "'chunk_id' is not an integer"),
        ({"chunk_id": True}, "'chunk_id' is not an integer"),
        ({"chunk_id": [1]}, "'chunk_id' is not an integer"),
        ({"chunk_id": 3}, "not asked for"),
        ({"chunk_id": 1, "meta_data": "x"}, "meta_data: expected an object"),
        ({"chunk_id": 1, "chunk_content": 5}, "chunk_content: expected a string"),
        ({"chunk_id": 1, "index": {"AA==": 1}}, "index: expected a list"),
    ],
)
async def test_chunk_of_another_shape(recorder, client, chunk, problem):
    recorder.say([chunk])
    with pytest.raises(UnexpectedAnswerError, match=problem):
        await client.get_chunk_by_id([1, 2], "KB")


async def test_more_chunks_than_asked_for(recorder, client):
    recorder.say([{"chunk_id": 1}] * 3)
    with pytest.raises(UnexpectedAnswerError, match="not asked for"):
        await client.get_chunk_by_id([1, 2], "KB")
    assert await client.get_chunk_by_id([1, 1, 1], "KB") == [{"chunk_id": 1}] * 3


@pytest.mark.parametrize("ids", [[1], [1, 2, 3], ["1", "2"], [1.0, 2.0], "12", {"1": 2}])
async def test_ids_of_inserted_chunks(recorder, client, ids):
    recorder.say({"chunk_ids": ids})
    with pytest.raises(UnexpectedAnswerError, match="'chunk_ids' is not a list of 2 integers"):
        await client.insert_chunks("KB", [{}, {}], "CTX")


@pytest.mark.parametrize("content_type", [wire.COLUMNS, wire.MSGPACK])
@pytest.mark.parametrize(
    ("ids", "limits", "problem"),
    [
        ([4, 4], None, "comes twice"),
        ([4, 9, 4], None, "comes twice"),
        ([4, 9], [5, 9], "out of range"),
        ([4, 9], [4, 8], "out of range"),
    ],
)
async def test_ids_of_distances(recorder, client, ids, limits, problem, content_type):
    products = np.ones((len(ids), 1, 8), np.uint8)
    if content_type == wire.COLUMNS:
        body = b"".join(wire.pack_columns(np.array(ids), 1, 8, [products]))
    else:
        body = msgpack.packb([[[b"\x01"], chunk_id] for chunk_id in ids])
    recorder.say(body, Content_Type=content_type)
    with pytest.raises(UnexpectedAnswerError, match=problem):
        await client.compute_hamming_distances_array(QUERY, "CTX", "KB", range=limits)


async def test_negative_ids_of_distances(recorder, client):
    body = b"".join(wire.pack_columns(np.array([-1, 3]), 1, 8, [np.ones((2, 1, 8), np.uint8)]))
    recorder.say(body, Content_Type=wire.COLUMNS)
    with pytest.raises(UnexpectedAnswerError, match=r"negative chunk id|out of range"):
        await client.compute_hamming_distances_array(QUERY, "CTX", "KB")


@pytest.mark.parametrize("results", [None, 5, {"a": 1}, [1], [{}], [{"chunk_id": "1"}]])
async def test_page_of_another_shape(recorder, client, results):
    recorder.say({"results": results})
    with pytest.raises(UnexpectedAnswerError, match="results"):
        await client.meta_search_paginated("KB", "CTX")


async def test_limit_holds_for_decompressed_bytes(recorder, client):
    def bomb(_request: web.Request) -> web.Response:
        response = web.Response(body=b" " * (4 << 20))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    recorder.answers.append(bomb)
    with pytest.raises(UnexpectedAnswerError, match="longer than 1000 bytes"):
        await client._transport.request("GET", recorder.url, headers={}, repeatable=True, longest=1000)
