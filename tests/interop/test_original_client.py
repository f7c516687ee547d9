"""The unmodified xtrace-ai-sdk 0.1.1 against `xtrace serve`: every method of client, loader and retriever."""

import base64
import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xtrace_sdk.cli.demo.process import ServerProcess
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

PASSPHRASE = "correct horse"
DIMENSIONS = 96
KEPT_INDEX, KEPT_DB = {"kept": "index"}, {"kept": "db"}


@pytest.fixture(scope="module", params=["paillier", "paillier_lookup"])
def context(request: pytest.FixtureRequest, connected: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a context of the original's, known to the server and used by its loader and retriever."""
    path = tmp_path_factory.mktemp("context") / "context"
    alpha_len = None if request.param == "paillier" else 50
    made = connected(
        "create",
        passphrase=PASSPHRASE,
        path=str(path),
        embed_len=DIMENSIONS,
        key_len=256,
        alpha_len=alpha_len,
    )
    connected("use", context=made["id"])
    assert connected("save_to_remote", context=made["id"]) == made["id"]
    found: str = made["id"]
    return found


@pytest.fixture
def kb(connected: Any) -> str:
    made = connected.call("integration", "create_kb", "documents", "of a test")
    assert (made["name"], made["description"]) == ("documents", "of a test")
    found: str = made["id"]
    return found


def floats(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIMENSIONS))


def documents(count: int) -> list[dict[str, Any]]:
    """Every other one is tagged "even", and they are numbered in a facet."""
    return [
        {
            "chunk_content": f"document {i} – größer",
            "name": f"name-{i}",
            "meta_data": {"tag1": "even" if i % 2 == 0 else "odd", "facets": [f"number-{i}"]},
        }
        for i in range(count)
    ]


def load(connected: Any, kb: str, count: int) -> np.ndarray:
    """Store documents with ids 1 to `count`; their vectors."""
    vectors = floats(count)
    connected.call(
        "loader",
        "load_data_from_memory_batch",
        documents(count),
        vectors.tolist(),
        keep_as=("index", "db"),
    )
    connected.call("loader", "dump_db", KEPT_DB, KEPT_INDEX, kb)
    return vectors


def hamming(vectors: np.ndarray, query: np.ndarray) -> list[int]:
    distances: list[int] = ((vectors > 0) != (query > 0)).sum(axis=1).tolist()
    return distances


# Loader and retriever


@pytest.mark.parametrize("method", ["load_data_from_memory", "load_data_from_memory_batch"])
def test_load_search_and_read(connected: Any, context: str, kb: str, method: str) -> None:
    vectors, query = floats(12), floats(1, seed=9)[0]
    connected.call("loader", method, documents(12), vectors.tolist(), keep_as=("index", "db"))
    answers = connected.call("loader", "dump_db", KEPT_DB, KEPT_INDEX, kb)
    assert len(answers) == 1
    assert answers[0]["response"] == f"Data loaded into KB {kb} successfully"
    assert connected.call("integration", "get_kb", kb)["numberOfVectors"] == 12

    ids, scores = connected.call(
        "retriever", "nn_search_for_ids", query.tolist(), 5, kb_id=kb, include_scores=True
    )
    distances = hamming(vectors, query)
    assert scores == distances  # the original gives the distances of all, in the server's order
    assert [distances[i - 1] for i in ids] == sorted(distances)[:5]

    read = connected.call("retriever", "retrieve_and_decrypt", ids, kb)
    assert [one["chunk_content"] for one in read] == [f"document {i - 1} – größer" for i in ids]
    assert [one["meta_data"]["facets"] for one in read] == [[f"number-{i - 1}"] for i in ids]
    text = connected.call("retriever", "format_context", [one["chunk_content"] for one in read])
    assert text.startswith(f"0. document {ids[0] - 1}")


def test_search_is_limited_by_filter_and_range(connected: Any, context: str, kb: str) -> None:
    vectors, query = load(connected, kb, 10), floats(1, seed=9)[0]
    distances = hamming(vectors, query)
    found = connected.call(
        "retriever", "nn_search_for_ids", query.tolist(), 10, kb_id=kb, meta_filter={"tag1": "even"}
    )
    assert sorted(found) == [1, 3, 5, 7, 9]
    assert [distances[i - 1] for i in found] == sorted(distances[0::2])
    found = connected.call(
        "retriever", "nn_search_for_ids", query.tolist(), 10, kb_id=kb, range_filter=[4, 8]
    )
    assert sorted(found) == [4, 5, 6, 7, 8]


