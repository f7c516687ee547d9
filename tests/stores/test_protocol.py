"""What every store must do. Vectors of +1 and -1, for which the cosine is 1 - 2 * hamming / dimensions."""

import asyncio
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrace_sdk.errors import DimensionMismatchError, InputError
from xtrace_sdk.stores import Chunk, EmbeddedChunk, RetrievalResult
from xtrace_sdk.stores.checks import canonical

KINDS = ("memory", "pgvector", "encrypted")
DIMENSIONS = 12
ONES = np.ones(DIMENSIONS)


def differing(count):
    """+1, the first `count` of them turned to -1."""
    vector = ONES.copy()
    vector[:count] = -1
    return vector


async def test_an_unknown_namespace_is_empty(store, namespace, everything):
    assert await store.search(ONES, namespace) == []
    assert await everything(store, namespace) == []
    await store.delete(["a"], namespace)
    await store.delete_namespace(namespace)


async def test_search_gives_the_nearest_first_with_their_cosines(store, namespace, embedded):
    chunks = [embedded(f"at {h}", differing(h), n=h) for h in (7, 0, 12, 3)]
    await store.upsert(chunks, namespace)
    results = await store.search(ONES, namespace, limit=3)
    assert [result.chunk.id for result in results] == ["at 0", "at 3", "at 7"]
    assert [result.score for result in results] == pytest.approx([1 - 2 * h / DIMENSIONS for h in (0, 3, 7)])
    assert results[0] == RetrievalResult(chunks[1].chunk, results[0].score, "vector")
    assert [len(await store.search(ONES, namespace, limit)) for limit in (0, 1, 4, 10)] == [0, 1, 4, 4]


async def test_scores_are_those_of_signs_for_any_length(store, namespace, embedded):
    await store.upsert(
        [embedded("long", 1000 * differing(2)), embedded("short", differing(3) / 64)], namespace
    )
    results = await store.search(ONES / 8, namespace)
    assert [result.chunk.id for result in results] == ["long", "short"]
    assert [result.score for result in results] == pytest.approx([1 - 4 / DIMENSIONS, 1 - 6 / DIMENSIONS])


async def test_equal_scores_come_in_the_order_of_insertion(store, namespace, embedded):
    ids = ["c", "a", "é", "b"]
    await store.upsert([embedded(one, differing(4)) for one in ids], namespace)
    await store.upsert([embedded("a", differing(4), "new")], namespace)  # keeps its place
    results = await store.search(ONES, namespace)
    assert [result.chunk.id for result in results] == ids
    assert [result.chunk.id for result in await store.search(ONES, namespace, limit=2)] == ids[:2]
    await store.delete(["a"], namespace)
    await store.upsert([embedded("a", differing(4))], namespace)  # a new one
    assert [result.chunk.id for result in await store.search(ONES, namespace)] == ["c", "é", "b", "a"]


async def test_upsert_replaces_the_whole_chunk(store, namespace, embedded, everything):
    await store.upsert([embedded("a", ONES, "old", colour="red"), embedded("b", differing(1))], namespace)
    new = EmbeddedChunk(Chunk("a", "other", "new", 7, {"size": 1}, "h2"), -ONES, "m2")
    await store.upsert([new], namespace)
    assert [result.chunk.id for result in await store.search(ONES, namespace)] == ["b", "a"]
    assert (await store.search(-ONES, namespace, 1))[0].chunk == new.chunk
    assert await store.search(ONES, namespace, filter={"colour": "red"}) == []
    assert [chunk.id for chunk in await everything(store, namespace)] == ["a", "b"]


async def test_of_one_id_twice_in_a_call_the_last_counts(store, namespace, embedded, everything):
    await store.upsert(
        [embedded("a", ONES, "first"), embedded("b", ONES), embedded("a", -ONES, "second")], namespace
    )
    assert [(chunk.id, chunk.content) for chunk in await everything(store, namespace)] == [
        ("a", "second"),
        ("b", "content of b"),
    ]
    assert [result.chunk.id for result in await store.search(ONES, namespace)] == ["b", "a"]


