"""What the routes share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fastapi import Request

from xtrace_sdk.server.index_cache import IndexCache
from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage.base import Store


@dataclass(slots=True)
class Services:
    """One per application. `touched` is when each key's last use was noted, in monotonic seconds."""

    settings: Settings
    store: Store
    indexes: IndexCache
    started: float = field(default_factory=time.monotonic)
    touched: dict[str, float] = field(default_factory=dict)


def services(request: Request) -> Services:
    """The services of the application that got the request."""
    shared: Services = request.app.state.services
    return shared
