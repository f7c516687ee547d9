import asyncio
import gc
import threading
import time

import numpy as np
import pytest

from xtrace_sdk.errors import DimensionMismatchError, InputError
from xtrace_sdk.integrations.uploads import UploadReport
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.xtrace_types import EncryptedIndex

DIMENSIONS = 48  # of the fixture


class Unreachable:
    """An integration that must not be used."""

    def __getattr__(self, name):
        pytest.fail(f"{name} was called")


@pytest.fixture
def loader(context):
    return DataLoader(context, Unreachable())


def documents(count, **more):
    return [{"chunk_content": f"text {number}", **more} for number in range(count)]


def bits(seed, count):
    return np.random.default_rng(seed).integers(0, 2, (count, DIMENSIONS), dtype=np.uint8)


def distances(context, index, vector):
    """Distances of `vector` to an encrypted index, in plain Python."""
    client = context.homomorphic
    n_squared = client.public_key.n_squared
    query = client.encrypt_vec_one(vector)
    return [
        client.decode_hamming_client_one([a * b % n_squared for a, b in zip(query, row, strict=True)])
        for row in index
    ]


# Encrypting


async def test_index_and_contents(context, loader):
    vectors = bits(1, 9)
    chunks = [
        {
            "chunk_content": "héllo",
            "meta_data": {"tag1": "a", "facets": ["x"]},
            "name": "n",
            "chunk_id": 5,
            "key": "k",
        },
        *documents(8),
    ]
    index, db = await loader.load_data_from_memory(chunks, vectors, disable_progress=True)
    assert isinstance(index, EncryptedIndex)
    assert index.rows.shape == (9, 1, context.homomorphic.width)
    assert distances(context, index, vectors[0]) == (vectors ^ vectors[0]).sum(axis=1).tolist()
    assert [context.aes.decrypt(chunk["chunk_content"]) for chunk in db] == [
        c["chunk_content"] for c in chunks
    ]
    assert all(isinstance(chunk["chunk_content"], bytes) for chunk in db)
    assert {name: value for name, value in db[0].items() if name != "chunk_content"} == {
        "meta_data": {"tag1": "a", "facets": ["x"]},
        "name": "n",
        "chunk_id": 5,
        "key": "k",
    }
    assert set(db[1]) == {"chunk_content", "meta_data", "name"}
    assert (db[1]["meta_data"], db[1]["name"]) == ({}, "")


@pytest.mark.parametrize("method", ["load_data_from_memory", "load_data_from_memory_batch"])
async def test_vectors_of_every_form(context, loader, method):
    async def later(vector):
        await asyncio.sleep(0)
        return vector

    floats = np.random.default_rng(2).normal(size=(3, DIMENSIONS))
    expected = (floats > 0).astype(np.uint8)
    forms = [
        floats,
        floats.astype(np.float32),
        expected,
        expected.astype(np.int8),
        expected.astype(bool),
        list(floats),
        floats.tolist(),
        tuple(expected.tolist()),
        [later(vector) for vector in floats],
        [floats[0], later(floats[1]), floats[2].tolist()],
        later(floats),
    ]
    for vectors in forms:
        index, _ = await getattr(loader, method)(documents(3), vectors, True)
        for row, vector in enumerate(expected):
            assert distances(context, index, vector)[row] == 0


async def test_nothing_to_do(loader):
    for vectors in ([], np.empty((0, DIMENSIONS))):
        index, db = await loader.load_data_from_memory([], vectors, disable_progress=True)
        assert (len(index), db) == (0, [])


async def test_progress_is_shown_unless_disabled(loader, capsys):
    await loader.load_data_from_memory(documents(3), bits(1, 3), disable_progress=True)
    assert capsys.readouterr().err == ""
    await loader.load_data_from_memory(documents(3), bits(1, 3))
    assert "Encrypting" in capsys.readouterr().err


async def test_the_event_loop_is_never_blocked(context, loader):
    """While a batch is encrypted, in another thread, the loop goes on."""
    threads = set()
    encrypt = context.homomorphic.encrypt_to_array

    def slow(rows, **more):
        threads.add(threading.get_ident())
        time.sleep(0.2)
        return encrypt(rows, **more)

    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    context.homomorphic.encrypt_to_array = slow
    try:
        ticking = asyncio.create_task(tick())
        await loader.load_data_from_memory(documents(3), bits(1, 3), True)
        ticking.cancel()
    finally:
        del context.homomorphic.encrypt_to_array
    assert threads.isdisjoint({threading.get_ident()})
    assert ticks >= 5


