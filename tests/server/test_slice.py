"""Store, search, fetch: the main job over HTTP."""

import base64
import json
import threading
from http.client import HTTPConnection

import msgpack
import numpy as np
import pytest

from xtrace_sdk import wire

ENGINES = ("sqlite", "postgresql")


def expected(bits: np.ndarray, query: np.ndarray) -> list[int]:
    return (bits ^ query).sum(axis=1).tolist()


@pytest.mark.parametrize("accept", ["*/*", wire.COLUMNS])
def test_encrypted_distances_are_the_plain_ones(org, client, kb, accept: str) -> None:
    bits = client.vectors(40)
    query = client.vectors(1, seed=9)[0]
    inserted = org.insert(kb, client.context_id, client.chunks(bits)).json()
    assert inserted["chunk_ids"] == list(range(1, 41)) and inserted["count"] == 40
    assert inserted["response"] == f"Data loaded into KB {kb} successfully"
    answer = client.search(org, kb, query, accept)
    assert answer.headers["content-type"] == (wire.COLUMNS if accept == wire.COLUMNS else wire.MSGPACK)
    assert client.decode(answer) == (list(range(1, 41)), expected(bits, query))


def test_any_msgpack_reader_reads_the_answer(org, client, kb) -> None:
    bits = client.vectors(3)
    org.insert(kb, client.context_id, client.chunks(bits))
    entries = msgpack.unpackb(client.search(org, kb, bits[0]).content, raw=False)
    assert [entry[1] for entry in entries] == [1, 2, 3]
    assert all(len(entry[0]) == 1 and len(entry[0][0]) == client.encryptor.width for entry in entries)
    assert all(0 < int.from_bytes(entry[0][0], "little") < client.n_squared for entry in entries)


def test_several_ciphertexts_per_vector(org, make_client) -> None:
    client = make_client(dimensions=300, key_len=128)
    assert client.encryptor.chunks == 3
    client.register(org)
    kb = org.new_kb()
    bits = client.vectors(5)
    org.insert(kb, client.context_id, client.chunks(bits))
    assert client.distances(org, kb, bits[2])[1] == expected(bits, bits[2])


def test_fetch_keeps_order_and_repeats(org, client, kb) -> None:
    sent = client.chunks(client.vectors(3), name="n", meta_data={"tag1": "t", "facets": ["a", "b"], "own": 1})
    org.insert(kb, client.context_id, sent)
    got = org.fetch(kb, [3, 99, 1, 3])
    assert [one["chunk_id"] for one in got] == [3, 1, 3]
    for one in got:
        original = sent[one["chunk_id"] - 1]
        assert one["chunk_content"] == original["chunk_content"]
        assert one["index"] == original["index"]
        assert one["meta_data"] == {"tag1": "t", "facets": ["a", "b"], "own": 1}
        assert one["name"] == "n"


def test_projection(org, client, kb) -> None:
    meta = {"tag1": "x", "tag2": None, "facets": ["f"], "own": [1]}
    org.insert(kb, client.context_id, client.chunks(client.vectors(1), meta_data=meta))
    assert org.fetch(kb, [1], "chunk_id") == [{"chunk_id": 1, "meta_data": {}}]
    assert org.fetch(kb, [1], "meta_data", "unknown") == [{"chunk_id": 1, "meta_data": meta}]
    flat = org.fetch(kb, [1], "chunk_content", "tag1", "facets")
    assert flat == [{"chunk_id": 1, "chunk_content": "sealed 0", "meta_data": {"tag1": "x", "facets": ["f"]}}]
    assert org.fetch(kb, [1], "chunk_id,name") == [{"chunk_id": 1, "meta_data": {}, "name": ""}]


