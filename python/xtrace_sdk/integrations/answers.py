"""What a server answered, and whether it has the shape that the protocol says.

The server is not trusted: whatever is read of an answer is checked here for its JSON type first, so that a
lying server causes one typed error and never a stray one further in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from multidict import CIMultiDict, CIMultiDictProxy
from numpy.typing import NDArray

from xtrace_sdk.integrations.errors import UnexpectedAnswerError

# Parsed JSON takes up to 25 times the memory of its text.
LONGEST_JSON: Final = 256 << 20


def _no_headers() -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict())


_NAMES: Final = {dict: "an object", list: "a list", str: "a string", int: "an integer"}


@dataclass(frozen=True)
class Answer:
    """A successful answer. Its methods raise UnexpectedAnswerError when it is not what they are asked for."""

    method: str
    url: str
    status: int
    content_type: str
    body: bytes
    request_id: str | None
    headers: CIMultiDictProxy[str] = field(default_factory=_no_headers)

    def unexpected(self, message: str) -> UnexpectedAnswerError:
        """The error for an answer that is not what the protocol says."""
        return UnexpectedAnswerError(self.method, self.url, self.status, message, self.request_id)

    def _json(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise self.unexpected(f"expected JSON, got {self.content_type}") from None

    def done(self) -> None:
        """Nothing is needed of the body, but a web page is no acknowledgement."""
        if self.body:
            self._json()

    def object(self, **fields: type) -> dict[str, Any]:
        """The body as a JSON object that has `fields` of these types."""
        return self._object(self._json(), "the answer", fields)

    def objects(self, **fields: type) -> list[dict[str, Any]]:
        """The body as a JSON array of objects that have `fields` of these types."""
        return self._objects(self._json(), "the answer", fields)

    def objects_in(self, name: str, **fields: type) -> dict[str, Any]:
        """The body as a JSON object whose field `name` is an array of objects that have `fields`."""
        value = self.object()
        self._objects(value.get(name), name, fields)
        return value

    def strings(self, name: str) -> list[str]:
        """The strings in field `name` of a JSON object, none if absent."""
        value = self.object().get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.unexpected(f"{name!r} is not a list of strings")
        return value

    def chunks(self, requested: set[int], most: int) -> list[dict[str, Any]]:
        """The body as an array of at most `most` chunks, all of them `requested`."""
        found = self.objects(chunk_id=int)
        if len(found) > most or not requested.issuperset(chunk["chunk_id"] for chunk in found):
            raise self.unexpected("the answer has chunks that were not asked for")
        for number, chunk in enumerate(found):
            for name, kind in (("meta_data", dict), ("chunk_content", str), ("index", list), ("record", str)):
                if chunk.get(name) is not None and type(chunk[name]) is not kind:
                    raise self.unexpected(f"[{number}].{name}: expected {_NAMES[kind]}")
        return found

    def inserted(self, count: int) -> dict[str, Any]:
        """The body as the acknowledgement of `count` chunks; their ids are there for each, or absent."""
        value = self.object()
        ids = value.get("chunk_ids")
        if ids is not None and (
            type(ids) is not list or len(ids) != count or any(type(one) is not int for one in ids)
        ):
            raise self.unexpected(f"'chunk_ids' is not a list of {count} integers")
        return value

    def count(self, name: str) -> int:
        """The number in field `name` of a JSON object, 0 if absent."""
        value = self.object().get(name)
        if value is None:
            return 0
        if type(value) is not int or value < 0:
            raise self.unexpected(f"{name!r} is not a count")
        return value

    def check_ids(self, ids: NDArray[np.int64], limits: tuple[int, int] | None) -> None:
        """Each of the candidates' `ids` comes once, is positive, and lies within `limits`."""
        if not ids.size:
            return
        ordered = ids if (ids[1:] > ids[:-1]).all() else np.sort(ids)
        if (ordered[1:] == ordered[:-1]).any():
            raise self.unexpected("distances: a chunk id comes twice")
        low, high = limits or (0, int(ordered[-1]))
        if ordered[0] < max(low, 0) or ordered[-1] > high:
            raise self.unexpected("distances: a chunk id is out of range")

    def _objects(self, value: Any, where: str, fields: Mapping[str, type]) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.unexpected(f"{where}: expected a JSON array of objects")
        return [self._object(item, f"{where}[{number}]", fields) for number, item in enumerate(value)]

    def _object(self, value: Any, where: str, fields: Mapping[str, type]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.unexpected(f"{where}: expected a JSON object")
        for name, kind in fields.items():
            if name not in value:
                raise self.unexpected(f"{where} has no {name!r}")
            if type(value[name]) is not kind:  # exactly: true is no integer
                raise self.unexpected(f"{where}: {name!r} is not {_NAMES[kind]}")
        return value
