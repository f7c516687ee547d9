"""What `XTraceIntegration` raises, beside `InputError` and `ConfigurationError`.

::

    ApiError                                 a server's answer; `status`, `message`, `request_id`
    └── ResponseError (aiohttp.ClientResponseError, RuntimeError)
        ├── BadRequestError                  400, 422   the server refused an argument
        ├── AuthenticationError              401        API key or admin key missing, unknown or revoked
        ├── PermissionDeniedError            403        the key lacks the right
        ├── NotFoundError                    404        no such knowledge base, context or chunk
        ├── ConflictError                    409, 412   the object exists and differs, is bound elsewhere,
        │                                               or was changed meanwhile
        ├── PayloadTooLargeError             413        the request is larger than the server takes
        ├── RateLimitError                   429        too many requests; `retry_after` seconds
        ├── ServerError                      5xx        the server failed
        └── UnexpectedAnswerError            the answer is not what the protocol says (also: a redirect)
    TransportError (aiohttp.ClientConnectionError)      no answer
    ├── ServerUnreachableError (aiohttp.ClientConnectorError)   no connection; nothing was sent
    └── AnswerTimeoutError (aiohttp.ServerTimeoutError)         the server was silent for too long

None of them holds request headers, where the keys are. They derive from what programs written for the
original client catch, so that its ``except`` clauses go on working.
"""

from __future__ import annotations

from http import HTTPStatus

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from xtrace_sdk.errors import ApiError, ConfigurationError, InputError, XTraceError


class ResponseError(ApiError, aiohttp.ClientResponseError, RuntimeError):
    """The server answered with an error status."""

    def __init__(
        self, method: str, url: str, status: int, message: str, request_id: str | None = None
    ) -> None:
        self.method = method
        where = URL(url)
        no_headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
        aiohttp.ClientResponseError.__init__(
            self,
            aiohttp.RequestInfo(where, method, no_headers, where),
            (),
            status=status,
            message=message or _reason(status),
        )
        self.request_id = request_id

    def __str__(self) -> str:
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.status} - {self.message}{request}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class BadRequestError(ResponseError):
    """The server refused an argument; the message names it."""


class AuthenticationError(ResponseError):
    """The API key or admin key is missing, unknown or revoked."""


class PermissionDeniedError(ResponseError):
    """The key is known and lacks the right for this call."""


class NotFoundError(ResponseError):
    """No such knowledge base, context or chunk in this organisation."""


class ConflictError(ResponseError):
    """The object exists with other contents, is bound to another context, or was changed meanwhile (412)."""


class PayloadTooLargeError(ResponseError):
    """The request is larger than the server takes."""


class RateLimitError(ResponseError):
    """Too many requests. `retry_after` is the server's advice in seconds, if it gave one."""

    retry_after: float | None = None


class ServerError(ResponseError):
    """The server failed (5xx)."""


class UnexpectedAnswerError(ResponseError):
    """The answer is not what the protocol says: another content type, a missing field, a redirect."""


class TransportError(XTraceError, aiohttp.ClientConnectionError):
    """The connection broke before the whole answer was there."""


class ServerUnreachableError(TransportError, aiohttp.ClientConnectorError):
    """No connection to the server could be made; nothing was sent."""

    def __init__(self, message: str, cause: aiohttp.ClientConnectorError) -> None:
        aiohttp.ClientConnectorError.__init__(self, *cause.args)
        self.reason = message

    def __str__(self) -> str:
        return self.reason


class AnswerTimeoutError(TransportError, aiohttp.ServerTimeoutError):
    """The server was silent for longer than `timeout` seconds."""


class MissingApiKeyError(ConfigurationError, KeyError):
    """No API key was given and ``XTRACE_API_KEY`` is not set."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class MissingAdminKeyError(ConfigurationError, RuntimeError):
    """No admin key was given and ``XTRACE_ADMIN_KEY`` is not set."""


class WrongTypeError(InputError, TypeError):
    """An argument has the wrong type."""


class MissingFieldError(InputError, KeyError):
    """A chunk lacks a field that the call needs."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


_BY_STATUS: dict[int, type[ResponseError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    413: PayloadTooLargeError,
    422: BadRequestError,
    429: RateLimitError,
}


def response_error(
    method: str, url: str, status: int, message: str, request_id: str | None = None
) -> ResponseError:
    """The error of the class that `status` stands for."""
    kind = _BY_STATUS.get(status)
    if kind is None:
        kind = ServerError if status >= 500 else ResponseError
    return kind(method, url, status, message, request_id)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no message"
