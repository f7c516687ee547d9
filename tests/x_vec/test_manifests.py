"""Writing with manifests, against a real server; what a lying one tries: tests/test_completeness.py."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from xtrace_sdk import wire
from xtrace_sdk.errors import DecryptionError, IntegrityError
from xtrace_sdk.integrations.errors import ConflictError, UnexpectedAnswerError
from xtrace_sdk.integrations.uploads import UploadReport
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.manifest_care import ManifestCare
from xtrace_sdk.x_vec.manifests import Manifests
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.pins import Pins

DIMENSIONS = 48
BITS = np.random.default_rng(8).integers(0, 2, (12, DIMENSIONS), dtype=np.uint8)
ORG_ID, API_KEY, ADMIN_KEY = "orgForTests1", "api-key-of-the-tests", "admin-key-of-the-tests"


@pytest.fixture(scope="module")
def owner():
    return ExecutionContext.create(
        "p", embedding_length=DIMENSIONS, key_len=256, alpha_len=128, allow_insecure=True
    )


@pytest.fixture
def loader(owner, integration):
    return DataLoader(owner, integration)


def chunks(count, **more):
    return [{"chunk_content": f"text {number}", **more} for number in range(count)]


async def stored(loader, kb_id, what, **more):
    index, db = await loader.load_data_from_memory(what, BITS[: len(what)], disable_progress=True)
    return await loader.dump_db(db, index, kb_id, **more)


async def fits(context, integration, kb_id):
    """How many rows there are, all of them listed by the manifest."""
    found = await ManifestCare(context, integration, kb_id).examine()
    assert found.complete and found.opened == found.listed == found.rows, found
    ids = await Retriever(context, integration).nn_search_for_ids(BITS[0], 1000, kb_id)
    assert len(ids) == found.rows
    return found.rows


async def test_every_change_keeps_it_right(owner, loader, integration, kb_id):
    assert await Retriever(owner, integration).nn_search_for_ids(BITS[0], 3, kb_id) == []
    keyed = [
        {**chunk, "key": f"key {at}", "meta_data": {"tag1": str(at % 2)}}
        for at, chunk in enumerate(chunks(6))
    ]
    await stored(loader, kb_id, chunks(4))
    await stored(loader, kb_id, keyed)
    assert await fits(owner, integration, kb_id) == 10
    await stored(loader, kb_id, keyed[2:4] + chunks(1))  # two replaced, one new
    assert await fits(owner, integration, kb_id) == 11
    await loader.upsert_one({"chunk_content": "by id", "chunk_id": 2}, BITS[0], kb_id)
    await loader.update_chunks(chunks(1, chunk_id=3) + chunks(1, chunk_id=7), BITS[:2], kb_id)
    assert await fits(owner, integration, kb_id) == 11
    assert (await loader.delete_chunks([1, 3, 99, 10], kb_id))["deleted_count"] == 3
    assert await fits(owner, integration, kb_id) == 8
    assert (await loader.delete_chunks([1, 99], kb_id))["deleted_count"] == 0
    assert (await loader.delete_chunks_by_meta({"tag1": "1"}, kb_id))["deleted_count"] == 2
    assert (await loader.delete_chunks_by_meta({"tag1": "none"}, kb_id))["deleted_count"] == 0
    assert await fits(owner, integration, kb_id) == 6
    await stored(loader, kb_id, keyed[:2])
    assert (await loader.delete_chunks_by_key(["key 1", "none"], kb_id))["deleted_count"] == 1
    await integration.patch_chunks(kb_id, owner.id, [{"chunk_id": 2, "name": "another"}])
    assert await fits(owner, integration, kb_id) == 6


async def test_plain_inserts_cost_no_request_more(owner, loader, integration, kb_id):
    await stored(loader, kb_id, chunks(1))
    before = integration.traffic.requests
    integration.batch_size = 2
    await stored(loader, kb_id, chunks(6))
    assert integration.traffic.requests - before == 3
    before = integration.traffic.requests
    await stored(loader, kb_id, [{**chunks(1)[0], "key": "k"}])  # asks whom it replaces
    assert integration.traffic.requests - before == 2


async def test_several_writers_at_once_in_one_process(owner, integration, kb_id):
    async def write(number):
        loader = DataLoader(owner, integration)
        for at in range(6):
            await stored(
                loader, kb_id, [{"chunk_content": f"{number}/{at}", "key": f"{(number * 5 + at) % 7}"}]
            )
            ids = await Retriever(owner, integration).nn_search_for_ids(BITS[0], 100, kb_id)
            if at % 3 == 2:
                await loader.delete_chunks(ids[:1], kb_id)

    await asyncio.gather(*(write(number) for number in range(3)))
    assert 1 <= await fits(owner, integration, kb_id) <= 7


WRITER = """
import asyncio, sys
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