@pytest.mark.parametrize("accept", ["*/*", wire.COLUMNS])
def test_records_come_back_with_their_rows(org, client, kb, accept: str) -> None:
    records = [b"", b"a", bytes(range(160)), b"second"]
    chunks = client.chunks(client.vectors(4))
    for chunk, record in zip(chunks[1:], records[1:], strict=True):
        chunk["record"] = wire.encode_record(record)
    org.insert(kb, client.context_id, chunks)

    def found(**more) -> list[bytes]:
        answer = client.search(org, kb, client.vectors(1)[0], accept, **more)
        width = client.encryptor.width
        table = wire.unpack_distances(
            answer.content, answer.headers["content-type"], chunks=1, width=width
        ).records
        return [row[1 : 1 + row[0]].tobytes() if row.size else b"" for row in table]

    assert found() == records
    assert found(range=[2, 3]) == records[1:3]
    assert [wire.decode_record(one.get("record", ""), "") for one in org.fetch(kb, [1, 2, 3, 4])] == records
    assert org.fetch(kb, [2], "record") == [{"chunk_id": 2, "meta_data": {}, "record": "YQ=="}]
    assert "record" not in org.fetch(kb, [2], "meta_data")[0]
    assert org.fetch(kb, [2], "chunk_content")[0]["record"] == "YQ=="

    index = chunks[0]["index"]
    sent = {"kb_id": kb, "context_id": client.context_id}
    update = {**chunks[0], "chunk_id": 2}
    org.api.put(org.path(wire.CHUNKS), json={**sent, "chunk_updates": [update]}).raise_for_status()
    patches = [
        {"chunk_id": 1, "index": index, "record": wire.encode_record(b"new")},
        {"chunk_id": 3, "index": index},
        {"chunk_id": 4, "name": "renamed"},
    ]
    org.api.patch(org.path(wire.CHUNKS), json={**sent, "chunk_patches": patches}).raise_for_status()
    assert found() == [b"new", b"", b"", b"second"]


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (wire.encode_record(bytes(161)), "record"),
        ("A" * 217, "record"),
        ("=", "record: not valid base64"),
        (7, "record"),
    ],
)
def test_bad_records_are_refused(org, client, kb, record, named: str) -> None:
    chunk = {**client.chunks(client.vectors(1))[0], "record": record}
    answer = org.insert(kb, client.context_id, [chunk])
    assert answer.status_code == 400 and f"chunks[0].{named}" in answer.json()["message"]
    assert org.count(kb) == 0


def test_a_record_without_its_index_is_refused(org, client, kb) -> None:
    org.insert(kb, client.context_id, client.chunks(client.vectors(1)))
    patch = {"chunk_id": 1, "record": "YQ=="}
    body = {"kb_id": kb, "context_id": client.context_id, "chunk_patches": [patch]}
    answer = org.api.patch(org.path(wire.CHUNKS), json=body)
    assert answer.status_code == 400 and "chunk_patches[0].record" in answer.json()["message"]


def test_fetch_of_nothing(org, client, kb) -> None:
    assert org.fetch(kb, []) == []
    assert org.fetch(kb, [1]) == []
    joined = org.api.get(org.path(wire.CHUNKS), params={"kb_id": kb, "chunk_ids": "1,2,,3"})
    assert (joined.status_code, joined.json()) == (200, [])


def test_a_megabyte_of_ids_in_the_address(org, client, kb) -> None:
    org.insert(kb, client.context_id, client.chunks(client.vectors(2)))
    ids = [1, *range(10**9, 10**9 + 50_000), 2]
    target = f"{org.path(wire.CHUNKS)}?kb_id={kb}&projection=chunk_id" + "".join(
        f"&chunk_ids={one}" for one in ids
    )
    assert len(target) > 1 << 20
    connection = HTTPConnection(org.server.url.removeprefix("http://"))  # httpx refuses such addresses
    connection.request("GET", target, headers={wire.API_KEY_HEADER: org.api_key})
    answer = connection.getresponse()
    assert answer.status == 200
    assert [one["chunk_id"] for one in json.loads(answer.read())] == [1, 2]
    connection.close()


def test_search_of_an_empty_knowledge_base(org, client, kb) -> None:
    assert client.distances(org, kb, client.vectors(1)[0]) == ([], [])