async def test_namespaces_know_nothing_of_each_other(store, namespace, embedded, everything):
    other = namespace + " "
    await store.upsert([embedded("a", ONES, "here")], namespace)
    await store.upsert([embedded("a", -ONES, "there")], other)
    assert [result.chunk.content for result in await store.search(ONES, namespace)] == ["here"]
    await store.delete(["a"], namespace)
    assert [chunk.content for chunk in await everything(store, other)] == ["there"]
    await store.delete_namespace(other)
    assert await everything(store, other) == []


async def test_a_deleted_namespace_can_be_filled_again(store, namespace, embedded, everything):
    await store.upsert([embedded("a", ONES)], namespace)
    await store.delete_namespace(namespace)
    assert await store.search(ONES, namespace) == []
    await store.upsert([embedded("b", ONES)], namespace)
    assert [chunk.id for chunk in await everything(store, namespace)] == ["b"]


async def test_delete_forgets_only_what_it_names(store, namespace, embedded, everything):
    await store.upsert([embedded(f"{n}", differing(n)) for n in range(6)], namespace)
    await store.delete(["1", "absent", "4", "1"], namespace)
    await store.delete([], namespace)
    assert [chunk.id for chunk in await everything(store, namespace)] == ["0", "2", "3", "5"]
    assert [result.chunk.id for result in await store.search(ONES, namespace)] == ["0", "2", "3", "5"]


async def test_nothing_upserted_is_nothing(store, namespace, everything):
    await store.upsert([], namespace)
    assert await everything(store, namespace) == []


async def test_a_zero_vector_finds_nothing_and_is_never_found(store, namespace, embedded, everything):
    zeros = [embedded(f"zero {n}", np.zeros(DIMENSIONS)) for n in range(5)]
    await store.upsert([*zeros, embedded("a", -ONES), embedded("b", differing(11))], namespace)
    assert [result.chunk.id for result in await store.search(-ONES, namespace, 2)] == ["a", "b"]
    assert [result.chunk.id for result in await store.search(ONES, namespace)] == ["b", "a"]
    assert await store.search(np.zeros(DIMENSIONS), namespace) == []
    assert len(await everything(store, namespace)) == 7


VALUES = [
    1,
    1.5,
    2**70,
    1e300,
    -0.0,
    True,
    False,
    None,
    "1",
    "",
    "ü€😀",
    [1, "a"],
    [],
    {"b": 1, "a": [None]},
    {},
]


@pytest.mark.parametrize("value", VALUES, ids=json.dumps)
async def test_a_filter_matches_its_value_and_no_other(store, namespace, embedded, everything, value):
    chunks = [embedded(f"{n}", differing(n % 3), field=one, n=n) for n, one in enumerate(VALUES)]
    await store.upsert([*chunks, embedded("without", ONES)], namespace)
    expected = [one.chunk for one in chunks if canonical(one.chunk.metadata["field"]) == canonical(value)]
    assert len(expected) == 1
    assert await everything(store, namespace, {"field": value}) == expected
    results = await store.search(ONES, namespace, filter={"field": value})
    assert [result.chunk for result in results] == expected


async def test_filters_compare_json_values(store, namespace, embedded, everything):
    await store.upsert([embedded("a", ONES, n=2, of={"x": 1, "y": [1, 2]}, z=0, long=10**23)], namespace)
    for matching in (
        {"n": 2.0},
        {"of": {"y": [1, 2], "x": 1.0}},
        {"z": -0.0, "n": 2},
        {"of": {"y": (1, 2), "x": 1}},
        {"long": 1e23},
        {},
    ):
        assert len(await everything(store, namespace, matching)) == 1, matching
        assert len(await store.search(ONES, namespace, filter=matching)) == 1, matching
    for other in ({"n": "2"}, {"of": {"x": 1}}, {"of": {"x": 1, "y": [2, 1]}}, {"n": 2, "z": 1}, {"m": None}):
        assert await everything(store, namespace, other) == [], other
        assert await store.search(ONES, namespace, filter=other) == [], other