async def main(url, path, kb_id, name, count):
    context = ExecutionContext.load_from_disk("p", path, allow_insecure=True)
    async with XTraceIntegration("orgForTests1", "api-key-of-the-tests", api_url=url) as client:
        loader = DataLoader(context, client)
        for number in range(count):
            chunk = {"chunk_content": f"{name} {number}", "key": f"key {number % 8}" if number % 3 else name}
            await loader.upsert_one(chunk, [number >> at & 1 for at in range(48)], kb_id)
            await loader.upsert_one({"chunk_content": f"{name} {number}"}, [1] * 48, kb_id)

asyncio.run(main(*sys.argv[1:5], int(sys.argv[5])))
"""


@asynccontextmanager
async def server_on(url, folder):
    keys = {"XTRACE_ORG_ID": ORG_ID, "XTRACE_API_KEY": API_KEY, "XTRACE_ADMIN_KEY": ADMIN_KEY}
    process = subprocess.Popen(  # noqa: ASYNC220 - for as long as the test
        [sys.executable, "-m", "xtrace_sdk.server", "--port", "0", "--data", str(folder)],
        env=os.environ | keys | {"XTRACE_DATABASE_URL": url},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process.stdout as lines:
        address = next(line for line in lines if line.startswith("listening on ")).split()[-1]
        async with XTraceIntegration(ORG_ID, API_KEY, ADMIN_KEY, api_url=address) as client:
            yield address, client
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture
def database(new_database):
    return new_database()


async def test_two_devices_on_postgresql(owner, database, tmp_path):
    """Each with what it remembers itself; searches of a third see nothing but whole states."""
    owner.save_to_disk(tmp_path / "context")
    count = 8
    async with server_on(database, tmp_path / "data") as (address, client):
        kb_id = (await client.create_kb("two"))["id"]
        devices = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", WRITER, address, str(tmp_path / "context"), kb_id, name, str(count),
                env=os.environ | {"XTRACE_STATE_DIR": str(tmp_path / name)},
            )
            for name in ("one", "two")
        ]  # fmt: skip
        retriever = Retriever(owner, client)
        most = 0
        while any(device.returncode is None for device in devices):
            most = max(most, len(await retriever.nn_search_for_ids(BITS[0], 1000, kb_id)))
            await asyncio.sleep(0.05)
        assert [device.returncode for device in devices] == [0, 0]
        rows = await fits(owner, client, kb_id)
        assert rows == 2 * count + len({"one", "two", *(f"key {at % 8}" for at in range(count) if at % 3)})
        assert most <= rows


class Losing:
    """A proxy that loses the first answer to every second change that the server has made."""

    def __init__(self, target):
        self.target, self.made = target, {}

    @property
    def lost(self):
        return sum(self.made.values())

    @asynccontextmanager
    async def serve(self):
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as self.session:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            await runner.cleanup()

    async def handle(self, request):
        body, headers = await request.read(), request.headers.copy()
        del headers["Host"]
        async with self.session.request(
            request.method, self.target + request.raw_path, headers=headers, data=body
        ) as answer:
            content = await answer.read()
        if (
            request.method in ("POST", "PUT", "DELETE")
            and request.path.startswith("/v1/chunk/")
            and answer.ok
        ):
            change = (request.method, request.path_qs, body)
            again = change in self.made
            self.made.setdefault(change, len(self.made) % 2 == 1)
            if self.made[change] and not again:
                request.transport.close()
        kept = {name: value for name, value in answer.headers.items() if name.lower().startswith("x-")}
        return web.Response(
            body=content, status=answer.status, content_type=answer.content_type, headers=kept
        )


@pytest.mark.parametrize("writers", [1, 2])
async def test_lost_answers_leave_rows_and_manifest_in_step(owner, integration, server_url, kb_id, writers):
    """The client sends again what it sent; the other writer may have written in between."""
    proxy = Losing(server_url)
    async with (
        proxy.serve() as address,
        XTraceIntegration(ORG_ID, API_KEY, ADMIN_KEY, api_url=address) as client,
    ):

        async def write(name):
            loader = DataLoader(owner, client)
            for at in range(3):
                (answer,) = await stored(loader, kb_id, [{**chunks(1)[0], "key": name}, *chunks(1)])
                await loader.update_chunks(
                    chunks(1, chunk_id=answer["chunk_ids"][1]), BITS[at : at + 1], kb_id
                )
                await loader.delete_chunks(answer["chunk_ids"][1:], kb_id)

        await asyncio.gather(*(write(f"writer {number}") for number in range(writers)))
        assert proxy.lost >= 4
        assert await fits(owner, integration, kb_id) == writers


class Failing(XTraceIntegration):
    """Loses the connection at the `fails` change: before it is sent, or after it was made."""

    fails, sends = 0, True

    async def _data(self, method, template, body=None, **more):
        if template == wire.CHUNKS and method == "POST":
            self.fails -= 1
            if self.fails == 0:
                if self.sends:
                    await super()._data(method, template, body, **more)
                raise InterruptedError
        return await super()._data(method, template, body, **more)


@pytest.mark.parametrize("sends", [True, False])
@pytest.mark.parametrize("other", [True, False])
@pytest.mark.parametrize("late", [True, False])
async def test_an_upload_goes_on_where_it_stopped(owner, integration, kb_id, sends, other, late):
    """The batch may have been stored or not, somebody else may have written since, and the server may have
    forgotten what it answered."""
    client = Failing(ORG_ID, API_KEY, ADMIN_KEY, integration.api_url)
    client.batch_size, client.fails, client.sends = 2, 2, sends
    async with client:
        loader, report = DataLoader(owner, client), UploadReport()
        index, db = await loader.load_data_from_memory(chunks(6), BITS[:6], disable_progress=True)
        with pytest.raises(InterruptedError):
            await loader.dump_db(db, index, kb_id, report=report)
        assert report.stored == 2
        if other:
            await stored(DataLoader(owner, integration), kb_id, chunks(1))
        if late:
            report.batches[1].idempotency_key += "?"
        await DataLoader(owner, client).dump_db(db, index, kb_id, report=report)
        ids = [chunk_id for batch in report.batches for chunk_id in batch.response["chunk_ids"]]
        assert len({*ids}) == 6
        assert report.stored == 6
        assert await fits(owner, integration, kb_id) == 6 + other


class Pretending(XTraceIntegration):
    """A server that acknowledges changes and does not make them; `confirms` also their manifests."""

    confirms = False

    async def _data(self, method, template, body=None, **more):
        if template == wire.CHUNKS and method in ("POST", "PUT", "DELETE"):
            if method == "POST":
                text = {"chunk_ids": list(range(1, 1 + len(body["chunks"])))}
            else:
                text = {"deleted_count": 1}
            answer = await super()._data("GET", wire.CONTEXTS)
            tags = CIMultiDict()
            if self.confirms:
                _, _, sealed = wire.decode_manifest_header(more["headers"][wire.MANIFEST_HEADER])
                tags[wire.MANIFEST_TAG_HEADER] = wire.manifest_tag(sealed)
            return replace(answer, body=json.dumps(text).encode(), headers=CIMultiDictProxy(tags))
        return await super()._data(method, template, body, **more)


async def test_an_acknowledgement_is_not_believed_by_itself(owner, loader, integration, kb_id):
    await stored(loader, kb_id, chunks(3))
    async with Pretending(ORG_ID, API_KEY, ADMIN_KEY, integration.api_url) as client:
        for change in (
            lambda lied_to: stored(lied_to, kb_id, chunks(1)),
            lambda lied_to: lied_to.upsert_one(chunks(1, chunk_id=2)[0], BITS[0], kb_id),
            lambda lied_to: lied_to.delete_chunks([2], kb_id),
        ):
            with pytest.raises(IntegrityError):
                await change(DataLoader(owner, client))
    assert await fits(owner, integration, kb_id) == 3


class Naming(XTraceIntegration):
    """A server that has more replaced than was asked for, to leave it out afterwards."""

    everything: dict[str, object]

    async def _data(self, method, template, body=None, **more):
        if template == wire.MANIFESTS and method == "POST":
            body = {name: body[name] for name in ("kb_id", "context_id")} | {"all": True}
            answer = await super()._data(method, template, body, **more)
            found = json.loads(answer.body)
            found["rows"] = [{**row, **self.everything} for row in found["rows"]]
            return replace(answer, body=json.dumps(found).encode())
        return await super()._data(method, template, body, **more)


async def test_no_more_is_replaced_than_was_asked_for(owner, loader, integration, kb_id):
    await stored(loader, kb_id, [{**chunk, "key": f"key {at}"} for at, chunk in enumerate(chunks(3))])
    async with Naming(ORG_ID, API_KEY, ADMIN_KEY, integration.api_url) as client:
        lied_to = DataLoader(owner, client)
        for names, change in (
            ({}, lambda: lied_to.delete_chunks([2], kb_id)),
            ({"chunk_id": 2}, lambda: lied_to.delete_chunks([2], kb_id)),
            ({}, lambda: lied_to.upsert_one({**chunks(1)[0], "key": "key 1"}, BITS[0], kb_id)),
            ({"key": "key 1"}, lambda: lied_to.upsert_one({**chunks(1)[0], "key": "key 1"}, BITS[0], kb_id)),
        ):
            client.everything = names
            with pytest.raises(UnexpectedAnswerError):
                await change()
    assert await fits(owner, integration, kb_id) == 3


async def test_a_change_that_was_confirmed_and_not_made_is_noticed_by_the_next_call(
    owner, loader, integration, kb_id
):
    await stored(loader, kb_id, chunks(3))
    async with Pretending(ORG_ID, API_KEY, ADMIN_KEY, integration.api_url) as client:
        client.confirms = True
        await DataLoader(owner, client).delete_chunks([2], kb_id)
        for call in (
            lambda: Retriever(owner, client).nn_search_for_ids(BITS[0], 9, kb_id),
            lambda: DataLoader(owner, client).delete_chunks([1], kb_id),
            lambda: stored(DataLoader(owner, client), kb_id, chunks(1)),
        ):
            with pytest.raises(IntegrityError):
                await call()


async def test_rows_without_a_manifest_are_not_taken_for_complete(owner, loader, integration, kb_id):
    without = DataLoader(owner, integration, manifest=False)
    await stored(without, kb_id, chunks(3))
    searched = Retriever(owner, integration)
    for call in (
        lambda: searched.nn_search_for_ids(BITS[0], 3, kb_id),
        lambda: stored(loader, kb_id, chunks(1)),
        lambda: loader.upsert_one(chunks(1, chunk_id=2)[0], BITS[0], kb_id),
        lambda: loader.delete_chunks([2], kb_id),
    ):
        with pytest.raises(IntegrityError, match=r"`xtrace keys manifest KB_ID --accept` .* manifest=False"):
            await call()
    for no_filter in ({}, "{}", " { } ", "null"):
        with pytest.raises(IntegrityError, match="manifest=False"):
            await searched.nn_search_for_ids(BITS[0], 3, kb_id, no_filter)
    assert len(await searched.nn_search_for_ids(BITS[0], 3, kb_id, range_filter=[1, 9])) == 3
    assert len(await Retriever(owner, integration, manifest=False).nn_search_for_ids(BITS[0], 9, kb_id)) == 3
    await stored(without, kb_id, [{**chunks(1)[0], "key": "k"}])
    assert (await without.delete_chunks_by_key(["k", "none"], kb_id))["deleted_count"] == 1
    care = ManifestCare(owner, integration, kb_id)
    assert (await care.examine()).listed is None
    await care.accept()
    await stored(loader, kb_id, chunks(1))
    assert await fits(owner, integration, kb_id) == 4


async def test_who_keeps_no_manifest_does_not_spoil_it(owner, loader, integration, kb_id):
    """A writer, a loader without manifests and the bare calls are refused, and told why."""
    await stored(loader, kb_id, chunks(3))
    async with XTraceIntegration(ORG_ID, API_KEY, ADMIN_KEY, integration.api_url) as client:
        for other in (owner.writer("scanner"), owner):
            with pytest.raises(ConflictError, match="keeps a manifest"):
                await stored(DataLoader(other, client, manifest=False), kb_id, chunks(1))
        with pytest.raises(ConflictError, match="keeps a manifest"):
            await client.delete_chunks([1], kb_id)
        with pytest.raises(ConflictError, match="keeps a manifest"):
            await client.delete_chunks_by_meta(kb_id, owner.id, {"chunk_id": {"$gt": 0}})
    assert await fits(owner, integration, kb_id) == 3


async def test_bare_calls_keep_it_where_a_loader_has_worked(owner, loader, integration, kb_id):
    keyed = [{**one, "meta_data": {"tag1": str(at)}} for at, one in enumerate(chunks(5))]
    await stored(loader, kb_id, keyed)
    other = ExecutionContext.create("p", embedding_length=8, key_len=256, alpha_len=128, allow_insecure=True)
    integration.keep(other.id, Manifests(other, integration))  # of no use here, and no harm
    assert (await integration.delete_chunks([1, 99], kb_id))["deleted_count"] == 1
    dry = await integration.delete_chunks_by_meta(kb_id, owner.id, {"tag1": "2"}, dry_run=True)
    assert dry == {"would_delete_count": 1}
    deleted = await integration.delete_chunks_by_meta(kb_id, owner.id, {"tag1": "2"})
    assert deleted["deleted_count"] == 1
    index, db = await loader.load_data_from_memory(chunks(2, chunk_id=2)[:1], BITS[:1], disable_progress=True)
    await integration.update_chunks(index, db, owner.id, kb_id)
    index, db = await loader.load_data_from_memory(chunks(1), BITS[:1], disable_progress=True)
    await integration.store_db(db, index, kb_id, owner.id)
    assert await fits(owner, integration, kb_id) == 4


@pytest.mark.parametrize("encoding", ["plain", "authenticated"])
async def test_a_bare_call_that_takes_a_chunk_to_another_context(owner, loader, integration, kb_id, encoding):
    """The manifest of the one that it leaves lists it no longer, nor what became of it."""
    await stored(loader, kb_id, chunks(3))
    other = ExecutionContext.create(
        "p", embedding_length=DIMENSIONS, key_len=256, alpha_len=128, encoding=encoding, allow_insecure=True
    )
    taking = DataLoader(other, integration, manifest=False)
    index, db = await taking.load_data_from_memory(chunks(1, chunk_id=2), BITS[:1], disable_progress=True)
    await integration.register_public_context(other.public_part(), other.id)
    await integration.register_kb_binding(kb_id, other.id)
    await integration.update_chunks(index, db, other.id, kb_id)
    assert await fits(owner, integration, kb_id) == 2


async def test_a_removed_manifest_lets_writers_in(owner, loader, integration, kb_id):
    await stored(loader, kb_id, chunks(2))
    await ManifestCare(owner, integration, kb_id).remove()
    await stored(DataLoader(owner.writer("scanner"), integration), kb_id, chunks(1))
    await stored(loader, kb_id, chunks(1))
    retriever = Retriever(owner, integration)
    assert len(await retriever.nn_search_for_ids(BITS[0], 9, kb_id)) == 4
    care = ManifestCare(owner, integration, kb_id)
    found = await care.examine()
    assert (found.rows, found.listed, found.opened, found.complete) == (4, None, 4, False)
    await care.accept()
    assert await fits(owner, integration, kb_id) == 4
    async with XTraceIntegration(ORG_ID, API_KEY, ADMIN_KEY, integration.api_url) as client:
        with pytest.raises(ConflictError, match="keeps a manifest"):
            await stored(DataLoader(owner.writer("scanner"), client), kb_id, chunks(1))


async def test_what_was_removed_does_not_come_back(owner, loader, integration, kb_id):
    await stored(loader, kb_id, chunks(2))
    old = (await integration.look_up_manifest(kb_id, owner.id)).sealed
    await ManifestCare(owner, integration, kb_id).remove()
    await integration.replace_manifest(kb_id, owner.id, wire.NO_MANIFEST, old)
    with pytest.raises(IntegrityError):
        await Retriever(owner, integration).nn_search_for_ids(BITS[0], 9, kb_id)


async def test_only_what_was_examined_is_accepted(owner, loader, integration, kb_id):
    await stored(loader, kb_id, chunks(3))
    care = ManifestCare(owner, integration, kb_id)
    await care.examine()
    await stored(loader, kb_id, chunks(1))
    with pytest.raises(ConflictError):
        await care.accept()
    assert await fits(owner, integration, kb_id) == 4


async def test_what_does_not_open_is_not_accepted(owner, integration, kb_id):
    without = DataLoader(owner, integration, manifest=False)
    await stored(without, kb_id, chunks(3))
    await integration.patch_chunks(kb_id, owner.id, [{"chunk_id": 2, "chunk_content": "AAAA"}])
    with pytest.raises(DecryptionError, match="chunk 2"):
        await ManifestCare(owner, integration, kb_id).examine()


async def test_what_another_process_has_seen_counts(owner, integration, kb_id, tmp_path):
    """A loader whose memory is behind that of its device asks again."""
    first, second = (DataLoader(owner, integration, pins=Pins(tmp_path)) for _ in range(2))
    await stored(first, kb_id, chunks(1))
    await stored(second, kb_id, chunks(1))
    before = integration.traffic.requests
    await stored(first, kb_id, chunks(1))
    assert integration.traffic.requests - before == 2  # not refused first
    assert await fits(owner, integration, kb_id) == 3


async def test_retired_epochs_stay_listed(integration, kb_id):
    context = ExecutionContext.create(
        "p", embedding_length=DIMENSIONS, key_len=256, alpha_len=128, allow_insecure=True
    )
    loader = DataLoader(context, integration)
    await stored(loader, kb_id, chunks(2))
    context.begin_epoch()
    await stored(loader, kb_id, chunks(3))
    context.retire_epoch(1)
    assert len(await Retriever(context, integration).nn_search_for_ids(BITS[0], 9, kb_id)) == 3
    found = await ManifestCare(context, integration, kb_id).examine()
    assert (found.rows, found.listed, found.opened, found.retired, found.complete) == (5, 5, 3, 2, True)
    await loader.delete_chunks([1, 2], kb_id)
    assert await fits(context, integration, kb_id) == 3


async def test_a_search_that_is_cut_off_and_asked_again_may_meet_another_state(
    owner, loader, integration, kb_id
):
    """The rows of a broken answer and those of its repetition need not belong together."""
    await stored(loader, kb_id, chunks(3))

    class Cut(XTraceIntegration):
        cuts = 0

        async def compute_hamming_distances_blocks(self, *arguments, manifests, **more):
            async for block in super().compute_hamming_distances_blocks(
                *arguments, manifests=manifests, **more
            ):
                yield block
            self.cuts += 1
            if self.cuts == 1:
                manifests.append("another")

    async with Cut(ORG_ID, API_KEY, ADMIN_KEY, integration.api_url) as client:
        assert len(await Retriever(owner, client).nn_search_for_ids(BITS[0], 9, kb_id)) == 3
        assert client.cuts == 2