async def test_a_cancelled_load_stops_its_thread(context, loader):
    started, stopped = threading.Event(), threading.Event()
    encrypt = context.homomorphic.encrypt_to_array

    def endless(rows, *, progress):
        started.set()
        try:
            while True:
                encrypt(rows, progress=progress)
        finally:
            stopped.set()

    context.homomorphic.encrypt_to_array = endless
    try:
        loading = asyncio.create_task(loader.load_data_from_memory(documents(3), bits(1, 3), True))
        await asyncio.to_thread(started.wait, 30)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert await asyncio.to_thread(stopped.wait, 30)
    finally:
        del context.homomorphic.encrypt_to_array


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        (["text"], r"chunks\[0\]: expected a dict"),
        ([{}], r"chunks\[0\]\.chunk_content"),
        ([{"chunk_content": b"bytes"}], r"chunks\[0\]\.chunk_content: expected str"),
        ([{"chunk_content": "x", "meta_data": [1]}], r"chunks\[0\]\.meta_data"),
        ([{"chunk_content": "x", "name": 5}], r"chunks\[0\]\.name"),
        ([{"chunk_content": "x", "key": 5}], r"chunks\[0\]\.key"),
        ([{"chunk_content": "\ud800"}], "surrogate"),
    ],
)
async def test_wrong_chunks_are_named(loader, chunks, said):
    with pytest.raises(InputError, match=said):
        await loader.load_data_from_memory(chunks, bits(1, 1), True)


async def test_wrong_vectors_are_named(loader):
    nan = np.zeros((2, DIMENSIONS))
    nan[1, 7] = np.nan
    for vectors, error, said in (
        (bits(1, 3), InputError, "vectors: got 3 for 2 chunks"),
        ([], InputError, "vectors: got 0 for 2 chunks"),
        (nan, InputError, r"vectors\[1\]\[7\]: NaN"),
        ([[1] * DIMENSIONS, [1] * (DIMENSIONS - 1)], DimensionMismatchError, r"vectors\[1\]"),
        (np.zeros((2, DIMENSIONS + 1)), DimensionMismatchError, r"vectors\[0\]"),
        ([["a"] * DIMENSIONS] * 2, InputError, "vectors"),
    ):
        with pytest.raises(error, match=said):
            await loader.load_data_from_memory(documents(2), vectors, True)


async def test_a_failed_embedding_is_raised_and_the_others_are_closed(loader):
    async def good():
        await asyncio.sleep(0)
        return [1] * DIMENSIONS

    async def bad():
        raise InputError("no such text")

    for vectors in ([good(), bad(), *(good() for _ in range(30))], [good()]):
        with pytest.raises(InputError, match=r"no such text|got 1 for 32"):
            await loader.load_data_from_memory(documents(32), vectors, True)
    gc.collect()  # coroutines that were never awaited would warn here, and warnings are errors


# Storing, with a real server


async def stored(integration, context, kb_id):
    page = await integration.meta_search_paginated(kb_id, context.id, return_content=True, sort_order="asc")
    return [
        (row["chunk_id"], context.aes.decrypt(row["chunk_content"]), row["meta_data"])
        for row in page["results"]
    ]


async def test_dump_registers_the_public_part_only(context, integration, kb_id):
    loader = DataLoader(context, integration)
    index, db = await loader.load_data_from_memory(documents(3), bits(1, 3), True)
    (answer,) = await loader.dump_db(db, index, kb_id)
    assert answer["chunk_ids"] == [1, 2, 3]
    assert set(await integration.get_serialized_exec_context(context.id)) >= {"pk", "type", "config"}
    assert "sk" not in await integration.get_serialized_exec_context(context.id)


async def test_update_and_delete(context, integration, kb_id):
    loader, retriever = DataLoader(context, integration), Retriever(context, integration)
    vectors = bits(4, 3)
    index, db = await loader.load_data_from_memory(documents(3), vectors, True)
    await loader.dump_db(db, index, kb_id)
    await loader.update_chunks([{"chunk_id": 2, "chunk_content": "new"}], 1 - vectors[1:2], kb_id)
    assert await retriever.nn_search_for_ids(1 - vectors[1], 1, kb_id, include_scores=True) == ([2], [0])
    (found,) = await retriever.retrieve_and_decrypt([2], kb_id)
    assert found["chunk_content"] == "new"
    assert (await loader.delete_chunks([1, 2], kb_id))["deleted_count"] == 2
    assert await retriever.nn_search_for_ids(vectors[0], 5, kb_id) == [3]


