"""The code samples of the users' documents, against `xtrace serve` and a KMS that speak real HTTP.

The functions named ``sample_...`` are the documents' calls as printed, but for ids, keys and URLs, one
embedding model that needs nothing installed with one dimension throughout, `path=` where a KMS sample reads
the file later, and coroutines around await. What they return is what the tests look at.
"""

import base64
import inspect
import json
import os
import stat

import aiohttp
import gmpy2
import pytest

from xtrace_sdk.integrations import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import AWSKMSKeyProvider, PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

PASSPHRASE = "your-secret-passphrase"

#: What the reference of XTraceIntegration prints, method by method.
SIGNATURES = {
    "__init__": "org_id, api_key=None, admin_key=None, api_url='https://api.production.xtrace.ai', "
    "admin_api_url=None",
    "init_session": "",
    "close": "",
    "_preprocess_chunks": "db, index, update=False",
    "get_chunk_by_id": "chunk_ids, kb_id, projection=None",
    "store_db": "db, index, kb_id, context_id, concurrent=False",
    "insert_chunks": "kb_id, chunks, context_id",
    "update_chunks": "index_updates, chunk_updates, context_id, kb_id",
    "delete_chunks": "chunk_ids, kb_id",
    "patch_chunks": "kb_id, context_id, chunk_patches",
    "compute_hamming_distances": "query, context_id, kb_id, meta_filter=None, range=None",
    "meta_search": "kb_id, meta_filter, context_id, return_content=False, projection=None",
    "meta_search_paginated": "kb_id, context_id, meta_filter=None, projection=None, limit=None, offset=0, "
    "sort_order='desc', sort_by='chunk_id', return_content=False",
    "delete_chunks_by_meta": "kb_id, context_id, meta_filter, dry_run=False",
    "patch_chunks_by_meta": "kb_id, context_id, meta_filter, patch, dry_run=False",
    "store_exec_context": "exec_context_dict, context_id",
    "get_serialized_exec_context": "context_id",
    "list_exec_contexts": "",
    "delete_exec_context": "context_id",
    "get_ctx_for_kb": "kb_id",
    "get_kbs_for_ctx": "ctx_id",
    "register_kb_binding": "kb_id, ctx_id",
    "list_kbs": "",
    "get_kb": "kb_id",
    "list_api_keys": "",
    "get_key_permissions": "key_hash",
    "set_key_permission": "key_hash, kb_id, permission",
    "create_kb": "name, description=''",
    "delete_kb": "kb_id",
    "create_api_key": "name, description=''",
    "revoke_api_key": "key_hash",
}


@pytest.mark.parametrize("method", SIGNATURES)
def test_the_reference_is_true(method):
    """The documented parameters in their order, with their defaults; ours beyond them are keyword-only."""
    _self, *parameters = inspect.signature(getattr(XTraceIntegration, method)).parameters.values()
    documented = [one for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    others = [one for one in parameters if one not in documented]
    assert (
        ", ".join(str(one.replace(annotation=inspect.Parameter.empty)) for one in documented)
        == (SIGNATURES[method])
    )
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in others)
    assert all(one.default is not inspect.Parameter.empty for one in others)


# The samples


def sample_passphrase_context():
    provider = PassphraseKeyProvider("your-secret-passphrase")

    ctx = ExecutionContext.create(
        key_provider=provider,
        homomorphic_client_type="paillier_lookup",
        embedding_length=512,
        key_len=1024,
        path="data/exec_context",
    )
    restored = ExecutionContext.load_from_disk("your-secret-passphrase", "data/exec_context")
    return ctx, restored


async def sample_remote_context(ctx, xtrace):
    await ctx.save_to_remote(xtrace)
    return await ExecutionContext.load_from_remote("your-secret-passphrase", ctx.id, xtrace)


