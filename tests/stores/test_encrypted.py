"""Beyond the protocol: the server reads nothing, and its lies are noticed."""

import asyncio
import contextlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from xtrace_sdk.errors import DecryptionError
from xtrace_sdk.integrations.errors import MissingAdminKeyError, NotFoundError, PermissionDeniedError
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.stores import Chunk, EmbeddedChunk, EncryptedVectorStore
from xtrace_sdk.stores.sealed import Tokens, opened, packed, sealed_text
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

DIMENSIONS = 12
ONES = np.ones(DIMENSIONS)


def differing(count):
    vector = ONES.copy()
    vector[:count] = -1
    return vector


def ids(results):
    return [result.chunk.id for result in results]


# What the server sees


def memory_of(pid):
    """All writable memory of a process."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                with contextlib.suppress(OSError, ValueError, OverflowError):
                    memory.seek(start)
                    yield memory.read(end - start)


async def test_the_server_never_holds_a_word_of_it(server, integration, context):
    canary = "canary-7f3a"
    texts = {
        "namespace": f"{canary}-namespace",
        "id": f"{canary}-id",
        "document": f"{canary}-document",
        "content": f"{canary}-content",
        "name": f"{canary}-field",
        "value": f"{canary}-value",
        "model": f"{canary}-model",
    }
    chunk = Chunk(texts["id"], texts["document"], texts["content"], 3, {texts["name"]: texts["value"]}, "")
    store = EncryptedVectorStore(context, integration)
    await store.upsert([EmbeddedChunk(chunk, differing(3), texts["model"])], texts["namespace"])
    found = await store.search(ONES, texts["namespace"], filter={texts["name"]: texts["value"]})
    assert ids(found) == [texts["id"]]
    assert [one async for one in store.get_all_chunks(texts["namespace"])] == [chunk]
    await store.delete([texts["id"]], texts["namespace"])
    await store.upsert([EmbeddedChunk(chunk, differing(3), texts["model"])], texts["namespace"])

    # The knowledge base's name is there: what is looked for would be found.
    shown = Tokens(context).namespace(texts["namespace"]).encode()
    files = b"".join(path.read_bytes() for path in server.data.rglob("*") if path.is_file())
    memory = b"".join(memory_of(server.pid)) if sys.platform == "linux" else shown
    for held in (files, memory):
        assert shown in held
        assert canary.encode() not in held


async def test_equal_values_look_different_in_another_field_namespace_or_context(context):
    other = ExecutionContext.create("correct horse", embedding_length=4, key_len=256, allow_insecure=True)
    tokens = Tokens(context)
    seen = [
        tokens.namespace("a"),
        tokens.chunk("a", "a"),
        tokens.chunk("b", "a"),
        tokens.chunk("a", "b"),
        tokens.chunk("aa", ""),
        tokens.field("a", "a", "a"),
        tokens.field("a", "a", 1),
        tokens.field("a", "b", "a"),
        tokens.field("b", "a", "a"),
        Tokens(other).namespace("a"),
        # the same key, another context
        Tokens(ExecutionContext(other.homomorphic, context.key_provider)).namespace("a"),
    ]
    assert len(set(seen)) == len(seen)
    assert tokens.field("a", "a", 1) == tokens.field("a", "a", 1.0) == Tokens(context).field("a", "a", 1)
    assert {len(one) for one in seen} == {32}


async def test_metadata_reach_the_server_as_tokens_in_no_telling_order(
    context, integration, embedded, namespace
):
    store = EncryptedVectorStore(context, integration)
    await store.upsert([embedded("a", ONES, one=1, two=2, three=3)], namespace)
    kb_id = await store.knowledge_base(namespace)
    (stored,) = await integration.meta_search(kb_id, {}, context.id)
    tokens = Tokens(context)
    fields = [tokens.field(namespace, name, n) for n, name in enumerate(("one", "two", "three"), 1)]
    assert stored["meta_data"] == {"facets": sorted(fields)}
    assert (stored["key"], stored["name"]) == (tokens.chunk(namespace, "a"), "")


def test_secrets_stay_in_the_object(context, connect):
    store = EncryptedVectorStore(context, connect())
    assert repr(store).startswith("EncryptedVectorStore(dimensions=12, XTraceIntegration(")
    for secret in (store, Tokens(context)):
        with pytest.raises(TypeError, match="holds key material"):
            pickle.dumps(secret)


# Vectors of any kind


async def test_a_vector_counts_by_its_signs(context, integration, embedded, namespace):
    store = EncryptedVectorStore(context, integration)
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(50, DIMENSIONS))
    vectors[7, 2] = 0.0  # not greater than 0
    await store.upsert([embedded(f"{n}", row) for n, row in enumerate(vectors)], namespace)
    query = rng.normal(size=DIMENSIONS)
    distances = ((vectors > 0) != (query > 0)).sum(axis=1)
    order = np.argsort(distances, kind="stable")
    results = await store.search(query, namespace, limit=50)
    assert ids(results) == [str(n) for n in order]
    assert [result.score for result in results] == [1 - 2 * int(distances[n]) / DIMENSIONS for n in order]


# A server that lies


class Liar(XTraceIntegration):
    """Changes one kind of answer of a real server."""

    def __init__(self, *arguments, lie, **options):
        super().__init__(*arguments, **options)
        self.lie = lie
        self.told = 0

    async def get_chunk_by_id(self, chunk_ids, kb_id, projection=None):
        chunks = await super().get_chunk_by_id(chunk_ids, kb_id, projection)
        self.told += 1
        if self.lie == "swapped contents":
            chunks[0]["chunk_content"], chunks[1]["chunk_content"] = (
                chunks[1]["chunk_content"],
                chunks[0]["chunk_content"],
            )
        elif self.lie == "one content for all":
            chunks = [{**chunk, "chunk_content": chunks[0]["chunk_content"]} for chunk in chunks]
        elif self.lie == "cut content":
            chunks[0]["chunk_content"] = chunks[0]["chunk_content"][:-8]
        return chunks

    async def compute_hamming_distances_blocks(
        self, query, context_id, kb_id, meta_filter=None, *rest, **more
    ):
        if self.lie == "ignored filter":
            meta_filter = None
        blocks = super().compute_hamming_distances_blocks(
            query, context_id, kb_id, meta_filter, *rest, **more
        )
        ((found, rows, records),) = [block async for block in blocks]
        if self.lie == "renumbered rows":
            found = found[::-1].copy()
        elif self.lie == "one row for all":
            rows = np.repeat(rows[:1], len(rows), axis=0)
        yield found, rows, records


@pytest.mark.parametrize(
    "lie",
    [
        "swapped contents",
        "one content for all",
        "cut content",
        "ignored filter",
        "renumbered rows",
        "one row for all",
    ],
)
async def test_a_lie_is_found_out(lie, context, connect, embedded, namespace):
    async with connect(Liar, lie="") as integration:
        store = EncryptedVectorStore(context, integration)
        chunks = [embedded(f"{n}", differing(n + 1), even=n % 2 == 0) for n in range(4)]
        await store.upsert(chunks, namespace)
        arguments = (ONES, namespace, 4, {"even": False} if lie == "ignored filter" else None)
        assert ids(await store.search(*arguments)) == (
            ["1", "3"] if lie == "ignored filter" else list("0123")
        )
        integration.lie = lie
        with pytest.raises(DecryptionError):
            await store.search(*arguments)
        assert integration.told <= 4  # it gave up


async def test_content_of_another_namespace_is_refused(context, integration, embedded, namespace):
    one = embedded("a", ONES)
    signs = packed(np.ones(DIMENSIONS, np.uint8))
    text = sealed_text(one, namespace, signs, zero=False)
    assert opened(text, namespace, len(signs)).chunk == one.chunk
    for arguments in (
        (text, namespace + "x", 2),
        (text, namespace, 3),
        (text[:-1], namespace, 2),
        ("[]", "", 2),
    ):
        with pytest.raises(DecryptionError):
            opened(*arguments)


class Interrupted(XTraceIntegration):
    """Runs something once between a search and the fetch that follows."""

    meanwhile = None

    async def get_chunk_by_id(self, chunk_ids, kb_id, projection=None):
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return await super().get_chunk_by_id(chunk_ids, kb_id, projection)


async def test_changes_between_search_and_fetch_are_no_lie(context, connect, embedded, namespace):
    async with connect(Interrupted) as integration:
        store = EncryptedVectorStore(context, integration)
        await store.upsert([embedded(f"{n}", differing(n)) for n in range(5)], namespace)

        async def replaced():
            await store.upsert([embedded("0", -ONES)], namespace)

        integration.meanwhile = replaced
        assert ids(await store.search(ONES, namespace, 2)) == ["1", "2"]

        async def deleted():
            await store.delete(["1"], namespace)

        integration.meanwhile = deleted
        assert ids(await store.search(ONES, namespace, 2)) == ["2", "3"]

        async def all_deleted():
            await store.delete_namespace(namespace)

        integration.meanwhile = all_deleted
        assert [one async for one in store.get_all_chunks(namespace)] == []


# Namespaces and rights


async def test_many_clients_agree_on_a_new_namespace(context, connect, embedded, everything, namespace):
    async with contextlib.AsyncExitStack() as stack:
        integrations = [await stack.enter_async_context(connect()) for _ in range(6)]
        stores = [EncryptedVectorStore(context, one) for one in integrations]
        await asyncio.gather(
            *(store.upsert([embedded(f"{n}", ONES)], namespace) for n, store in enumerate(stores))
        )
        assert len({await store.knowledge_base(namespace) for store in stores}) == 1
        name = Tokens(context).namespace(namespace)
        assert [kb["name"] for kb in await integrations[0].list_kbs()].count(name) == 1
        for store in stores:
            assert sorted(chunk.id for chunk in await everything(store, namespace)) == list("012345")


async def test_a_namespace_that_others_delete_and_make_again(
    context, connect, embedded, everything, namespace
):
    async with connect() as here, connect() as there:
        mine, theirs = EncryptedVectorStore(context, here), EncryptedVectorStore(context, there)
        await mine.upsert([embedded("a", ONES)], namespace)
        await theirs.delete_namespace(namespace)
        assert await mine.search(ONES, namespace) == []
        await mine.delete(["a"], namespace)
        await theirs.upsert([embedded("b", ONES)], namespace)
        assert ids(await mine.search(ONES, namespace)) == ["b"]
        await theirs.delete_namespace(namespace)
        await mine.upsert([embedded("c", ONES)], namespace)
        assert [chunk.id for chunk in await everything(theirs, namespace)] == ["c"]


async def test_an_api_key_without_rights_gets_them_on_what_it_creates(
    connect, integration, embedded, namespace
):
    made = await integration.create_api_key("application")
    context = ExecutionContext.create(
        "pass", embedding_length=12, key_len=256, allow_insecure=True
    )  # unknown
    async with connect(api_key=made["secretKey"]) as application:
        store = EncryptedVectorStore(context, application)
        await store.upsert([embedded("a", ONES)], namespace)
        assert ids(await store.search(ONES, namespace)) == ["a"]
        await store.delete(["a"], namespace)
        assert await store.search(ONES, namespace) == []


async def test_without_an_admin_key_named_knowledge_bases_do(
    context, connect, embedded, everything, namespace
):
    async with connect() as administrator:
        kb_id = await EncryptedVectorStore(context, administrator).knowledge_base(namespace)
    async with connect(admin_key=None) as application:
        store = EncryptedVectorStore(context, application, knowledge_bases={namespace: kb_id})
        assert await store.search(ONES, namespace) == []
        await store.upsert([embedded("a", ONES)], namespace)
        assert ids(await store.search(ONES, namespace)) == ["a"]
        await store.delete(["a"], namespace)
        assert await everything(store, namespace) == []
        with pytest.raises(MissingAdminKeyError):
            await store.search(ONES, namespace + "x")
        with pytest.raises(MissingAdminKeyError):
            await store.delete_namespace(namespace)


async def test_a_key_that_may_only_read_cannot_write(context, connect, integration, embedded, namespace):
    administrator = EncryptedVectorStore(context, integration)
    await administrator.upsert([embedded("a", ONES)], namespace)
    made = await integration.create_api_key("reader")
    kb_id = await administrator.knowledge_base(namespace)
    await integration.set_key_permission(made["apiKey"]["hash"], kb_id, 1)
    async with connect(api_key=made["secretKey"]) as reader:
        store = EncryptedVectorStore(context, reader)
        assert ids(await store.search(ONES, namespace)) == ["a"]
        with pytest.raises(PermissionDeniedError, match="write permission"):
            await store.upsert([embedded("b", ONES)], namespace)
        with pytest.raises(PermissionDeniedError, match="delete permission"):
            await store.delete(["a"], namespace)


async def test_a_wrong_knowledge_base_is_not_found(context, connect, integration, embedded, namespace):
    wrong = {namespace: "nosuchkb1234"}
    store = EncryptedVectorStore(context, integration, knowledge_bases=wrong)
    assert await store.search(ONES, namespace) == []  # it looked again, and there is none
    async with connect(admin_key=None) as application:
        with pytest.raises(NotFoundError):
            await EncryptedVectorStore(context, application, knowledge_bases=wrong).search(ONES, namespace)
