"""Errors as the server answers them: one JSON shape, a stable type, a message that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.server.storage.base import (
    ConflictError,
    GoneError,
    NotFoundError,
    PreconditionError,
    TooSlowError,
    UnavailableError,
)

_MAX_MESSAGE = 1000


class Problem(HTTPException):
    """An error with a status of its own."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)


def unauthorized(message: str) -> Problem:
    return Problem(HTTPStatus.UNAUTHORIZED, message, {"WWW-Authenticate": "ApiKey"})


def forbidden(message: str) -> Problem:
    return Problem(HTTPStatus.FORBIDDEN, message)


def install(app: FastAPI) -> None:
    """Answer every exception that a caller can cause in the one shape."""

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        headers = error.headers
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": ", ".join(_methods(app, request.url.path)) or "GET"}
        return answer(request.state.request_id, error.status_code, error.detail, headers)

    async def invalid_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return answer(request.state.request_id, 400, f"{location(first['loc'][1:])}: {first['msg']}")

    handlers: dict[type[Exception], Any] = {
        HTTPException: http,
        RequestValidationError: invalid_parameter,
        InputError: _plain(400),
        TooSlowError: _plain(400),  # not 503: clients repeat that, and it would take as long again
        NotFoundError: _plain(404),
        ConflictError: _plain(409),
        GoneError: _plain(410),
        PreconditionError: _plain(412),
        UnavailableError: _plain(503, {"Retry-After": "1"}),
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _methods(app: FastAPI, path: str) -> list[str]:
    """Every method of an address; the framework only names those of the first route that matches."""
    found: set[str] = set()
    for prefix, router in app.state.routers:
        for route in router.routes:
            rest = path.removeprefix(prefix)
            if isinstance(route, APIRoute) and path.startswith(prefix) and route.path_regex.match(rest):
                found |= route.methods or set()
    return sorted(found)


def _plain(status: int, headers: dict[str, str] | None = None) -> Any:
    async def handler(request: Request, error: Exception) -> JSONResponse:
        return answer(request.state.request_id, status, str(error), headers)

    return handler


def answer(
    request_id: str, status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """One error. The type is the name of the status: ``not_found``, ``conflict``, ..."""
    kind = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "…"
    return JSONResponse(wire.error_body(status, kind, message, request_id), status, headers)


def location(path: tuple[int | str, ...]) -> str:
    """``("chunks", 3, "index")`` -> ``chunks[3].index``; the whole body is ``body``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "body"
