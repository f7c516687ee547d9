import asyncio

import numpy as np
import pytest

from xtrace_sdk.errors import ConfigurationError, DimensionMismatchError, InputError
from xtrace_sdk.x_vec.inference import embedding as module
from xtrace_sdk.x_vec.inference.embedding import Embedding, EmbeddingError

TEXTS = ["a", "bb", "ccc", "dddd"]


def ollama(server, dim=8, **more):
    return Embedding("ollama", "some-model", dim, base_url=server.url, **more)


def openai(server, dim=8, **more):
    return Embedding("openai", "some-model", dim, base_url=f"{server.url}/v1/", **more)


def of(texts, dimensions=8):
    return [[float((len(text) + 3 * i) % 7) - 3 for i in range(dimensions)] for text in texts]


# Bits


def test_float_2_bin():
    for values in ([0.5, -0.5, 0.0], np.array([0.5, -0.5, 0.0], np.float16), [3, -1, 0]):
        bits = Embedding.float_2_bin(values)
        assert bits.dtype == np.int8
        assert bits.tolist() == [1, 0, 0]
    assert Embedding.float_2_bin(np.ones((2, 3))).shape == (2, 3)
    assert Embedding.float_2_bin(Embedding.float_2_bin([0.1, -1])).tolist() == [1, 0]
    assert Embedding.float_2_bin([]).tolist() == []


@pytest.mark.parametrize("values", [[float("nan"), 1.0], ["a"], [None], [1j], [b"x"]])
def test_what_has_no_sign_is_refused(values):
    with pytest.raises(InputError, match="float_array"):
        Embedding.float_2_bin(values)


# Identity and arguments


def test_equality_is_by_provider_model_and_dimension():
    one = Embedding("simhash", "m", 8)
    assert one == Embedding("simhash", "m", 8)
    assert hash(one) == hash(Embedding("simhash", "m", 8))
    for other in (
        Embedding("simhash", "m", 9),
        Embedding("simhash", "n", 8),
        Embedding("ollama", "m", 8),
        "m",
    ):
        assert one != other
    assert (one.provider, one.model_name, one.dim, one.url, one.model) == ("simhash", "m", 8, None, None)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("word2vec", "m", 8), ConfigurationError, "Unsupported provider"),
        (("simhash", "m", 0), InputError, "dim"),
        (("simhash", "m", True), InputError, "dim"),
        (("simhash", "m", "8"), InputError, "dim"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, said):
    with pytest.raises(error, match=said) as caught:
        Embedding(*arguments)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("url", ["localhost:11434", "ftp://host", "http://", "x"])
def test_wrong_addresses_are_named(url):
    with pytest.raises(ConfigurationError, match="base_url"):
        Embedding("ollama", "m", 8, base_url=url)


async def test_only_texts_are_embedded():
    embedding = Embedding("simhash", "", 8)
    with pytest.raises(InputError, match="text: expected str"):
        await embedding.embed(b"bytes")
    with pytest.raises(InputError, match=r"texts\[1\]"):
        await embedding.embed_many(["a", None])
    with pytest.raises(InputError, match="texts: expected a list"):
        await embedding.embed_many("abc")


# Services


@pytest.mark.parametrize("make", [ollama, openai])
async def test_one_text_and_many(model_server, make):
    embedding = make(model_server)
    vector = await embedding.embed("bb")
    assert vector.dtype == np.float32
    assert vector.tolist() == of(["bb"])[0]
    bits = await embedding.bin_embed("bb")
    assert bits.dtype == np.int8
    assert bits.tolist() == (vector > 0).astype(int).tolist()
    assert (await embedding.embed_many(TEXTS)).tolist() == of(TEXTS)
    many = await embedding.bin_embed_many(TEXTS)
    assert many.dtype == np.int8
    assert many.tolist() == (np.array(of(TEXTS)) > 0).astype(int).tolist()
    assert (await embedding.embed_many([])).shape == (0, 8)


async def test_what_ollama_is_asked(model_server):
    await ollama(model_server).embed("bb")
    ((path, _, body),) = model_server.asked
    assert path == "/api/embed"
    assert body == {"model": "some-model", "input": ["bb"]}