async def test_limits_count_matches_only(store, namespace, embedded):
    chunks = [embedded(f"{n}", differing(n % 12), even=n % 2 == 0) for n in range(40)]
    await store.upsert(chunks, namespace)
    results = await store.search(ONES, namespace, limit=5, filter={"even": True})
    assert [result.chunk.id for result in results] == ["0", "12", "24", "36", "2"]


async def test_everything_comes_back_as_it_was_stored(store, namespace, everything):
    text = "line\n\ttab ' \" \\ %s {0} $1 \x7f \u2028 ü 😀 " + "long " * 2000
    metadata = {
        "": "empty name",
        "ключ": text,
        "numbers": [0, -1, 2**63, 2**100, 0.1, 1e-7, 1e23, 5e-324, 1.0],
        "nested": {"a": {"b": [[], {}, None, True]}},
        "$or": "'; DROP TABLE xtrace_chunks; --",
    }
    chunk = Chunk("id/with?odd #chars\n", "document ü", text, -(2**63), metadata, "sha256:…")
    await store.upsert([EmbeddedChunk(chunk, ONES.tolist(), "model")], namespace)
    (stored,) = await everything(store, namespace)
    assert stored == chunk
    assert json.dumps(stored.metadata) == json.dumps(metadata)  # 1.0 is not 1 here
    assert [result.chunk for result in await store.search(ONES, namespace)] == [chunk]
    await store.delete([chunk.id], namespace)
    assert await everything(store, namespace) == []


async def test_changing_a_chunk_does_not_change_the_store(store, namespace, embedded, everything):
    given = embedded("a", ONES, tags=["x"])
    await store.upsert([given], namespace)
    given.chunk.metadata["tags"].append("y")
    (await everything(store, namespace))[0].metadata["tags"].append("z")
    (await store.search(ONES, namespace))[0].chunk.metadata["tags"].append("z")
    assert (await everything(store, namespace))[0].metadata == {"tags": ["x"]}


async def test_wrong_dimensions_are_refused_before_anything_is_stored(store, namespace, embedded, everything):
    with pytest.raises(DimensionMismatchError, match=r"embedded_chunks\[1\].embedding: dimension 11"):
        await store.upsert([embedded("a", ONES), embedded("b", ONES[1:])], namespace)
    with pytest.raises(DimensionMismatchError, match="query_vector: dimension 13"):
        await store.search([1.0] * 13, namespace)
    assert await everything(store, namespace) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, r"\[0\].chunk.id: expected 1 to 1024 bytes"),
        ({"id": "é" * 513}, r"\[0\].chunk.id: expected 1 to 1024 bytes"),
        ({"id": 1}, r"\[0\].chunk.id: expected a string"),
        ({"content": "a\0b"}, r"\[0\].chunk.content: contains a NUL"),
        ({"content": "\ud800"}, r"\[0\].chunk.content: contains a lone surrogate"),
        ({"document_id": None}, r"\[0\].chunk.document_id: expected a string"),
        ({"position": 2**63}, r"\[0\].chunk.position: expected an integer"),
        ({"position": True}, r"\[0\].chunk.position: expected an integer"),
        ({"metadata": [1]}, r"\[0\].chunk.metadata: expected a dict"),
        ({"metadata": {"a": [float("nan")]}}, r"\[0\].chunk.metadata.a\[0\]: not a finite number"),
        ({"metadata": {"a": {1: 2}}}, r"\[0\].chunk.metadata.a: a name: expected a string"),
        ({"metadata": {"a": b"bytes"}}, r"\[0\].chunk.metadata.a: bytes is no JSON type"),
        ({"metadata": {"a": 2**1024}}, r"\[0\].chunk.metadata.a: an integer of more than 1024 bits"),
        ({"embedding": [float("nan")] * 12}, r"\[0\].embedding: has an element that is not finite"),
        ({"embedding": [1e39] * 12}, r"\[0\].embedding: has an element that is not finite"),
        ({"embedding": ["x"] * 12}, r"\[0\].embedding: expected a flat sequence of numbers"),
        ({"embedding": [[1.0] * 12]}, r"\[0\].embedding: expected a flat sequence of numbers"),
        ({"embedding": [[1.0], 2.0]}, r"\[0\].embedding: expected a flat sequence of numbers"),
        ({"embedding_model": 3}, r"\[0\].embedding_model: expected a string"),
    ],
)
async def test_malformed_chunks_are_refused(store, namespace, embedded, everything, change, message):
    good = embedded("a", ONES)
    if change.keys() <= {"embedding", "embedding_model"}:
        bad = dataclasses.replace(good, **change)
    else:
        bad = dataclasses.replace(good, chunk=dataclasses.replace(good.chunk, **change))
    with pytest.raises(InputError, match="embedded_chunks" + message):
        await store.upsert([bad, good], namespace)
    assert await everything(store, namespace) == []


