"""A hostile proxy between the real client and the real server: ways to leave out, add and bring back rows.

Every row of these answers is one that the owner stored, with the record that belongs to it, and the product
with the very query: what is wrong is that it is there, or that others are not. What finds it is the manifest.
Each attempt is one search, followed by a fetch of what it found; the search must raise IntegrityError, and
nothing may be fetched.

The long run, 1,000 attempts a class with a key of full size::

    python tests/test_completeness.py --attempts 1000
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from xtrace_sdk import wire
from xtrace_sdk.errors import IntegrityError
from xtrace_sdk.integrations.errors import ServerError
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.records import as_table
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.manifest_care import ManifestCare
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.pins import Pins

ATTEMPTS = int(os.environ.get("TAMPERING_ATTEMPTS", "12"))  # the long run: 1000, by the command above
# The proxy tells the truth when chunks are fetched, which shows that a search was lied to, but too late.
SEARCH_BELIEVED = {"believed", "rejected late"}
CHANGED, DELETED = 2, 5  # chunks that are otherwise in the earlier state


def _neighbour(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tampering = _neighbour("test_tampering")


@dataclass
class State:
    """What a server may have kept of a knowledge base: ciphertexts and records by id, and the manifest."""

    rows: dict[int, tuple[list[int], bytes]]
    manifest: str

    @classmethod
    async def of(cls, honest: XTraceIntegration, kb_id: str, context_id: str) -> State:
        stored = await honest.look_up_manifest(kb_id, context_id, everything=True)
        ids = [row.chunk_id for row in stored.rows]
        chunks = await honest.get_chunk_by_id(ids, kb_id, ["chunk_id", "index", "record"])
        assert stored.sealed is not None
        return cls(
            {
                chunk["chunk_id"]: (
                    [int.from_bytes(one, "little") for one in chunk["index"]],
                    chunk["record"],
                )
                for chunk in chunks
            },
            wire.encode_manifest(stored.sealed),
        )


class Server:
    """A lying server's memory: the state before the present one, and another knowledge base."""

    def __init__(self, work: Any, earlier: State, other: State) -> None:
        self.work, self.earlier, self.other = work, earlier, other
        self.rows = 0

    def put(self, answer: Any, at: int | None, row: tuple[list[int], bytes], chunk_id: int) -> None:
        """Give a row as an honest server would: in place of the row `at`, or beside all others."""
        ciphertexts, record = row
        table = [one[1 : 1 + one[0]].tobytes() for one in answer.records]
        product = answer.proxy.times(ciphertexts, answer.query)
        if at is None:
            answer.ids.append(chunk_id)
            answer.rows.append(product)
            table.append(record)
        else:
            answer.rows[at], table[at] = product, record
        answer.records = as_table(table)

    def take(self, answer: Any, numbers: list[int]) -> None:
        for number in sorted(numbers, reverse=True):
            del answer.ids[number], answer.rows[number]
        answer.records = np.delete(answer.records, numbers, axis=0)

    def any_of(self, answer: Any, state: State) -> tuple[list[int], bytes]:
        return state.rows[answer.proxy.random.choice(sorted(state.rows))]

    # The lies

    def a_row_left_out(self, answer: Any) -> None:
        self.take(answer, [answer.proxy.random.randrange(len(answer.ids))])

    def many_rows_left_out(self, answer: Any) -> None:
        count = answer.proxy.random.randrange(2, len(answer.ids) + 1)
        self.take(answer, answer.proxy.random.sample(range(len(answer.ids)), count))

    def a_row_given_twice(self, answer: Any) -> None:
        number = answer.proxy.random.randrange(len(answer.ids))
        answer.ids.append(max(answer.ids) + 1)
        answer.rows.append(list(answer.rows[number]))
        answer.records = np.vstack([answer.records, answer.records[number : number + 1]])

    def a_row_in_place_of_another(self, answer: Any) -> None:
        i, j = answer.proxy.random.sample(range(len(answer.ids)), 2)
        answer.rows[i], answer.records[i] = list(answer.rows[j]), answer.records[j]

    def another_knowledge_bases_row_added(self, answer: Any) -> None:
        self.put(answer, None, self.any_of(answer, self.other), max(answer.ids) + 1)

    def another_knowledge_bases_row_in_place_of_one(self, answer: Any) -> None:
        at = answer.proxy.random.randrange(len(answer.ids))
        self.put(answer, at, self.any_of(answer, self.other), answer.ids[at])

    def another_knowledge_bases_answer(self, answer: Any) -> None:
        self.take(answer, list(range(len(answer.ids))))
        for chunk_id, row in self.other.rows.items():
            self.put(answer, None, row, chunk_id)
        answer.manifest = self.other.manifest

    def an_old_version_with_its_record(self, answer: Any) -> None:
        self.put(answer, answer.ids.index(CHANGED), self.earlier.rows[CHANGED], CHANGED)

    def a_deleted_row_brought_back(self, answer: Any) -> None:
        at = answer.proxy.random.choice((None, answer.proxy.random.randrange(len(answer.ids))))
        self.put(answer, at, self.earlier.rows[DELETED], max(answer.ids) + 1)

    def all_rows_of_an_earlier_state(self, answer: Any) -> None:
        self.take(answer, list(range(len(answer.ids))))
        for chunk_id, row in self.earlier.rows.items():
            self.put(answer, None, row, chunk_id)

    def the_whole_of_an_earlier_state(self, answer: Any) -> None:
        self.all_rows_of_an_earlier_state(answer)
        answer.manifest = self.earlier.manifest

    def the_manifest_of_an_earlier_state(self, answer: Any) -> None:
        answer.manifest = self.earlier.manifest

    def no_manifest(self, answer: Any) -> None:
        answer.manifest = None
        if answer.proxy.random.randrange(2):
            self.take(answer, list(range(len(answer.ids))))
        self.rows = len(answer.ids)

    def an_altered_manifest(self, answer: Any) -> None:
        sealed = bytearray(wire.decode_manifest(answer.manifest, "manifest"))
        if answer.proxy.random.randrange(2):
            sealed[answer.proxy.random.randrange(len(sealed))] ^= 1 << answer.proxy.random.randrange(8)
        else:
            del sealed[answer.proxy.random.randrange(1, len(sealed)) :]
        answer.manifest = wire.encode_manifest(bytes(sealed))


