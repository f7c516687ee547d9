"""Is the server well?"""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter

from xtrace_sdk import _core, wire
from xtrace_sdk.server.auth import AdminCaller, ServicesNow
from xtrace_sdk.server.models import Health

router = APIRouter(tags=["health"])


def product_version() -> str:
    """The installed version; a source tree on the path has none."""
    try:
        return version("xtrace-sdk-native")
    except PackageNotFoundError:
        return "0+source"


@router.get(wire.HEALTH)
async def health() -> Health:
    return Health(status="ok", version=product_version())


@router.get(wire.HEALTH_DETAILED)
async def health_detailed(caller: AdminCaller, server: ServicesNow) -> dict[str, Any]:
    """Sizes of the whole server, for its operator: needs an admin key."""
    return {
        "status": "ok",
        "version": product_version(),
        "uptime_seconds": round(time.monotonic() - server.started, 1),
        "kernel": _core.kernel(),
        "threads": _core.max_threads(),
        "store": await server.store.check(),
        "indexes": {
            "count": len(server.indexes),
            "bytes": server.indexes.nbytes,
            "budget_bytes": server.settings.index_bytes,
        },
    }
