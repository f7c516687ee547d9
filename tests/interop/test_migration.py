"""docs/migration.md: its code, on a context and chunks that the original made with its weak defaults."""

import re
from pathlib import Path

import pytest

from xtrace_sdk.errors import WeakKeyError
from xtrace_sdk.integrations import XTraceIntegration
from xtrace_sdk.x_vec import Embedding, ExecutionContext, Retriever

TEXT = (Path(__file__).parents[2] / "docs" / "migration.md").read_text("utf-8")
TEXTS = ["The invoice of January.", "A recipe for bread.", "Größe und Gewicht."]


@pytest.fixture
def move():
    (sample,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {}
    exec(sample, names)
    return names["move"]


async def test_moving_to_a_strong_key(move, connected, server, tmp_path):
    path, embedding = tmp_path / "weak", Embedding("simhash", "simhash", 64)
    weak = connected("create", passphrase="old", path=str(path), embed_len=64, key_len=256, alpha_len=50)[
        "id"
    ]
    connected("save_to_remote", context=weak)
    connected("use", context=weak)
    async with XTraceIntegration(server.org_id, server.api_key, server.admin_key, server.url) as xtrace:
        kb_id = (await xtrace.create_kb("moved"))["id"]
        chunks = [{"chunk_content": text, "meta_data": {"tag1": text[:5]}} for text in TEXTS]
        vectors = (await embedding.bin_embed_many(TEXTS)).tolist()
        connected.call("loader", "load_data_from_memory", chunks, vectors, True, keep_as=("index", "db"))
        connected.call("loader", "dump_db", {"kept": "db"}, {"kept": "index"}, kb_id)

        with pytest.raises(WeakKeyError, match="allow_insecure"):
            ExecutionContext.load_from_disk("old", path)
        old = ExecutionContext.load_from_disk("old", path, allow_insecure=True)
        new = ExecutionContext.create("new", embedding_length=64)
        before = Retriever(old, xtrace)
        query = vectors[1]
        expected = await before.nn_search_for_ids(query, 3, kb_id)
        assert await move(old, new, xtrace, kb_id, query) == (expected, len(TEXTS))
        assert await move(old, new, xtrace, kb_id, query) == (expected, 0)  # again, as after an interruption
        retriever = Retriever(new, xtrace)
        assert await retriever.nn_search_for_ids(query, 3, kb_id) == expected
        (found,) = await retriever.retrieve_and_decrypt(expected[:1], kb_id)
        assert found["chunk_content"] == TEXTS[1]
        assert found["meta_data"] == {"tag1": TEXTS[1][:5]}
