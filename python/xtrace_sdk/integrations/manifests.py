"""The calls of the API about manifests, which the server stores and cannot read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict

from xtrace_sdk import wire
from xtrace_sdk.arguments import listed
from xtrace_sdk.errors import InputError
from xtrace_sdk.integrations.answers import Answer
from xtrace_sdk.integrations.arguments import Json, MetaFilter, checked_id, filter_object, integers
from xtrace_sdk.integrations.errors import ConflictError, WrongTypeError
from xtrace_sdk.manifests import REFUSED, Change, Keeper, Send, StoredManifest, StoredRow

if TYPE_CHECKING:
    from xtrace_sdk.integrations.uploads import Batch


class ManifestCalls(ABC):
    """Reading and replacing manifests, and sending changes with them."""

    def __init__(self) -> None:
        self._keepers: dict[str, Keeper] = {}

    def keep(self, context_id: str, keeper: Keeper) -> None:
        """From now on make changes that need a manifest of this context by way of `keeper`.

        A `DataLoader` calls this, so that the bare calls for changes work where it has worked.
        """
        self._keepers[context_id] = keeper

    async def _kept(
        self,
        keeper: Keeper | None,
        kb_id: str,
        context_id: str | None,
        change: Change,
        send: Send,
        batch: Batch | None = None,
    ) -> Answer:
        """Send a change by way of the `keeper`, without one when the server refuses it by those known.

        `context_id` is the context that it adds rows to, None if it adds none.
        """
        if keeper is not None:
            return await keeper.write(kb_id, change, send, batch)
        try:
            return await send()
        except ConflictError as error:
            if error.status != REFUSED:
                raise
            for context, known in self._keepers.items():
                # Of another context than the one that gets the rows, it can only lose some.
                own = change if context == context_id else change._replace(added=())
                try:
                    return await known.write(kb_id, own, send, batch)
                except ConflictError as other:
                    if other.status != REFUSED:
                        raise
            raise

    @abstractmethod
    async def _data(
        self,
        method: str,
        template: str,
        body: Json | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer: ...

    async def look_up_manifest(
        self,
        kb_id: str,
        context_id: str,
        *,
        chunk_ids: Sequence[int] = (),
        keys: Sequence[str] = (),
        meta_filter: MetaFilter | None = None,
        everything: bool = False,
    ) -> StoredManifest:
        """The manifest of a knowledge base for a context, and at the same moment rows of this context.

        Those with `chunk_ids`, with `keys`, that match `meta_filter`, or `everything`; by default none.
        """
        body = _named(kb_id, context_id)
        chunk_ids, keys = integers(chunk_ids, "chunk_ids"), listed(keys, "keys")
        if chunk_ids:
            body["chunk_ids"] = chunk_ids
        if keys:
            body["keys"] = keys
        if meta_filter is not None:
            body["meta_filter"] = filter_object(meta_filter)
        if everything:
            body["all"] = True
        answer = await self._data("POST", wire.MANIFESTS, body)
        found = answer.objects_in("rows", chunk_id=int)
        rows = [_row(answer, row) for row in found["rows"]]
        if len({row.chunk_id for row in rows}) < len(rows):
            raise answer.unexpected("'rows' has a chunk twice")
        if (chunk_ids and not {row.chunk_id for row in rows} <= {*chunk_ids}) or (
            keys and not {row.key for row in rows} <= {*keys}
        ):
            raise answer.unexpected("'rows' has chunks that were not asked for")
        if keys and len({row.key for row in rows}) < len(rows):
            raise answer.unexpected("'rows' has a key twice")
        return StoredManifest(_manifest(answer, found.get("manifest")), rows)

    async def replace_manifest(
        self, kb_id: str, context_id: str, expected: str, sealed: bytes | None
    ) -> None:
        """Put `sealed`, or nothing, in place of the manifest with the tag `expected`; rows stay as they are.

        Raises ConflictError (412) when another one is in force.
        """
        body = _named(kb_id, context_id)
        if not (sealed is None or isinstance(sealed, bytes)):
            raise WrongTypeError(f"sealed: expected bytes, got {type(sealed).__name__}")
        body["expected"] = expected
        body["manifest"] = None if sealed is None else wire.encode_manifest(sealed)
        (await self._data("PUT", wire.MANIFESTS, body)).done()


def manifest_headers(values: Sequence[str]) -> CIMultiDict[str]:
    """The headers of a change that carries manifests."""
    return CIMultiDict([(wire.MANIFEST_HEADER, value) for value in values])


def _named(kb_id: str, context_id: str) -> Json:
    return {"kb_id": checked_id(kb_id, "kb_id"), "context_id": checked_id(context_id, "context_id")}


def _manifest(answer: Answer, text: Any) -> bytes | None:
    if text is None:
        return None
    try:
        return wire.decode_manifest(text, "manifest")
    except (InputError, TypeError):
        raise answer.unexpected("'manifest' is not a manifest") from None


def _row(answer: Answer, row: Json) -> StoredRow:
    key, text = row.get("key"), row.get(wire.RECORD)
    if not (key is None or isinstance(key, str)) or not (text is None or isinstance(text, str)):
        raise answer.unexpected("'rows': 'key' or 'record' is not a string")
    try:
        record = b"" if text is None else wire.decode_record(text, wire.RECORD)
    except InputError as error:
        raise answer.unexpected(str(error)) from None
    return StoredRow(row["chunk_id"], key, record)
