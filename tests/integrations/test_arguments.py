"""Whatever is given for an argument: what is wrong with it is an error of ours, never a stray one."""

import inspect

import numpy as np
import pytest

from xtrace_sdk.arguments import listed
from xtrace_sdk.errors import InputError, XTraceError
from xtrace_sdk.integrations.xtrace import XTraceIntegration

JUNK = [
    None, 5, 1.5, True, "x", b"x", object(), np.zeros(3), {}, {"a": 1},
    [], [None], ["x"], [b"x"], [[1]], [[]], [["x"]], [[1.5]], [1, "a"], [{}],
]  # fmt: skip
GOOD = {
    "kb_id": "KB", "context_id": "CTX", "ctx_id": "CTX", "key_hash": "h", "name": "n", "permission": 1,
    "chunk_ids": [1], "projection": ["name"], "range": [1, 2], "meta_filter": {"tag1": "a"}, "query": [1],
    "db": [{"chunk_content": b"QQ=="}], "index": [[1]], "index_updates": [[1]], "chunks": [],
    "chunk_updates": [{"chunk_content": b"QQ==", "chunk_id": 1}], "chunk_patches": [{"chunk_id": 1}],
    "patch": {"tag1": "b"},
    "exec_context_dict": {"pk": "x"}, "data": {"pk": "", "type": "", "config": ""}, "limit": 5, "offset": 0,
    "expected": "none", "sealed": b"x", "keys": ["k"],
}  # fmt: skip
CALLS = [
    (name, parameter)
    for name, method in inspect.getmembers(XTraceIntegration, inspect.iscoroutinefunction)
    for parameter in inspect.signature(method).parameters
    if parameter in GOOD and not name.startswith("_")
]


@pytest.mark.parametrize(("name", "parameter"), CALLS)
async def test_arguments_of_any_type(connect, name, parameter):
    client = connect("http://127.0.0.1:1", retries=0)  # what passes the checks finds no server
    method = getattr(client, name)
    for junk in JUNK:
        given = {other: GOOD[other] for other in inspect.signature(method).parameters if other in GOOD}
        if name.startswith("compute_hamming_distances_"):
            given["query"] = np.ones((1, 8), np.uint8)
        if (name, parameter) == ("get_chunk_by_id", "chunk_ids") and isinstance(junk, list) and not junk:
            assert await method(**{**given, parameter: junk}) == []  # nothing to ask for
            continue
        with pytest.raises(XTraceError):
            await method(**{**given, parameter: junk})


def test_every_call_is_tried():
    assert {"store_db", "update_chunks", "compute_hamming_distances_array", "create_kb"} <= {
        name for name, _ in CALLS
    }
    assert len(CALLS) > 60


@pytest.mark.parametrize("wrong", [5, None, "ab", b"ab", {"a": 1}])
def test_what_is_no_list(wrong):
    with pytest.raises(InputError, match=f"x: expected a list, got {type(wrong).__name__}"):
        listed(wrong, "x")
    assert listed((1, 2), "x") == listed(np.array([1, 2]), "x") == listed(iter([1, 2]), "x") == [1, 2]
