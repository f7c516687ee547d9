import asyncio
import json

import numpy as np
import pytest

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

COUNT, DIMENSIONS = 3, 64
BITS = np.random.default_rng(6).integers(0, 2, (COUNT, DIMENSIONS), dtype=np.uint8)


@pytest.fixture
def manifest(invoke, sealed, kb):
    """Runs `xtrace keys manifest` on a knowledge base -> (exit status, what it says)."""
    environment = {"XTRACE_EXECUTION_CONTEXT_PATH": str(sealed), "XTRACE_ALLOW_INSECURE": "1"}

    def run(*options):
        done = invoke("keys", "manifest", kb, *options, **environment)
        said = json.loads(done.stdout) if "--json" in options and done.stdout else done.output
        return done.exit_code, said

    return run


@pytest.fixture
def store(server, keys, sealed, kb):
    """Stores three chunks, with or without the manifest."""
    context = ExecutionContext.load_from_disk(keys["XTRACE_PASS_PHRASE"], sealed, allow_insecure=True)

    async def work(manifest):
        async with XTraceIntegration(server.org_id, server.api_key, server.admin_key, server.url) as client:
            loader = DataLoader(context, client, manifest=manifest)
            chunks = [{"chunk_content": f"text {number}"} for number in range(COUNT)]
            index, db = await loader.load_data_from_memory(chunks, BITS, disable_progress=True)
            await loader.dump_db(db, index, kb)

    return lambda manifest: asyncio.run(work(manifest))


def test_what_fits(manifest, store, kb):
    store(True)
    status, said = manifest()
    assert (status, "They are the same rows" in said) == (0, True), said
    assert manifest("--json") == (0, {
        "kb_id": kb, "rows": 3, "listed": 3, "complete": True, "opened": 3, "retired": 0, "accepted": False,
    })  # fmt: skip


def test_what_has_none_is_accepted(manifest, store):
    store(False)
    status, said = manifest()
    assert (status, "manifest  none" in said, "3 rows, 3 opened" in said) == (1, True, True), said
    status, said = manifest("--accept")  # nobody to ask
    assert (status, "Confirm with --yes" in said) == (2, True), said
    assert manifest("--json")[0] == 1
    status, said = manifest("--accept", "--yes")
    assert (status, "Accepted." in said) == (0, True), said
    assert manifest("--json")[1]["complete"]


def test_what_is_removed(manifest, store):
    store(True)
    status, said = manifest("--remove", "--json")
    assert (status, "Confirm with --yes" in said["error"]["message"]) == (2, True)
    assert manifest("--json")[1]["complete"]
    status, said = manifest("--remove", "--yes")
    assert (status, "keeps no manifest" in said) == (0, True), said
    assert (manifest("--json")[1]["listed"], manifest("--json")[1]["complete"]) == (None, False)
    store(True)  # no longer kept
    assert manifest("--json")[1]["rows"] == 6


def test_options_that_contradict(manifest):
    status, said = manifest("--accept", "--remove")
    assert (status, "exclude each other" in said) == (2, True), said
