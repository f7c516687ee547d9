"""A real server on loopback over a real SQLite file, and a small key to speak to it with."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from xtrace_sdk import _core, wire
from xtrace_sdk.server import credentials
from xtrace_sdk.server.app import create_app
from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage import opening
from xtrace_sdk.server.storage.sql_store import SqlStore

DIMENSIONS = 24


@dataclass
class Org:
    """An organisation of a live server, with clients for its administrator and for one API key."""

    server: "Live"
    id: str
    admin_key: str
    api_key: str
    admin: httpx.Client = field(init=False)
    api: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.admin = self.server.client({wire.ADMIN_KEY_HEADER: self.admin_key, wire.ORG_ID_HEADER: self.id})
        self.api = self.server.client({wire.API_KEY_HEADER: self.api_key})

    def path(self, template: str, **parts: str) -> str:
        return wire.path(template, org_id=self.id, **parts)

    def new_kb(self, name: str = "kb") -> str:
        answer = self.admin.post(wire.KBS, json={"name": name, "description": ""})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def new_key(self, name: str = "key") -> tuple[str, str]:
        """(secret, hash)"""
        answer = self.admin.post(wire.KEYS, json={"name": name, "description": ""}).json()
        return answer["secretKey"], answer["apiKey"]["hash"]

    def client_with(self, kb_id: str, permission: int) -> httpx.Client:
        secret, key_hash = self.new_key()
        self.permit(key_hash, kb_id, permission)
        return self.server.client({wire.API_KEY_HEADER: secret})

    def permit(self, key_hash: str, kb_id: str, permission: int) -> None:
        path = wire.path(wire.KEY_PERMISSION, key_hash=key_hash, kb_id=kb_id)
        answer = self.admin.put(path, json={"permission": permission})
        assert answer.status_code == 200, answer.text

    def insert(
        self, kb_id: str, context_id: str, chunks: list[dict[str, Any]], **headers: str
    ) -> httpx.Response:
        body = {"kb_id": kb_id, "chunks": chunks, "context_id": context_id}
        return self.api.post(self.path(wire.CHUNKS), json=body, headers=headers)

    def fetch(self, kb_id: str, ids: list[int], *projection: str) -> Any:
        params = {"chunk_ids": ids, "kb_id": kb_id, "projection": list(projection)}
        answer = self.api.get(self.path(wire.CHUNKS), params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def count(self, kb_id: str) -> int:
        return self.admin.get(wire.path(wire.KB, kb_id=kb_id)).json()["numberOfVectors"]


class Live:
    """A running server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._clients: list[httpx.Client] = []
        app = create_app(settings)
        config = uvicorn.Config(
            app, port=0, http="h11", h11_max_incomplete_event_size=8 << 20, log_config=None, lifespan="on"
        )
        self._server = uvicorn.Server(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._server.serve()])
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.services = app.state.services
        self.app = app

    def client(self, headers: dict[str, str]) -> httpx.Client:
        client = httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, verify=False)
        self._clients.append(client)
        return client

    def new_org(self) -> Org:
        org_id, admin_key, api_key = (
            credentials.new_id(),
            credentials.new_secret(),
            credentials.new_secret(),
        )

        records = [
            credentials.key_record(admin_key, org_id, admin=True, name="admin"),
            credentials.key_record(api_key, org_id, admin=False, name="api", default_permission=wire.DELETE),
        ]
        assert self.run(self.services.store.create_org(org_id, records, first=False))
        return Org(self, org_id, admin_key, api_key)

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call, made where the server runs."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(60)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._server.should_exit = True
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of the servers' store: SQLite, and others where a module names them as `ENGINES`."""
    return getattr(request, "param", "sqlite")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    engines = getattr(metafunc.module, "ENGINES", None)
    if engines and "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", engines, indirect=True, scope="module")


@pytest.fixture(scope="module")
def serve_with(
    tmp_path_factory: pytest.TempPathFactory, engine: str, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Live]]:
    """Start servers with settings of one's own; they are stopped with the module."""
    running: list[Live] = []

    def start(data: Path | None = None, **settings: Any) -> Live:
        if engine == "postgresql" and "database_url" not in settings:
            settings["database_url"] = request.getfixturevalue("new_database")()
        live = Live(Settings(data=data or tmp_path_factory.mktemp("data"), **settings))
        running.append(live)
        return live

    yield start
    for live in running:
        live.close()


