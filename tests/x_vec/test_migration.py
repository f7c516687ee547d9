import numpy as np
import pytest

from xtrace_sdk.errors import (
    CiphertextError,
    DecryptionError,
    DimensionMismatchError,
    InputError,
    IntegrityError,
)
from xtrace_sdk.integrations.errors import ConflictError
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.manifest_care import ManifestCare
from xtrace_sdk.x_vec.migration import MigratingRetriever, migrate
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

DIMENSIONS = 48
COUNT = 25


def make(kind="paillier_lookup", dimensions=DIMENSIONS, encoding="plain"):
    return ExecutionContext.create("p", kind, dimensions, 256, encoding=encoding, allow_insecure=True)


@pytest.fixture(scope="module", params=["paillier_lookup", "paillier"])
def old(request):
    return make(request.param)


@pytest.fixture(scope="module", params=["plain", "authenticated"])
def new(request):
    return make(encoding=request.param)


@pytest.fixture(scope="module")
def bits():
    return np.random.default_rng(7).integers(0, 2, (COUNT, DIMENSIONS), dtype=np.uint8)


@pytest.fixture
async def full(old, bits, integration, kb_id):
    """A knowledge base with chunks of all kinds under the old context."""
    chunks = [
        {
            "chunk_content": f"text {number} ü",
            "meta_data": {"tag1": str(number % 3), "facets": ["a", str(number)], "other": {"n": number}},
            "name": f"name {number}",
        }
        | ({"key": f"key {number}"} if number % 2 else {})
        for number in range(COUNT)
    ]
    loader = DataLoader(old, integration)
    index, db = await loader.load_data_from_memory(chunks, bits, disable_progress=True)
    await loader.dump_db(db, index, kb_id)
    return kb_id


def stop_at(count):
    def stop(done, _total):
        if done == count:
            raise InterruptedError

    return stop


async def everything(integration, kb_id):
    fields = ["chunk_id", "meta_data", "name", "key"]
    return await integration.get_chunk_by_id(range(1, COUNT + 1), kb_id, fields)


async def found(retriever, bits, kb_id):
    ids, distances = await retriever.nn_search_for_ids(bits[3], COUNT, kb_id, include_scores=True)
    return dict(zip(ids, distances, strict=True))


def expected(bits):
    return {number + 1: int((bits[number] ^ bits[3]).sum()) for number in range(len(bits))}


async def test_everything_moves_and_nothing_else_changes(old, new, bits, integration, full):
    before = await everything(integration, full)
    told = []
    moved = await migrate(old, new, integration, full, batch_size=10, progress=lambda *now: told.append(now))
    assert moved == COUNT
    assert told == [(10, COUNT), (20, COUNT), (COUNT, COUNT)]
    assert await everything(integration, full) == before
    assert await found(Retriever(new, integration), bits, full) == expected(bits)
    assert await found(Retriever(old, integration), bits, full) == {}
    chunks = await Retriever(new, integration).retrieve_and_decrypt(range(1, COUNT + 1), full)
    assert [chunk["chunk_content"] for chunk in chunks] == [f"text {number} ü" for number in range(COUNT)]
    with pytest.raises(DecryptionError):
        await Retriever(old, integration).retrieve_and_decrypt([1], full)
    assert await migrate(old, new, integration, full) == 0


async def test_searches_see_both_halves_and_it_goes_on_where_it_was(old, new, bits, integration, full):
    with pytest.raises(InterruptedError):
        await migrate(old, new, integration, full, batch_size=5, progress=stop_at(10))
    halves = [await found(Retriever(context, integration), bits, full) for context in (old, new)]
    assert [len(half) for half in halves] == [COUNT - 10, 10]
    both = MigratingRetriever(old, new, integration)
    assert await found(both, bits, full) == expected(bits)
    nearest = await both.nn_search_for_ids(bits[3], 3, full)
    assert nearest == sorted(expected(bits), key=lambda one: (expected(bits)[one], one))[:3]
    chunks = await both.retrieve_and_decrypt([COUNT, 1, 12], full)
    assert [chunk["chunk_content"] for chunk in chunks] == [f"text {at} ü" for at in (COUNT - 1, 0, 11)]
    assert await migrate(old, new, integration, full) == COUNT - 10
    assert await found(both, bits, full) == expected(bits)


