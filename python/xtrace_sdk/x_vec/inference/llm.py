"""Questions to a language model, over what a search has found.

This is the one step that shows decrypted text to somebody else: use a model you trust with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from xtrace_sdk import addresses
from xtrace_sdk.errors import ConfigurationError, InputError, XTraceError


class _Provider(NamedTuple):
    url: str | None
    key_name: str | None  # environment variable of a key that the service demands
    anthropic: bool = False


_ANTHROPIC: Final = _Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", anthropic=True)
_PROVIDERS: Final = {
    "openai": _Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "ollama": _Provider("http://localhost:11434/v1", None),
    "anthropic": _ANTHROPIC,
    "claude": _ANTHROPIC,
    "redpill": _Provider("https://api.redpill.ai/v1", "REDPILL_API_KEY"),
    "custom": _Provider(None, None),
}
_ANTHROPIC_VERSION: Final = "2023-06-01"
_ANTHROPIC_MAX_TOKENS: Final = 4096  # it demands a limit


class InferenceError(XTraceError):
    """A language model's service refused or failed. `status` is the HTTP status, None without an answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def default_prompt(context: str, query: str) -> str:
    """The prompt for a question over found texts."""
    return (
        f"Context:\n{context}\n\nQuestion: {query}\n\n"
        "Answer the question from the context alone. If the context does not hold the answer, say so."
    )


class InferenceClient:
    """Asks a language model. Calls block; from a coroutine use ``asyncio.to_thread``.

    Args:
        inference_provider: ``"openai"``, ``"ollama"``, ``"anthropic"`` (or ``"claude"``), ``"redpill"``, or
            ``"custom"`` for any service that speaks OpenAI's protocol at `base_url`.
        model_name: a name the provider knows.
        api_key: else ``INFERENCE_API_KEY`` or the provider's own variable, such as ``OPENAI_API_KEY``.
        base_url: of the service, up to and including the version (``http://localhost:8000/v1``).
        prompt_template: makes the prompt of (context, query); used for queries with a context.
        max_tokens: longest answer; the service's own limit unless given.
        timeout: longest silence of the service, in seconds.

    Raises ConfigurationError for an unsupported provider, a missing key or a malformed address.
    """

    def __init__(
        self,
        inference_provider: str,
        model_name: str,
        api_key: str | None = None,
        base_url: str | None = None,
        prompt_template: Callable[[str, str], str] | None = None,
        *,
        max_tokens: int | None = None,
        timeout: float = 120.0,
    ) -> None:
        provider = _PROVIDERS.get(inference_provider) if isinstance(inference_provider, str) else None
        if provider is None:
            raise ConfigurationError(
                f"inference_provider: Unsupported inference provider {inference_provider!r}, "
                f"expected one of {', '.join(_PROVIDERS)}"
            )
        address = base_url or provider.url
        if address is None:
            raise ConfigurationError("base_url: needed for a custom provider")
        self.provider = inference_provider
        self.model_name = model_name
        self.url = addresses.base_url(address, "base_url")
        self.prompt_template = prompt_template or default_prompt
        self._anthropic = provider.anthropic
        self._api_key = _key(api_key, provider, own_service=base_url is None)
        self._max_tokens = max_tokens
        self._timeout = timeout

    def query(self, query: str, context: str | None = None, stream: bool = False) -> str:
        """The model's answer.

        With a `context` the prompt is made by `prompt_template`. With `stream` the answer is received in
        pieces, so that `timeout` watches each of them rather than the whole. Raises InferenceError.
        """
        if stream:
            return "".join(self.stream(query, context))
        with self._open(query, context, stream=False) as response:
            try:
                answer = json.loads(response.read())
                if self._anthropic:
                    return "".join(block["text"] for block in answer["content"] if block["type"] == "text")
                return str(answer["choices"][0]["message"]["content"] or "")
            except (ValueError, LookupError, TypeError):
                raise InferenceError(f"{self.url}: not the answer of a model", status=200) from None

    def stream(self, query: str, context: str | None = None) -> Iterator[str]:
        """The model's answer in pieces, as they come. Raises InferenceError, also when it breaks off."""
        read = _anthropic_piece if self._anthropic else _openai_piece
        with self._open(query, context, stream=True) as response:
            for line in response:
                if not line.startswith(b"data:"):
                    continue
                try:
                    piece = read(line[5:].strip())
                except (ValueError, LookupError, TypeError, AttributeError):
                    raise InferenceError(f"{self.url}: not the answer of a model", status=200) from None
                if piece is None:
                    return
                if piece:
                    yield piece
        raise InferenceError(f"{self.url}: the answer broke off", status=200)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider!r}, {self.model_name!r}, url={self.url!r})"

    @contextmanager
    def _open(self, query: str, context: str | None, *, stream: bool) -> Iterator[HTTPResponse]:
        if not isinstance(query, str) or not query:
            raise InputError("query: expected a text that is not empty")
        prompt = query if context is None else self.prompt_template(context, query)
        body: dict[str, Any] = {
            "model": self.model_name,
            "messages": [{"role": "user", "content": prompt}],
            "stream": stream,
        }
        headers = {"Content-Type": "application/json"}
        if self._anthropic:
            path = "messages"
            body["max_tokens"] = self._max_tokens or _ANTHROPIC_MAX_TOKENS
            headers |= {"x-api-key": self._api_key or "", "anthropic-version": _ANTHROPIC_VERSION}
        else:
            path = "chat/completions"
            if self._max_tokens is not None:
                body["max_tokens"] = self._max_tokens
            if self._api_key:
                headers["Authorization"] = f"Bearer {self._api_key}"
        url = f"{self.url}/{path}"
        request = Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - base_url checked it
        proxy = addresses.proxy_for(url)
        opener = build_opener(_NoRedirects, ProxyHandler({request.type: proxy} if proxy else {}))
        try:
            with opener.open(request, timeout=self._timeout) as response:
                yield response
        except HTTPError as error:
            with error:
                said = error.read(500).decode("utf-8", "replace")
            raise InferenceError(f"{url}: status {error.code}: {said}", status=error.code) from None
        except URLError as error:
            raise InferenceError(f"{url}: no answer: {error.reason}") from error
        except (OSError, HTTPException) as error:
            raise InferenceError(f"{url}: the connection broke: {error or type(error).__name__}") from error


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would carry the key and the texts to another host."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def _key(api_key: str | None, provider: _Provider, *, own_service: bool) -> str | None:
    names = [name for name in ("INFERENCE_API_KEY", provider.key_name) if name]
    key = api_key or next((os.environ[name] for name in names if os.environ.get(name)), None)
    if not key and provider.key_name and own_service:
        raise ConfigurationError(f"api_key: give one or set {' or '.join(names)}")
    return key


def _openai_piece(data: bytes) -> str | None:
    """The text of one event; None at the end."""
    if data == b"[DONE]":
        return None
    event = json.loads(data)
    if "error" in event:
        raise InferenceError(f"the answer broke off: {_said(event['error'])}", status=200)
    return str(event["choices"][0]["delta"].get("content") or "") if event["choices"] else ""


def _anthropic_piece(data: bytes) -> str | None:
    event = json.loads(data)
    match event["type"]:
        case "message_stop":
            return None
        case "error":
            raise InferenceError(f"the answer broke off: {_said(event['error'])}", status=200)
        case "content_block_delta" if event["delta"]["type"] == "text_delta":
            return str(event["delta"]["text"])
    return ""


def _said(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