class OpenStore:
    """A store and the loop that it lives in."""

    def __init__(self, runner: asyncio.Runner, store: SqlStore) -> None:
        self._runner = runner
        self.store = store

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(call)


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql"])
def open_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenStore]:
    """An empty store of every engine."""
    settings = {
        "memory": lambda: Settings(data=Path(":memory:")),
        "sqlite": lambda: Settings(data=tmp_path_factory.mktemp("store")),
        "postgresql": lambda: Settings(database_url=request.getfixturevalue("new_database")()),
    }[request.param]()
    with asyncio.Runner() as runner:
        store = runner.run(opening.open_store(settings))
        yield OpenStore(runner, store)
        runner.run(store.close())


@pytest.fixture(scope="module")
def live(serve_with: Callable[..., Live]) -> Live:
    return serve_with()


@pytest.fixture
def org(live: Live) -> Org:
    return live.new_org()


class Client:
    """A key pair with its encryptor and decoder, and chunks made with them."""

    def __init__(self, dimensions: int = DIMENSIONS, key_len: int = 128) -> None:
        self.key = _core.SecretKey.generate_plain(key_len, allow_insecure=True)
        self.dimensions = dimensions
        self.encryptor = _core.HammingEncryptor(self.key, dimensions)
        self.decoder = _core.HammingDecoder(self.key, dimensions)
        n = self.key.public.n
        pk = {"g": str(n + 1), "n": str(n), "n_squared": str(n * n)}
        config = {"embed_len": dimensions, "key_len": key_len}
        self.data = {
            "sk": "sealed",
            "pk": json.dumps(pk),
            "type": "PaillierClient",
            "config": json.dumps(config),
            "key_provider": "passphrase",
            "wrapped_key": "c2FsdA==",
        }
        self.context_id = f"{n % (1 << 256):064x}"

    @property
    def n_squared(self) -> int:
        return self.key.public.n_squared

    def vectors(self, count: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 2, (count, self.dimensions), dtype=np.uint8)

    def index(self, bits: np.ndarray) -> list[list[str]]:
        return wire.encode_rows(self.encryptor.encrypt(bits))

    def chunks(self, bits: np.ndarray, **fields: Any) -> list[dict[str, Any]]:
        return [
            {"chunk_content": f"sealed {number}", "index": row, "meta_data": {}, "name": "", **fields}
            for number, row in enumerate(self.index(bits))
        ]

    def register(self, org: Org) -> None:
        body = {"data": self.data, "context_id": self.context_id}
        answer = org.api.post(org.path(wire.CONTEXTS), json=body)
        assert answer.status_code == 200, answer.text

    def search(
        self, org: Org, kb_id: str, query: np.ndarray, accept: str = "*/*", **more: Any
    ) -> httpx.Response:
        body = {
            "kb_id": kb_id,
            "query": self.index(query[np.newaxis])[0],
            "context_id": self.context_id,
            **more,
        }
        return org.api.post(org.path(wire.HAMMING), json=body, headers={"accept": accept})

    def decode(self, answer: httpx.Response) -> tuple[list[int], list[int]]:
        assert answer.status_code == 200, answer.text
        ids, rows, _ = wire.unpack_distances(
            answer.content,
            answer.headers["content-type"],
            chunks=self.encryptor.chunks,
            width=self.encryptor.width,
        )
        return ids.tolist(), self.decoder.decode(rows).tolist()

    def distances(self, org: Org, kb_id: str, query: np.ndarray, **more: Any) -> tuple[list[int], list[int]]:
        """(ids, decrypted distances)"""
        return self.decode(self.search(org, kb_id, query, **more))


@pytest.fixture(scope="session")
def make_client() -> type[Client]:
    return Client


@pytest.fixture(scope="session")
def client() -> Client:
    return Client()


@pytest.fixture
def kb(org: Org, client: Client) -> str:
    """An empty knowledge base of an organisation that knows the client's context."""
    client.register(org)
    return org.new_kb()
