"""One HTTP exchange at a time: sessions, time limits, retries, and what comes back as a typed error.

Nothing here knows the API. Redirects are never followed (they would carry the key to another host), cookies
are ignored, ``SSL_CERT_FILE`` and the system's proxies are honoured, and loopback goes past every proxy.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, cast
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from xtrace_sdk import wire
from xtrace_sdk.errors import ConfigurationError
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
_SLOWEST_UPLOAD: Final = 50_000  # bytes/s; a server that takes the body more slowly counts as silent
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 8.0
_LONGEST_RETRY_AFTER: Final = 60.0
_REPEAT_ON: Final = frozenset({500, 502, 503, 504})


@dataclass
class Traffic:
    """Requests made, bytes of bodies sent and received, and seconds between request and whole answer."""

    requests: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Answer:
    """A successful answer."""

    method: str
    url: str
    status: int
    content_type: str
    body: bytes
    request_id: str | None

    def unexpected(self, message: str) -> UnexpectedAnswerError:
        """The error for an answer that is not what the protocol says."""
        return UnexpectedAnswerError(self.method, self.url, self.status, message, self.request_id)

    def _json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise self.unexpected(f"expected JSON, got {self.content_type}") from None

    def object(self, *fields: str) -> dict[str, Any]:
        """The body as a JSON object that has `fields`. Raises UnexpectedAnswerError."""
        value = self._json()
        if not isinstance(value, dict):
            raise self.unexpected("expected a JSON object")
        for name in fields:
            if name not in value:
                raise self.unexpected(f"the answer has no {name!r}")
        return value

    def objects(self) -> list[dict[str, Any]]:
        """The body as a JSON array of objects. Raises UnexpectedAnswerError."""
        value = self._json()
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.unexpected("expected a JSON array of objects")
        return value

    def strings(self, name: str) -> list[str]:
        """The strings in field `name` of a JSON object, none if absent. Raises UnexpectedAnswerError."""
        value = self.object().get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.unexpected(f"{name!r} is not a list of strings")
        return value


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
    ) -> Answer:
        """Send a request and read the whole answer.

        `repeatable` says that sending it twice does no harm; only then is it sent again after a lost
        connection, silence or a 5xx. Refused connections and 429 are tried again in any case. Raises
        ResponseError, TransportError.
        """
        attempt = 0
        while True:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
            try:
                return await self._once(method, url, headers, body)
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

    async def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        address = URL(url, encoded=True)
        session = await self.open()
        self.traffic.requests += 1
        self.traffic.sent += len(body or b"")
        begin = time.perf_counter()
        try:
            async with asyncio.timeout(
                self.timeout + _CONNECT_SECONDS + len(body or b"") / _SLOWEST_UPLOAD
            ) as limit:
                async with session.request(
                    method,
                    address,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    proxy=_proxy(address),
                    ssl=_tls() if address.scheme == "https" else True,
                ) as response:
                    limit.reschedule(None)  # from here on sock_read watches, however long the answer is
                    content = await _content(response)
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
        self.traffic.received += len(content)
        return _checked(method, url, response, content)


async def _content(response: aiohttp.ClientResponse) -> bytes:
    # One growing buffer: `read()` would collect pieces and join them, holding a large answer twice.
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
    return cast("bytes", content)  # read like bytes everywhere, and never changed


def _checked(method: str, url: str, response: aiohttp.ClientResponse, content: bytes) -> Answer:
    request_id = response.headers.get(wire.REQUEST_ID_HEADER)
    status = response.status
    if 200 <= status < 300:
        return Answer(method, url, status, response.content_type, content, request_id)
    if status < 400:
        target = response.headers.get("Location", "nowhere")[:200]
        raise UnexpectedAnswerError(
            method,
            url,
            status,
            f"redirect to {target}; redirects are not followed: correct the URL",
            request_id,
        )
    message, said_id = wire.read_error(content)
    error = response_error(method, url, status, message, said_id or request_id)
    if isinstance(error, RateLimitError):
        error.retry_after = _retry_after(response.headers.get("Retry-After"))
    raise error


def check_base_url(url: str, name: str) -> str:
    """`url` without trailing slashes. Raises ConfigurationError unless it is http or https with a host."""
    try:
        parsed = URL(url)
        valid = parsed.scheme in ("http", "https") and bool(parsed.host) and not parsed.query_string
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise ConfigurationError(f"{name}: expected http://HOST[:PORT] or https://HOST[:PORT]")
    return url.rstrip("/")


def is_loopback(host: str | None) -> bool:
    """Whether `host` names this machine's loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR


def _proxy(address: URL) -> str | None:
    host = address.host or ""
    if is_loopback(host):
        return None
    proxy = getproxies().get(address.scheme)
    return proxy if proxy and proxy.startswith("http") and not proxy_bypass(host) else None


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
    except (TypeError, ValueError):
        return None
