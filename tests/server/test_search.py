"""CiphertextIndex against a dictionary and Python's own integers."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrace_sdk.errors import InputError
from xtrace_sdk.records import as_table
from xtrace_sdk.server import search
from xtrace_sdk.server.search import CiphertextIndex

N_SQUARED = (1009 * 1013) ** 2
WIDTH = 5
QUERY = np.array([[7, 1, 0, 0, 0], [9, 0, 2, 0, 0]], dtype=np.uint8)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rows a block, so that few rows make many blocks."""
    monkeypatch.setattr(search, "_BLOCK_BYTES", 8 * 2 * WIDTH)


def rows_for(ids: np.ndarray, version: int = 0) -> np.ndarray:
    values = [[pow(int(i) + 2, 5 + chunk + version, N_SQUARED) for chunk in range(2)] for i in ids]
    raw = b"".join(value.to_bytes(WIDTH, "little") for row in values for value in row)
    return np.frombuffer(raw, np.uint8).reshape(len(ids), 2, WIDTH)


def integers(rows: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(int.from_bytes(one.tobytes(), "little") for one in row) for row in rows]


def expected(model: dict[int, tuple[int, ...]], ids: list[int]) -> list[tuple[int, ...]]:
    query = integers(QUERY[np.newaxis])[0]
    return [tuple(c * q % N_SQUARED for c, q in zip(model[i], query, strict=True)) for i in ids]


def check(index: CiphertextIndex, model: dict[int, tuple[int, ...]]) -> None:
    ids, products = index.distances(QUERY)
    assert ids.tolist() == sorted(model)
    assert ids.dtype == np.int64 and products.shape == (len(model), 2, WIDTH)
    assert integers(products) == expected(model, sorted(model))
    assert len(index) == len(model)
    assert index.nbytes == len(model) * (2 * WIDTH + 8)
    assert all(0 < block.ids.size <= 8 for block in index._blocks)


steps = st.lists(
    st.tuples(st.sampled_from(["extend", "remove", "replace"]), st.sets(st.integers(0, 60), max_size=30)),
    max_size=12,
)


def records_for(ids: np.ndarray, version: int) -> list[bytes]:
    """Of every length from none to 160, zeros at the end included."""
    return [bytes([version + 1]) * (int(i) * 7 % 160) + bytes(int(i) % 2) for i in ids]


@settings(max_examples=150, deadline=None)
@given(steps)
def test_records_follow_their_rows(steps) -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    model: dict[int, bytes] = {}
    for version, (step, chosen) in enumerate(steps):
        array = np.array(list(chosen), dtype=np.int64)
        marks = records_for(array, version)
        if step == "remove":
            index.remove(array)
            model = {one: mark for one, mark in model.items() if one not in chosen}
        else:  # a change without records takes those away that there were
            table = as_table(marks) if step == "extend" else None
            index.replace(array, array, rows_for(array), table)
            model.update(zip(array.tolist(), marks if step == "extend" else [b""] * len(marks), strict=True))
        for wanted in (None, np.arange(0, 61, 3)):
            snapshot = index.snapshot(wanted)
            table = snapshot.records()
            found = [row[1 : 1 + row[0]].tobytes() if row.size else b"" for row in table]
            assert found == [model[one] for one in snapshot.ids.tolist()]


def test_table_of_another_shape() -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    ids = np.array([1, 2], dtype=np.int64)
    for table in (np.zeros((1, 3), np.uint8), np.zeros((2, 3), np.int8), np.zeros(2, np.uint8)):
        with pytest.raises(InputError, match=r"records: expected uint8 \(2, W\)"):
            index.extend(ids, rows_for(ids), table)


@settings(max_examples=150, deadline=None)
@given(steps, st.randoms(use_true_random=False))
def test_any_sequence_of_changes(steps, random) -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    model: dict[int, tuple[int, ...]] = {}
    for version, (step, chosen) in enumerate(steps):
        ids = list(chosen)
        random.shuffle(ids)
        array = np.array(ids, dtype=np.int64)
        rows = rows_for(array, version)
        if step == "remove":
            index.remove(array)
            for one in ids:
                model.pop(one, None)
        elif step == "replace":
            index.replace(array, array, rows)
            model.update(zip(ids, integers(rows), strict=True))
        elif model.keys() & chosen:
            with pytest.raises(InputError, match="is in the index already"):
                index.extend(array, rows)
        else:
            index.extend(array, rows)
            model.update(zip(ids, integers(rows), strict=True))
        check(index, model)
    wanted = [one for one in range(-1, 70) if random.random() < 0.5]
    ids, products = index.distances(QUERY, np.array(wanted, dtype=np.int64))
    assert ids.tolist() == [one for one in wanted if one in model]
    assert integers(products) == expected(model, ids.tolist())