async def test_new_chunks_may_come_meanwhile(old, new, bits, integration, full):
    with pytest.raises(InterruptedError):
        await migrate(old, new, integration, full, batch_size=10, progress=stop_at(10))
    await DataLoader(new, integration).upsert_one({"chunk_content": "later"}, bits[3], full)
    assert await migrate(old, new, integration, full, batch_size=10) == COUNT - 10
    assert len(await found(Retriever(new, integration), np.vstack([bits, bits[3:4]]), full)) == COUNT
    ids = await Retriever(new, integration).nn_search_for_ids(bits[3], 2, full)
    assert set(ids) == {4, COUNT + 1}


class Deleting(XTraceIntegration):
    """Deletes a chunk between the reading of a batch and its update, as another user might."""

    to_delete = 4

    async def update_chunks(self, *arguments, **more):
        if self.to_delete is not None:
            chunk_id, self.to_delete = self.to_delete, None
            await self.delete_chunks([chunk_id], arguments[3])
        return await super().update_chunks(*arguments, **more)


async def test_chunks_may_go_meanwhile(old, new, integration, full):
    client = Deleting(integration.org_id, integration.api_key, integration.admin_key, integration.api_url)
    async with client:
        assert await migrate(old, new, client, full, batch_size=10) == COUNT - 1
    assert client.to_delete is None
    assert len(await everything(integration, full)) == COUNT - 1


class Lying(XTraceIntegration):
    """Gives back something else than it was sent."""

    async def get_chunk_by_id(self, chunk_ids, kb_id, projection=None):
        chunks = await super().get_chunk_by_id(chunk_ids, kb_id, projection)
        if "name" not in projection:  # what is read back
            chunks[1], chunks[2] = (
                {**chunks[1], "index": chunks[2]["index"]},
                {**chunks[2], "index": chunks[1]["index"]},
            )
        return chunks


async def test_what_was_not_stored_as_sent_is_found(old, new, integration, full):
    client = Lying(integration.org_id, integration.api_key, integration.admin_key, integration.api_url)
    async with client:
        with pytest.raises(CiphertextError, match="chunk 2: the server does not have what it was sent"):
            await migrate(old, new, client, full)


async def test_a_chunk_that_does_not_open_is_named(old, new, integration, full):
    await integration.patch_chunks(full, old.id, [{"chunk_id": 7, "chunk_content": "AAAA"}])
    with pytest.raises(DecryptionError, match="chunk 7: cannot decrypt"):
        await migrate(old, new, integration, full)
    assert len(await everything(integration, full)) == COUNT


async def test_a_row_that_holds_no_vector_is_named(old, new, integration, full):
    n_squared = old.homomorphic.public_key.n_squared
    doubled = [pow(value, 2, n_squared) for value in old.homomorphic.encrypt_vec_one([1] * DIMENSIONS)]
    chunk = {"chunk_content": old.aes.encrypt("x"), "chunk_id": 3, "meta_data": {}, "name": ""}
    await integration.update_chunks([doubled], [chunk], old.id, full)
    with pytest.raises(CiphertextError, match="row 2: not a vector of 48 dimensions"):
        await migrate(old, new, integration, full)


async def sealed_and_full(context, bits, integration, kb_id, *, writer=True):
    """Half of the chunks by the owner, half by a writer if there is one: then nobody keeps a manifest."""
    half = COUNT // 2
    second = context.writer("scanner") if writer else context
    for who, part in ((context, range(half)), (second, range(half, COUNT))):
        loader = DataLoader(who, integration, manifest=not writer)
        chunks = [{"chunk_content": f"text {number} ü", "name": f"name {number}"} for number in part]
        index, db = await loader.load_data_from_memory(chunks, bits[part], disable_progress=True)
        await loader.dump_db(db, index, kb_id)


async def contents(context, integration, kb_id):
    chunks = await Retriever(context, integration).retrieve_and_decrypt(range(1, COUNT + 1), kb_id)
    return [chunk["chunk_content"] for chunk in chunks]


