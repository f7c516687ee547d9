"""Texts become vectors, and vectors bits."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from xtrace_sdk import addresses
from xtrace_sdk.errors import ConfigurationError, DimensionMismatchError, InputError, XTraceError
from xtrace_sdk.x_vec.inference.session import SharedSession
from xtrace_sdk.x_vec.inference.simhash import simhash

_URLS: Final = {"ollama": "http://localhost:11434", "openai": "https://api.openai.com/v1"}
_PROVIDERS: Final = ("ollama", "openai", "sentence_transformer", "simhash")
_BATCH: Final = 64


class EmbeddingError(XTraceError):
    """An embedding service refused or failed.

    Attributes:
        status: the HTTP status, None if there was no answer.
        chunk_len: characters of the longest text that was sent; services refuse texts that are too long.
    """

    def __init__(self, message: str, *, status: int | None = None, chunk_len: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.chunk_len = chunk_len


class Embedding:
    """Embeds texts by a model. Equal when provider, model and dimension are.

    Args:
        provider: ``"sentence_transformer"`` (in this process; the extra ``embedding``), ``"ollama"``,
            ``"openai"`` (or a service that speaks its protocol), or ``"simhash"``, which needs no model and
            no network but is lexical, not semantic: it finds texts that share words.
        model_name: a name the provider knows, or the path of a sentence-transformers model; free for simhash.
        dim: dimension of the vectors.
        base_url: of the service, if it is not the provider's own.
        api_key: of the service; else ``OPENAI_API_KEY`` or ``INFERENCE_API_KEY``.
        dimensions: whether to ask an OpenAI-compatible service for `dim` dimensions.
        timeout: longest silence of the service, in seconds.

    Raises ConfigurationError for an unsupported provider, InputError for a wrong dimension.
    """

    def __init__(
        self,
        provider: str,
        model_name: str,
        dim: int,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        dimensions: bool = True,
        timeout: float = 120.0,
    ) -> None:
        if provider not in _PROVIDERS:
            raise ConfigurationError(
                f"provider: Unsupported provider {provider!r}, expected one of {', '.join(_PROVIDERS)}"
            )
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise InputError(f"dim: expected a positive integer, got {dim!r}")
        self.provider = provider
        self.model_name = model_name
        self.dim = dim
        self.url = addresses.base_url(base_url or _URLS[provider], "base_url") if provider in _URLS else None
        self._api_key = api_key
        self._dimensions = dimensions
        self._http = SharedSession(timeout)
        self._model: Any = None
        self._model_lock = threading.Lock()

    async def embed(self, text: str) -> NDArray[np.float32]:
        """A text -> its vector (dim,). Raises EmbeddingError, DimensionMismatchError."""
        vector: NDArray[np.float32] = (await self._embed_batch([_text(text, "text")]))[0]
        return vector

    async def bin_embed(self, text: str) -> NDArray[np.int8]:
        """A text -> its bits (dim,): 1 where the vector is greater than 0."""
        return self.float_2_bin(await self.embed(text))

    async def embed_many(self, texts: Sequence[str], disable_progress: bool = True) -> NDArray[np.float32]:
        """Texts -> their vectors (N, dim), by batches over one connection. Raises as `embed`."""
        if isinstance(texts, str):
            raise InputError("texts: expected a list of texts, got one")
        checked = [_text(text, f"texts[{number}]") for number, text in enumerate(texts)]
        vectors = np.empty((len(checked), self.dim), dtype=np.float32)
        with tqdm(total=len(checked), desc="Embedding", unit=" texts", disable=disable_progress) as bar:
            async with self._http.use():
                for start in range(0, len(checked), _BATCH):
                    batch = checked[start : start + _BATCH]
                    vectors[start : start + len(batch)] = await self._embed_batch(batch)
                    bar.update(len(batch))
        return vectors

    async def bin_embed_many(self, texts: Sequence[str], disable_progress: bool = True) -> NDArray[np.int8]:
        """Texts -> their bits (N, dim)."""
        return self.float_2_bin(await self.embed_many(texts, disable_progress))

    @staticmethod
    def float_2_bin(float_array: NDArray[Any] | Sequence[float]) -> NDArray[np.int8]:
        """Numbers of any shape -> int8 of that shape: 1 where greater than 0, else 0.

        Raises InputError for a NaN or anything but real numbers.
        """
        array = np.asarray(float_array)
        if array.dtype.kind not in "buif":
            raise InputError(f"float_array: expected real numbers, got dtype {array.dtype}")
        if np.isnan(array).any():
            raise InputError("float_array: NaN has no sign")
        return (array > 0).astype(np.int8)

    @property
    def model(self) -> Any:
        """The sentence-transformers model, loaded on first use; None for other providers."""
        if self.provider == "sentence_transformer" and self._model is None:
            self._model = _load_sentence_transformer(self.model_name, self.dim)
        return self._model

    def __eq__(self, other: object) -> bool:
        return self._identity() == other._identity() if isinstance(other, Embedding) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider!r}, {self.model_name!r}, {self.dim})"

    def _identity(self) -> tuple[str, str, int]:
        return self.provider, self.model_name, self.dim

    async def _embed_batch(self, texts: list[str]) -> NDArray[np.float32]:
        if self.provider == "simhash":
            return await asyncio.to_thread(simhash, texts, self.dim)
        if self.provider == "sentence_transformer":
            return self._checked(await asyncio.to_thread(self._encode, texts), texts)
        return self._checked(await self._request(texts), texts)

    def _encode(self, texts: list[str]) -> Any:
        with self._model_lock:  # one call of the model at a time: it uses all cores by itself
            return self.model.encode(texts, convert_to_numpy=True, show_progress_bar=False)

    async def _request(self, texts: list[str]) -> Any:
        longest = max(map(len, texts))
        body: dict[str, Any] = {"model": self.model_name, "input": texts}
        headers = {}
        if self.provider == "ollama":
            url = f"{self.url}/api/embed"
        else:
            url = f"{self.url}/embeddings"
            body["encoding_format"] = "float"
            if self._dimensions:
                body["dimensions"] = self.dim
            if key := self._key():
                headers["Authorization"] = f"Bearer {key}"
        answer = await self._post(url, body, headers, longest)
        try:
            if self.provider == "ollama":
                return answer["embeddings"]
            return [item["embedding"] for item in sorted(answer["data"], key=lambda item: item["index"])]
        except (KeyError, TypeError):
            raise EmbeddingError(f"{url}: not an answer with embeddings", chunk_len=longest) from None

    async def _post(self, url: str, body: dict[str, Any], headers: dict[str, str], longest: int) -> Any:
        import aiohttp

        try:
            async with (
                self._http.use() as session,
                session.post(
                    url, json=body, headers=headers, allow_redirects=False, proxy=addresses.proxy_for(url)
                ) as response,
            ):
                if response.status == 200:
                    return await response.json(content_type=None)
                said = (await response.text(errors="replace"))[:500]
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = str(error) or type(error).__name__
            raise EmbeddingError(f"{url}: no answer: {what}", chunk_len=longest) from error
        except ValueError as error:
            raise EmbeddingError(f"{url}: the answer is not JSON", status=200, chunk_len=longest) from error
        raise EmbeddingError(
            f"{url}: status {status} for texts of up to {longest} characters: {said}",
            status=status,
            chunk_len=longest,
        )

    def _key(self) -> str | None:
        key = self._api_key or os.environ.get("OPENAI_API_KEY") or os.environ.get("INFERENCE_API_KEY")
        if not key and self.url == _URLS["openai"]:
            raise ConfigurationError("api_key: give one or set OPENAI_API_KEY")
        return key

    def _checked(self, vectors: Any, texts: list[str]) -> NDArray[np.float32]:
        try:
            array = np.asarray(vectors, dtype=np.float32)
        except (ValueError, TypeError):
            raise EmbeddingError(f"{self!r}: the answer holds no vectors of numbers") from None
        if array.ndim != 2 or len(array) != len(texts):
            raise EmbeddingError(f"{self!r}: expected {len(texts)} vectors, got shape {array.shape}")
        if array.shape[1] != self.dim:
            raise DimensionMismatchError(
                f"dim: {self.model_name!r} gives {array.shape[1]} dimensions, expected {self.dim}"
            )
        return array


def _text(text: Any, name: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{name}: expected str, got {type(text).__name__}")
    return text


def _load_sentence_transformer(model_name: str, dim: int) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ConfigurationError(
            "provider: sentence_transformer needs the extra: xtrace-sdk-native[embedding]"
        ) from None
    return SentenceTransformer(model_name, truncate_dim=dim)
