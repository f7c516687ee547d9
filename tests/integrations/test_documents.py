"""The code samples of the users' documents against a real server, as printed but for ids, keys and URLs.

One embedding model that needs nothing installed stands for the documents' models, with one dimension.
"""

import pytest

from xtrace_sdk.cli.demo.process import ServerProcess
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
async def xtrace(server, monkeypatch):
    monkeypatch.setenv("XTRACE_ADMIN_KEY", server.admin_key)
    async with XTraceIntegration(org_id=server.org_id, api_key=server.api_key, api_url=server.url) as xtrace:
        yield xtrace


@pytest.fixture
async def kb_id(xtrace):
    return (await xtrace.create_kb(name="documents", description="of the users"))["id"]


@pytest.fixture(scope="module")
def execution_context():
    provider = PassphraseKeyProvider("your-secret-passphrase")
    return ExecutionContext.create(
        key_provider=provider,
        homomorphic_client_type="paillier_lookup",
        embedding_length=512,
        key_len=1024,
    )


COLLECTION = [
    {
        "chunk_content": "Invoice 17 of January, over one hundred euros",
        "meta_data": {
            "tag1": "user_123",
            "tag2": "my-project",
            "tag3": "0000000100",
            "tag4": "2024-01-15T00:00:00Z",
            "tag5": "doc1.txt",
            "facets": ["finance", "q1", "draft"],
        },
    },
    {
        "chunk_content": "Invoice 18 of March, over two thousand euros",
        "meta_data": {
            "tag1": "user_123",
            "tag2": "invoices",
            "tag3": "0000002000",
            "tag4": "2024-03-31T23:59:59Z",
            "facets": ["finance", "tax_audit"],
        },
    },
    {
        "chunk_content": "A recipe for bread with seeds",
        "meta_data": {"tag1": "user_456", "tag2": "old-project", "tag4": "2023-12-01T00:00:00Z"},
    },
]


async def load(execution_context, xtrace, kb_id):
    embed = Embedding("simhash", "simhash", 512)
    data_loader = DataLoader(execution_context, xtrace)
    vectors = [embed.bin_embed(item["chunk_content"]) for item in COLLECTION]
    index, db = await data_loader.load_data_from_memory(COLLECTION, vectors, disable_progress=True)
    return await data_loader.dump_db(db, index=index, kb_id=kb_id)


async def test_context_on_disk_and_remote(xtrace, tmp_path):
    path = str(tmp_path / "data" / "exec_context")
    ctx = ExecutionContext.create(
        key_provider=PassphraseKeyProvider("your-secret-passphrase"),
        homomorphic_client_type="paillier_lookup",
        embedding_length=512,
        key_len=1024,
        path=path,
    )
    assert ExecutionContext.load_from_disk("your-secret-passphrase", path) == ctx
    ctx_id = await ctx.save_to_remote(xtrace)
    assert ctx_id == ctx.id
    assert await ExecutionContext.load_from_remote("your-secret-passphrase", ctx.id, xtrace) == ctx
    assert ctx_id in await xtrace.list_exec_contexts()
    assert await xtrace.delete_exec_context(ctx_id) is True
    assert ctx_id not in await xtrace.list_exec_contexts()


async def test_loading_and_querying(execution_context, xtrace, kb_id):
    (answer,) = await load(execution_context, xtrace, kb_id)
    assert answer["chunk_ids"] == [1, 2, 3]
    embed = Embedding("simhash", "simhash", 512)
    retriever = Retriever(execution_context, xtrace)
    vec = await embed.bin_embed("a recipe for bread")
    ids = await retriever.nn_search_for_ids(vec, k=3, kb_id=kb_id)
    results = await retriever.retrieve_and_decrypt(ids, kb_id=kb_id)
    assert results[0]["chunk_content"] == "A recipe for bread with seeds"
    assert sorted(ids) == [1, 2, 3]
    ids = await retriever.nn_search_for_ids(
        vec, k=5, kb_id=kb_id, meta_filter={"tag1": "user_123", "tag2": "invoices"}
    )
    assert ids == [2]


async def test_chunk_operations(execution_context, xtrace, kb_id):
    await load(execution_context, xtrace, kb_id)
    answer = await xtrace.patch_chunks_by_meta(
        kb_id=kb_id,
        context_id=execution_context.id,
        meta_filter={"tag1": "user_123", "facets": {"$contains": "draft"}},
        patch={"facets": ["published"]},
    )
    assert answer["updated_count"] == 1
    (patched,) = await xtrace.get_chunk_by_id([1], kb_id, ["meta_data"])
    assert patched["meta_data"]["facets"] == ["published"]
    answer = await xtrace.delete_chunks_by_meta(
        kb_id=kb_id,
        context_id=execution_context.id,
        meta_filter={"tag1": "user_456", "tag2": "old-project"},
    )
    assert answer["deleted_count"] == 1
    await xtrace.delete_chunks(chunk_ids=[0, 1, 2], kb_id=kb_id)
    assert (await xtrace.get_kb(kb_id))["numberOfVectors"] == 0


@pytest.mark.parametrize(
    ("meta_filter", "expected"),
    [
        ({"tag1": "user_123", "tag3": {"$gt": "0000000100"}}, [2]),
        (
            {
                "tag4": {"$gte": "2024-01-01T00:00:00Z", "$lte": "2024-03-31T23:59:59Z"},
                "facets": {"$contains": "finance"},
            },
            [1, 2],
        ),
        ({"tag1": "user_123", "facets": {"$subset": ["finance", "tax_audit"]}}, [2]),
        ({"tag1": "user_123", "tag2": "invoices"}, [2]),
    ],
)
async def test_metadata_filters(execution_context, xtrace, kb_id, meta_filter, expected):
    await load(execution_context, xtrace, kb_id)
    results = await xtrace.meta_search(kb_id=kb_id, meta_filter=meta_filter, context_id=execution_context.id)
    assert [chunk["chunk_id"] for chunk in results] == expected
    page = await xtrace.meta_search_paginated(
        kb_id=kb_id,
        context_id=execution_context.id,
        meta_filter=meta_filter,
        limit=20,
        offset=0,
        return_content=True,
    )
    assert [chunk["chunk_id"] for chunk in page["results"]] == expected[::-1]
    assert page["total"] == len(expected)
    contents = [execution_context.aes.decrypt(chunk["chunk_content"]) for chunk in page["results"]]
    assert contents == [COLLECTION[chunk_id - 1]["chunk_content"] for chunk_id in expected[::-1]]