LIES = [
    name for name, value in vars(Server).items() if name not in ("put", "take", "any_of") and name[0] != "_"
]


@asynccontextmanager
async def trial(server: str, key_len: int, dimensions: int, seed: int) -> AsyncIterator[tuple[Any, Server]]:
    """The trial of test_tampering.py, in which some chunks are changed, deleted and added afterwards."""
    async with tampering.trial(server, "authenticated", key_len, dimensions, seed) as work:
        context, random = work.context, work.proxy.random
        loader = DataLoader(context, work.client)
        other = (await work.honest.create_kb("another of the same context"))["id"]
        index, db = await loader.load_data_from_memory(
            [{"chunk_content": f"other {number}"} for number in range(3)],
            np.array([[random.randrange(2) for _ in range(dimensions)] for _ in range(3)], np.uint8),
            disable_progress=True,
        )
        await loader.dump_db(db, index, other)
        earlier = await State.of(work.honest, work.kb_id, context.id)
        work.bits[CHANGED - 1] ^= 1
        await loader.upsert_one(
            {"chunk_content": "changed", "chunk_id": CHANGED}, work.bits[CHANGED - 1], work.kb_id
        )
        await loader.delete_chunks([DELETED], work.kb_id)
        work.bits = np.delete(work.bits, DELETED - 1, axis=0)
        work.ids.remove(DELETED)
        lies = Server(work, earlier, await State.of(work.honest, other, context.id))
        query = work.query()
        ids, distances = await work.ask(query)  # the proxy alone changes nothing
        assert list(zip(distances, map(int, ids), strict=True)) == work.expected(query)
        yield work, lies


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[str]:
    with tampering.running(tmp_path) as address:
        yield address


async def test_no_incomplete_answer_goes_through(server: str) -> None:
    async with trial(server, 256, 48, seed=11) as (work, lies):
        for name in LIES:
            results = Counter([await work.attempt(getattr(lies, name)) for _ in range(ATTEMPTS)])
            assert results == {"rejected": ATTEMPTS}, name
        work.proxy.fetches = 0
        await work.ask(work.query())
        assert work.proxy.fetches == 1  # the count of fetches counts


async def test_without_the_manifest_they_do(server: str) -> None:
    """What manifest=False costs; what repeats a record is refused even so."""
    async with trial(server, 256, 48, seed=12) as (work, lies):
        work.retriever = Retriever(work.context, work.client, manifest=False)
        for name in LIES:
            results = {await work.attempt(getattr(lies, name)) for _ in range(4)}
            if name in ("a_row_given_twice", "a_row_in_place_of_another"):
                assert results == {"rejected"}, name
            elif name not in ("the_manifest_of_an_earlier_state", "an_altered_manifest"):
                assert results & SEARCH_BELIEVED and "rejected" not in results, name


async def test_a_device_that_has_seen_nothing_believes_a_whole_earlier_state(
    server: str, tmp_path: Path
) -> None:
    """The limit that docs/security.md names; the first of all states is the empty one."""
    async with trial(server, 256, 48, seed=13) as (work, lies):
        for name in LIES:
            work.retriever = Retriever(work.context, work.client, pins=Pins(tmp_path / name))
            result = await work.attempt(getattr(lies, name))
            earlier = name == "the_whole_of_an_earlier_state" or (name == "no_manifest" and not lies.rows)
            assert result in (SEARCH_BELIEVED if earlier else {"rejected"}), name