def test_search_in_an_empty_knowledge_base(connected: Any, context: str, kb: str) -> None:
    assert connected.call("retriever", "nn_search_for_ids", floats(1)[0].tolist(), 3, kb_id=kb) == []
    assert connected.call("retriever", "retrieve_and_decrypt", [], kb) == []


def test_parallel_retriever(connected: Any, context: str, kb: str) -> None:
    vectors, query = load(connected, kb, 6), floats(1, seed=9)[0]
    found = connected.call("parallel_retriever", "nn_search_for_ids", query.tolist(), 3, kb_id=kb)
    distances = hamming(vectors, query)
    assert [distances[i - 1] for i in found] == sorted(distances)[:3]


def test_many_batches_at_once(connected: Any, context: str, kb: str) -> None:
    """More than the original's batch of 500, concurrently: order is not promised, numbers are."""
    count = 1100
    vectors = floats(8)[np.arange(count) % 8]
    connected.call(
        "loader",
        "load_data_from_memory_batch",
        [{"chunk_content": f"{i}"} for i in range(count)],
        vectors.tolist(),
        keep_as=("index", "db"),
    )
    answers = connected.call("loader", "dump_db", KEPT_DB, KEPT_INDEX, kb, concurrent=True)
    assert len(answers) == 3
    ids, scores = connected.call(
        "retriever", "nn_search_for_ids", vectors[0].tolist(), 200, kb_id=kb, include_scores=True
    )
    assert len(set(ids)) == 200
    assert sorted(scores) == sorted(hamming(vectors, vectors[0]))


def test_upsert_update_and_delete(connected: Any, context: str, kb: str) -> None:
    vectors = load(connected, kb, 4)
    another = floats(2, seed=5)
    connected.call("loader", "upsert_one", {"chunk_content": "one more"}, another[0].tolist(), kb)
    updates = [{"chunk_id": 2, "chunk_content": "changed", "meta_data": {"tag1": "new"}}]
    connected.call("loader", "update_chunks", updates, [another[1].tolist()], kb)
    connected.call("loader", "delete_chunks", [3], kb)

    now = np.array([vectors[0], another[1], vectors[3], another[0]])
    _ids, scores = connected.call(
        "retriever", "nn_search_for_ids", another[1].tolist(), 4, kb_id=kb, include_scores=True
    )
    assert scores == hamming(now, another[1])
    read = connected.call("retriever", "retrieve_and_decrypt", [5, 2, 1], kb)
    assert [one["chunk_content"] for one in read] == ["one more", "changed", "document 0 – größer"]
    assert read[1]["meta_data"]["tag1"] == "new"


# The HTTP client's own methods


def test_store_and_get_chunks(connected: Any, context: str, kb: str) -> None:
    connected.call(
        "loader", "load_data_from_memory", documents(3), floats(3).tolist(), keep_as=("index", "db")
    )
    connected.call("integration", "store_db", KEPT_DB, KEPT_INDEX, kb, context)
    got = connected.call("integration", "get_chunk_by_id", [3, 1], kb)
    assert [one["chunk_id"] for one in got] == [3, 1]
    assert all(list(one["index"][0]) == ["bytes"] for one in got)
    got = connected.call("integration", "get_chunk_by_id", [2], kb, projection=["chunk_id", "tag1"])
    assert got == [{"chunk_id": 2, "meta_data": {"tag1": "odd"}}]


def test_insert_update_patch_and_delete_chunks(connected: Any, context: str, kb: str) -> None:
    load(connected, kb, 3)
    stored = connected.call("integration", "get_chunk_by_id", [1], kb)[0]
    raw = {
        "chunk_content": stored["chunk_content"],
        "index": [one["bytes"] for one in stored["index"]],
        "meta_data": {"tag1": "copied"},
        "name": "copy",
    }
    connected.call("integration", "insert_chunks", kb, [raw], context)
    connected.call(
        "loader", "load_data_from_memory", documents(1), floats(1, seed=3).tolist(), keep_as=("index", "db")
    )
    connected.call("integration", "update_chunks", KEPT_INDEX, [stored_chunk(2)], context, kb)
    connected.call(
        "integration", "patch_chunks", kb, context, [{"chunk_id": 3, "meta_data": {"tag2": "patched"}}]
    )
    connected.call("integration", "delete_chunks", [1], kb)

    got = connected.call("integration", "get_chunk_by_id", [1, 2, 3, 4], kb)
    assert [one["chunk_id"] for one in got] == [2, 3, 4]
    assert got[0]["name"] == "updated"
    assert got[1]["meta_data"] == {"tag1": "even", "facets": ["number-2"], "tag2": "patched"}
    assert (got[2]["name"], got[2]["meta_data"]) == ("copy", {"tag1": "copied"})
    assert got[2]["index"] == stored["index"]