def test_ids_are_never_reused(org, client, kb) -> None:
    bits = client.vectors(5)
    org.insert(kb, client.context_id, client.chunks(bits))
    params = {"kb_id": kb, "chunk_ids": [4, 5, 5, 77]}
    deleted = org.api.delete(org.path(wire.CHUNKS), params=params).json()
    assert deleted["deleted_count"] == 2
    again = org.insert(kb, client.context_id, client.chunks(bits[:1])).json()
    assert again["chunk_ids"] == [6]
    assert org.count(kb) == 4
    assert client.distances(org, kb, bits[0])[0] == [1, 2, 3, 6]


def test_search_follows_every_change(org, client, kb) -> None:
    bits = client.vectors(30)
    query = client.vectors(1, seed=3)[0]
    live: dict[int, np.ndarray] = {}
    for step in range(6):
        part = bits[5 * step : 5 * step + 5]
        ids = org.insert(kb, client.context_id, client.chunks(part)).json()["chunk_ids"]
        live.update(zip(ids, part, strict=True))
        gone = ids[step % 5]
        org.api.delete(org.path(wire.CHUNKS), params={"kb_id": kb, "chunk_ids": [gone]})
        del live[gone]
        ids, distances = client.distances(org, kb, query)
        assert ids == sorted(live)
        assert distances == expected(np.array([live[one] for one in ids]), query)


def test_range_limits_the_candidates(org, client, kb) -> None:
    org.insert(kb, client.context_id, client.chunks(client.vectors(10)))
    query = client.vectors(1)[0]
    assert client.distances(org, kb, query, range=[3, 6])[0] == [3, 4, 5, 6]
    assert client.distances(org, kb, query, range=[9, 10**30])[0] == [9, 10]
    assert client.distances(org, kb, query, range=[11, 12])[0] == []


def test_only_chunks_of_the_context_take_part(org, client, kb, make_client) -> None:
    other = make_client()
    other.register(org)
    bits = client.vectors(4)
    org.insert(kb, client.context_id, client.chunks(bits))
    assert org.insert(kb, other.context_id, other.chunks(bits)).status_code == 409
    bind = org.path(wire.KB_BIND, kb_id=kb, context_id=other.context_id)
    assert org.api.post(bind).status_code == 200
    assert org.insert(kb, other.context_id, other.chunks(bits)).json()["chunk_ids"] == [5, 6, 7, 8]
    assert client.distances(org, kb, bits[0])[0] == [1, 2, 3, 4]
    assert other.distances(org, kb, bits[0]) == ([5, 6, 7, 8], expected(bits, bits[0]))


