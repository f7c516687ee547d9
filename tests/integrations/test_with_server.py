"""`XTraceIntegration` against a real server process: what goes in comes out."""

import asyncio

import numpy as np
import pytest

from xtrace_sdk.cli.demo.process import ServerProcess
from xtrace_sdk.errors import KeyMismatchError
from xtrace_sdk.integrations.errors import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient

DIMENSIONS = 16


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def keys():
    """A small key: what is tested here is transport."""
    return PaillierLookupClient(DIMENSIONS, 256, 128, allow_insecure=True)


@pytest.fixture
async def api(server):
    async with XTraceIntegration(server.org_id, server.api_key, server.admin_key, server.url) as api:
        yield api


@pytest.fixture
async def kb(api):
    created = await api.create_kb("test", "a knowledge base")
    yield created["id"]
    await api.delete_kb(created["id"])


def public(keys):
    return {
        "pk": keys.stringify_pk(),
        "type": "PaillierLookupClient",
        "config": keys.stringify_config(),
    }


def context_id(name):
    return name.encode().hex().ljust(64, "0")


def bits(count, seed=1):
    return np.random.default_rng(seed).integers(0, 2, (count, DIMENSIONS), dtype=np.uint8)


def sealed(count):
    return [
        {"chunk_content": b"c2VhbGVk", "meta_data": {"tag1": str(n)}, "name": f"n{n}"} for n in range(count)
    ]


async def test_knowledge_bases(api):
    created = await api.create_kb("first", "described")
    found = await api.get_kb(created["id"])
    assert (found["name"], found["description"], found["numberOfVectors"]) == ("first", "described", 0)
    assert created["id"] in [kb["id"] for kb in await api.list_kbs()]
    await api.delete_kb(created["id"])
    with pytest.raises(NotFoundError) as caught:
        await api.get_kb(created["id"])
    assert caught.value.request_id


async def test_contexts(api, kb, keys):
    data = {"sk": "sealed", **public(keys), "key_provider": "passphrase", "wrapped_key": "c2FsdA=="}
    one = context_id("contexts")
    assert await api.store_exec_context(data, one) == one
    assert await api.get_serialized_exec_context(one) == data
    assert one in await api.list_exec_contexts()
    assert await api.get_ctx_for_kb(kb) == []
    assert await api.register_kb_binding(kb, one) is True
    assert await api.get_ctx_for_kb(kb) == [one]
    assert await api.get_kbs_for_ctx(one) == [kb]
    with pytest.raises(ConflictError):
        await api.store_exec_context({**data, "pk": data["pk"].replace("1", "2", 1)}, one)
    assert await api.delete_exec_context(one) is True
    with pytest.raises(NotFoundError):
        await api.get_serialized_exec_context(one)


async def test_public_part_is_registered_and_never_replaces_a_whole_context(api, server, keys):
    one = context_id("register")
    await api.register_public_context(public(keys), one)
    assert (await api.get_serialized_exec_context(one))["pk"] == keys.stringify_pk()
    whole = {"sk": "sealed", **public(keys), "key_provider": "passphrase", "wrapped_key": "c2FsdA=="}
    await api.store_exec_context(whole, one)
    async with XTraceIntegration(server.org_id, server.api_key, api_url=server.url) as other:
        await other.register_public_context(public(keys), one)
        other._registered.clear()
        with pytest.raises(KeyMismatchError):
            await other.register_public_context({**public(keys), "config": "{}"}, one)
    assert await api.get_serialized_exec_context(one) == whole
    await api.delete_exec_context(one)