def stored_chunk(chunk_id: int) -> dict[str, Any]:
    return {"chunk_content": {"bytes": "c2VhbGVk"}, "meta_data": {}, "name": "updated", "chunk_id": chunk_id}


def test_compute_hamming_distances(connected: Any, context: str, kb: str) -> None:
    vectors = load(connected, kb, 5)
    query = connected("encrypt", context=context, vectors=[(vectors[1] > 0).astype(int).tolist()])[0]
    numbers = [int(c, 16) for c in query]
    answer = connected.call("integration", "compute_hamming_distances", numbers, context, kb)
    assert [chunk_id for chunk_id, _ in answer] == [1, 2, 3, 4, 5]
    ciphers = [
        [f"{int.from_bytes(base64.b64decode(c['bytes']), 'little'):x}" for c in row] for _, row in answer
    ]
    assert connected("decode", context=context, ciphers=ciphers) == hamming(vectors, vectors[1])


def test_metadata_searches(connected: Any, context: str, kb: str) -> None:
    load(connected, kb, 6)
    found = connected.call("integration", "meta_search", kb, {"tag1": "odd"}, context)
    assert [one["chunk_id"] for one in found] == [2, 4, 6]
    assert all("chunk_content" not in one for one in found)
    found = connected.call(
        "integration", "meta_search", kb, {"facets": "number-3"}, context, return_content=True
    )
    assert [one["chunk_id"] for one in found] == [4]
    assert found[0]["chunk_content"]

    page = connected.call("integration", "meta_search_paginated", kb, context, limit=2, offset=1)
    assert [one["chunk_id"] for one in page["results"]] == [5, 4]
    page = connected.call(
        "integration",
        "meta_search_paginated",
        kb,
        context,
        meta_filter={"tag1": "even"},
        sort_order="asc",
    )
    assert [one["chunk_id"] for one in page["results"]] == [1, 3, 5]


def test_changes_by_metadata(connected: Any, context: str, kb: str) -> None:
    load(connected, kb, 6)
    would = connected.call(
        "integration", "patch_chunks_by_meta", kb, context, {"tag1": "odd"}, {"tag3": "seen"}, dry_run=True
    )
    assert would["would_update_count"] == 3
    done = connected.call(
        "integration", "patch_chunks_by_meta", kb, context, {"tag1": "odd"}, {"tag3": "seen"}
    )
    assert done["updated_count"] == 3
    assert len(connected.call("integration", "meta_search", kb, {"tag3": "seen"}, context)) == 3

    would = connected.call(
        "integration", "delete_chunks_by_meta", kb, context, {"tag3": "seen"}, dry_run=True
    )
    assert would["would_delete_count"] == 3
    done = connected.call("integration", "delete_chunks_by_meta", kb, context, {"tag3": "seen"})
    assert done["deleted_count"] == 3
    assert connected.call("integration", "get_kb", kb)["numberOfVectors"] == 3


def test_contexts(connected: Any, context: str, original_error: type[Exception], tmp_path: Path) -> None:
    assert connected("load_from_remote", passphrase=PASSPHRASE, context=context) == context
    stored = connected.call("integration", "get_serialized_exec_context", context)
    assert sorted(stored) == ["config", "key_provider", "pk", "sk", "type", "wrapped_key"]
    assert connected.call("integration", "store_exec_context", stored, context) == context

    other = connected(
        "create", passphrase="p", path=str(tmp_path / "other"), embed_len=8, key_len=128, alpha_len=None
    )["id"]
    connected("save_to_remote", context=other)
    assert {context, other} <= set(connected.call("integration", "list_exec_contexts"))
    assert connected.call("integration", "delete_exec_context", other) is True
    assert other not in connected.call("integration", "list_exec_contexts")
    with pytest.raises(original_error, match="ClientResponseError: 404"):
        connected.call("integration", "get_serialized_exec_context", other)


def test_bindings(connected: Any, context: str, kb: str) -> None:
    assert connected.call("integration", "get_ctx_for_kb", kb) == []
    assert connected.call("integration", "register_kb_binding", kb, context) is True
    assert connected.call("integration", "get_ctx_for_kb", kb) == [context]
    assert kb in connected.call("integration", "get_kbs_for_ctx", context)
    assert connected.call("integration", "register_kb_binding", "absent", context) is False


