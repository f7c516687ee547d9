import asyncio

import pytest

from xtrace_sdk.errors import ConfigurationError, InputError
from xtrace_sdk.x_vec.inference.llm import InferenceClient, InferenceError, default_prompt

PROVIDERS = ["openai", "ollama", "redpill", "custom", "anthropic", "claude"]


def connect(server, provider="custom", **more):
    return InferenceClient(provider, "some-model", base_url=f"{server.url}/v1/", timeout=5, **more)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
async def test_answers(model_server, provider, stream):
    client = connect(model_server, provider, api_key="k")
    assert await asyncio.to_thread(client.query, "line\nline é", None, stream) == "Echo: line\nline é"
    pieces = await asyncio.to_thread(lambda: list(client.stream("line\nline é")))
    assert pieces == ["Echo: ", "line\n", "line é"]


async def test_what_openai_is_asked(model_server):
    await asyncio.to_thread(connect(model_server, "openai", api_key="k", max_tokens=7).query, "q")
    path, headers, body = model_server.asked.pop()
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer k"
    assert body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "q"}],
        "stream": False,
        "max_tokens": 7,
    }
    await asyncio.to_thread(connect(model_server, "ollama").query, "q")
    _, headers, body = model_server.asked.pop()
    assert "Authorization" not in headers
    assert "max_tokens" not in body


async def test_what_anthropic_is_asked(model_server):
    await asyncio.to_thread(connect(model_server, "claude", api_key="k").query, "q")
    path, headers, body = model_server.asked.pop()
    headers = {name.lower(): value for name, value in headers.items()}
    assert path == "/v1/messages"
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("k", "2023-06-01")
    assert "authorization" not in headers
    assert body["max_tokens"] == 4096


async def test_prompts(model_server):
    answer = await asyncio.to_thread(connect(model_server).query, "Who?", "0. Ada\n")
    assert answer == "Echo: " + default_prompt(context="0. Ada\n", query="Who?")
    assert "0. Ada\n" in answer
    own = connect(model_server, prompt_template=lambda context, query: f"{query}|{context}")
    assert await asyncio.to_thread(own.query, "Who?", "Ada") == "Echo: Who?|Ada"
    assert await asyncio.to_thread(own.query, "Who?") == "Echo: Who?"


def test_keys_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    for provider, name in (("openai", "OPENAI_API_KEY"), ("claude", "ANTHROPIC_API_KEY")):
        with pytest.raises(ConfigurationError, match=f"INFERENCE_API_KEY or {name}"):
            InferenceClient(provider, "m")
        monkeypatch.setenv(name, "own")
        assert InferenceClient(provider, "m")._api_key == "own"
    monkeypatch.setenv("INFERENCE_API_KEY", "general")
    assert InferenceClient("openai", "m")._api_key == "general"
    assert InferenceClient("openai", "m", "given")._api_key == "given"
    assert InferenceClient("ollama", "m").url == "http://localhost:11434/v1"
    assert "given" not in repr(InferenceClient("openai", "m", "given"))


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigurationError, match="Unsupported inference provider"):
        InferenceClient("oracle", "m")
    for url in (None, "", "localhost", "file:///etc/passwd"):
        with pytest.raises(ConfigurationError, match="base_url"):
            InferenceClient("custom", "m", base_url=url)
    for query in ("", None):
        with pytest.raises(InputError, match="query"):
            InferenceClient("ollama", "m").query(query)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [302, 400, 401, 429, 500])
async def test_refusals_carry_the_status(model_server, provider, status):
    model_server.fail = (status, "model not found")
    for call in (lambda c: c.query("q"), lambda c: list(c.stream("q"))):
        with pytest.raises(InferenceError, match=f"status {status}: model not found") as caught:
            await asyncio.to_thread(call, connect(model_server, provider, api_key="secret-key"))
        assert caught.value.status == status
        assert "secret-key" not in str(caught.value)
    assert [path for path, _, _ in model_server.asked if "elsewhere" in path] == []


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("raw", ["", "{", "[]", "{}", "null", '{"choices": [], "content": 5}', "5"])
async def test_answers_that_are_none(model_server, provider, raw):
    model_server.raw = raw
    with pytest.raises(InferenceError, match="not the answer"):
        await asyncio.to_thread(connect(model_server, provider).query, "q")
    with pytest.raises(InferenceError, match="broke off"):
        await asyncio.to_thread(connect(model_server, provider).query, "q", None, True)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("events", [0, 1, 3])
async def test_streams_that_break_off(model_server, provider, events):
    model_server.events = events
    with pytest.raises(InferenceError, match="broke off"):
        await asyncio.to_thread(connect(model_server, provider).query, "q", None, True)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_errors_within_a_stream(model_server, provider):
    model_server.raw = 'data: {"type": "error", "error": {"message": "overloaded"}}\n\n'
    with pytest.raises(InferenceError, match="broke off: overloaded"):
        await asyncio.to_thread(connect(model_server, provider).query, "q", None, True)
    model_server.raw = "data: {\n\n"
    with pytest.raises(InferenceError, match="not the answer"):
        await asyncio.to_thread(connect(model_server, provider).query, "q", None, True)


def test_no_server(unused_tcp_port):
    client = InferenceClient("custom", "m", base_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(InferenceError, match="no answer") as caught:
        client.query("q")
    assert caught.value.status is None
