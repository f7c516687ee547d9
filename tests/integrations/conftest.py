"""A small real HTTP server that records what it is asked and answers what a test tells it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from xtrace_sdk.integrations import transport
from xtrace_sdk.integrations.xtrace import XTraceIntegration

ORG = "org123456789"
API_KEY = "api-key-that-nobody-may-see"
ADMIN_KEY = "admin-key-that-nobody-may-see"


@dataclass
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Recorder:
    """Answers requests with `answers`, one each; the last one again and again."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: list[Callable[[web.Request], Any]] = field(default_factory=list)

    def say(self, value: Any = None, status: int = 200, **headers: str) -> None:
        """Answer the next request with JSON (bytes as they are)."""

        def answer(_request: web.Request) -> web.Response:
            sent = {name.replace("_", "-"): text for name, text in headers.items()}
            if isinstance(value, bytes):
                return web.Response(body=value, status=status, headers=sent)
            return web.json_response(value, status=status, headers=sent)

        self.answers.append(answer)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(
            Asked(request.method, request.raw_path, dict(request.headers), await request.read())
        )
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        result = answer(request)
        return await result if asyncio.iscoroutine(result) else result


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    app = web.Application(client_max_size=1 << 28)
    app.router.add_route("*", "/{tail:.*}", recorder.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    recorder.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield recorder
    await runner.cleanup()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside, and short pauses between attempts."""
    for name in ("XTRACE_API_KEY", "XTRACE_ADMIN_KEY", "XTRACE_ADMIN_API_URL", "XTRACE_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transport, "_FIRST_PAUSE", 0.01)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., XTraceIntegration]]:
    """Clients of any URL, closed after the test."""
    clients: list[XTraceIntegration] = []

    def make(url: str, **options: Any) -> XTraceIntegration:
        clients.append(XTraceIntegration(ORG, API_KEY, ADMIN_KEY, url, **{"timeout": 5.0, **options}))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def client(recorder: Recorder, connect: Callable[..., XTraceIntegration]) -> XTraceIntegration:
    return connect(recorder.url)
