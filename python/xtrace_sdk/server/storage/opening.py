"""The store that the settings name."""

from __future__ import annotations

from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage.sql_store import SqlStore


async def open_store(settings: Settings) -> SqlStore:
    """Open the database of the settings and bring it to the present format.

    Raises FormatError, UnavailableError, or ConfigurationError when the engine's driver is not installed.
    """
    if settings.database_url is not None:
        from xtrace_sdk.server.storage.postgres import PostgresStore

        return await PostgresStore.connect(settings.database_url, settings.pool_size)
    from xtrace_sdk.server.storage.sqlite import SqliteStore

    return SqliteStore(None if settings.in_memory else settings.database)
