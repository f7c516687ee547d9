"""What happens to every request before and after the application: ids, limits, the log line."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xtrace_sdk import wire
from xtrace_sdk.server.problems import Problem, answer

log = logging.getLogger("xtrace.server")

_DRAIN_SECONDS = 10.0


class Frame:
    """Outermost layer.

    - Repeated slashes in the path count as one (clients join a base URL that ends in a slash).
    - Every request gets a fresh id: in the answer's header, in its error body, in the log.
    - Bodies are counted as they arrive; 413 above the limit.
    - The rest of a body that nobody wanted is read and dropped before the answer, else the client would see a
      broken connection instead of the error.
    - One log line per request with the route's template: no ids, queries, contents or keys.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = re.sub("/{2,}", "/", scope["path"])
        scope = {**scope, "path": path, "raw_path": re.sub(b"/{2,}", b"/", scope.get("raw_path") or b"")}
        exchange = _Exchange(receive, send, self._max_body_bytes)
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        begin = time.perf_counter()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - the last resort
            # The message of an unexpected error may quote what the caller sent: log where, not what.
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error(  # noqa: TRY400
                "%s %s at %s:%s", exchange.request_id, type(error).__name__, where.filename, where.lineno
            )
            # Once an answer has begun, leaving it incomplete is all that is left: the server hangs up.
            if not exchange.status:
                response = answer(exchange.request_id, 500, "internal error")
                await response(scope, exchange.receive, exchange.send)
        finally:
            route = getattr(scope.get("route"), "path", "-")
            log.info(
                "%s %s %s %s in=%d out=%d ms=%.1f",
                exchange.request_id,
                scope["method"],
                route,
                exchange.status or "-",
                exchange.bytes_in,
                exchange.bytes_out,
                1000 * (time.perf_counter() - begin),
            )


class _Exchange:
    """The two channels of one request, counted."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self.request_id = uuid.uuid4().hex
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._receive = receive
        self._send = send
        self._limit = limit
        self._ended = False

    async def receive(self) -> Message:
        message = await self._next()
        if self.bytes_in > self._limit:
            raise Problem(413, f"body: longer than {self._limit} bytes")
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [
                *message.get("headers", []),
                (wire.REQUEST_ID_HEADER.encode(), self.request_id.encode()),
            ]
            if not self._ended:
                await self._drain()
            if not self._ended:
                headers.append((b"connection", b"close"))
            self.status = message["status"]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
        await self._send(message)

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
        else:
            self._ended = True
        return message

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._ended and self.bytes_in <= 2 * self._limit:
                    await self._next()
        except TimeoutError:
            return