def test_knowledge_bases(connected: Any, kb: str, original_error: type[Exception]) -> None:
    assert kb in [one["id"] for one in connected.call("integration", "list_kbs")]
    record = connected.call("integration", "get_kb", kb)
    assert (record["name"], record["numberOfVectors"]) == ("documents", 0)
    assert connected.call("integration", "delete_kb", kb) is None
    with pytest.raises(original_error, match="ClientResponseError: 404"):
        connected.call("integration", "get_kb", kb)


def test_api_keys_and_permissions(connected: Any, kb: str) -> None:
    made = connected.call("integration", "create_api_key", "reader", "reads")
    key_hash = made["apiKey"]["hash"]
    assert made["secretKey"].startswith(made["apiKey"]["firstN"])
    assert key_hash in [one["hash"] for one in connected.call("integration", "list_api_keys")]
    connected.call("integration", "set_key_permission", key_hash, kb, 1)
    permissions = connected.call("integration", "get_key_permissions", key_hash)
    assert [(one["knowledgeBaseId"], one["permission"]) for one in permissions] == [(kb, 1)]
    assert connected.call("integration", "revoke_api_key", key_hash) is None
    assert key_hash not in [one["hash"] for one in connected.call("integration", "list_api_keys")]


def test_sessions(connected: Any, server: ServerProcess) -> None:
    connected.call("integration", "close")
    connected.call("integration", "init_session", keep_as=("session",))
    assert isinstance(connected.call("integration", "list_kbs"), list)


def test_refusals_reach_the_original_as_its_own_errors(
    connected: Any, context: str, kb: str, server: ServerProcess, original_error: type[Exception]
) -> None:
    load(connected, kb, 1)
    with pytest.raises(original_error, match="404"):
        connected.call(
            "loader", "update_chunks", [{"chunk_id": 99, "chunk_content": ""}], [[1.0] * DIMENSIONS], kb
        )
    with pytest.raises(original_error, match="ClientResponseError: 404"):
        connected.call("retriever", "nn_search_for_ids", [1.0] * DIMENSIONS, 3, kb_id="absent")
    wrong = {"url": server.url, "org_id": server.org_id, "api_key": "wrong", "admin_key": "wrong"}
    try:
        connected("connect", **wrong)
        with pytest.raises(original_error, match="ClientResponseError: 401"):
            connected.call("integration", "list_kbs")
        with pytest.raises(original_error, match="ClientResponseError: 401"):
            connected.call("integration", "get_chunk_by_id", [1], kb)
    finally:
        right = {"org_id": server.org_id, "api_key": server.api_key, "admin_key": server.admin_key}
        connected("connect", url=server.url, **right)
        connected("use", context=context)


# Both SDKs on one knowledge base


async def test_both_clients_share_a_knowledge_base(
    connected: Any, context: str, kb: str, server: ServerProcess
) -> None:
    vectors, query = load(connected, kb, 5), floats(1, seed=9)[0]
    ours = floats(4, seed=4)
    async with XTraceIntegration(
        org_id=server.org_id,
        api_key=server.api_key,
        admin_key=server.admin_key,
        api_url=server.url,
        admin_api_url=server.url,
    ) as integration:
        opened = await ExecutionContext.load_from_remote(
            PASSPHRASE, context, integration, allow_insecure=True
        )
        loader = DataLoader(opened, integration)
        chunks: Any = [{"chunk_content": f"ours {i}"} for i in range(4)]
        index, db = await loader.load_data_from_memory(chunks, ours, disable_progress=True)
        await loader.dump_db(db, index, kb)

        everything = np.concatenate([vectors, ours])
        retriever = Retriever(opened, integration)
        found: Any = await retriever.nn_search_for_ids(query.tolist(), 9, kb_id=kb, include_scores=True)
        distances = hamming(everything, query)
        assert found[1] == sorted(distances)
        assert [distances[i - 1] for i in found[0]] == found[1]
        read = await retriever.retrieve_and_decrypt([1, 9], kb)
        assert [one["chunk_content"] for one in read] == ["document 0 – größer", "ours 3"]

    _ids, scores = connected.call(
        "retriever", "nn_search_for_ids", query.tolist(), 9, kb_id=kb, include_scores=True
    )
    assert scores == distances
    read = connected.call("retriever", "retrieve_and_decrypt", [9, 1], kb)
    assert [one["chunk_content"] for one in read] == ["ours 3", "document 0 – größer"]


def test_no_method_of_the_original_is_left_out(connected: Any) -> None:
    source = inspect.getsource(sys.modules[__name__])
    for target, methods in connected("public_methods").items():
        missing = [name for name in methods if f'"{name}"' not in source]
        assert not missing, (target, missing)
        assert methods