async def test_an_update_needs_ids(loader):
    with pytest.raises(InputError, match=r"chunk_updates\[1\]: chunk_id"):
        await loader.update_chunks(
            [{"chunk_id": 1, "chunk_content": "a"}, {"chunk_content": "b"}], bits(1, 2), "kb"
        )
    with pytest.raises(InputError, match=r"chunk_updates\[0\]: expected a dict"):
        await loader.update_chunks(["a"], bits(1, 1), "kb")


async def test_upsert_inserts_and_replaces_by_id(context, integration, kb_id):
    loader, retriever = DataLoader(context, integration), Retriever(context, integration)
    vectors = bits(5, 2)
    await loader.upsert_one({"chunk_content": "first"}, vectors[0], kb_id)
    await loader.upsert_one({"chunk_content": "second"}, vectors[1].tolist(), kb_id)
    await loader.upsert_one({"chunk_content": "changed", "chunk_id": 1}, vectors[0], kb_id)
    found = await retriever.retrieve_and_decrypt([1, 2], kb_id)
    assert [chunk["chunk_content"] for chunk in found] == ["changed", "second"]
    with pytest.raises(InputError, match="chunk: expected a dict"):
        await loader.upsert_one("text", vectors[0], kb_id)


async def test_a_key_is_replaced(context, integration, kb_id):
    loader = DataLoader(context, integration)
    vectors = bits(7, 4)
    for text, vector in (("one", vectors[0]), ("two", vectors[1])):
        await loader.upsert_one({"chunk_content": text, "key": "doc"}, vector, kb_id)
    await loader.upsert_one({"chunk_content": "other", "key": "doc 2"}, vectors[2], kb_id)
    assert [text for _, text, _ in await stored(integration, context, kb_id)] == ["two", "other"]
    retriever = Retriever(context, integration)
    assert (await retriever.nn_search_for_ids(vectors[1], 1, kb_id, include_scores=True))[1] == [0]


async def test_new_and_known_chunks_in_one_upload(context, integration, kb_id):
    loader = DataLoader(context, integration)
    vectors = bits(8, 5)
    index, db = await loader.load_data_from_memory(documents(2), vectors[:2], True)
    await loader.dump_db(db, index, kb_id)
    mixed = [
        {"chunk_content": "new a"},
        {"chunk_content": "changed 2", "chunk_id": 2},
        {"chunk_content": "new b"},
        {"chunk_content": "changed 1", "chunk_id": 1},
    ]
    index, db = await loader.load_data_from_memory(mixed, vectors[1:], True)
    for form in (index, [[int(value) for value in row] for row in index]):
        await loader.dump_db(db, form, kb_id)
    found = [(chunk_id, text) for chunk_id, text, _ in await stored(integration, context, kb_id)]
    assert found == [
        (1, "changed 1"),
        (2, "changed 2"),
        (3, "new a"),
        (4, "new b"),
        (5, "new a"),
        (6, "new b"),
    ]
    retriever = Retriever(context, integration)
    assert await retriever.nn_search_for_ids(vectors[2], 1, kb_id, include_scores=True) == ([2], [0])
    assert await retriever.nn_search_for_ids(vectors[3], 2, kb_id, include_scores=True) == ([4, 6], [0, 0])


async def test_progress_and_report_of_an_upload(context, integration, kb_id):
    loader = DataLoader(context, integration)
    index, db = await loader.load_data_from_memory(documents(5), bits(9, 5), True)
    report, told = UploadReport(), []
    integration.batch_size = 2
    answers = await loader.dump_db(
        db, index, kb_id, report=report, progress=lambda *counts: told.append(counts)
    )
    assert told == [(2, 5), (4, 5), (5, 5)] and report.stored == 5
    assert await loader.dump_db(db, index, kb_id, report=report) == answers  # nothing is sent again
    mixed = [{"chunk_content": "changed", "chunk_id": 3}, *documents(3)]
    index, db = await loader.load_data_from_memory(mixed, bits(10, 4), True)
    told.clear()
    await loader.dump_db(db, index, kb_id, progress=lambda *counts: told.append(counts))
    assert told == [(1, 4), (3, 4), (4, 4)]
    assert [chunk_id for chunk_id, _, _ in await stored(integration, context, kb_id)] == list(range(1, 9))


