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


def openai_chat(pieces: list[str]) -> tuple[Any, list[str]]:
    """An answer as a whole and as a stream, in OpenAI's protocol."""
    deltas: list[Any] = [
        {"role": "assistant", "content": None},
        *({"content": piece} for piece in pieces),
        {},
    ]
    events = [json.dumps({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    events += [json.dumps({"choices": [], "usage": {"total_tokens": 5}}), "[DONE]"]
    whole = {"choices": [{"message": {"role": "assistant", "content": "".join(pieces)}}]}
    return whole, [": keep-alive\n\n", *(f"data: {event}\n\n" for event in events)]


def anthropic_chat(pieces: list[str]) -> tuple[Any, list[str]]:
    """The same in Anthropic's protocol."""
    events: list[Any] = [
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "".join(pieces)}]
    stream = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    return {"type": "message", "content": blocks}, stream


@dataclass
class ModelServer:
    """Answers embeddings and chats, and records what it was asked.

    `fail` makes the next answers that status and text, `raw` that body; `dimensions` is what its embedding
    model gives, `events` after how many a stream breaks off.
    """

    url: str = ""
    dimensions: int = 8
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    fail: tuple[int, str] | None = None
    raw: str | None = None
    events: int | None = None

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
        if request.path in ("/v1/chat/completions", "/v1/messages"):
            pieces = ["Echo: ", *body["messages"][0]["content"].splitlines(keepends=True)]
            events = openai_chat if request.path.endswith("completions") else anthropic_chat
            whole, parts = events(pieces)
            if not body["stream"]:
                return web.json_response(whole)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for part in parts[: self.events]:
                await response.write(part.encode())
            return response
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