def sample_kms_context():
    import boto3

    kms = boto3.client("kms")
    provider = AWSKMSKeyProvider.create(kms, "alias/xtrace")

    ctx = ExecutionContext.create(
        key_provider=provider,
        homomorphic_client_type="paillier_lookup",
        embedding_length=512,
        key_len=1024,
        path="data/exec_context",
    )

    with open("data/exec_context") as f:  # noqa: PTH123 - as printed
        edek = base64.b64decode(json.load(f)["wrapped_key"])
    provider = AWSKMSKeyProvider.from_wrapped(edek, kms_client=kms, key_id="alias/xtrace")
    restored = ExecutionContext.load_from_disk(path="data/exec_context", key_provider=provider)
    return kms, edek, ctx, restored


async def sample_kms_remote(edek, kms, execution_context, xtrace):
    ctx_id = await execution_context.save_to_remote(xtrace)
    provider = AWSKMSKeyProvider.from_wrapped(edek, kms_client=kms, key_id="alias/xtrace")
    return await ExecutionContext.load_from_remote(
        key_provider=provider, context_id=ctx_id, integration=xtrace
    )


async def sample_context_management(execution_context, xtrace):
    ctx_id = await execution_context.save_to_remote(xtrace)
    restored = await ExecutionContext.load_from_remote("your-secret-passphrase", ctx_id, xtrace)
    ctx_ids = await xtrace.list_exec_contexts()
    await xtrace.delete_exec_context(ctx_id)
    return ctx_id, restored, ctx_ids


async def sample_loading(collection, execution_context, xtrace, kb_id):
    embed = Embedding("simhash", "simhash", 512)
    data_loader = DataLoader(execution_context, xtrace)
    vectors = [embed.bin_embed(item["chunk_content"]) for item in collection]
    index, db = await data_loader.load_data_from_memory(collection, vectors)
    return await data_loader.dump_db(db, index=index, kb_id=kb_id)


async def sample_querying(question, execution_context, xtrace, kb_id):
    embed = Embedding("simhash", "simhash", 512)
    retriever = Retriever(execution_context, xtrace)

    vec = await embed.bin_embed(question)
    ids = await retriever.nn_search_for_ids(vec, k=3, kb_id=kb_id)
    results = await retriever.retrieve_and_decrypt(ids, kb_id=kb_id)
    return ids, results


async def sample_filtered_search(retriever, query_vector, kb_id):
    return await retriever.nn_search_for_ids(
        query_vector,
        k=5,
        kb_id=kb_id,
        meta_filter={"tag1": "org_772", "tag2": "invoices"},
    )


async def sample_chunk_operations(execution_context, xtrace, kb_id):
    deleted = await xtrace.delete_chunks(chunk_ids=[0, 1, 2], kb_id=kb_id)
    deleted_by_meta = await xtrace.delete_chunks_by_meta(
        kb_id=kb_id,
        context_id=execution_context.id,
        meta_filter={"tag1": "user_123", "tag2": "old-project"},
    )
    patched = await xtrace.patch_chunks_by_meta(
        kb_id=kb_id,
        context_id=execution_context.id,
        meta_filter={"tag1": "user_123", "facets": {"$contains": "draft"}},
        patch={"facets": ["published"]},
    )
    return deleted, deleted_by_meta, patched


async def sample_metadata_search(execution_context, xtrace, kb_id):
    results = await xtrace.meta_search(
        kb_id=kb_id,
        meta_filter={"tag1": "org_772", "tag2": "invoices"},
        context_id=execution_context.id,
    )
    page = await xtrace.meta_search_paginated(
        kb_id=kb_id,
        context_id=execution_context.id,
        meta_filter={"tag1": "org_772", "tag2": "invoices"},
        limit=20,
        offset=0,
        return_content=True,
    )
    return results, page


# What they run against


@pytest.fixture
async def xtrace(server, monkeypatch):
    monkeypatch.setenv("XTRACE_ADMIN_KEY", server.admin_key)
    async with XTraceIntegration(org_id=server.org_id, api_key=server.api_key, api_url=server.url) as xtrace:
        yield xtrace


