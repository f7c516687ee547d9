"""A small real HTTP server that speaks the protocols of model services."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web


def vector_of(text: str, dimensions: int) -> list[float]:
    """Any vector that tells texts apart."""
    return [float((len(text) + 3 * position) % 7) - 3 for position in range(dimensions)]


@dataclass
class ModelServer:
    """Answers embeddings and chats, and records what it was asked.

    `fail` makes the next answers that status and text; `dimensions` is what its embedding model gives.
    """

    url: str = ""
    dimensions: int = 8
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    fail: tuple[int, str] | None = None
    raw: str | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.asked.append((request.path, dict(request.headers), body))
        self.connections.add(request.transport)
        if self.fail is not None:
            status, text = self.fail
            return web.Response(status=status, text=text, headers={"Location": "/elsewhere"})
        if self.raw is not None:
            return web.Response(text=self.raw, content_type="application/json")
        if request.path == "/api/embed":
            return web.json_response({"embeddings": [vector_of(t, self.dimensions) for t in body["input"]]})
        if request.path == "/v1/embeddings":
            size = body.get("dimensions", self.dimensions)
            data = [
                {"object": "embedding", "index": i, "embedding": vector_of(text, size)}
                for i, text in enumerate(body["input"])
            ]
            return web.json_response({"data": data[::-1], "model": body["model"]})
        return web.Response(status=404, text="no such route")


@pytest.fixture
async def model_server() -> AsyncIterator[ModelServer]:
    served = ModelServer()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/{tail:.*}", served.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()
