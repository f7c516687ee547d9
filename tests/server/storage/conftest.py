"""A small store with something of everything in it."""

from collections.abc import Callable
from typing import Any

import pytest

from xtrace_sdk.server.ciphertexts import public_part
from xtrace_sdk.server.credentials import key_record
from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.storage.base import ChunkPatch, Ciphertexts, NewChunk, Query, Replay, Selection
from xtrace_sdk.wire import NO_MANIFEST

ORG, KB = "org", "kb"


async def fill(store: Any, client: Any) -> None:
    """Two knowledge bases, 40 chunks with everything that a chunk may have, deletions, a permission."""
    keys = [
        key_record("an-admin-key", ORG, admin=True, name="admin"),
        key_record("another-key", ORG, admin=False, name="api", default_permission=7),
    ]
    assert await store.create_org(ORG, keys)
    public, parsed = public_part(client.data)
    await store.store_context(ORG, client.context_id, client.data, public, parsed)
    for kb in (KB, "second"):
        await store.create_kb(ORG, kb, f"name of {kb}", "ä")
    await store.set_permission(ORG, keys[1].hash, KB, 3)
    rows = client.encryptor.encrypt(client.vectors(40, seed=5))
    chunks = [
        NewChunk(
            f"sealed {n}",
            f"name {n}",
            {"tag1": f"t{n % 3}", "tag2": "x" * 300 if n % 7 == 0 else None, "facets": [f"f{n % 5}", "all"]}
            if n % 4
            else {"own": {"deep": [1, 2.5, None, "ß"]}},
            Ciphertexts(rows.shape[1], rows[n].tobytes(), b"record" * (n % 2)),
            f"key {n}" if n % 2 else None,
        )
        for n in range(40)
    ]
    replay = Replay("token", "digest", 3600, strict=True)
    assert len((await store.insert(ORG, KB, client.context_id, chunks[:30], replay)).ids) == 30
    await store.insert(ORG, "second", client.context_id, chunks[30:], None)
    assert await store.delete(ORG, KB, [3, 7, 11]) == 3
    await store.set_manifest(ORG, "second", client.context_id, NO_MANIFEST, b"sealed")
    patch = ChunkPatch(5, content="patched", meta={"tag3": "new", "facets": {"$add": ["z"]}})
    assert await store.patch(ORG, KB, client.context_id, [patch, ChunkPatch(6, vector=chunks[0].vector)]) == 2


async def everything(store: Any) -> dict[str, Any]:
    """All that a caller can ask for."""
    found: dict[str, Any] = {"kbs": await store.list_kbs(ORG), "keys": await store.list_keys(ORG)}
    found["contexts"] = [
        (one, await store.get_context(ORG, one), await store.public_context(ORG, one))
        for one in await store.list_contexts(ORG)
    ]
    for key in found["keys"]:
        found["permissions", key.hash] = await store.permissions(ORG, key.hash)
    for kb in found["kbs"]:
        ids = (await store.select(ORG, kb.id, Query())).tolist()
        fields = frozenset({"content", "index", "record"})
        found["chunks", kb.id] = await store.fetch(ORG, kb.id, ids, fields)
        for condition in (
            {"tag1": "t1"},
            {"tag1": {"$gte": "t1"}, "facets": {"$none": ["f1"]}},
            {"tag2": {"$begins_with": "x"}},
            {"facets": {"$all": ["all", "f2"]}},
        ):
            query = Query(filter=parse_filter(condition))
            found["filter", kb.id, str(condition)] = (await store.select(ORG, kb.id, query)).tolist()
        for context_id in kb.context_ids:
            pages = store.manifest(ORG, kb.id, context_id, Selection(everything=True))
            found["manifest", kb.id, context_id] = [one async for one in pages]
        found["feed", kb.id] = await store.feed(ORG, kb.id, None, 0, None, 1000)
    return found


@pytest.fixture(scope="session")
def filled() -> Callable[..., Any]:
    return fill


@pytest.fixture(scope="session")
def all_of() -> Callable[..., Any]:
    return everything
