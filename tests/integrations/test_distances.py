"""Distances while they arrive: blocks before the end, every row once, one typed error for what is wrong."""

import asyncio
from contextlib import aclosing

import numpy as np
import pytest
from aiohttp import web

from xtrace_sdk import wire
from xtrace_sdk.integrations import transport
from xtrace_sdk.integrations.errors import NotFoundError, TransportError, UnexpectedAnswerError
from xtrace_sdk.records import as_table

CHUNKS, WIDTH = 2, 8
ROW = CHUNKS * WIDTH
QUERY = np.ones((CHUNKS, WIDTH), np.uint8)


def answer_of(count, seed=0):
    """(ids, products, columns) with `count` rows and their records."""
    chance = np.random.default_rng(seed)
    ids = np.cumsum(chance.integers(1, 4, count))
    products = chance.integers(0, 256, (count, CHUNKS, WIDTH), dtype=np.uint8)
    table = as_table([bytes([int(one) % 251]) * 3 for one in ids])
    return ids, products, b"".join(wire.pack_columns(ids, CHUNKS, WIDTH, [products], table))


async def whole(blocks):
    """All blocks together: (ids, products, sizes of the blocks)."""
    async with aclosing(blocks):
        found = [block async for block in blocks]
    ids = np.concatenate([np.empty(0, np.int64), *(block[0] for block in found)])
    rows = np.concatenate([np.empty((0, CHUNKS, WIDTH), np.uint8), *(block[1] for block in found)])
    for block in found:
        assert block.records.shape == (len(block.ids), block.records.shape[1])
        if block.records.shape[1]:
            assert (block.records[:, 1] == block.ids % 251).all()
    return ids, rows, [len(block[0]) for block in found]


async def streamed(request, *pieces):
    """Send columns in pieces; an Event among them is waited for, an exception breaks the connection."""
    response = web.StreamResponse(headers={"Content-Type": wire.COLUMNS})
    await response.prepare(request)
    for piece in pieces:
        if isinstance(piece, asyncio.Event):
            await piece.wait()
        elif isinstance(piece, bytes):
            await response.write(piece)
        else:
            request.transport.abort()
            break
    return response


async def test_blocks_come_before_the_answer_has_ended(recorder, client):
    ids, products, body = answer_of(3000)
    first_is_there = asyncio.Event()
    recorder.answers.append(lambda request: streamed(request, body[:-ROW], first_is_there, body[-ROW:]))
    found = []
    async with aclosing(client.compute_hamming_distances_blocks(QUERY, "CTX", "KB")) as blocks:
        async for block in blocks:
            found.append(block)
            first_is_there.set()  # before that the server does not end its answer
    assert len(found) >= 2
    assert np.array_equal(np.concatenate([block[0] for block in found]), ids)
    assert np.array_equal(np.concatenate([block[1] for block in found]), products)
    assert client.traffic.received == len(body)


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000, 20000])
async def test_blocks_are_the_whole_answer(recorder, client, count):
    ids, products, body = answer_of(count)
    pieces = [body[at : at + 4999] for at in range(0, len(body), 4999)]
    recorder.answers.append(lambda request: streamed(request, *pieces))
    found = await whole(client.compute_hamming_distances_blocks(QUERY, "CTX", "KB"))
    assert np.array_equal(found[0], ids) and np.array_equal(found[1], products)
    assert all(1024 <= size <= 8192 for size in found[2][:-1])