@pytest.fixture
async def kb_id(xtrace):
    return (await xtrace.create_kb("documents"))["id"]


@pytest.fixture(scope="module")
def execution_context():
    return ExecutionContext.create(key_provider=PassphraseKeyProvider(PASSPHRASE))


@pytest.fixture(scope="module")
def plain_context():
    """Of the original's encoding, whose ciphertexts the documents' lists of numbers are."""
    return ExecutionContext.create(key_provider=PassphraseKeyProvider(PASSPHRASE), encoding="plain")


@pytest.fixture
def kms_service(monkeypatch):
    """A KMS with the key ``alias/xtrace``, found as boto3 finds any: by the environment."""
    boto3 = pytest.importorskip("boto3", reason="needs the extra xtrace-sdk-native[kms]")
    moto_server = pytest.importorskip("moto.server", reason="needs moto[kms,server]")
    kms = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    kms.start()
    host, port = kms.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("kms")
    key = client.create_key()["KeyMetadata"]["KeyId"]
    client.create_alias(AliasName="alias/xtrace", TargetKeyId=key)
    client.close()
    yield
    kms.stop()


# Contexts


async def test_a_context_kept_by_a_passphrase(xtrace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ctx, restored = sample_passphrase_context()
    assert restored == ctx
    assert restored.homomorphic.stringify_sk() == ctx.homomorphic.stringify_sk()
    assert stat.S_IMODE(os.stat("data/exec_context").st_mode) == 0o600  # noqa: PTH116 - in a coroutine
    remote = await sample_remote_context(ctx, xtrace)
    assert remote == ctx
    assert remote.aes.decrypt(ctx.aes.encrypt("text")) == "text"
    stored = await xtrace.get_serialized_exec_context(ctx.id)
    assert stored["pk"] == ctx.public_part()["pk"]
    assert ctx.homomorphic.stringify_sk() not in json.dumps(stored)
    assert PASSPHRASE not in json.dumps(stored)


async def test_a_context_kept_by_kms(kms_service, xtrace, kb_id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kms, edek, ctx, restored = sample_kms_context()
    assert restored == ctx
    remote = await sample_kms_remote(edek, kms, ctx, xtrace)
    assert remote == ctx
    await sample_loading(COLLECTION, ctx, xtrace, kb_id)
    _ids, results = await sample_querying("How much was the invoice of January?", remote, xtrace, kb_id)
    assert results[0]["chunk_content"] == COLLECTION[0]["chunk_content"]
    kms.close()


async def test_managing_contexts(execution_context, xtrace):
    ctx_id, restored, ctx_ids = await sample_context_management(execution_context, xtrace)
    assert ctx_id == execution_context.id
    assert restored == execution_context
    assert ctx_id in ctx_ids
    assert ctx_id not in await xtrace.list_exec_contexts()
    with pytest.raises(aiohttp.ClientResponseError) as absent:
        await xtrace.get_serialized_exec_context(ctx_id)
    assert absent.value.status == 404


# Loading, querying, chunks

COLLECTION = [
    {
        "chunk_content": "The invoice of January was over one hundred euros.",
        "meta_data": {
            "tag1": "org_772",
            "tag2": "invoices",
            "tag3": "000000000100",
            "tag4": "2024-01-15T00:00:00Z",
            "tag5": "doc1.txt",
            "facets": ["finance", "q1"],
        },
    },
    {
        "chunk_content": "At the end of March the tax office announced an audit.",
        "meta_data": {
            "tag1": "org_772",
            "tag2": "letters",
            "tag3": "000000200000",
            "tag4": "2024-03-31T23:59:59Z",
            "facets": ["finance", "tax_audit"],
        },
    },
    {
        "chunk_content": "A recipe for dark bread with seeds.",
        "meta_data": {"tag1": "user_123", "tag2": "old-project", "tag4": "2023-12-31T23:59:59Z"},
    },
    {
        "chunk_content": "A letter that nobody has sent yet.",
        "meta_data": {"tag1": "user_123", "tag2": "my-project", "facets": ["draft", "finance"]},
    },
]


async def test_loading_and_querying(execution_context, xtrace, kb_id):
    (answer,) = await sample_loading(COLLECTION, execution_context, xtrace, kb_id)
    assert answer["chunk_ids"] == [1, 2, 3, 4]
    ids, results = await sample_querying("a recipe for bread", execution_context, xtrace, kb_id)
    assert len(ids) == 3 and ids[0] == 3
    assert [chunk["chunk_id"] for chunk in results] == ids
    assert [chunk["chunk_content"] for chunk in results] == [COLLECTION[i - 1]["chunk_content"] for i in ids]
    assert results[0]["meta_data"] == COLLECTION[2]["meta_data"]
    retriever = Retriever(execution_context, xtrace)
    vector = Embedding("simhash", "simhash", 512).bin_embed("a recipe for bread")
    assert await sample_filtered_search(retriever, vector, kb_id) == [1]


async def test_chunk_operations(execution_context, xtrace, kb_id):
    await sample_loading(COLLECTION, execution_context, xtrace, kb_id)
    deleted, deleted_by_meta, patched = await sample_chunk_operations(execution_context, xtrace, kb_id)
    assert deleted["deleted_count"] == 2  # there is no chunk 0
    assert deleted_by_meta["deleted_count"] == 1
    assert patched["updated_count"] == 1
    (left,) = await xtrace.meta_search(kb_id, {}, execution_context.id)
    assert left["chunk_id"] == 4
    assert left["meta_data"]["facets"] == ["published"]
    assert left["meta_data"]["tag2"] == "my-project"


FILTERS = [
    # The documents' query examples.
    ({"tag1": "org_772", "tag3": {"$gt": "000000100000"}}, [2]),
    (
        {
            "tag4": {"$gte": "2024-01-01T00:00:00Z", "$lte": "2024-03-31T23:59:59Z"},
            "facets": {"$contains": "finance"},
        },
        [1, 2],
    ),
    ({"tag1": "org_772", "facets": {"$subset": ["finance", "tax_audit"]}}, [2]),
    # Their tables of operators, row by row.
    ({"tag1": "org_772"}, [1, 2]),
    ({"tag1": {"$eq": "org_772"}}, [1, 2]),
    ({"tag1": {"$ne": "org_772"}}, [3, 4]),
    ({"tag4": {"$gt": "2024-01-15T00:00:00Z"}}, [2]),
    ({"tag4": {"$gte": "2024-01-15T00:00:00Z"}}, [1, 2]),
    ({"tag4": {"$lt": "2024-01-15T00:00:00Z"}}, [3]),
    ({"tag4": {"$lte": "2024-01-15T00:00:00Z"}}, [1, 3]),
    ({"tag3": {"$gte": "000000000100", "$lte": "000000000999"}}, [1]),
    ({"tag1": {"$begins_with": "org_"}}, [1, 2]),
    ({"tag2": {"$in": ["invoices", "my-project"]}}, [1, 4]),
    ({"tag1": {"$nin": ["user_123"]}}, [1, 2]),
    ({"tag2": {"$contains": "project"}}, [3, 4]),
    ({"tag5": {"$exists": True}}, [1]),
    ({"facets": {"$any": ["q1", "draft"]}}, [1, 4]),
    ({"facets": {"$none": ["tax_audit", "draft"]}, "tag1": "org_772"}, [1]),
    ({"facets": {"$contains": "finance"}}, [1, 2, 4]),
    ({"facets": {"$size": 2}}, [1, 2, 4]),
    # The reference names the logical operator beside them.
    ({"$and": [{"tag1": "user_123"}, {"tag2": {"$in": ["old-project"]}}]}, [3]),
]


async def test_filters(execution_context, xtrace, kb_id):
    await sample_loading(COLLECTION, execution_context, xtrace, kb_id)
    retriever = Retriever(execution_context, xtrace)
    embed = Embedding("simhash", "simhash", 512)
    for meta_filter, expected in FILTERS:
        for given in (meta_filter, json.dumps(meta_filter)):
            found = await xtrace.meta_search(kb_id=kb_id, meta_filter=given, context_id=execution_context.id)
            assert [chunk["chunk_id"] for chunk in found] == expected, given
        ids = await retriever.nn_search_for_ids(
            embed.bin_embed("bread"), k=5, kb_id=kb_id, meta_filter=meta_filter
        )
        assert sorted(ids) == expected, meta_filter


async def test_metadata_search(execution_context, xtrace, kb_id):
    await sample_loading(COLLECTION, execution_context, xtrace, kb_id)
    results, page = await sample_metadata_search(execution_context, xtrace, kb_id)
    assert [chunk["chunk_id"] for chunk in results] == [1]
    assert "chunk_content" not in results[0]
    (chunk,) = page["results"]
    assert chunk["meta_data"] == COLLECTION[0]["meta_data"]
    assert execution_context.open_content(chunk) == COLLECTION[0]["chunk_content"]
    # All results without a limit, the newest first; then pages of them.
    whole = await xtrace.meta_search_paginated(kb_id=kb_id, context_id=execution_context.id)
    assert [chunk["chunk_id"] for chunk in whole["results"]] == [4, 3, 2, 1]
    pages = [
        await xtrace.meta_search_paginated(
            kb_id=kb_id,
            context_id=execution_context.id,
            projection=["chunk_id", "tag4"],
            limit=3,
            offset=offset,
            sort_order="asc",
            sort_by="tag4",
        )
        for offset in (0, 3)
    ]
    assert [chunk["chunk_id"] for page in pages for chunk in page["results"]] == [3, 1, 2, 4]
    assert [page["total"] for page in pages] == [4, 4]
    assert [page["has_more"] for page in pages] == [True, False]


# The reference: what is left of it, as its texts say


async def test_storing_and_changing_chunks_directly(server, plain_context, monkeypatch):
    monkeypatch.setenv("XTRACE_API_KEY", server.api_key)
    monkeypatch.setenv("XTRACE_ADMIN_KEY", server.admin_key)
    async with XTraceIntegration(org_id=server.org_id, api_url=server.url) as xtrace:
        kb_id = (await xtrace.create_kb(name="reference", description="of the client"))["id"]
        context_id = await plain_context.save_to_remote(xtrace)
        loader = DataLoader(plain_context, xtrace)
        embed = Embedding("simhash", "simhash", 512)
        texts = [f"the {number}th text of many" for number in range(1100)]
        index, db = await loader.load_data_from_memory(
            [{"chunk_content": text} for text in texts], await embed.bin_embed_many(texts)
        )
        assert xtrace.batch_size == 500
        answers = await xtrace.store_db(db, index, kb_id, context_id, concurrent=True)
        assert [answer["count"] for answer in answers] == [500, 500, 100]

        one, two = await xtrace.get_chunk_by_id([2, 1], kb_id)
        assert (one["chunk_id"], two["chunk_id"]) == (2, 1)
        assert isinstance(one["index"][0], bytes)
        assert gmpy2.mpz.from_bytes(one["index"][0], "little") in {row[0] for row in index}
        (projected,) = await xtrace.get_chunk_by_id([7], kb_id, ["chunk_id"])
        assert "chunk_content" not in projected and "index" not in projected

        (batch,) = xtrace._preprocess_chunks(db[:2], index[:2])
        inserted = await xtrace.insert_chunks(kb_id, batch, context_id)
        assert inserted["chunk_ids"] == [1101, 1102]
        await xtrace.update_chunks(
            index_updates=index[:1],
            chunk_updates=[{**db[0], "chunk_id": 1102, "meta_data": {"tag1": "updated"}}],
            context_id=context_id,
            kb_id=kb_id,
        )
        await xtrace.patch_chunks(kb_id, context_id, [{"chunk_id": 1101, "tag1": "patched"}])
        changed = await xtrace.get_chunk_by_id([1101, 1102], kb_id, ["chunk_content", "meta_data"])
        assert [chunk["meta_data"]["tag1"] for chunk in changed] == ["patched", "updated"]
        assert plain_context.aes.decrypt(changed[1]["chunk_content"]) == texts[0]

        query = plain_context.homomorphic.encrypt_vec_one(await embed.bin_embed(texts[0]))
        pairs = await xtrace.compute_hamming_distances(
            query=query, context_id=context_id, kb_id=kb_id, meta_filter={"tag1": "updated"}
        )
        ((found, cipher),) = pairs
        assert found == 1102
        assert plain_context.homomorphic.decode_hamming_client_one(cipher) == 0
        ranged = await xtrace.compute_hamming_distances(query, context_id, kb_id, range=[1100, 1101])
        assert [chunk_id for chunk_id, _cipher in ranged] == [1100, 1101]

        updated = {"tag1": "updated"}
        dry = await xtrace.patch_chunks_by_meta(kb_id, context_id, updated, {"tag2": "x"}, dry_run=True)
        assert dry == {"would_update_count": 1}
        dry = await xtrace.delete_chunks_by_meta(kb_id, context_id, updated, dry_run=True)
        assert dry == {"would_delete_count": 1}
        assert (await xtrace.get_kb(kb_id))["numberOfVectors"] == 1102


async def test_bindings_and_administration(xtrace, server, execution_context, kb_id):
    context_id = await xtrace.store_exec_context(execution_context.to_dict_enc(), execution_context.id)
    assert await xtrace.register_kb_binding(kb_id, context_id)
    assert await xtrace.get_ctx_for_kb(kb_id) == [context_id]
    assert kb_id in await xtrace.get_kbs_for_ctx(context_id)
    assert (await xtrace.get_kb(kb_id))["name"] == "documents"
    assert kb_id in [kb["id"] for kb in await xtrace.list_kbs()]

    created = await xtrace.create_api_key("reader", "of one knowledge base")
    key_hash = created["apiKey"]["hash"]
    await xtrace.set_key_permission(key_hash, kb_id, 1)
    permissions = await xtrace.get_key_permissions(key_hash)
    assert [(one["knowledgeBaseId"], one["permission"]) for one in permissions] == [(kb_id, 1)]
    assert key_hash in [key["hash"] for key in await xtrace.list_api_keys()]
    async with XTraceIntegration(server.org_id, created["secretKey"], api_url=server.url) as reader:
        assert await reader.meta_search(kb_id, {}, context_id) == []
        with pytest.raises(aiohttp.ClientResponseError) as refused:
            await reader.delete_chunks([1], kb_id)
        assert refused.value.status == 403
        await xtrace.revoke_api_key(key_hash)
        with pytest.raises(aiohttp.ClientResponseError) as revoked:
            await reader.meta_search(kb_id, {}, context_id)
        assert revoked.value.status == 401
    assert await xtrace.delete_kb(kb_id) is None
    assert kb_id not in [kb["id"] for kb in await xtrace.list_kbs()]


async def test_a_session_closes(server):
    xtrace = XTraceIntegration(org_id=server.org_id, api_key=server.api_key, api_url=server.url)
    session = await xtrace.init_session()
    assert isinstance(session, aiohttp.ClientSession) and not session.closed
    await xtrace.close()
    assert session.closed
    assert xtrace.org_id == server.org_id and xtrace.api_url == server.url
    assert xtrace.admin_api_url == server.url and xtrace.api_key == server.api_key
