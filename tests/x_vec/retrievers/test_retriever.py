import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xtrace_sdk import wire
from xtrace_sdk.errors import CiphertextError, DecryptionError, DimensionMismatchError, InputError
from xtrace_sdk.integrations.errors import NotFoundError
from xtrace_sdk.records import as_table
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever, nearest
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

DIMENSIONS = 48  # of the fixture


@given(
    st.integers(0, 40).flatmap(
        lambda count: st.tuples(
            st.permutations(range(count)), hnp.arrays(np.int32, count, elements=st.integers(0, 5))
        )
    ),
    st.integers(1, 50),
)
def test_nearest_is_a_sort_by_distance_and_id(rows, k):
    ids, distances = np.array(rows[0], np.int64), rows[1]
    expected = sorted(zip(distances.tolist(), ids.tolist(), strict=True))[:k]
    best = nearest(ids, distances, k)
    assert list(zip(distances[best].tolist(), ids[best].tolist(), strict=True)) == expected


@pytest.fixture
async def corpus(context, integration, kb_id):
    """Sixty chunks with many equal distances, two of them identical. -> vectors (60, 48)"""
    vectors = np.random.default_rng(6).integers(0, 2, (60, DIMENSIONS), dtype=np.uint8)
    vectors[40] = vectors[3]
    chunks = [
        {"chunk_content": f"text {number}", "meta_data": {"tag1": "even" if number % 2 == 0 else "odd"}}
        for number in range(60)
    ]
    loader = DataLoader(context, integration)
    index, db = await loader.load_data_from_memory(chunks, vectors, True)
    await loader.dump_db(db, index, kb_id)
    return vectors


def expected(vectors, query, k, keep=lambda _chunk_id: True):
    ranked = sorted((int((vector ^ query).sum()), i + 1) for i, vector in enumerate(vectors) if keep(i + 1))
    return [chunk_id for _, chunk_id in ranked[:k]], [distance for distance, _ in ranked[:k]]


async def test_exact_ranking_with_aligned_scores(context, integration, kb_id, corpus):
    retriever = Retriever(context, integration)
    for k in (1, 3, 59, 60, 100):
        for query in (corpus[3], 1 - corpus[0], np.zeros(DIMENSIONS, np.uint8)):
            ids, scores = await retriever.nn_search_for_ids(query, k, kb_id, include_scores=True)
            assert (ids, scores) == expected(corpus, query, k)
            assert await retriever.nn_search_for_ids(query, k, kb_id) == ids
    ids, scores = await retriever.nn_search_for_ids(corpus[3], 2, kb_id, include_scores=True)
    assert (ids, scores) == ([4, 41], [0, 0])
    assert all(type(value) is int for value in ids + scores)


async def test_queries_of_every_form(context, integration, kb_id, corpus):
    async def later():
        return corpus[7]

    floats = np.where(corpus[7] == 1, 0.25, -0.25)
    for query in (corpus[7], corpus[7].tolist(), corpus[7].astype(bool), floats, floats.tolist(), later()):
        ids = await Retriever(context, integration, parallel=True).nn_search_for_ids(query, 1, kb_id)
        assert ids == [8]


async def test_several_queries_at_once(context, integration, kb_id, corpus):
    retriever = Retriever(context, integration)
    queries = np.stack([corpus[3], 1 - corpus[0], corpus[50], corpus[9], corpus[59]])

    async def later():
        return queries

    for form in (queries, queries.tolist(), later()):
        found = await retriever.nn_search_many(form, 4, kb_id)
        assert found == [expected(corpus, query, 4) for query in queries]
    found = await retriever.nn_search_many(queries, 4, kb_id, {"tag1": "odd"}, [5, 30])
    assert found == [
        expected(corpus, query, 4, lambda chunk_id: chunk_id % 2 == 0 and 5 <= chunk_id <= 30)
        for query in queries
    ]
    assert await retriever.nn_search_many([], 4, kb_id) == []
    with pytest.raises(DimensionMismatchError, match=r"query_vectors\[1\]"):
        await retriever.nn_search_many([queries[0], queries[0][1:]], 4, kb_id)


async def test_filters_and_ranges(context, integration, kb_id, corpus):
    retriever = Retriever(context, integration)
    query = corpus[0]
    for meta_filter in ({"tag1": "odd"}, json.dumps({"tag1": {"$eq": "odd"}})):
        found = await retriever.nn_search_for_ids(query, 7, kb_id, meta_filter, include_scores=True)
        assert found == expected(corpus, query, 7, lambda chunk_id: (chunk_id - 1) % 2 == 1)
    found = await retriever.nn_search_for_ids(query, 99, kb_id, range_filter=[10, 20], include_scores=True)
    assert found == expected(corpus, query, 99, lambda chunk_id: 10 <= chunk_id <= 20)
    assert await retriever.nn_search_for_ids(query, 5, kb_id, {"tag1": "none"}, include_scores=True) == (
        [],
        [],
    )


async def test_contents_come_with_their_ids(context, integration, kb_id, corpus):
    retriever = Retriever(context, integration)
    found = await retriever.retrieve_and_decrypt([41, 99, 2], kb_id)
    assert found == [
        {"chunk_id": 41, "chunk_content": "text 40", "meta_data": {"tag1": "even"}},
        {"chunk_id": 2, "chunk_content": "text 1", "meta_data": {"tag1": "odd"}},
    ]
    assert await retriever.retrieve_and_decrypt(np.array([2]), kb_id) == found[1:]
    assert await retriever.retrieve_and_decrypt([], kb_id) == []
    (bare,) = await retriever.retrieve_and_decrypt([2], kb_id, projection=["chunk_id", "tag1"])
    assert bare == {"chunk_id": 2, "meta_data": {"tag1": "odd"}}