async def test_malformed_arguments_are_refused(store, namespace, embedded, everything):
    deep = [[]]
    for _ in range(40):
        deep = [deep]
    with pytest.raises(InputError, match="nested deeper than 32 levels"):
        await store.upsert([embedded("a", ONES, deep=deep)], namespace)
    with pytest.raises(InputError, match=r"embedded_chunks\[0\]: expected an EmbeddedChunk"):
        await store.upsert([{"id": "a"}], namespace)
    for wrong in ("", None, "a\0", "n" * 1025):
        for call in (
            store.upsert([embedded("a", ONES)], wrong),
            store.search(ONES, wrong),
            store.delete(["a"], wrong),
            store.delete_namespace(wrong),
            everything(store, wrong),
        ):
            with pytest.raises(InputError, match="namespace: "):
                await call
    for wrong in (-1, True, 1.0, None):
        with pytest.raises(InputError, match="limit: expected an integer"):
            await store.search(ONES, namespace, wrong)
    with pytest.raises(InputError, match="chunk_ids: expected a sequence of ids"):
        await store.delete("abc", namespace)
    with pytest.raises(InputError, match=r"chunk_ids\[1\]: expected a string"):
        await store.delete(["a", 1], namespace)
    for wrong, message in (
        ([], "filter: expected a mapping"),
        ({1: 2}, "filter: a name"),
        ({"a": {1}}, "filter.a: set"),
    ):
        with pytest.raises(InputError, match=message):
            await store.search(ONES, namespace, filter=wrong)
        with pytest.raises(InputError, match=message):
            await everything(store, namespace, wrong)


async def test_more_chunks_than_any_batch(store, namespace, embedded, everything):
    signs = np.random.default_rng(5).choice([-1.0, 1.0], (1201, DIMENSIONS))
    await store.upsert([embedded(f"{n}", row, part=n % 7) for n, row in enumerate(signs)], namespace)
    assert [chunk.id for chunk in await everything(store, namespace)] == [f"{n}" for n in range(1201)]
    assert [chunk.id for chunk in await everything(store, namespace, {"part": 3})] == [
        f"{n}" for n in range(3, 1201, 7)
    ]
    expected = np.argsort(-(signs @ signs[77]), kind="stable")[:20]
    results = await store.search(signs[77], namespace, limit=20)
    assert [int(result.chunk.id) for result in results] == expected.tolist()
    await store.delete([f"{n}" for n in range(1, 1201)], namespace)
    assert [chunk.id for chunk in await everything(store, namespace)] == ["0"]


async def test_calls_at_the_same_time_do_not_disturb_each_other(store, namespace, embedded, everything):
    async def work(number):
        mine = f"{namespace} {number % 3}"
        await store.upsert([embedded(f"{number}.{n}", differing(n)) for n in range(4)], mine)
        await store.search(ONES, mine)
        await store.delete([f"{number}.3"], mine)

    await asyncio.gather(*(work(number) for number in range(9)))
    for part in range(3):
        found = sorted(chunk.id for chunk in await everything(store, f"{namespace} {part}"))
        assert found == [f"{number}.{n}" for number in range(part, 9, 3) for n in range(3)]


