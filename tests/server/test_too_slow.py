"""Searches by metadata are bounded in time."""

import pytest

from xtrace_sdk import wire
from xtrace_sdk.server.storage import sqlite


def test_a_search_that_takes_too_long_is_refused(org, client, kb, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = client.vectors(50)
    org.insert(kb, client.context_id, client.chunks(bits, meta_data={"tag1": "a"}))
    body = {"kb_id": kb, "meta_filter": {"tag1": {"$contains": "a"}}}
    monkeypatch.setattr(sqlite, "_SEARCH_SECONDS", -1.0)
    monkeypatch.setattr(sqlite, "_STEPS_BETWEEN_LOOKS", 1)
    for answer in (
        org.api.post(org.path(wire.CHUNKS_META), json=body),
        org.api.post(org.path(wire.CHUNKS_META_PAGE), json=body),
        client.search(org, kb, bits[0], meta_filter=body["meta_filter"]),
    ):
        assert answer.status_code == 400 and answer.json()["message"].startswith("meta_filter: the search")
    monkeypatch.undo()
    assert len(org.api.post(org.path(wire.CHUNKS_META), json=body).json()) == 50
