"""What a request leaves behind: a line in the log, and nothing of its contents."""

import logging
import re
import time

from xtrace_sdk import wire
from xtrace_sdk.server.storage.base import UnavailableError

CANARY = "CANARYcanary0123456789"


def logged(caplog, last: str) -> list[str]:
    """The server's lines. A line is written after its answer: wait for the one of the `last` request."""
    deadline = time.monotonic() + 10
    while True:
        lines = [record.getMessage() for record in caplog.records if record.name == "xtrace.server"]
        if any(line.startswith(last) for line in lines):
            return lines
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)


def test_logs_hold_no_contents_queries_or_keys(org, client, kb, caplog) -> None:
    caplog.set_level(logging.DEBUG, logger="xtrace.server")
    chunks = client.chunks(client.vectors(2), name=CANARY, meta_data={"tag1": CANARY}, key=None)
    for chunk in chunks:
        chunk["chunk_content"] = CANARY
    assert org.insert(kb, client.context_id, chunks).status_code == 200
    client.search(org, kb, client.vectors(1)[0], meta_filter={"tag1": CANARY})
    org.fetch(kb, [1, 2])
    org.api.get(org.path(wire.CHUNKS), params={"kb_id": CANARY, "chunk_ids": CANARY})
    org.api.post(org.path(wire.CHUNKS), content=f'{{"kb_id": "{CANARY}"'.encode())
    org.api.get(f"/v1/{CANARY}")
    org.server.client({wire.API_KEY_HEADER: CANARY}).get(org.path(wire.CONTEXTS))
    last = org.api.post(org.path(wire.CHUNKS_META), json={"kb_id": kb, "meta_filter": {CANARY: 1}})
    lines = logged(caplog, last.headers[wire.REQUEST_ID_HEADER])
    assert len(lines) >= 8
    text = "\n".join(lines)
    for secret in (CANARY, org.api_key, org.admin_key, org.id, kb, client.context_id, chunks[0]["index"][0]):
        assert secret not in text


def test_one_line_per_request(org, kb, caplog) -> None:
    caplog.set_level(logging.INFO, logger="xtrace.server")
    answer = org.api.get(org.path(wire.CHUNKS), params={"kb_id": kb})
    request_id = answer.headers[wire.REQUEST_ID_HEADER]
    (line,) = [line for line in logged(caplog, request_id) if line.startswith(request_id)]
    pattern = rf"{request_id} GET /v1/chunk/{{org_id}} 200 in=0 out=2 ms=[0-9.]+"
    assert re.fullmatch(pattern, line)


def test_unexpected_errors_tell_nothing(org, kb, caplog, monkeypatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(org.server.services.store, "list_contexts", broken)
    answer = org.api.get(org.path(wire.CONTEXTS))
    assert answer.status_code == 500
    assert answer.json()["message"] == "internal error"
    assert answer.json()["request_id"] == answer.headers[wire.REQUEST_ID_HEADER]
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "RuntimeError" in text and answer.json()["request_id"] in text
    assert CANARY not in text + answer.text


def test_a_locked_database_is_503(org, kb, monkeypatch) -> None:
    async def locked(*_: object) -> None:
        raise UnavailableError("database: database is locked")

    monkeypatch.setattr(org.server.services.store, "list_contexts", locked)
    answer = org.api.get(org.path(wire.CONTEXTS))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["type"] == "service_unavailable"