def test_context_stored_after_the_chunks(org, make_client) -> None:
    """The original client inserts first; the vectors are checked when the context is known."""
    client = make_client()
    kb = org.new_kb()
    bits = client.vectors(6)
    chunks = client.chunks(bits)
    minimal = int.from_bytes(base64.b64decode(chunks[0]["index"][0]), "little")
    short = minimal.to_bytes((minimal.bit_length() + 7) // 8, "little")
    chunks[0]["index"] = [base64.b64encode(short).decode()]
    chunks[1]["index"] = [
        base64.b64encode(client.n_squared.to_bytes(40 + client.encryptor.width, "little")).decode()
    ]
    chunks[2]["index"] = chunks[2]["index"] * 2
    assert org.insert(kb, client.context_id, chunks).json()["count"] == 6
    assert client.search(org, kb, bits[0]).status_code == 404
    client.register(org)
    ids, distances = client.distances(org, kb, bits[3])
    assert ids == [1, 4, 5, 6]
    assert distances == expected(bits[[0, 3, 4, 5]], bits[3])


def test_minimal_width_is_accepted_and_fixed_width_returned(org, client, kb) -> None:
    chunk = client.chunks(client.vectors(1))[0]
    chunk["index"] = [base64.b64encode(b"\x05").decode()]
    assert org.insert(kb, client.context_id, [chunk]).status_code == 200
    (index,) = org.fetch(kb, [1], "index")[0]["index"]
    assert base64.b64decode(index) == b"\x05".ljust(client.encryptor.width, b"\0")


def test_byte_identical_insert_is_answered_again(org, client, kb) -> None:
    chunks = client.chunks(client.vectors(3))
    first = org.insert(kb, client.context_id, chunks).json()
    assert org.insert(kb, client.context_id, chunks).json() == first
    assert org.count(kb) == 3
    org.api.delete(org.path(wire.CHUNKS), params={"kb_id": kb, "chunk_ids": [1]})
    anew = org.insert(kb, client.context_id, chunks).json()
    assert anew["chunk_ids"] == [4, 5, 6], "an answer about deleted chunks is no answer"


def test_replay_can_be_switched_off(serve_with, client) -> None:
    org = serve_with(replay_seconds=0).new_org()
    kb = org.new_kb()
    chunks = client.chunks(client.vectors(2))
    assert org.insert(kb, client.context_id, chunks).json()["chunk_ids"] == [1, 2]
    assert org.insert(kb, client.context_id, chunks).json()["chunk_ids"] == [3, 4]


def test_idempotency_key(org, client, kb) -> None:
    chunks = client.chunks(client.vectors(2))
    headers = {wire.IDEMPOTENCY_KEY_HEADER: "one"}
    first = org.insert(kb, client.context_id, chunks, **headers).json()
    assert org.insert(kb, client.context_id, chunks, **headers).json() == first
    other = org.insert(kb, client.context_id, chunks, **{wire.IDEMPOTENCY_KEY_HEADER: "two"}).json()
    assert set(other["chunk_ids"]).isdisjoint(first["chunk_ids"])
    reused = org.insert(kb, client.context_id, chunks[:1], **headers)
    assert reused.status_code == 409 and "idempotency-key" in reused.json()["message"]
    org.api.delete(org.path(wire.CHUNKS), params={"kb_id": kb, "chunk_ids": first["chunk_ids"]})
    assert org.insert(kb, client.context_id, chunks, **headers).json() == first


def test_keys_replace_in_place(org, client, kb) -> None:
    bits = client.vectors(4)
    first = client.chunks(bits[:2])
    first[0]["key"], first[1]["key"] = "doc-a", "doc-b"
    assert org.insert(kb, client.context_id, first).json()["chunk_ids"] == [1, 2]
    second = client.chunks(bits[2:])
    second[0]["key"] = "doc-b"
    second[0]["chunk_content"] = "new"
    answer = org.insert(kb, client.context_id, second).json()
    assert (answer["chunk_ids"], answer["replaced_count"]) == ([2, 3], 1)
    assert org.count(kb) == 3
    assert [one["chunk_content"] for one in org.fetch(kb, [1, 2, 3], "chunk_content")] == [
        "sealed 0",
        "new",
        "sealed 1",
    ]
    assert org.fetch(kb, [2], "key")[0]["key"] == "doc-b"
    ids, distances = client.distances(org, kb, bits[0])
    assert (ids, distances) == ([1, 2, 3], expected(bits[[0, 2, 3]], bits[0]))


def test_repeated_slashes_and_no_redirects(org, client, kb) -> None:
    org.insert(kb, client.context_id, client.chunks(client.vectors(1)))
    path = org.path(wire.CHUNKS)
    got = org.api.get(f"{org.server.url}/{path}", params={"kb_id": kb, "chunk_ids": 1})
    assert got.status_code == 200 and len(got.json()) == 1
    assert org.api.get(f"{path}/", params={"kb_id": kb}).status_code == 404
    assert org.admin.get(f"{org.server.url}//api//v1/kbs").json()[0]["id"] == kb


def test_searches_while_inserting_see_whole_batches(org, client, kb) -> None:
    batches = [client.chunks(client.vectors(7, seed=seed)) for seed in range(12)]
    query = client.vectors(1)[0]
    sizes: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            sizes.append(len(client.distances(org, kb, query)[0]))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    acknowledged = [org.insert(kb, client.context_id, batch).json()["count"] for batch in batches]
    done.set()
    for thread in threads:
        thread.join()
    assert sum(acknowledged) == 84 == len(client.distances(org, kb, query)[0])
    assert sizes and all(size % 7 == 0 for size in sizes)
