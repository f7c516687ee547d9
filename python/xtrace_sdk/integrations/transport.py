"""One HTTP exchange at a time: sessions, time limits, retries, and what comes back as a typed error.

Nothing here knows the API. Redirects are never followed (they would carry the key to another host), cookies
are ignored, ``SSL_CERT_FILE`` and the system's proxies are honoured, and loopback goes past every proxy.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Final, cast

import aiohttp
from yarl import URL

from xtrace_sdk import wire
from xtrace_sdk.addresses import proxy_for
from xtrace_sdk.integrations.answers import LONGEST_JSON, Answer
from xtrace_sdk.integrations.errors import (
    AnswerTimeoutError,
    RateLimitError,
    ResponseError,
    ServerUnreachableError,
    TransportError,
    UnexpectedAnswerError,
    response_error,
)

_CONNECT_SECONDS: Final = 10.0
_SLOWEST: Final = 50_000  # bytes/s; a server that takes a body or answers more slowly counts as silent
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 8.0
_LONGEST_RETRY_AFTER: Final = 60.0
_REPEAT_ON: Final = frozenset({500, 502, 503, 504})
_LONGEST_ERROR: Final = 1 << 16
_MOST_WAITING: Final = 16 << 20  # bytes of a body beside those that its reader works on
_LONGEST_MESSAGE: Final = 1000
_LONGEST_ID: Final = 100


@dataclass
class Traffic:
    """Requests made, bytes of bodies sent and received, and seconds between request and whole answer."""

    requests: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0


class Arriving:
    """The body of a successful answer while it arrives; whoever reads it may take bytes from its front.

    `head` is the answer without a body, None before the first byte. A request that is tried again begins
    again, with another `head`. `news` is set whenever something has changed.

    No more is read while much of the body waits here for a reader who is busy, so that memory does not grow
    with the answer; `took` tells whether the reader is.
    """

    def __init__(self) -> None:
        self.head: Answer | None = None
        self.content = bytearray()
        self.news = asyncio.Event()
        self._busy = False
        self._taken = asyncio.Event()

    def took(self, *, busy: bool) -> None:
        """The reader took what it could: it now works on that (`busy`), or needs more to go on."""
        self._busy = busy
        self._taken.set()

    @property
    def full(self) -> bool:
        """Whether so much waits for a busy reader that no more is to be read."""
        return self._busy and len(self.content) >= _MOST_WAITING

    async def room(self) -> None:
        """Until more of the body may be read."""
        while self.full:
            self._taken.clear()
            await self._taken.wait()


class Transport:
    """Sends requests. Usable from several event loops: each has its own connections."""

    def __init__(self, *, timeout: float, retries: int, connections: int) -> None:
        self.timeout = timeout
        self.retries = retries
        self.traffic = Traffic()
        self._connections = connections
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    @property
    def session(self) -> aiohttp.ClientSession | None:
        """The running event loop's session, if it has one."""
        try:
            return self._sessions.get(asyncio.get_running_loop())
        except RuntimeError:
            return None

    async def open(self) -> aiohttp.ClientSession:
        """The running event loop's session, opened if need be."""
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            await self._close([other for other in self._sessions if other.is_closed()])
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_SECONDS, sock_read=self.timeout
                ),
            )
            self._sessions[loop] = session
        return session

    async def close(self) -> None:
        """Close this event loop's connections, and what is left of loops that have ended."""
        running = asyncio.get_running_loop()
        await self._close([loop for loop in self._sessions if loop is running or loop.is_closed()])

    async def _close(self, loops: list[asyncio.AbstractEventLoop]) -> None:
        for loop in loops:
            with suppress(RuntimeError):  # "Event loop is closed": its sockets go with the session
                await self._sessions.pop(loop).close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        repeatable: bool,
        longest: int = LONGEST_JSON,
        arriving: Arriving | None = None,
    ) -> Answer:
        """Send a request and read the whole answer, which may have `longest` bytes.

        With `arriving` the body is there while it comes, and what was taken is missing from the answer's.

        `repeatable` says that sending it twice does no harm; only then is it sent again after a lost
        connection, silence or a 5xx. Refused connections and 429 are tried again in any case. Raises
        ResponseError, TransportError.
        """
        attempt = 0
        while True:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
            try:
                return await self._once(method, url, headers, body, longest, arriving)
            except ResponseError as error:
                limited = isinstance(error, RateLimitError)
                if attempt >= self.retries or not (limited or (repeatable and error.status in _REPEAT_ON)):
                    raise
                advice = error.retry_after if isinstance(error, RateLimitError) else None
                if advice is not None:
                    if advice > _LONGEST_RETRY_AFTER:
                        raise
                    pause += advice
            except ServerUnreachableError as error:
                if attempt >= self.retries or isinstance(error.os_error, ssl.SSLError | ssl.CertificateError):
                    raise
            except TransportError:
                if attempt >= self.retries or not repeatable:
                    raise
            attempt += 1
            await asyncio.sleep(pause)

    async def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        longest: int,
        arriving: Arriving | None,
    ) -> Answer:
        address = URL(url, encoded=True)
        session = await self.open()
        self.traffic.requests += 1
        self.traffic.sent += len(body or b"")
        begin = time.perf_counter()
        try:
            async with asyncio.timeout(
                self.timeout + _CONNECT_SECONDS + len(body or b"") / _SLOWEST
            ) as limit:
                async with session.request(
                    method,
                    address,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    proxy=proxy_for(url),
                    ssl=_tls() if address.scheme == "https" else True,
                ) as response:
                    if arriving is not None and 200 <= response.status < 300:
                        arriving.content = bytearray()
                        arriving.head = _answer(method, url, response, b"")
                    else:
                        arriving = None
                    content = await self._content(response, limit, longest, arriving)
        except TimeoutError as error:  # aiohttp's time limits are TimeoutErrors too
            raise _silent(address, self.timeout) from error
        except aiohttp.ClientConnectorError as error:
            raise ServerUnreachableError(_unreachable(address, error), error) from error
        except (aiohttp.ClientHttpProxyError, aiohttp.InvalidURL) as error:
            # not chained: it may show the proxy's credentials
            raise TransportError(
                f"{address.origin()}: the request could not be sent: {type(error).__name__}"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(
                f"{address.origin()}: the connection broke: {str(error) or type(error).__name__}"
            ) from error
        finally:
            self.traffic.seconds += time.perf_counter() - begin
        if content is None:
            raise UnexpectedAnswerError(
                method, url, response.status, f"the answer is longer than {longest} bytes", None
            )
        return _checked(method, url, response, content)

    async def _content(
        self,
        response: aiohttp.ClientResponse,
        limit: asyncio.Timeout,
        longest: int,
        arriving: Arriving | None,
    ) -> bytes | None:
        """The body, None when longer than `longest` bytes; `limit` moves on while enough of it arrives."""
        # One growing buffer: `read()` would collect pieces and join them, holding a large answer twice.
        content = bytearray() if arriving is None else arriving.content
        received = 0
        clock = asyncio.get_running_loop().time
        begin = clock()
        limit.reschedule(begin + self.timeout)
        async for piece in response.content.iter_any():
            content += piece
            received += len(piece)
            self.traffic.received += len(piece)
            if received > longest:
                return None
            if arriving is not None:
                arriving.news.set()
                if arriving.full:  # the pause is ours, and in no time limit
                    limit.reschedule(None)
                    paused = clock()
                    await arriving.room()
                    begin += clock() - paused
            limit.reschedule(begin + self.timeout + received / _SLOWEST)
        return cast("bytes", content)  # read like bytes everywhere, and never changed


def _answer(method: str, url: str, response: aiohttp.ClientResponse, content: bytes) -> Answer:
    request_id = response.headers.get(wire.REQUEST_ID_HEADER)
    return Answer(method, url, response.status, response.content_type, content, request_id, response.headers)


def _checked(method: str, url: str, response: aiohttp.ClientResponse, content: bytes) -> Answer:
    request_id = response.headers.get(wire.REQUEST_ID_HEADER)
    status = response.status
    if 200 <= status < 300:
        return _answer(method, url, response, content)
    if status < 400:
        target = response.headers.get("Location", "nowhere")[:200]
        raise UnexpectedAnswerError(
            method,
            url,
            status,
            f"redirect to {target}; redirects are not followed: correct the URL",
            request_id,
        )
    try:
        message, said_id = wire.read_error(content[:_LONGEST_ERROR])
    except RecursionError:  # JSON of absurd depth
        message, said_id = "", None
    error = response_error(
        method, url, status, message[:_LONGEST_MESSAGE], (said_id or request_id or "")[:_LONGEST_ID] or None
    )
    if isinstance(error, RateLimitError):
        error.retry_after = _retry_after(response.headers.get("Retry-After"))
    raise error


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR


def _silent(address: URL, seconds: float) -> AnswerTimeoutError:
    return AnswerTimeoutError(f"{address.origin()}: no answer for {seconds:g} s; is the server overloaded?")


def _unreachable(address: URL, error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, ssl.SSLError | ssl.CertificateError):
        return (
            f"{address.origin()}: the server's certificate was not accepted ({cause}); "
            "SSL_CERT_FILE names the file with your authority's certificate"
        )
    reason = cause.strerror or cause
    return f"{address.origin()}: no connection ({reason}); is the server running and the URL right?"


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
