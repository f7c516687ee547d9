"""What a Python program waits for, by pytest-benchmark. Every answer is checked.

Run by `pytest bench/python`, never by `make test`; `--benchmark-json=FILE` is for `python bench compare`.
"""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xtrace_sdk import wire
from xtrace_sdk.server.search import CiphertextIndex
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

ROWS, DIMENSIONS = 1024, 512


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    return ExecutionContext.create("correct horse", embedding_length=DIMENSIONS, encoding="plain")


@pytest.fixture(scope="module")
def client(context: ExecutionContext) -> PaillierLookupClient:
    return context.homomorphic


@pytest.fixture(scope="module")
def bits() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 2, (ROWS, DIMENSIONS), dtype=np.uint8)


@pytest.fixture(scope="module")
def rows(client: PaillierLookupClient, bits: np.ndarray) -> np.ndarray:
    return client.encrypt_to_array(bits)


@pytest.fixture(scope="module")
def index(context: ExecutionContext, rows: np.ndarray) -> CiphertextIndex:
    made = CiphertextIndex(context.homomorphic.public_key.n_squared, rows.shape[1])
    made.extend(np.arange(1, ROWS + 1, dtype=np.int64), rows)
    return made


def test_create_context(benchmark: Any) -> None:
    made = benchmark(ExecutionContext.create, "correct horse", embedding_length=DIMENSIONS)
    assert made.embed_len() == DIMENSIONS


def test_open_context(benchmark: Any, context: ExecutionContext, tmp_path: Path) -> None:
    path = tmp_path / "context"
    context.save_to_disk(path)
    assert benchmark(ExecutionContext.load_from_disk, "correct horse", path) == context


def test_first_encryption(benchmark: Any, context: ExecutionContext, bits: np.ndarray) -> None:
    """The tables are made by the first encryption."""

    def fresh() -> PaillierLookupClient:
        stored = context.homomorphic
        client = PaillierLookupClient(DIMENSIONS, skip_key_gen=True)
        client.load_stringified_keys(stored.stringify_pk(), stored.stringify_sk())
        return client

    rows = benchmark.pedantic(
        lambda client: client.encrypt_to_array(bits[:1]), setup=lambda: ((fresh(),), {}), rounds=10
    )
    assert rows.shape == (1, 1, context.homomorphic.width)


def test_encrypt_one(benchmark: Any, client: PaillierLookupClient, bits: np.ndarray) -> None:
    assert len(benchmark(client.encrypt_vec_one, bits[0])) == 1


def test_encrypt_batch(benchmark: Any, client: PaillierLookupClient, bits: np.ndarray) -> None:
    assert len(benchmark(client.encrypt_to_array, bits)) == ROWS


def test_search_index(benchmark: Any, index: CiphertextIndex, rows: np.ndarray) -> None:
    ids, _products = benchmark(index.distances, rows[0])
    assert len(ids) == ROWS


def test_decode_batch(
    benchmark: Any, client: PaillierLookupClient, index: CiphertextIndex, rows: np.ndarray, bits: np.ndarray
) -> None:
    _ids, products = index.distances(rows[0])
    distances = benchmark(client.decode_from_array, products)
    assert np.array_equal(distances, (bits != bits[0]).sum(axis=1))


def test_decode_batch_of_numbers(
    benchmark: Any, client: PaillierLookupClient, index: CiphertextIndex, rows: np.ndarray, bits: np.ndarray
) -> None:
    """The documented method, which takes lists of big numbers."""
    _ids, products = index.distances(rows[0])
    numbers = [[int.from_bytes(c.tobytes(), "little") for c in row] for row in products]
    distances = benchmark(client.decode_hamming_client_batch, numbers)
    assert distances == (bits != bits[0]).sum(axis=1).tolist()


def test_seal_and_open(benchmark: Any, context: ExecutionContext) -> None:
    text = "a chunk of text " * 64
    assert benchmark(lambda: context.aes.decrypt(context.aes.encrypt(text))) == text


def test_load_documents(benchmark: Any, context: ExecutionContext, bits: np.ndarray) -> None:
    loader = DataLoader(context, None)  # type: ignore[arg-type]  # nothing is sent
    chunks: Any = [{"chunk_content": f"document {i}"} for i in range(ROWS)]

    def load() -> Any:
        return asyncio.run(loader.load_data_from_memory(chunks, bits, disable_progress=True))

    index, db = benchmark(load)
    assert len(index) == len(db) == ROWS


@pytest.mark.parametrize("media_type", [wire.MSGPACK, wire.COLUMNS])
def test_read_search_answer(
    benchmark: Any, index: CiphertextIndex, rows: np.ndarray, media_type: str
) -> None:
    ids, products = index.distances(rows[0])
    chunks, width = products.shape[1:]
    if media_type == wire.COLUMNS:
        body = b"".join(wire.pack_columns(ids, chunks, width, [products]))
    else:
        body = b"".join(wire.pack_distances(ROWS, chunks, width, [(ids, products)]))
    read_ids, read_products, _ = benchmark(
        wire.unpack_distances, body, media_type, chunks=chunks, width=width
    )
    assert np.array_equal(read_ids, ids)
    assert np.array_equal(read_products, products)
