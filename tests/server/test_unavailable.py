"""A database that cannot be written to: a clear answer, nothing half-done, and it goes on by itself."""

from xtrace_sdk.server.storage.statements import row


def test_full_disk(org, client, kb) -> None:
    bits = client.vectors(4)
    assert org.insert(kb, client.context_id, client.chunks(bits)).status_code == 200
    store = org.server.services.store
    (pages,) = org.server.run(store._read(row, "PRAGMA page_count"))
    org.server.run(store._write(row, f"PRAGMA max_page_count = {pages}"))
    large = [{**one, "chunk_content": "x" * 100_000} for one in client.chunks(bits)]
    for _ in range(2):
        answer = org.insert(kb, client.context_id, large)
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"] == "1" and "full" in answer.json()["message"]
        assert org.count(kb) == 4
        assert client.distances(org, kb, bits[0])[0] == [1, 2, 3, 4]
    org.server.run(store._write(row, "PRAGMA max_page_count = 1000000000"))
    assert org.insert(kb, client.context_id, large).json()["chunk_ids"] == [5, 6, 7, 8]
    assert client.distances(org, kb, bits[0])[0] == [1, 2, 3, 4, 5, 6, 7, 8]
