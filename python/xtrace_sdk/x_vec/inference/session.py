"""HTTP requests to model services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import aiohttp


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
