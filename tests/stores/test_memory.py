"""`InMemoryVectorStore` beyond the protocol: real cosines, and room that is given back."""

import numpy as np
import pytest

from xtrace_sdk.errors import ConfigurationError
from xtrace_sdk.stores import InMemoryVectorStore


async def test_scores_are_cosines(embedded):
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(300, 7)) * rng.uniform(0.01, 100, (300, 1))
    store = InMemoryVectorStore(7)
    await store.upsert([embedded(f"{n}", row) for n, row in enumerate(vectors)], "space")
    query = rng.normal(size=7)
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    results = await store.search(query, "space", limit=300)
    assert [result.chunk.id for result in results] == [str(n) for n in np.argsort(-cosines)]
    assert [result.score for result in results] == pytest.approx(sorted(cosines, reverse=True), abs=1e-6)
    same = await store.search(vectors[5] * 3, "space", limit=1)
    assert same[0].chunk.id == "5" and same[0].score <= 1.0


async def test_deleted_rows_are_given_back(embedded, everything):
    store = InMemoryVectorStore(3)
    model = {}
    rng = np.random.default_rng(4)
    for turn in range(40):
        new = {f"{turn}.{n}": rng.normal(size=3) for n in range(25)}
        await store.upsert([embedded(name, vector) for name, vector in new.items()], "space")
        model |= new
        gone = list(model)[:24]
        await store.delete(gone, "space")
        model = {name: vector for name, vector in model.items() if name not in gone}
        assert [chunk.id for chunk in await everything(store, "space")] == list(model)
        nearest = max(model, key=lambda name: model[name][0] / np.linalg.norm(model[name]))
        assert (await store.search([1, 0, 0], "space", 1))[0].chunk.id == nearest
    assert len(store._namespaces["space"].chunks) < 400  # of the 1,000 that were stored


async def test_reading_goes_on_while_the_store_changes(embedded):
    store = InMemoryVectorStore(2)
    await store.upsert([embedded(f"{n}", [1, n]) for n in range(3)], "space")
    reading = store.get_all_chunks("space")
    first = await anext(reading)
    await store.delete_namespace("space")
    await store.upsert([embedded("new", [1, 1])], "space")
    assert [first.id, *[chunk.id async for chunk in reading]] == ["0", "1", "2"]


@pytest.mark.parametrize("dimensions", [0, -1, True, 1.0, None])
def test_dimensions_are_positive(dimensions):
    with pytest.raises(ConfigurationError, match="dimensions: expected a positive integer"):
        InMemoryVectorStore(dimensions)
