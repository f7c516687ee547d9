"""What everything over PostgreSQL shares: connections that wait for a database that is still starting."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from typing import Any, Final

from xtrace_sdk.errors import ConfigurationError

try:
    import asyncpg
except ModuleNotFoundError as _missing:
    raise ConfigurationError("PostgreSQL needs the extra: xtrace-sdk-native[postgres]") from _missing

_LONGEST_PAUSE: Final = 30.0
_TRANSIENT: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)


async def open_pool(
    dsn: str, retries: int, backoff_seconds: float, log: logging.Logger, **options: Any
) -> Any:
    """A pool of connections, as ``asyncpg.create_pool`` makes it with `options`.

    A database that cannot be reached, starts up or has no connection free is tried again `retries` times,
    after `backoff_seconds`, twice that, and so on up to 30 seconds, less up to half of it at random. Then,
    and at once for any other failure, the error is asyncpg's or an OSError.
    """
    for attempt in itertools.count(1):
        pool = asyncpg.create_pool(dsn, **options)
        try:
            await pool
            break
        except _TRANSIENT as error:
            if attempt > retries:
                raise
            pause = min(_LONGEST_PAUSE, backoff_seconds * 2 ** (attempt - 1))
            pause *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
            reason = type(error).__name__
        log.warning("no connection: %s; retry %d of %d in %.1f s", reason, attempt, retries, pause)
        await asyncio.sleep(pause)
    return pool
