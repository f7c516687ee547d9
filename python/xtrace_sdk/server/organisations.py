"""Organisations beside the first, which a server makes at its first start."""

from __future__ import annotations

from xtrace_sdk.errors import ConfigurationError
from xtrace_sdk.server import credentials
from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage.base import StoreError
from xtrace_sdk.server.storage.opening import open_store


async def create_org(settings: Settings, org_id: str | None = None) -> dict[str, str]:
    """Make an organisation in the database of the settings, whether or not a server runs on it.

    Returns ``org_id``, ``admin_key`` and ``api_key``, which are kept nowhere else. Raises ConfigurationError
    when there is no database yet, it cannot be used, or `org_id` is malformed or taken.
    """
    if settings.in_memory or (settings.database_url is None and not settings.database.is_file()):
        raise ConfigurationError(f"data: {settings.data}: no database; `xtrace serve` makes one")
    made = {
        "org_id": org_id or credentials.new_id(),
        "admin_key": credentials.new_secret(),
        "api_key": credentials.new_secret(),
    }
    keys = credentials.org_keys(made["org_id"], made["admin_key"], made["api_key"])
    try:
        store = await open_store(settings)
        try:
            if not await store.create_org(made["org_id"], keys, first=False):
                raise ConfigurationError(f"org_id: {made['org_id']!r} exists already")
        finally:
            await store.close()
    except (StoreError, OSError) as error:
        raise ConfigurationError(f"database: {error}") from error
    return made
