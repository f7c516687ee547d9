"""Small keys, made once: quick to use, and refused everywhere without an explicit opt-in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xtrace_sdk.x_vec.crypto.core_client import CorePaillierClient
from xtrace_sdk.x_vec.crypto.paillier_client import PaillierClient
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

KEY_LEN = 256
ALPHA_LEN = 128
PASSPHRASE = "correct horse"


def make_client(
    kind: str, embed_len: int, key_len: int = KEY_LEN, alpha_len: int = ALPHA_LEN
) -> CorePaillierClient:
    if kind == "paillier":
        return PaillierClient(embed_len, key_len, allow_insecure=True)
    return PaillierLookupClient(embed_len, key_len, alpha_len, allow_insecure=True)


@pytest.fixture(scope="session", name="make_client")
def make_client_fixture() -> Callable[..., CorePaillierClient]:
    """Makes another client with a new key, of type ``paillier`` or ``paillier_lookup``."""
    return make_client


@pytest.fixture(scope="session", params=["paillier_lookup", "paillier"])
def client(request: pytest.FixtureRequest) -> CorePaillierClient:
    return make_client(request.param, 48)


@pytest.fixture(scope="session")
def lookup_client() -> CorePaillierClient:
    return make_client("paillier_lookup", 48)


@pytest.fixture(scope="session", params=["paillier_lookup", "paillier"])
def context(request: pytest.FixtureRequest) -> ExecutionContext:
    return ExecutionContext.create(
        PASSPHRASE, request.param, embedding_length=48, key_len=KEY_LEN, allow_insecure=True
    )


@pytest.fixture(scope="session")
def load_vectors() -> Callable[[str], Any]:
    """Reads a file of known answers."""
    folder = Path(__file__).parents[1] / "vectors"
    return lambda name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