async def test_a_database_restored_from_a_copy_is_noticed_until_it_is_accepted(tmp_path: Path) -> None:
    data, copy = tmp_path / "server", tmp_path / "copy"
    data.mkdir()
    keys = (tampering.ORG_ID, tampering.API_KEY, tampering.ADMIN_KEY)
    context = tampering.ExecutionContext.create(
        "p", embedding_length=48, key_len=256, alpha_len=128, allow_insecure=True
    )
    bits = np.random.default_rng(3).integers(0, 2, (4, 48), dtype=np.uint8)
    with tampering.running(data) as url:
        async with XTraceIntegration(*keys, api_url=url) as client:
            kb_id = (await client.create_kb("restored"))["id"]
            loader = DataLoader(context, client)
            for number in range(3):
                await loader.upsert_one({"chunk_content": f"text {number}"}, bits[number], kb_id)
    shutil.copytree(data, copy)
    with tampering.running(data) as url:
        async with XTraceIntegration(*keys, api_url=url) as client:
            await DataLoader(context, client).upsert_one({"chunk_content": "later"}, bits[3], kb_id)
            assert len(await Retriever(context, client).nn_search_for_ids(bits[0], 9, kb_id)) == 4
    with tampering.running(copy) as url:
        async with XTraceIntegration(*keys, api_url=url) as client:
            retriever, loader = Retriever(context, client), DataLoader(context, client)
            with pytest.raises(IntegrityError, match="xtrace keys manifest"):
                await retriever.nn_search_for_ids(bits[0], 9, kb_id)
            with pytest.raises(IntegrityError, match="xtrace keys manifest"):
                await loader.upsert_one({"chunk_content": "after"}, bits[3], kb_id)
            care = ManifestCare(context, client, kb_id)
            found = await care.examine()
            assert (found.rows, found.listed, found.opened, found.complete) == (3, 3, 3, False)
            await care.accept()
            assert (await care.examine()).complete
            assert len(await retriever.nn_search_for_ids(bits[0], 9, kb_id)) == 3
            await loader.upsert_one({"chunk_content": "after"}, bits[3], kb_id)
            assert len(await retriever.nn_search_for_ids(bits[0], 9, kb_id)) == 4


async def test_a_manifest_that_is_damaged_in_the_database_can_be_made_anew(tmp_path: Path) -> None:
    context = tampering.ExecutionContext.create(
        "p", embedding_length=48, key_len=256, alpha_len=128, allow_insecure=True
    )
    bits = np.random.default_rng(4).integers(0, 2, (2, 48), dtype=np.uint8)
    keys = (tampering.ORG_ID, tampering.API_KEY, tampering.ADMIN_KEY)
    with tampering.running(tmp_path) as url:
        async with XTraceIntegration(*keys, api_url=url, retries=0) as client:
            kb_id = (await client.create_kb("damaged"))["id"]
            loader = DataLoader(context, client)
            await loader.upsert_one({"chunk_content": "text"}, bits[0], kb_id)
            with closing(sqlite3.connect(tmp_path / "data" / "xtrace.sqlite3")) as database, database:
                database.execute("UPDATE manifests SET sealed = zeroblob(length(sealed))")
            care = ManifestCare(context, client, kb_id)
            for call in (
                lambda: care.examine(),
                lambda: loader.upsert_one({"chunk_content": "more"}, bits[1], kb_id),
            ):
                with pytest.raises(ServerError, match="manifest is damaged"):
                    await call()
            await care.remove()
            assert (await care.examine()).listed is None
            await care.accept()
            await loader.upsert_one({"chunk_content": "more"}, bits[1], kb_id)
            assert len(await Retriever(context, client).nn_search_for_ids(bits[0], 9, kb_id)) == 2


async def measure(attempts: int, key_len: int, dimensions: int) -> int:
    failures = 0
    with tempfile.TemporaryDirectory() as folder, tampering.running(Path(folder)) as server:
        os.environ["XTRACE_STATE_DIR"] = str(Path(folder) / "state")
        async with trial(server, key_len, dimensions, seed=14) as (work, lies):
            print(f"n of {2 * key_len} bits, {dimensions} dimensions, {attempts} attempts a class")
            for name in LIES:
                lie: Callable[[Any], None] = getattr(lies, name)
                results = Counter([await work.attempt(lie) for _ in range(attempts)])
                said = ", ".join(f"{count} {what}" for what, count in sorted(results.items()))
                print(f"  {name.replace('_', ' '):44}", said, flush=True)
                failures += attempts - results["rejected"]
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--key-len", type=int, default=1024)
    parser.add_argument("--dimensions", type=int, default=512)
    chosen = parser.parse_args()
    sys.exit(asyncio.run(measure(chosen.attempts, chosen.key_len, chosen.dimensions)) > 0)


if __name__ == "__main__":
    main()
