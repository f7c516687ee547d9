"""Small keys, made once (refused everywhere without an explicit opt-in), and a real server to talk to."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.core_client import CorePaillierClient
from xtrace_sdk.x_vec.crypto.paillier_client import PaillierClient
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

KEY_LEN = 256
ALPHA_LEN = 128
PASSPHRASE = "correct horse"
ORG_ID, API_KEY, ADMIN_KEY = "orgForTests1", "api-key-of-the-tests", "admin-key-of-the-tests"


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
    """Of the original's format and encoding."""
    return ExecutionContext.create(
        PASSPHRASE,
        request.param,
        embedding_length=48,
        key_len=KEY_LEN,
        encoding="plain",
        allow_insecure=True,
    )


@pytest.fixture(scope="session")
def load_vectors() -> Callable[[str], Any]:
    """Reads a file of known answers."""
    folder = Path(__file__).parents[1] / "vectors"
    return lambda name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a process of its own, as users run it."""
    data = tmp_path_factory.mktemp("server")
    keys = {"XTRACE_ORG_ID": ORG_ID, "XTRACE_API_KEY": API_KEY, "XTRACE_ADMIN_KEY": ADMIN_KEY}
    with (data / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "xtrace_sdk.server", "--port", "0", "--data", str(data)],
            env=os.environ | keys,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    with process.stdout as lines:
        address = next((line for line in lines if line.startswith("listening on ")), None)
        assert address, (data / "log").read_text()
        yield address.split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (data / "log").read_text()


@pytest.fixture
async def integration(server_url: str) -> AsyncIterator[XTraceIntegration]:
    async with XTraceIntegration(ORG_ID, API_KEY, ADMIN_KEY, api_url=server_url) as client:
        yield client


@pytest.fixture
async def kb_id(integration: XTraceIntegration) -> str:
    """A new, empty knowledge base."""
    return str((await integration.create_kb("test"))["id"])
