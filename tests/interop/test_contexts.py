"""Contexts, vectors and contents made by us open in xtrace-ai-sdk 0.1.1, and the reverse."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xtrace_sdk.errors import DecryptionError, WeakKeyError
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

PASSPHRASE = "correct horse: größer"
TEXTS = ["", "plain", "größer als 4 €, 🐎", "x" * 5000]

# The original builds its tables whenever it makes or opens a Lookup context: 6 s at key_len 1024 on a quiet
# machine. So there is one secure key from either side, and the rest is small.
slow = pytest.mark.timeout(300)


@dataclass
class Pair:
    """One context, open on both sides. Their vectors have `ours.embed_len()` dimensions."""

    ours: ExecutionContext
    theirs: str

    @property
    def public(self) -> dict[str, int]:
        return {name: int(value) for name, value in json.loads(self.ours.homomorphic.stringify_pk()).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contexts")


def from_us(original: Any, path: Path, embed_len: int, key_len: int, alpha_len: int | None) -> Pair:
    kind = "paillier" if alpha_len is None else "paillier_lookup"
    context = ExecutionContext.create(
        PASSPHRASE,
        kind,
        embed_len,
        key_len,
        path=path,
        alpha_len=alpha_len,
        allow_insecure=key_len < 1024,
        encoding="plain",
    )
    opened = original("load", passphrase=PASSPHRASE, path=str(path))
    assert (opened["embed_len"], opened["key_len"]) == (embed_len, key_len)
    return Pair(context, opened["id"])


def from_them(original: Any, path: Path, embed_len: int, key_len: int, alpha_len: int | None) -> Pair:
    made = original(
        "create",
        passphrase=PASSPHRASE,
        path=str(path),
        embed_len=embed_len,
        key_len=key_len,
        alpha_len=alpha_len,
    )
    context = ExecutionContext.load_from_disk(PASSPHRASE, path, allow_insecure=key_len < 1024)
    assert (context.embed_len(), context.key_len()) == (embed_len, key_len)
    return Pair(context, made["id"])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((maker, *parameters), id=f"{name}-{maker.__name__}", marks=marks)
        for maker in (from_us, from_them)
        for name, parameters, marks in (
            ("lookup-1024", (512, 1024, 448), slow),
            ("paillier-1024", (512, 1024, None), ()),
            ("lookup-512", (300, 512, 50 if maker is from_them else 256), ()),
        )
    ],
)
def pair(request: pytest.FixtureRequest, original: Any, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    maker, *parameters = request.param
    made: Pair = maker(original, tmp_path_factory.mktemp("context") / "context", *parameters)
    return made


def vectors(count: int, dimensions: int) -> np.ndarray:
    """Random rows, and the two that give the smallest and the largest sums."""
    rows = np.random.default_rng(dimensions).integers(0, 2, (count, dimensions), dtype=np.uint8)
    rows[1], rows[2] = 0, 1
    return rows


def to_hex(rows: np.ndarray) -> list[list[str]]:
    return [[f"{int.from_bytes(c.tobytes(), 'little'):x}" for c in row] for row in rows]


def to_rows(ciphers: list[list[str]], width: int) -> np.ndarray:
    flat = [[int(c, 16).to_bytes(width, "little") for c in row] for row in ciphers]
    return np.array([[np.frombuffer(c, np.uint8) for c in row] for row in flat])


def product(pair: Pair, left: list[list[str]], right: list[list[str]]) -> list[list[str]]:
    square = pair.public["n_squared"]
    return [
        [f"{int(a, 16) * int(b, 16) % square:x}" for a, b in zip(x, y, strict=True)]
        for x, y in zip(left, right, strict=True)
    ]


def test_ids_agree(pair: Pair) -> None:
    assert pair.ours.id == pair.theirs


def test_products_decode_on_both_sides_whoever_encrypted(pair: Pair, original: Any) -> None:
    dimensions = pair.ours.embed_len()
    stored, queries = vectors(6, dimensions), vectors(6, dimensions)[::-1].copy()
    expected = (stored != queries).sum(axis=1).tolist()
    client = pair.ours.homomorphic

    encrypted = {
        "ours": (to_hex(client.encrypt_to_array(stored)), to_hex(client.encrypt_to_array(queries))),
        "theirs": (
            original("encrypt", context=pair.theirs, vectors=stored.tolist()),
            original("encrypt", context=pair.theirs, vectors=queries.tolist()),
        ),
    }
    for stored_by in encrypted:
        for queried_by in encrypted:
            left, right = encrypted[stored_by][0], encrypted[queried_by][1]
            products = product(pair, left, right)
            assert original("multiply", context=pair.theirs, left=left, right=right) == products
            assert original("decode", context=pair.theirs, ciphers=products) == expected
            assert client.decode_from_array(to_rows(products, client.width)).tolist() == expected


def test_contents_open_on_both_sides(pair: Pair, original: Any) -> None:
    for text in TEXTS:
        assert original("unseal", context=pair.theirs, blob=pair.ours.aes.encrypt(text).decode()) == text
        assert pair.ours.aes.decrypt(original("seal", context=pair.theirs, text=text)) == text


def test_our_file_is_refused_by_the_original_under_another_passphrase(
    original: Any, original_error: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "context"
    ExecutionContext.create(PASSPHRASE, "paillier", 64, 256, path=path, allow_insecure=True, encoding="plain")
    with pytest.raises(original_error, match="MAC check failed"):
        original("load", passphrase="another", path=str(path))


def test_their_file_is_refused_by_us_under_another_passphrase(original: Any, tmp_path: Path) -> None:
    path = tmp_path / "context"
    original("create", passphrase=PASSPHRASE, path=str(path), embed_len=64, key_len=256)
    with pytest.raises(DecryptionError):
        ExecutionContext.load_from_disk("another", path, allow_insecure=True)


def test_weak_keys_of_the_original_need_an_explicit_opt_in(original: Any, tmp_path: Path) -> None:
    path = tmp_path / "context"
    original("create", passphrase=PASSPHRASE, path=str(path), embed_len=128, key_len=256, alpha_len=50)
    with pytest.raises(WeakKeyError, match="allow_insecure"):
        ExecutionContext.load_from_disk(PASSPHRASE, path)


def test_every_small_key_of_the_original_gives_exact_distances(original: Any, tmp_path: Path) -> None:
    """Its keys differ in shape: either prime may be the smaller, and p-1, q-1 may share more than 2."""
    for number in range(12):
        path = tmp_path / f"context-{number}"
        made = original(
            "create", passphrase=PASSPHRASE, path=str(path), embed_len=128, key_len=256, alpha_len=50
        )
        context = ExecutionContext.load_from_disk(PASSPHRASE, path, allow_insecure=True)
        assert context.id == made["id"]
        stored, queries = vectors(8, 128), vectors(8, 128)[::-1].copy()
        mixed = product(
            Pair(context, made["id"]),
            original("encrypt", context=made["id"], vectors=stored.tolist()),
            to_hex(context.homomorphic.encrypt_to_array(queries)),
        )
        expected = (stored != queries).sum(axis=1).tolist()
        assert original("decode", context=made["id"], ciphers=mixed) == expected
        rows = to_rows(mixed, context.homomorphic.width)
        assert context.homomorphic.decode_from_array(rows).tolist() == expected


def test_floats_become_the_same_bits(original: Any) -> None:
    floats = [*np.random.default_rng(3).normal(size=64).tolist(), 0.0, -0.0, 1e-300, float("inf"), -1.0]
    assert Embedding.float_2_bin(floats).tolist() == original("binarise", floats=floats)