@pytest.mark.parametrize("concurrent", [False, True])
async def test_store_search_fetch(api, kb, keys, concurrent):
    one = context_id("search")
    await api.register_public_context(public(keys), one)
    api.batch_size = 30
    stored = bits(100)
    answers = await api.store_db(sealed(100), keys.encrypt_to_array(stored), kb, one, concurrent)
    ids = [chunk_id for answer in answers for chunk_id in answer["chunk_ids"]]
    assert sorted(ids) == list(range(1, 101))

    query = bits(1, seed=2)
    found, products = await api.compute_hamming_distances_array(keys.encrypt_to_array(query)[0], one, kb)
    assert found.tolist() == list(range(1, 101))
    by_id = dict(zip(ids, (stored ^ query).sum(axis=1).tolist(), strict=True))
    distances = keys.decode_from_array(products)
    assert dict(zip(found.tolist(), distances.tolist(), strict=True)) == by_id

    listed = await api.compute_hamming_distances(keys.encrypt_vec_one(query[0]), one, kb)
    assert {
        chunk_id: keys.decode_hamming_client_one([int.from_bytes(one, "little") for one in row])
        for chunk_id, row in listed
    } == by_id

    chunks = await api.get_chunk_by_id([ids[99], ids[0]], kb)
    assert [chunk["chunk_id"] for chunk in chunks] == [ids[99], ids[0]]
    assert chunks[0]["chunk_content"] == "c2VhbGVk"
    assert len(chunks[0]["index"][0]) == 4 * keys.key_len // 8  # full width, as it was sent
    assert (await api.delete_chunks([ids[0], 12345], kb))["deleted_count"] == 1
    assert [chunk["chunk_id"] for chunk in await api.get_chunk_by_id(ids[:2], kb, ["chunk_id"])] == ids[1:2]
    assert (await api.get_kb(kb))["numberOfVectors"] == 99


async def test_range_of_ids(api, kb, keys):
    one = context_id("range")
    await api.register_public_context(public(keys), one)
    await api.store_db(sealed(10), keys.encrypt_to_array(bits(10)), kb, one)
    query = keys.encrypt_to_array(bits(1))[0]
    ids, _ = await api.compute_hamming_distances_array(query, one, kb, range=[3, 5])
    assert ids.tolist() == [3, 4, 5]


async def test_repeated_insert_is_stored_once(api, kb, keys):
    one = context_id("repeat")
    await api.register_public_context(public(keys), one)
    (batch,) = api._preprocess_chunks(sealed(3), keys.encrypt_to_array(bits(3)))
    first = await api.insert_chunks(kb, batch, one, idempotency_key="the-same")
    again = await api.insert_chunks(kb, batch, one, idempotency_key="the-same")
    assert first["chunk_ids"] == again["chunk_ids"] == [1, 2, 3]
    assert (await api.get_kb(kb))["numberOfVectors"] == 3


async def test_many_at_once(api, kb, keys):
    one = context_id("many")
    await api.register_public_context(public(keys), one)
    await api.store_db(sealed(50), keys.encrypt_to_array(bits(50)), kb, one)
    query = keys.encrypt_to_array(bits(1, seed=3))[0]
    expected = (bits(50) ^ bits(1, seed=3)).sum(axis=1).tolist()

    async def search():
        _, products = await api.compute_hamming_distances_array(query, one, kb)
        return keys.decode_from_array(products).tolist()

    assert await asyncio.gather(*(search() for _ in range(20))) == [expected] * 20


async def test_what_a_server_refuses(api, kb, keys, server):
    one = context_id("refuse")
    with pytest.raises(NotFoundError, match="context"):
        await api.compute_hamming_distances([1], one, kb)
    await api.register_public_context(public(keys), one)
    with pytest.raises(NotFoundError):
        await api.compute_hamming_distances([1], one, "nosuchkb0000")
    with pytest.raises(BadRequestError, match="query"):
        await api.compute_hamming_distances([1, 2], one, kb)
    with pytest.raises(BadRequestError, match="index"):
        await api.insert_chunks(kb, [{"chunk_content": "QQ==", "index": ["?"], "meta_data": {}}], one)
    async with XTraceIntegration(server.org_id, "wrong", "wrong", server.url) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.get_chunk_by_id([1], kb)
        with pytest.raises(AuthenticationError):
            await stranger.list_kbs()
    async with XTraceIntegration("otherorg0000", server.api_key, server.admin_key, server.url) as stranger:
        with pytest.raises((PermissionDeniedError, NotFoundError, AuthenticationError)):
            await stranger.get_chunk_by_id([1], kb)