async def turns(count=2000):
    """Let the loop turn, so that sockets take what they can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_busy_reader_has_little_waiting(recorder, connect, monkeypatch):
    monkeypatch.setattr(transport, "_MOST_WAITING", 1 << 20)
    ids, products, body = answer_of(200_000)
    before_rows = len(body) - products.nbytes
    recorder.answers.append(lambda request: streamed(request, body))
    client = connect(recorder.url, timeout=30, retries=0)
    loop, ahead = asyncio.get_running_loop(), 0.0
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + ahead)
    found, waiting = [], []
    async with aclosing(client.compute_hamming_distances_blocks(QUERY, "CTX", "KB")) as blocks:
        async for block in blocks:
            found.append(block)
            taken = before_rows + ROW * sum(len(one.ids) for one in found)
            if len(found) == 1:
                await turns()
                assert client.traffic.received - taken >= 1 << 20
                ahead = 900.0  # longer than a server may be silent: it is the client who waits
                await turns()
            waiting.append(client.traffic.received - taken)
    assert np.array_equal(np.concatenate([block.ids for block in found]), ids)
    assert np.array_equal(np.concatenate([block.products for block in found]), products)
    assert max(waiting) < 3 << 19 < products.nbytes // 2


async def test_a_lost_connection_gives_no_row_twice(recorder, client):
    ids, products, body = answer_of(4000)
    for _ in range(2):
        recorder.answers.append(lambda request: streamed(request, body[: len(body) // 2], None))
    recorder.answers.append(lambda request: streamed(request, body))
    found = await whole(client.compute_hamming_distances_blocks(QUERY, "CTX", "KB"))
    assert len(recorder.asked) == 3
    assert np.array_equal(found[0], ids) and np.array_equal(found[1], products)


async def test_a_connection_that_is_lost_for_good(recorder, connect):
    _, _, body = answer_of(4000)
    recorder.answers.append(lambda request: streamed(request, body[: len(body) // 2], None))
    with pytest.raises(TransportError):
        await whole(connect(recorder.url, retries=1).compute_hamming_distances_blocks(QUERY, "CTX", "KB"))
    assert len(recorder.asked) == 2


async def test_who_stops_early_ends_the_request(recorder, client):
    _, _, body = answer_of(3000)
    never = asyncio.Event()
    recorder.answers.append(lambda request: streamed(request, body[:-ROW], never))

    def requests_under_way():
        return sum("XTraceIntegration._data" in repr(task.get_coro()) for task in asyncio.all_tasks())

    async with aclosing(client.compute_hamming_distances_blocks(QUERY, "CTX", "KB")) as blocks:
        async for ids, *_ in blocks:
            assert len(ids) >= 1024
            break
        assert requests_under_way() == 1
    assert requests_under_way() == 0
    never.set()


@pytest.mark.parametrize("content_type", [wire.MSGPACK, wire.JSON])
async def test_other_forms_come_as_one_block(recorder, client, content_type):
    ids, products, _ = answer_of(3)
    if content_type == wire.MSGPACK:
        body = b"".join(wire.pack_distances(3, CHUNKS, WIDTH, [(ids, products)]))
    else:
        rows = [[int.from_bytes(one.tobytes(), "little") for one in row] for row in products]
        body = str([[row, int(one)] for row, one in zip(rows, ids, strict=True)]).encode()
    recorder.say(body, Content_Type=content_type)
    found = await whole(client.compute_hamming_distances_blocks(QUERY, "CTX", "KB"))
    assert np.array_equal(found[0], ids) and np.array_equal(found[1], products)
    assert found[2] == [3]


def renumbered(body, *ids):
    return body[:32] + np.array(ids, "<i8").tobytes() + body[32 + 8 * len(ids) :]


@pytest.mark.parametrize(
    ("change", "limits", "problem"),
    [
        (lambda body: body[:-1], None, "truncated"),
        (lambda body: body + b"x", None, "longer than it says"),
        (lambda body: body[:31], None, "truncated"),
        (lambda body: b"", None, "truncated"),
        (lambda body: b"XTC2" + body[4:], None, "not a columnar answer"),
        (lambda body: body[:4] + b"\x03" + body[5:], None, "expected 2 of 8"),
        (lambda body: body[:16] + b"\xff" * 8 + body[24:], None, "truncated"),
        (lambda body: renumbered(body, 1, 3, 2), None, "do not ascend"),
        (lambda body: renumbered(body, 1, 3, 3), None, "do not ascend"),
        (lambda body: renumbered(body, -1, 3, 4), None, "do not ascend"),
        (lambda body: renumbered(body, 4, 5, 9), [4, 8], "out of range"),
        (lambda body: renumbered(body, 3, 5, 8), [4, 8], "out of range"),
    ],
)
async def test_what_is_wrong_is_one_typed_error(recorder, client, change, limits, problem):
    recorder.say(change(answer_of(3)[2]), Content_Type=wire.COLUMNS)
    with pytest.raises(UnexpectedAnswerError, match=problem):
        await whole(client.compute_hamming_distances_blocks(QUERY, "CTX", "KB", range=limits))
    assert len(recorder.asked) == 1


async def test_an_answer_longer_than_allowed(recorder, client):
    recorder.say(answer_of(5000)[2], Content_Type=wire.COLUMNS)
    client.max_answer_bytes = 5000 * ROW
    with pytest.raises(UnexpectedAnswerError, match=f"longer than {5000 * ROW} bytes"):
        await whole(client.compute_hamming_distances_blocks(QUERY, "CTX", "KB"))


async def test_an_error_of_the_server(recorder, client):
    recorder.say({"message": "no such context"}, 404)
    with pytest.raises(NotFoundError, match="no such context"):
        await whole(client.compute_hamming_distances_blocks(QUERY, "CTX", "KB"))
