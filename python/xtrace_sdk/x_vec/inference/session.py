"""HTTP requests to model services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary

from xtrace_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    import aiohttp

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass
class _Shared:
    session: aiohttp.ClientSession
    users: int = 0


class SharedSession:
    """One HTTP session per event loop, shared by all requests under way and closed after the last of them.

    Holding it open over several requests (as an embedder does over a batch) keeps connections alive; nobody
    has to close anything.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[aiohttp.ClientSession]:
        """The running event loop's session, open at least until the block ends."""
        import aiohttp

        loop = asyncio.get_running_loop()
        shared = self._open.get(loop)
        if shared is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=self._timeout)
            shared = self._open[loop] = _Shared(
                aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
            )
        shared.users += 1
        try:
            yield shared.session
        finally:
            shared.users -= 1
            if not shared.users:
                del self._open[loop]
                await shared.session.close()


def base_address(url: str) -> str:
    """`url` without trailing slashes. Raises ConfigurationError unless it is http or https with a host."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("base_url: expected http://HOST[:PORT][/PATH] or the same with https")
    return url.rstrip("/")


def proxy_for(url: str) -> str | None:
    """The system's proxy for `url`; never one for this machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _LOOPBACK or proxy_bypass(host):
        return None
    return getproxies().get(parts.scheme)
