"""The application: routes over a store and a cache of indexes. It imports nothing that could hold a key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from xtrace_sdk.server import problems
from xtrace_sdk.server.index_cache import IndexCache
from xtrace_sdk.server.middleware import Frame
from xtrace_sdk.server.models import ErrorAnswer, add_body_schemas
from xtrace_sdk.server.routes import admin, changes, chunks, contexts, health, manifests, search
from xtrace_sdk.server.routes.health import product_version
from xtrace_sdk.server.services import Services
from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage.base import Store
from xtrace_sdk.server.storage.opening import open_store

_ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorAnswer, "description": "An error."}}


def create_app(settings: Settings, store: Store | None = None) -> FastAPI:
    """The server as an ASGI application. Without `store` it opens, and closes, the one of the settings."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = store or await open_store(settings)
        app.state.services = Services(settings, opened, IndexCache(opened, settings.index_bytes))
        try:
            yield
        finally:
            if store is None:
                await opened.close()

    app = FastAPI(
        title="xtrace",
        summary="Vector search that the server cannot read",
        version=product_version(),
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        responses=_ERRORS,
    )
    app.add_middleware(Frame, max_body_bytes=settings.max_body_bytes)
    problems.install(app)
    # Both forms of the admin base URL are in use; the document names each route once.
    app.state.routers = [
        *(("", topic.router) for topic in (health, chunks, search, changes, manifests, contexts, admin)),
        ("/api", admin.router),
    ]
    for prefix, router in app.state.routers:
        app.include_router(router, prefix=prefix, include_in_schema=not prefix)
    add_body_schemas(app)
    return app
