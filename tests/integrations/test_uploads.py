import asyncio
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrace_sdk.errors import InputError
from xtrace_sdk.integrations.errors import MissingFieldError, WrongTypeError
from xtrace_sdk.integrations.uploads import UploadReport, batches, ciphertext_rows, in_order


class ArrayBacked:
    def __init__(self, rows):
        self.rows = rows


def chunks(count, size=10):
    return [{"chunk_content": b"A" * size, "meta_data": {}, "name": ""} for _ in range(count)]


def rows(count, width=8):
    return np.arange(count * width, dtype=np.uint8).reshape(count, 1, width)


@given(st.lists(st.lists(st.integers(0, 2**300), min_size=2, max_size=2), min_size=1, max_size=5))
def test_integers_become_rows_of_one_width(index):
    made = ciphertext_rows(index)
    assert made.shape[:2] == (len(index), 2)
    assert made.shape[2] % 8 == 0
    assert [[int.from_bytes(bytes(one), "little") for one in row] for row in made] == index


def test_length_tells_nothing_about_a_ciphertext():
    """A ciphertext with many zero bytes on top travels as wide as the others."""
    made = ciphertext_rows([[2**4095], [1], [0]])
    assert made.shape == (3, 1, 512)


def test_width_does_not_depend_on_a_leading_zero_byte():
    assert ciphertext_rows([[2**4087 - 1]]).shape == (1, 1, 512)


def test_arrays_are_taken_as_they_are():
    array = rows(3)
    assert ciphertext_rows(array) is array
    assert ciphertext_rows(ArrayBacked(array)) is array


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([[1], [2, 3]], r"index\[1\]: 2 ciphertexts"),
        ([[1], [-2]], r"index\[1\]: a ciphertext is negative"),
        ([["one"]], r"index\[0\]: expected integers"),
        (np.zeros((2, 8), np.uint8), r"index: expected uint8 \(N, chunks, width\)"),
        (np.zeros((2, 1, 8), np.int64), "index: expected uint8"),
    ],
)
def test_malformed_index(index, message):
    with pytest.raises(InputError, match=message):
        ciphertext_rows(index)


def test_empty_index():
    assert len(ciphertext_rows([])) == 0
    assert list(batches([], ciphertext_rows([]), update=False, max_count=500)) == []


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1000, 1001])
def test_batches_by_count(count):
    made = list(batches(chunks(count), rows(count), update=False, max_count=500))
    assert [len(batch) for batch in made] == [500] * (count // 500) + [count % 500] * (count % 500 > 0)


def test_batches_by_bytes():
    limit = 20_000
    db = chunks(30, 3000) + chunks(1, 50_000) + chunks(30, 10)
    made = list(batches(db, rows(61), update=False, max_count=500, max_bytes=limit))
    assert [len(batch) for batch in made] == [6, 6, 6, 6, 6, 1, 30]
    sizes = [len(json.dumps(batch)) for batch in made]
    assert max(size for size, batch in zip(sizes, made, strict=True) if len(batch) > 1) <= limit


@given(st.integers(0, 60), st.integers(1, 20), st.integers(200, 5000))
def test_batches_keep_every_chunk_in_order(count, max_count, max_bytes):
    db = [{"chunk_content": b"%d" % number, "name": str(number)} for number in range(count)]
    made = list(batches(db, rows(count), update=False, max_count=max_count, max_bytes=max_bytes))
    assert [chunk["name"] for batch in made for chunk in batch] == [str(number) for number in range(count)]
    assert all(0 < len(batch) <= max_count for batch in made)


def test_shape_of_a_chunk():
    db = [{"chunk_content": b"QUJD", "meta_data": {"tag1": "x"}, "name": "n", "key": "k"}, chunks(1)[0]]
    db[1].pop("name")
    (batch,) = batches(db, np.array([[[1, 2]], [[3, 0]]], np.uint8), update=False, max_count=500)
    assert batch[0] == {
        "chunk_content": "QUJD",
        "index": ["AQI="],
        "meta_data": {"tag1": "x"},
        "name": "n",
        "key": "k",
    }
    assert batch[1]["name"] == "default_name_chunk_1"
    assert batch[1]["index"] == ["AwA="]  # full width, zero byte included


def test_chunk_id_is_sent_with_updates_only():
    db = [{"chunk_content": b"QUJD", "chunk_id": 7}]
    (inserted,) = batches(db, rows(1), update=False, max_count=500)
    (updated,) = batches(db, rows(1), update=True, max_count=500)
    assert "chunk_id" not in inserted[0]
    assert updated[0]["chunk_id"] == 7


def test_malformed_chunks():
    with pytest.raises(InputError, match="index: 2 encrypted vectors for 3 chunks"):
        list(batches(chunks(3), rows(2), update=False, max_count=500))
    with pytest.raises(
        WrongTypeError, match=r"db\[1\]\.chunk_content: expected encrypted bytes, got str"
    ) as e:
        list(batches([*chunks(1), {"chunk_content": "text"}], rows(2), update=False, max_count=500))
    assert isinstance(e.value, TypeError)
    with pytest.raises(InputError, match=r"db\[0\]\.chunk_content: expected base64"):
        list(batches([{"chunk_content": b"\xff"}], rows(1), update=False, max_count=500))
    with pytest.raises(MissingFieldError, match=r"chunk_updates\[0\]\.chunk_id: missing") as missing:
        list(batches(chunks(1), rows(1), update=True, max_count=500))
    assert isinstance(missing.value, KeyError)


def test_report_refuses_other_data():
    report = UploadReport()
    report.batch(0, 0, 500).response = {}
    assert report.batch(0, 0, 500).response == {}
    assert report.stored == 500
    with pytest.raises(InputError, match="batch 0 held chunks 0 to 500, now 0 to 400"):
        report.batch(0, 0, 400)


async def test_in_order_bounds_what_runs():
    running = most = 0

    async def job(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002 * (number % 3))
        running -= 1
        return number

    assert await in_order((lambda n=n: job(n) for n in range(20)), 4) == list(range(20))
    assert most == 4


async def test_in_order_stops_after_a_failure():
    finished = []

    async def job(number):
        await asyncio.sleep(0.001 * number)
        if number == 1:
            raise ValueError("one")
        finished.append(number)

    with pytest.raises(ValueError, match="one"):
        await in_order((lambda n=n: job(n) for n in range(100)), 3)
    assert {0, 2} <= set(finished)  # those under way end
    assert len(finished) < 10


async def test_in_order_ends_its_tasks_when_cancelled():
    ended = []

    async def job():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    task = asyncio.ensure_future(in_order([job, job], 2))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True, True]