async def test_sealed_contexts_can_be_left(new, bits, integration, kb_id):
    context = make(encoding="authenticated")
    await sealed_and_full(context, bits, integration, kb_id)
    before = await everything(integration, kb_id)
    assert await migrate(context, new, integration, kb_id, batch_size=10) == COUNT
    assert await everything(integration, kb_id) == before
    assert await found(Retriever(new, integration), bits, kb_id) == expected(bits)
    assert await contents(new, integration, kb_id) == [f"text {number} ü" for number in range(COUNT)]


async def complete(context, integration, kb_id):
    found = await ManifestCare(context, integration, kb_id).examine()
    assert found.complete and found.listed == found.rows
    return found.rows


async def test_the_manifests_of_both_halves_follow(bits, integration, kb_id):
    old, new = make(encoding="authenticated"), make(encoding="authenticated")
    await sealed_and_full(old, bits, integration, kb_id, writer=False)
    with pytest.raises(InterruptedError):
        await migrate(old, new, integration, kb_id, batch_size=5, progress=stop_at(10))
    assert [await complete(one, integration, kb_id) for one in (old, new)] == [COUNT - 10, 10]
    assert await found(MigratingRetriever(old, new, integration), bits, kb_id) == expected(bits)
    update = {"chunk_content": f"text {COUNT - 1} ü", "chunk_id": COUNT}
    with pytest.raises(ConflictError, match="keeps a manifest"):  # it takes a chunk from the old half
        await DataLoader(new, integration).upsert_one(update, bits[COUNT - 1], kb_id)
    await DataLoader(new, integration, leaving=old).upsert_one(update, bits[COUNT - 1], kb_id)
    assert [await complete(one, integration, kb_id) for one in (old, new)] == [COUNT - 11, 11]
    assert await migrate(old, new, integration, kb_id) == COUNT - 11
    assert [await complete(one, integration, kb_id) for one in (old, new)] == [0, COUNT]
    assert await found(Retriever(new, integration), bits, kb_id) == expected(bits)


async def test_a_chunk_that_was_hidden_from_the_migration_is_missed(bits, integration, kb_id):
    class Hiding(XTraceIntegration):
        async def meta_search_paginated(self, *arguments, **more):
            page = await super().meta_search_paginated(*arguments, **more)
            return {**page, "results": [one for one in page["results"] if one["chunk_id"] != 7]}

    old, new = make(encoding="authenticated"), make(encoding="authenticated")
    await sealed_and_full(old, bits, integration, kb_id, writer=False)
    client = Hiding(integration.org_id, integration.api_key, integration.admin_key, integration.api_url)
    async with client:
        with pytest.raises(IntegrityError, match="not complete"):
            await migrate(old, new, client, kb_id)
    assert await migrate(old, new, integration, kb_id) == 1


async def fields(integration, kb_id, chunk_id):
    (chunk,) = await integration.get_chunk_by_id(
        [chunk_id], kb_id, ["chunk_id", "chunk_content", "index", "meta_data", "name", "record"]
    )
    return chunk


@pytest.mark.parametrize("epochs", [False, True])
async def test_an_old_version_is_not_moved(epochs, bits, integration, kb_id):
    """What is read for the migration is what the manifest lists, not what a server kept of earlier."""
    old = make(encoding="authenticated")
    new = old if epochs else make(encoding="authenticated")
    await sealed_and_full(old, bits, integration, kb_id, writer=False)
    before = await fields(integration, kb_id, 7)
    await DataLoader(old, integration).upsert_one({"chunk_content": "newer", "chunk_id": 7}, bits[0], kb_id)
    after = await fields(integration, kb_id, 7)
    if epochs:
        old.begin_epoch()

    class BackInTime(XTraceIntegration):
        async def get_chunk_by_id(self, *arguments, **more):
            chunks = await super().get_chunk_by_id(*arguments, **more)
            return [before if chunk["record"] == after["record"] else chunk for chunk in chunks]

    async with BackInTime(
        integration.org_id, integration.api_key, integration.admin_key, integration.api_url
    ) as lying:
        with pytest.raises(IntegrityError, match="not complete"):
            await migrate(old, new, lying, kb_id)
    await migrate(old, new, integration, kb_id)
    (chunk,) = await Retriever(new, integration).retrieve_and_decrypt([7], kb_id)
    assert chunk["chunk_content"] == "newer"
    assert await complete(new, integration, kb_id) == COUNT