def test_selection_is_ascending_and_once() -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    all_ids = np.arange(1, 40, dtype=np.int64)
    index.extend(all_ids, rows_for(all_ids))
    ids, _ = index.distances(QUERY, np.array([39, 5, 5, 99, 0, 17], dtype=np.int64))
    assert ids.tolist() == [5, 17, 39]


def test_empty_index_and_selection() -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    for ids in (None, np.array([3], dtype=np.int64), np.empty(0, np.int64)):
        found, products = index.distances(QUERY, ids)
        assert found.dtype == np.int64 and found.size == 0
        assert products.shape == (0, 2, WIDTH)
    index.remove(np.array([1], dtype=np.int64))
    assert len(index) == 0


def test_extremes_of_int64() -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    ids = np.array([np.iinfo(np.int64).max, -5], dtype=np.int64)
    index.extend(ids, rows_for(np.array([1, 2])))
    assert index.distances(QUERY, ids)[0].tolist() == [-5, np.iinfo(np.int64).max]
    index.remove(ids)
    assert len(index) == 0


def test_caller_may_reuse_arrays() -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    ids = np.arange(20, dtype=np.int64)
    rows = rows_for(ids).copy()
    model = dict(zip(ids.tolist(), integers(rows), strict=True))
    index.extend(ids, rows)
    ids[:] = 0
    rows[:] = 0
    check(index, model)


def test_snapshot_is_one_state_and_streams_in_order() -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    ids = np.arange(50, dtype=np.int64)
    index.extend(ids, rows_for(ids))
    snapshot = index.snapshot()
    model = dict(zip(ids.tolist(), integers(rows_for(ids)), strict=True))
    index.remove(ids[:30])
    index.extend(np.array([99], dtype=np.int64), rows_for(np.array([99])))
    pieces = list(snapshot.products(QUERY))
    assert len(pieces) > 1
    assert snapshot.ids.tolist() == ids.tolist()
    assert integers(np.concatenate(pieces)) == expected(model, ids.tolist())


def test_random_order_keeps_blocks_at_least_half_full() -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    order = np.random.default_rng(1).permutation(800).astype(np.int64)
    for at in range(0, 800, 10):
        index.extend(order[at : at + 10], rows_for(order[at : at + 10]))
    assert len(index._blocks) <= 2 * 800 / 8


@pytest.mark.parametrize(
    ("ids", "rows", "named"),
    [
        (np.array([1], np.int32), rows_for(np.array([1])), "ids: expected int64"),
        (np.array([[1]], np.int64), rows_for(np.array([1])), "ids: expected int64"),
        (np.array([1, 1], np.int64), rows_for(np.array([1, 2])), "ids: 1 is given twice"),
        (np.array([1, 2], np.int64), rows_for(np.array([1])), "rows: expected uint8"),
        (np.array([1], np.int64), rows_for(np.array([1]))[:, :1], "rows: expected uint8"),
        (np.array([1], np.int64), rows_for(np.array([1]))[:, :, :4], "rows: expected uint8"),
        (np.array([1], np.int64), rows_for(np.array([1])).astype(np.int64), "rows: expected uint8"),
    ],
)
def test_refusals_change_nothing(ids, rows, named: str) -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    index.extend(np.array([7], np.int64), rows_for(np.array([7])))
    with pytest.raises(InputError, match=named):
        index.extend(ids, rows)
    check(index, {7: integers(rows_for(np.array([7])))[0]})


def test_wrong_queries_are_refused() -> None:
    index = CiphertextIndex(N_SQUARED, 2)
    for query in (QUERY[:1], QUERY[:, :4], QUERY.astype(np.int16)):
        with pytest.raises(InputError, match="query: expected uint8"):
            index.distances(query)


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="chunks"):
        CiphertextIndex(N_SQUARED, 0)
    with pytest.raises(InputError):
        CiphertextIndex(N_SQUARED - 1, 1)


def test_searches_while_changing_see_whole_changes() -> None:
    """Ten rows come and go together; a search sees all of them or none."""
    index = CiphertextIndex(N_SQUARED, 2)
    base = np.arange(0, 200, 2, dtype=np.int64)
    together = np.arange(1, 101, 10, dtype=np.int64)
    index.extend(base, rows_for(base))
    seen: set[int] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            ids, products = index.distances(QUERY)
            assert products.shape[0] == ids.size and (ids[1:] > ids[:-1]).all()
            seen.add(ids.size)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(200):
        index.extend(together, rows_for(together))
        index.remove(together)
    stop.set()
    thread.join()
    assert seen <= {100, 110}


def test_importable_without_fastapi() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.modules['uvicorn'] = None\n"
        "import xtrace_sdk.server.search as search; print(search.CiphertextIndex.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout == "CiphertextIndex\n", done.stderr