# Random sequences of operations against a dict.

ids = st.sampled_from(["a", "b", "c", "d", "ä\n"])
spaces = st.sampled_from(["one", "two"])
signs = st.lists(st.sampled_from([-1.0, 1.0]), min_size=DIMENSIONS, max_size=DIMENSIONS) | st.just([0.0] * 12)
fields = st.dictionaries(
    st.sampled_from(["x", "y"]), st.sampled_from([0, 1, True, "1", None, [1]]), max_size=2
)
filters = st.none() | fields
upserts = st.tuples(st.just("upsert"), spaces, st.lists(st.tuples(ids, signs, fields), max_size=4))
deletes = st.tuples(st.just("delete"), spaces, st.lists(ids, max_size=3))
drops = st.tuples(st.just("delete_namespace"), spaces)
searches = st.tuples(st.just("search"), spaces, signs, st.integers(0, 6), filters)
readings = st.tuples(st.just("get_all_chunks"), spaces, filters)
sequences = st.lists(st.one_of(upserts, upserts, deletes, drops, searches, searches, readings), max_size=12)


class Model:
    """The protocol in the simplest words."""

    def __init__(self):
        self.spaces = {"one": {}, "two": {}}

    def matching(self, space, wanted):
        return [
            one
            for one in self.spaces[space].values()
            if all(
                name in one.chunk.metadata and canonical(one.chunk.metadata[name]) == canonical(value)
                for name, value in (wanted or {}).items()
            )
        ]

    def search(self, space, query, limit, wanted):
        scored = [
            (float(np.dot(one.embedding, query)) / DIMENSIONS, one.chunk)
            for one in self.matching(space, wanted)
            if any(one.embedding) and any(query)
        ]
        return sorted(scored, key=lambda pair: -pair[0])[:limit]


@pytest.mark.parametrize("kind", KINDS)
def test_any_sequence_of_operations_does_what_a_dict_does(kind, open_store, embedded, everything, request):
    """A short run; raise max_examples for a long one."""
    if kind != "memory":
        request.getfixturevalue("postgres_dsn" if kind == "pgvector" else "connect")
    examples = 0

    async def play(sequence):
        nonlocal examples
        examples += 1
        model = Model()
        name = {space: f"{kind} {request.node.nodeid} {examples} {space}" for space in ("one", "two")}
        async with open_store(kind) as store:
            for operation, space, *arguments in sequence:
                if operation == "upsert":
                    chunks = [embedded(one, vector, **meta) for one, vector, meta in arguments[0]]
                    await store.upsert(chunks, name[space])
                    model.spaces[space] |= {one.chunk.id: one for one in chunks}
                elif operation == "delete":
                    await store.delete(arguments[0], name[space])
                    for one in arguments[0]:
                        model.spaces[space].pop(one, None)
                elif operation == "delete_namespace":
                    await store.delete_namespace(name[space])
                    model.spaces[space].clear()
                elif operation == "search":
                    found = await store.search(arguments[0], name[space], *arguments[1:])
                    expected = model.search(space, *arguments)
                    assert [result.chunk for result in found] == [chunk for _, chunk in expected]
                    assert [result.score for result in found] == pytest.approx(
                        [score for score, _ in expected]
                    )
                else:
                    found = await everything(store, name[space], arguments[0])
                    assert found == [one.chunk for one in model.matching(space, arguments[0])]
            for space in ("one", "two"):
                assert await everything(store, name[space]) == [
                    one.chunk for one in model.spaces[space].values()
                ]
                await store.delete_namespace(name[space])

    @settings(max_examples=100 if kind == "memory" else 25)
    @given(sequences)
    def check(sequence):
        asyncio.run(play(sequence))

    check()
    assert examples > 20