async def test_a_chunk_that_was_hidden_from_the_next_epoch_is_missed(bits, integration, kb_id):
    """The owner would retire the epoch that it is in, and lose it."""

    class Hiding(XTraceIntegration):
        async def meta_search_paginated(self, *arguments, **more):
            page = await super().meta_search_paginated(*arguments, **more)
            return {**page, "results": [one for one in page["results"] if one["chunk_id"] != 7]}

    context = make(encoding="authenticated")
    await sealed_and_full(context, bits, integration, kb_id, writer=False)
    context.begin_epoch()
    client = Hiding(integration.org_id, integration.api_key, integration.admin_key, integration.api_url)
    async with client:
        with pytest.raises(IntegrityError, match="not complete"):
            await migrate(context, context, client, kb_id)
    assert await migrate(context, context, integration, kb_id) == 1
    context.retire_epoch(1)
    assert await found(Retriever(context, integration), bits, kb_id) == expected(bits)


async def test_epochs_can_be_left(bits, integration, kb_id):
    """How a writer is revoked: a new epoch, the data moved to it, the old one retired."""
    context = make(encoding="authenticated")
    await sealed_and_full(context, bits, integration, kb_id)
    revoked = context.writer("scanner")
    context.begin_epoch()
    with pytest.raises(IntegrityError, match="no manifest"):
        await migrate(context, context, integration, kb_id)
    with pytest.raises(InterruptedError):
        await migrate(
            context, context, integration, kb_id, batch_size=5, progress=stop_at(10), manifest=False
        )
    retriever = Retriever(context, integration, manifest=False)
    assert await found(retriever, bits, kb_id) == expected(bits)
    assert await migrate(context, context, integration, kb_id, manifest=False) == COUNT - 10
    assert await migrate(context, context, integration, kb_id, manifest=False) == 0
    context.retire_epoch(1)
    assert await found(retriever, bits, kb_id) == expected(bits)
    assert await contents(context, integration, kb_id) == [f"text {number} ü" for number in range(COUNT)]
    await DataLoader(revoked, integration).upsert_one({"chunk_content": "late"}, bits[0], kb_id)
    ids = await retriever.nn_search_for_ids(bits[0], COUNT + 1, kb_id)
    assert sorted(ids) == list(range(1, COUNT + 1))  # not what the revoked writer added
    with pytest.raises(IntegrityError):
        await Retriever(context, integration).retrieve_and_decrypt([COUNT + 1], kb_id)


async def test_altered_records_are_not_moved(new, bits, integration, kb_id):
    context = make(encoding="authenticated")
    await sealed_and_full(context, bits, integration, kb_id)
    (first, second) = await integration.get_chunk_by_id([1, 2], kb_id, ["chunk_id", "index"])
    swapped = [[int.from_bytes(one, "little") for one in chunk["index"]] for chunk in (second, first)]
    stored = await integration.get_chunk_by_id([1, 2], kb_id, ["chunk_id", "chunk_content", "record"])
    updates = [
        {**chunk, "chunk_content": chunk["chunk_content"].encode(), "meta_data": {}} for chunk in stored
    ]
    await integration.update_chunks(swapped, updates, context.id, kb_id)
    with pytest.raises(IntegrityError, match="chunks 1 to"):
        await migrate(context, new, integration, kb_id)


async def test_what_cannot_be_migrated(old, new, integration):
    with pytest.raises(InputError, match="has no epochs to move to"):
        await migrate(old, old, integration, "x")
    with pytest.raises(DimensionMismatchError, match="new: has 8 dimensions, the old one 48"):
        await migrate(old, make(dimensions=8), integration, "x")
    with pytest.raises(InputError, match="batch_size"):
        await migrate(old, new, integration, "x", batch_size=0)