async def test_an_empty_knowledge_base_and_a_context_that_the_server_does_not_know(
    make_client, integration, kb_id
):
    context = ExecutionContext(make_client("paillier", DIMENSIONS), PassphraseKeyProvider("p"))
    assert context.id not in await integration.list_exec_contexts()
    query = np.ones(DIMENSIONS)
    assert await Retriever(context, integration).nn_search_for_ids(query, 3, kb_id) == []
    stored = await integration.get_serialized_exec_context(context.id)
    assert stored == context.public_part()


async def test_an_unknown_knowledge_base(context, integration):
    with pytest.raises(NotFoundError):
        await Retriever(context, integration).nn_search_for_ids(np.ones(DIMENSIONS), 3, "noSuchBase")


async def test_wrong_arguments_are_named(context, integration):
    retriever = Retriever(context, integration)
    good = np.ones(DIMENSIONS)
    for arguments, error, said in (
        ((good, 0, "kb"), InputError, "k:"),
        ((good, 1.5, "kb"), InputError, "k:"),
        ((good, True, "kb"), InputError, "k:"),
        ((good, 3, ""), InputError, "kb_id"),
        ((good[1:], 3, "kb"), DimensionMismatchError, r"query_vector\[0\]: dimension 47"),
        ((good * np.nan, 3, "kb"), InputError, "NaN"),
        ((None, 3, "kb"), InputError, "query_vector"),
        ((good, 3, "kb", None, [5]), InputError, "range"),
        ((good, 3, "kb", None, [9, 5]), InputError, "range"),
    ):
        with pytest.raises(error, match=said):
            await retriever.nn_search_for_ids(*arguments)
    for chunk_ids, said in ((["1"], r"chunk_ids\[0\]"), ([1, 2.9], r"chunk_ids\[1\]")):
        with pytest.raises(InputError, match=said):  # not the chunk with a number nearby
            await retriever.retrieve_and_decrypt(chunk_ids, "kb")
    with pytest.raises(InputError, match="projection"):
        await retriever.retrieve_and_decrypt([1], "kb", "chunk_content")


class Hostile:
    """A server that answers what it likes."""

    def __init__(self, ids, rows, chunks=()):
        self.ids, self.rows, self.chunks = np.array(ids, np.int64), rows, list(chunks)

    async def compute_hamming_distances_blocks(self, query_rows, context_id, kb_id, meta_filter, range, **_):  # noqa: A002
        for part in (slice(1), slice(1, None)):
            yield wire.Distances(self.ids[part], self.rows[part], as_table([b""] * len(self.ids[part])))

    async def get_chunk_by_id(self, chunk_ids, kb_id, projection=None):
        return self.chunks


async def test_malformed_ciphertexts_are_refused(context):
    client = context.homomorphic
    good = client.encrypt_to_array(np.ones((3, DIMENSIONS), np.uint8))
    for wrong in (0, client.public_key.n_squared, client.public_key.n):
        rows = good.copy()
        rows[1, 0] = np.frombuffer(wrong.to_bytes(client.width, "little"), np.uint8)
        with pytest.raises(CiphertextError):
            await Retriever(context, Hostile([1, 2, 3], rows)).nn_search_for_ids(np.ones(DIMENSIONS), 1, "kb")


async def test_changed_contents_are_refused(context):
    blob = context.aes.encrypt("text").decode()
    chunks = [{"chunk_id": 1, "chunk_content": blob[:-8] + "AAAAAAA=", "meta_data": {}}]
    with pytest.raises(DecryptionError):
        await Retriever(context, Hostile([], None, chunks)).retrieve_and_decrypt([1], "kb")


async def test_only_what_was_asked_for_comes_back(context):
    chunks = [
        {"chunk_id": chunk_id, "chunk_content": context.aes.encrypt(str(chunk_id)).decode(), "meta_data": {}}
        for chunk_id in (7, 2, 1)
    ]
    found = await Retriever(context, Hostile([], None, chunks)).retrieve_and_decrypt([1, 2], "kb")
    assert [chunk["chunk_content"] for chunk in found] == ["1", "2"]


async def test_nothing_readable_leaves_the_client(context, integration, kb_id, corpus):
    """What was sent for a search holds neither the query's bits nor the same bytes twice."""
    sent = []
    data = integration._data

    async def watch(method, template, body=None, **more):
        if template == wire.HAMMING:
            sent.append(body)
        return await data(method, template, body, **more)

    integration._data = watch
    retriever = Retriever(context, integration)
    for _ in range(2):
        await retriever.nn_search_for_ids(corpus[0], 1, kb_id)
    first, second = sent
    assert set(first) == {"kb_id", "query", "context_id"}
    assert first["query"] != second["query"]
    assert [len(text) for text in first["query"]] == [-(-context.homomorphic.width // 3) * 4]


def test_context_for_a_language_model():
    found = [{"chunk_id": 9, "chunk_content": "first", "meta_data": {}}, "second"]
    assert Retriever.format_context(found) == "0. first\n1. second\n"
    assert Retriever.format_context([]) == ""