async def test_lengths_must_agree(context, loader):
    index, db = await loader.load_data_from_memory(documents(2), bits(1, 2), True)
    with pytest.raises(InputError, match="index: 1 encrypted vectors for 2 chunks"):
        await loader.dump_db(db, index[:1], "kb")


# Streaming


def embedder(vectors):
    """Gives ``text N`` the N-th vector."""

    async def embed(texts):
        await asyncio.sleep(0)
        return vectors[[int(text.split()[1]) for text in texts]]

    return embed


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_ingest_stores_everything_in_order(context, integration, kb_id, asynchronous, capsys):
    async def later():
        for chunk in documents(25):
            yield chunk

    vectors = bits(9, 25)
    source = later() if asynchronous else iter(documents(25))
    loader = DataLoader(context, integration)
    ids = await loader.ingest(source, embedder(vectors), kb_id, batch_size=10, total=25)
    assert ids == list(range(1, 26))
    assert [text for _, text, _ in await stored(integration, context, kb_id)] == [
        f"text {i}" for i in range(25)
    ]
    assert "25/25" in capsys.readouterr().err
    ranked = await Retriever(context, integration).nn_search_for_ids(
        vectors[24], 1, kb_id, include_scores=True
    )
    assert ranked == ([25], [0])
    assert await loader.ingest([], embedder(vectors), kb_id, disable_progress=True) == []
    assert capsys.readouterr().err == ""


class Counting:
    """An integration that counts what is stored, and may fail."""

    def __init__(self, fail_after=10**9):
        self.stored, self.fail_after = 0, fail_after

    async def register_public_context(self, data, context_id):
        await asyncio.sleep(0)

    async def store_db(self, db, index, kb_id, context_id, concurrent=False, **_more):
        await asyncio.sleep(0.01)
        if self.stored >= self.fail_after:
            raise ConnectionError("the server is gone")
        first = self.stored + 1
        self.stored += len(db)
        return [{"chunk_ids": list(range(first, self.stored + 1))}]


async def test_ingest_holds_few_batches(context):
    integration = Counting()
    ahead = 0

    def source():
        nonlocal ahead
        for number in range(100):
            ahead = max(ahead, number - integration.stored)
            yield {"chunk_content": f"text {number}"}

    await DataLoader(context, integration).ingest(source(), embedder(bits(9, 100)), "kb", batch_size=5)
    assert integration.stored == 100
    assert 5 <= ahead < 15


async def test_a_failed_ingest_says_how_much_was_stored(context):
    for fail_after in (0, 10, 20):
        integration = Counting(fail_after)
        with pytest.raises(ConnectionError, match="the server is gone") as caught:
            await DataLoader(context, integration).ingest(
                documents(30), embedder(bits(9, 30)), "kb", batch_size=10, disable_progress=True
            )
        assert caught.value.__notes__ == [f"{fail_after} chunks were stored"]
    integration = Counting()
    wrong = [*documents(13), {"chunk_content": 5}]
    with pytest.raises(InputError, match=r"chunks\[13\]\.chunk_content") as caught:
        await DataLoader(context, integration).ingest(
            wrong, embedder(bits(9, 30)), "kb", batch_size=10, disable_progress=True
        )
    assert integration.stored == 10
    assert caught.value.__notes__ == ["10 chunks were stored"]


async def test_a_failing_embedder_or_source(context):
    async def embed(texts):
        raise OSError("no model")

    def source():
        yield from documents(3)
        raise OSError("no disk")

    loader = DataLoader(context, Counting())
    with pytest.raises(OSError, match="no model"):
        await loader.ingest(documents(3), embed, "kb", disable_progress=True)
    with pytest.raises(OSError, match="no disk"):
        await loader.ingest(source(), embedder(bits(9, 3)), "kb", batch_size=2, disable_progress=True)
    for wrong in (0, -1, 1.5):
        with pytest.raises(InputError, match="batch_size"):
            await loader.ingest(documents(3), embed, "kb", batch_size=wrong)


async def test_a_cancelled_ingest_stops(context):
    class Stuck(Counting):
        async def store_db(self, *_arguments, **_more):
            await asyncio.sleep(3600)

    ingesting = asyncio.create_task(
        DataLoader(context, Stuck()).ingest(
            documents(3), embedder(bits(9, 3)), "kb", batch_size=1, disable_progress=True
        )
    )
    await asyncio.sleep(0.1)
    ingesting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ingesting