async def test_what_openai_is_asked(model_server, monkeypatch):
    await openai(model_server, dim=5, api_key="given").embed("bb")
    path, headers, body = model_server.asked.pop()
    assert path == "/v1/embeddings"
    assert headers["Authorization"] == "Bearer given"
    assert body == {"model": "some-model", "input": ["bb"], "encoding_format": "float", "dimensions": 5}
    await openai(model_server, dimensions=False).embed("bb")
    _, headers, body = model_server.asked.pop()
    assert "dimensions" not in body
    assert "Authorization" not in headers
    monkeypatch.setenv("INFERENCE_API_KEY", "second")
    await openai(model_server).embed("bb")
    assert model_server.asked.pop()[1]["Authorization"] == "Bearer second"
    monkeypatch.setenv("OPENAI_API_KEY", "first")
    await openai(model_server).embed("bb")
    assert model_server.asked.pop()[1]["Authorization"] == "Bearer first"


async def test_openai_itself_needs_a_key():
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        await Embedding("openai", "text-embedding-3-small", 512).embed("x")


async def test_batches_over_one_connection(model_server, monkeypatch, capsys):
    monkeypatch.setattr(module, "_BATCH", 3)
    texts = ["x" * length for length in range(10)]
    vectors = await ollama(model_server).embed_many(texts, disable_progress=False)
    assert vectors.tolist() == of(texts)
    assert [len(body["input"]) for _, _, body in model_server.asked] == [3, 3, 3, 1]
    assert len(model_server.connections) == 1
    assert "Embedding" in capsys.readouterr().err


async def test_many_at_once_share_a_session(model_server):
    embedding = ollama(model_server)
    vectors = await asyncio.gather(*(embedding.embed("x" * length) for length in range(20)))
    assert [vector.tolist() for vector in vectors] == of("x" * length for length in range(20))
    assert not list(embedding._http._open)


def test_one_embedder_in_several_loops():
    embedding = Embedding("simhash", "", 8)
    first = asyncio.run(embedding.embed("x"))
    assert (asyncio.run(embedding.embed("x")) == first).all()


@pytest.mark.parametrize("make", [ollama, openai])
@pytest.mark.parametrize("status", [307, 400, 401, 429, 500])
async def test_refusals_carry_status_and_length(model_server, make, status):
    model_server.fail = (status, "input is too long")
    with pytest.raises(EmbeddingError, match=f"status {status}.*4 characters: input is too long") as caught:
        await make(model_server, api_key="secret-key").embed_many(TEXTS)
    assert (caught.value.status, caught.value.chunk_len) == (status, 4)
    assert "secret-key" not in str(caught.value)
    assert len(model_server.asked) == 1


@pytest.mark.parametrize("make", [ollama, openai])
@pytest.mark.parametrize("raw", ["", "{", "[]", "{}", "null", '{"embeddings": 5, "data": 5}'])
async def test_answers_that_are_none(model_server, make, raw):
    model_server.raw = raw
    with pytest.raises(EmbeddingError):
        await make(model_server).embed("x")


@pytest.mark.parametrize(
    "raw", ['{"embeddings": [["a"]]}', '{"embeddings": []}', '{"embeddings": [[1], [1, 2]]}']
)
async def test_answers_without_vectors(model_server, raw):
    model_server.raw = raw
    with pytest.raises(EmbeddingError, match="vectors"):
        await ollama(model_server, dim=1).embed("x")


async def test_another_dimension_is_named(model_server):
    with pytest.raises(DimensionMismatchError, match="gives 8 dimensions, expected 9") as caught:
        await ollama(model_server, dim=9).embed("x")
    assert isinstance(caught.value, ValueError)


async def test_no_server(unused_tcp_port):
    embedding = Embedding("ollama", "m", 8, base_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(EmbeddingError, match="no answer") as caught:
        await embedding.embed("xyz")
    assert (caught.value.status, caught.value.chunk_len) == (None, 3)


async def test_sentence_transformers_names_its_extra():
    embedding = Embedding("sentence_transformer", "m", 8)
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigurationError, match=r"xtrace-sdk-native\[embedding\]"):
            await embedding.embed("x")
    else:
        pytest.skip("sentence-transformers is installed; its own target tests it")
