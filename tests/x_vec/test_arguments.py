"""Loader and retriever: whatever is given, what is wrong with it is an error of ours, never a stray one."""

import asyncio

import numpy as np
import pytest

from xtrace_sdk.errors import XTraceError
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever

GOOD = [1] * 48  # the dimension of the fixture
TEXT = {"chunk_content": "a"}
JUNK = [
    None,
    5,
    1.5,
    True,
    "x",
    b"x",
    object(),
    {"a": 1},
    [None],
    ["x"],
    [b"x"],
    [[1]],
    [1, "a"],
    np.zeros(3),
]


def same(value):
    return lambda contents: asyncio.sleep(0, value)


CALLS = {
    "chunks": lambda load, find, it: load.load_data_from_memory(it, [GOOD], True),
    "a chunk": lambda load, find, it: load.load_data_from_memory([it], [GOOD], True),
    "vectors": lambda load, find, it: load.load_data_from_memory([TEXT], it, True),
    "db": lambda load, find, it: load.dump_db(it, [[1]], "kb"),
    "index": lambda load, find, it: load.dump_db([{"chunk_content": b"a"}], it, "kb"),
    "a vector": lambda load, find, it: load.upsert_one(TEXT, it, "kb"),
    "updates": lambda load, find, it: load.update_chunks(it, [GOOD], "kb"),
    "ids to delete": lambda load, find, it: load.delete_chunks(it, "kb"),
    "ingested": lambda load, find, it: load.ingest(it, same([GOOD]), "kb", disable_progress=True),
    "embedded": lambda load, find, it: load.ingest([TEXT], same(it), "kb", disable_progress=True),
    "query": lambda load, find, it: find.nn_search_for_ids(it, 1, "kb"),
    "k": lambda load, find, it: find.nn_search_for_ids(GOOD, it, "kb"),
    "kb_id": lambda load, find, it: find.nn_search_for_ids(GOOD, 1, it),
    "queries": lambda load, find, it: find.nn_search_many(it, 1, "kb"),
    "ids": lambda load, find, it: find.retrieve_and_decrypt(it, "kb"),
    "projection": lambda load, find, it: find.retrieve_and_decrypt([1], "kb", it),
}


@pytest.mark.parametrize("call", CALLS)
async def test_arguments_of_any_type(context, call):
    async with XTraceIntegration("org", "key", api_url="http://127.0.0.1:1", retries=0) as nowhere:
        for junk in JUNK:
            with pytest.raises(XTraceError):  # what passes the checks finds no server
                await CALLS[call](DataLoader(context, nowhere), Retriever(context, nowhere), junk)
