"""The three stores over the real things: a PostgreSQL with pgvector, and a server process."""

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.stores import (
    Chunk,
    EmbeddedChunk,
    EncryptedVectorStore,
    InMemoryVectorStore,
    VectorStore,
)
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

KINDS = ("memory", "pgvector", "encrypted")
DIMENSIONS = 12
ORG_ID, API_KEY, ADMIN_KEY = "orgForTests1", "api-key-of-the-tests", "admin-key-of-the-tests"


@dataclass
class Server:
    """A server process."""

    url: str
    pid: int
    data: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
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
        yield Server(address.split()[-1], process.pid, data)
        process.terminate()
        assert process.wait(30) == 0, (data / "log").read_text()


@pytest.fixture(scope="session")
def context() -> ExecutionContext:
    """A small key, which is refused everywhere without the opt-in."""
    return ExecutionContext.create(
        "correct horse",
        embedding_length=DIMENSIONS,
        key_len=256,
        encoding="authenticated",
        allow_insecure=True,
    )


OpenStore = Callable[[str], Any]
Connect = Callable[..., XTraceIntegration]


@pytest.fixture(scope="session")
def connect(server: Server) -> Connect:
    """Makes clients of the server, of any class and with any keys."""

    def make(kind: type[XTraceIntegration] = XTraceIntegration, **keys: Any) -> XTraceIntegration:
        given = {"api_key": API_KEY, "admin_key": ADMIN_KEY, **keys}
        return kind(ORG_ID, api_url=server.url, **given)

    return make


@pytest.fixture
async def integration(connect: Connect) -> AsyncIterator[XTraceIntegration]:
    async with connect() as integration:
        yield integration


@pytest.fixture(scope="session")
def open_store(request: pytest.FixtureRequest, context: ExecutionContext) -> OpenStore:
    """Opens a store of some kind over what is running, for an ``async with``."""

    @asynccontextmanager
    async def opened(kind: str) -> AsyncIterator[VectorStore]:
        if kind == "memory":
            yield InMemoryVectorStore(DIMENSIONS)
        elif kind == "pgvector":
            dsn = request.getfixturevalue("postgres_dsn")
            from xtrace_sdk.stores import PgVectorStore  # not for those who skip it

            async with await PgVectorStore.connect(dsn, DIMENSIONS, table_name="shared", max_size=2) as store:
                await store.apply_migrations()
                yield store
        else:
            async with request.getfixturevalue("connect")() as integration:
                yield EncryptedVectorStore(context, integration)

    return opened


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, open_store: OpenStore) -> AsyncIterator[VectorStore]:
    async with open_store(request.param) as store:
        yield store


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"namespace {uuid.uuid4()}"


@pytest.fixture(scope="session")
def embedded() -> Callable[..., EmbeddedChunk]:
    """Makes a chunk with its vector; keywords are metadata."""

    def make(chunk_id: str, vector: Any, content: str = "", **metadata: Any) -> EmbeddedChunk:
        chunk = Chunk(chunk_id, "document", content or f"content of {chunk_id}", 0, metadata, "hash")
        return EmbeddedChunk(chunk, vector, "model")

    return make


@pytest.fixture(scope="session")
def everything() -> Callable[..., Awaitable[list[Chunk]]]:
    """All chunks of a namespace."""

    async def read(store: VectorStore, namespace: str, wanted: Any = None) -> list[Chunk]:
        return [chunk async for chunk in store.get_all_chunks(namespace, wanted)]

    return read
