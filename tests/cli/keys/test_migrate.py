import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

COUNT, DIMENSIONS = 300, 64
BITS = np.random.default_rng(5).integers(0, 2, (COUNT, DIMENSIONS), dtype=np.uint8)


@pytest.fixture
def weak(tmp_path):
    """A context with the original SDK's default key, which `xtrace keys doctor --prove` factors."""
    path = tmp_path / "weak"
    return ExecutionContext.create(
        "old", embedding_length=DIMENSIONS, alpha_len=50, path=path, encoding="plain", allow_insecure=True
    )


@pytest.fixture
def strong(tmp_path, keys):
    path = tmp_path / "strong"
    return ExecutionContext.create(
        keys["XTRACE_PASS_PHRASE"], embedding_length=DIMENSIONS, path=path, encoding="authenticated"
    )


@pytest.fixture
def environment(keys, tmp_path, strong):
    path = {"XTRACE_EXECUTION_CONTEXT_PATH": str(tmp_path / "strong"), "XTRACE_OLD_PASS_PHRASE": "old"}
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "XDG_STATE_HOME") if name in os.environ},
        **keys,
        **path,
    }


def run(server, work):
    """`work` with a client of the server."""

    async def connected():
        async with XTraceIntegration(server.org_id, server.api_key, server.admin_key, server.url) as client:
            return await work(client)

    return asyncio.run(connected())


async def fill(client, context):
    kb_id = (await client.create_kb("migrated"))["id"]
    loader = DataLoader(context, client)
    chunks = [{"chunk_content": f"text {number}", "name": str(number)} for number in range(COUNT)]
    index, db = await loader.load_data_from_memory(chunks, BITS, disable_progress=True)
    await loader.dump_db(db, index, kb_id)
    return kb_id


async def under(client, context, kb_id):
    """How many chunks are under a context."""
    page = await client.meta_search_paginated(kb_id, context.id, limit=1, projection=["chunk_id"])
    return page["total"]


def test_killed_in_the_middle_it_goes_on(server, weak, strong, environment, tmp_path):
    kb_id = run(server, lambda client: fill(client, weak))
    command = [sys.executable, "-m", "xtrace_sdk.cli", "keys", "migrate", str(tmp_path / "weak"), kb_id]
    process = subprocess.Popen(
        [*command, "--batch", "2"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (moved := run(server, lambda client: under(client, strong, kb_id))):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    moved = run(server, lambda client: under(client, strong, kb_id))
    left = run(server, lambda client: under(client, weak, kb_id))
    assert 0 < moved < COUNT and moved + left == COUNT

    again = subprocess.run(
        [*command, "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == {"kb_id": kb_id, "from": weak.id, "to": strong.id, "moved": left}
    assert run(server, lambda client: under(client, weak, kb_id)) == 0

    async def everything(client):
        retriever = Retriever(strong, client)
        found = await retriever.nn_search_for_ids(BITS[9], COUNT, kb_id, include_scores=True)
        return found, await retriever.retrieve_and_decrypt(range(1, COUNT + 1), kb_id)

    (ids, distances), chunks = run(server, everything)
    assert dict(zip(ids, distances, strict=True)) == {
        number + 1: int((BITS[number] ^ BITS[9]).sum()) for number in range(COUNT)
    }
    assert [chunk["chunk_content"] for chunk in chunks] == [f"text {number}" for number in range(COUNT)]


def test_wrong_passphrases_and_files(invoke, weak, strong, environment, tmp_path, kb):
    done = invoke("keys", "migrate", tmp_path / "weak", kb, **{**environment, "XTRACE_OLD_PASS_PHRASE": "x"})
    assert (done.exit_code, "cannot decrypt" in done.stderr) == (1, True)
    done = invoke("keys", "migrate", tmp_path / "absent", kb, **environment)
    assert (done.exit_code, "no context at" in done.stderr) == (2, True)
    done = invoke("keys", "migrate", tmp_path / "weak", kb, "--json", **environment)
    assert json.loads(done.stdout)["moved"] == 0


def test_a_past_epoch_is_emptied_and_retired(invoke, keys, sealed, kb, tmp_path):
    model = tmp_path / "model"
    model.write_text(json.dumps({"provider": "simhash", "model_name": "simhash", "dim": DIMENSIONS}))
    model.chmod(0o600)
    environment = {
        "XTRACE_EXECUTION_CONTEXT_PATH": str(sealed),
        "XTRACE_EMBEDDING_MODEL_PATH": str(model),
        "XTRACE_ALLOW_INSECURE": "1",
        "XTRACE_OLD_PASS_PHRASE": keys["XTRACE_PASS_PHRASE"],
    }
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("The first page.")
    assert invoke("xvec", "load", tmp_path / "texts", kb, **environment).exit_code == 0
    assert invoke("keys", "begin-epoch", **environment).exit_code == 0
    done = invoke("keys", "migrate", sealed, kb, "--json", **environment)
    assert json.loads(done.stdout)["moved"] == 1, done.output
    assert invoke("keys", "retire-epoch", 1, "--yes", **environment).exit_code == 0
    (chunk,) = json.loads(invoke("xvec", "head", kb, "--json", **environment).stdout)
    assert chunk["chunk_content"] == "The first page."
