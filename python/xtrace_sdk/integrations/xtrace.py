"""`XTraceIntegration`: the calls of the HTTP API, one method each.

It moves bytes and knows no key but the API keys: what it sends was encrypted before, what it returns is
decrypted elsewhere. Every method may raise the errors drawn in `xtrace_sdk.integrations.errors`.
"""

from __future__ import annotations

import asyncio
import json
import os
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self
from uuid import uuid4

import aiohttp
import numpy as np
from multidict import CIMultiDict
from numpy.typing import NDArray

from xtrace_sdk import wire
from xtrace_sdk.addresses import base_url
from xtrace_sdk.arguments import listed
from xtrace_sdk.errors import InputError, KeyMismatchError
from xtrace_sdk.integrations import distances
from xtrace_sdk.integrations.admin import AdminCalls
from xtrace_sdk.integrations.answers import LONGEST_JSON, Answer
from xtrace_sdk.integrations.arguments import (
    Json,
    MetaFilter,
    by_meta,
    checked_id,
    filter_object,
    filter_text,
    hamming_request,
    header_value,
    id_groups,
    projected,
)
from xtrace_sdk.integrations.errors import (
    ConflictError,
    MissingAdminKeyError,
    MissingApiKeyError,
    MissingFieldError,
    NotFoundError,
    WrongTypeError,
)
from xtrace_sdk.integrations.manifests import ManifestCalls, manifest_headers
from xtrace_sdk.integrations.transport import Arriving, Traffic, Transport
from xtrace_sdk.integrations.uploads import Batch, Index, UploadReport, batches, ciphertext_rows, in_order
from xtrace_sdk.manifests import REFUSED, Change, Keeper

API_URL: Final = "https://api.production.xtrace.ai"
ADMIN_API_URL: Final = "https://api.xtrace.ai/api"

_CONCURRENT_REQUESTS: Final = 4
_ACCEPT_DISTANCES: Final = f"{wire.COLUMNS}, {wire.MSGPACK};q=0.9, {wire.JSON};q=0.1"


class XTraceIntegration(AdminCalls, ManifestCalls):
    """Asynchronous client of a zero-knowledge server; use it as an async context manager.

    `api_key` and `admin_key` default to ``XTRACE_API_KEY`` and ``XTRACE_ADMIN_KEY``; `admin_api_url` to
    ``XTRACE_ADMIN_API_URL``, else to `api_url` when that was changed. `timeout` is the longest silence of the
    server in seconds, `retries` how often a call that may be repeated is tried again. Distances of more than
    `max_answer_bytes` are refused; a `range` asks for fewer. One object serves any number of tasks and loops.

    Raises MissingApiKeyError without an API key, ConfigurationError for a malformed URL or key.
    """

    def __init__(
        self,
        org_id: str,
        api_key: str | None = None,
        admin_key: str | None = None,
        api_url: str = API_URL,
        admin_api_url: str | None = None,
        *,
        timeout: float = 120.0,
        retries: int = 3,
        max_answer_bytes: int = 4 << 30,
    ) -> None:
        self.org_id = checked_id(org_id, "org_id")
        self.api_url = base_url(api_url, "api_url")
        own_admin = ADMIN_API_URL if self.api_url == API_URL else self.api_url
        self.admin_api_url = base_url(
            admin_api_url or os.environ.get("XTRACE_ADMIN_API_URL") or own_admin, "admin_api_url"
        )
        key = api_key or os.environ.get("XTRACE_API_KEY")
        if not key:
            raise MissingApiKeyError("api_key: give one or set XTRACE_API_KEY")
        self.api_key = header_value(key, "api_key")
        admin = admin_key or os.environ.get("XTRACE_ADMIN_KEY")
        self.admin_key = header_value(admin, "admin_key") if admin else None
        self.batch_size = 500
        self.max_answer_bytes = max_answer_bytes
        self._transport = Transport(timeout=timeout, retries=retries, connections=50)
        self._registered: set[str] = set()
        ManifestCalls.__init__(self)

    def __repr__(self) -> str:
        return f"XTraceIntegration(org_id={self.org_id!r}, api_url={self.api_url!r})"

    async def __aenter__(self) -> Self:
        await self.init_session()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def session(self) -> aiohttp.ClientSession | None:
        """The HTTP session of the running event loop, None before its first request."""
        return self._transport.session

    @property
    def traffic(self) -> Traffic:
        """Requests made and body bytes sent and received so far."""
        return self._transport.traffic

    async def init_session(self) -> aiohttp.ClientSession:
        """The live HTTP session of the running event loop. Every call opens it by itself."""
        return await self._transport.open()

    async def close(self) -> None:
        """Release all connections of this event loop."""
        await self._transport.close()

    # Chunks

    def _preprocess_chunks(
        self, db: Sequence[Mapping[str, Any]], index: Index, update: bool = False
    ) -> list[list[Json]]:
        """Encrypted chunks and vectors -> the batches that `insert_chunks` takes."""
        return list(batches(db, ciphertext_rows(index), update=update, max_count=self.batch_size))

    async def get_chunk_by_id(
        self, chunk_ids: Sequence[int], kb_id: str, projection: Sequence[str] | None = None
    ) -> list[Json]:
        """The chunks with these ids, in their order; absent ids are left out.

        The items of ``index`` and ``record``, where there is one, are bytes.
        """
        fields = [
            ("kb_id", checked_id(kb_id, "kb_id")),
            *(("projection", name) for name in projected(projection)),
        ]
        jobs = (partial(self._fetch, ids, fields) for ids in id_groups(chunk_ids))
        return [chunk for group in await in_order(jobs, _CONCURRENT_REQUESTS) for chunk in group]

    async def _fetch(self, ids: list[tuple[str, str]], fields: list[tuple[str, str]]) -> list[Json]:
        answer = await self._data("GET", wire.CHUNKS, query=[*ids, *fields])
        chunks = answer.chunks({int(text) for _, text in ids}, len(ids))
        for chunk in chunks:
            if chunk.get("index"):
                try:
                    chunk["index"] = [a2b_base64(text, strict_mode=True) for text in chunk["index"]]
                except (Base64Error, TypeError, ValueError):
                    raise answer.unexpected("a chunk's index is not a list of base64 strings") from None
            if chunk.get(wire.RECORD) is not None:
                try:
                    chunk[wire.RECORD] = wire.decode_record(chunk[wire.RECORD], "a chunk's record")
                except InputError as error:
                    raise answer.unexpected(str(error)) from None
        return chunks

    async def store_db(
        self,
        db: Sequence[Mapping[str, Any]],
        index: Index,
        kb_id: str,
        context_id: str,
        concurrent: bool = False,
        *,
        report: UploadReport | None = None,
        progress: Callable[[int, int], None] | None = None,
        keeper: Keeper | None = None,
    ) -> list[Json]:
        """Upload encrypted chunks and vectors in batches -> the server's answers, one a batch.

        `index` is a list of lists of integers, or array-backed: ciphertexts uint8 (N, chunks, width). A batch
        has at most `batch_size` chunks and 8 MiB; `concurrent` sends a few at a time, and ids then follow the
        order of `db` within a batch only. `report` records what was stored: given again after a failure it
        continues there. `progress(done, total)` counts chunks. A `keeper` sends manifests along, and batches
        one after the other.

        Raises InputError when lengths differ, WrongTypeError when a ``chunk_content`` is not bytes.
        """
        db = listed(db, "db")
        record = UploadReport() if report is None else report
        rows = ciphertext_rows(index)

        async def send(batch: Batch, chunks: list[Json]) -> Json:
            if batch.response is None:
                insert = partial(self._insert, kb_id, chunks, context_id, batch.idempotency_key)
                answer = await self._kept(keeper, kb_id, context_id, Change.of(chunks), insert, batch)
                batch.response = answer.inserted(len(chunks))
            if progress is not None:
                progress(record.stored, len(db))
            return batch.response

        def jobs() -> Iterator[Callable[[], Awaitable[Json]]]:
            start = 0
            made = batches(db, rows, update=False, max_count=self.batch_size)
            for number, chunks in enumerate(made):
                yield partial(send, record.batch(number, start, start + len(chunks)), chunks)
                start += len(chunks)

        try:
            return await in_order(jobs(), _CONCURRENT_REQUESTS if concurrent and keeper is None else 1)
        except Exception as error:
            error.add_note(f"{record.stored} of {len(db)} chunks were stored")
            raise

    async def insert_chunks(
        self, kb_id: str, chunks: list[Json], context_id: str, *, idempotency_key: str | None = None
    ) -> Json:
        """Insert one batch of prepared chunks, all or none -> the server's answer, with their ids.

        Repeated attempts carry the same idempotency key (by default a fresh one), so nothing is stored twice.
        """
        answer = await self._insert(kb_id, chunks, context_id, idempotency_key or uuid4().hex)
        return answer.inserted(len(chunks))

    async def _insert(
        self, kb_id: str, chunks: list[Json], context_id: str, key: str, manifests: Sequence[str] = ()
    ) -> Answer:
        body = {"kb_id": kb_id, "chunks": chunks, "context_id": context_id}
        headers = manifest_headers(manifests)
        headers[wire.IDEMPOTENCY_KEY_HEADER] = key
        return await self._data("POST", wire.CHUNKS, body, headers=headers)

    async def update_chunks(
        self,
        index_updates: Index,
        chunk_updates: Sequence[Mapping[str, Any]],
        context_id: str,
        kb_id: str,
        *,
        keeper: Keeper | None = None,
    ) -> list[Json]:
        """Replace chunks and their vectors; each chunk has its ``chunk_id`` -> the answers, one a batch.

        A `keeper` sends manifests along.

        Raises MissingFieldError when a chunk has none.
        """
        rows = ciphertext_rows(index_updates, "index_updates")
        chunk_updates = listed(chunk_updates, "chunk_updates")
        answers: list[Json] = []
        updated = 0
        try:
            for chunks in batches(chunk_updates, rows, update=True, max_count=self.batch_size):
                update = partial(self._update, kb_id, chunks, context_id)
                answers.append(
                    (await self._kept(keeper, kb_id, context_id, Change.of(chunks), update)).object()
                )
                updated += len(chunks)
        except Exception as error:
            error.add_note(f"{updated} of {len(chunk_updates)} chunks were updated")
            raise
        return answers

    async def _update(
        self, kb_id: str, chunks: list[Json], context_id: str, manifests: Sequence[str] = ()
    ) -> Answer:
        body = {"kb_id": kb_id, "chunk_updates": chunks, "context_id": context_id}
        return await self._data("PUT", wire.CHUNKS, body, headers=manifest_headers(manifests))

    async def delete_chunks(
        self, chunk_ids: Sequence[int], kb_id: str, *, keeper: Keeper | None = None
    ) -> Json:
        """Delete chunks by id; absent ids are ignored. Has ``deleted_count``.

        A `keeper` sends manifests along.
        """
        answer: Json = {}
        deleted = 0
        for ids in id_groups(chunk_ids) or [[]]:
            delete = partial(self._delete, [("kb_id", checked_id(kb_id, "kb_id")), *ids])
            change = Change(chunk_ids=[int(text) for _, text in ids])
            received = await self._kept(keeper, kb_id, None, change, delete)
            answer = received.object()
            deleted += received.count("deleted_count")
        return {**answer, "deleted_count": deleted}

    async def _delete(self, query: list[tuple[str, str]], manifests: Sequence[str] = ()) -> Answer:
        return await self._data("DELETE", wire.CHUNKS, query=query, headers=manifest_headers(manifests))

    async def patch_chunks(self, kb_id: str, context_id: str, chunk_patches: Sequence[Json]) -> Json:
        """Change some fields of chunks; a patch has a ``chunk_id`` and fields. Has ``updated_count``."""
        body = {
            "kb_id": kb_id,
            "context_id": context_id,
            "chunk_patches": listed(chunk_patches, "chunk_patches"),
        }
        return (await self._data("PATCH", wire.CHUNKS, body)).object()

    # Search

    async def compute_hamming_distances(
        self,
        query: Sequence[int],
        context_id: str,
        kb_id: str,
        meta_filter: MetaFilter | None = None,
        range: Sequence[int] | None = None,  # noqa: A002 - the documented name
    ) -> list[tuple[int, list[bytes]]]:
        """Encrypted distances of `query` to every stored vector -> (chunk id, little-endian ciphertexts).

        `range` is ``[first, last]``, the chunk ids to search, both included.
        """
        rows = ciphertext_rows([query], "query")[0]
        ids, products, _ = await self._distances(rows, context_id, kb_id, meta_filter, range, wire.MSGPACK)
        rows_of_bytes = [[bytes(one) for one in row] for row in products]
        return list(zip(ids.tolist(), rows_of_bytes, strict=True))

    async def compute_hamming_distances_array(
        self,
        query: NDArray[np.uint8],
        context_id: str,
        kb_id: str,
        meta_filter: MetaFilter | None = None,
        range: Sequence[int] | None = None,  # noqa: A002 - the documented name
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Query uint8 (chunks, width) -> ids int64 (N,), encrypted distances uint8 (N, chunks, width).

        The arrays may be read-only. Raises UnexpectedAnswerError when the answer has another shape.
        """
        return (
            await self.compute_hamming_distances_with_records(query, context_id, kb_id, meta_filter, range)
        )[:2]

    async def compute_hamming_distances_with_records(
        self,
        query: NDArray[np.uint8],
        context_id: str,
        kb_id: str,
        meta_filter: MetaFilter | None = None,
        range: Sequence[int] | None = None,  # noqa: A002 - the documented name
    ) -> wire.Distances:
        """As `compute_hamming_distances_array`, with the rows' records (a table of `xtrace_sdk.records`)."""
        return await self._distances(query, context_id, kb_id, meta_filter, range, _ACCEPT_DISTANCES)

    def compute_hamming_distances_blocks(
        self,
        query: NDArray[np.uint8],
        context_id: str,
        kb_id: str,
        meta_filter: MetaFilter | None = None,
        range: Sequence[int] | None = None,  # noqa: A002 - the documented name
        *,
        manifests: list[str | None] | None = None,
    ) -> AsyncGenerator[wire.Distances]:
        """As `compute_hamming_distances_with_records`, in blocks, while the answer still arrives.

        Ids ascend, from block to block too, and each comes once. An error may come after the first blocks.
        The answer's manifest, None for none, is appended to `manifests`: several times if the connection
        broke and the request was repeated.
        """
        body, headers, limits = hamming_request(
            query, context_id, kb_id, meta_filter, range, _ACCEPT_DISTANCES
        )
        arriving = Arriving()
        request = partial(
            self._data,
            "POST",
            wire.HAMMING,
            body,
            headers=headers,
            longest=self.max_answer_bytes,
            arriving=arriving,
        )
        chunks, width = query.shape
        return distances.blocks(request, arriving, chunks, width, limits, manifests)

    async def _distances(
        self,
        rows: NDArray[np.uint8],
        context_id: str,
        kb_id: str,
        meta_filter: MetaFilter | None,
        id_range: Sequence[int] | None,
        accept: str,
    ) -> wire.Distances:
        body, headers, limits = hamming_request(rows, context_id, kb_id, meta_filter, id_range, accept)
        answer = await self._data("POST", wire.HAMMING, body, headers=headers, longest=self.max_answer_bytes)
        chunks, width = rows.shape
        return await asyncio.to_thread(distances.unpacked, answer, chunks, width, limits)

    async def meta_search(
        self,
        kb_id: str,
        meta_filter: MetaFilter,
        context_id: str,
        return_content: bool = False,
        projection: Sequence[str] | None = None,
    ) -> list[Json]:
        """All chunks whose metadata matches; with `return_content` also their encrypted contents."""
        body: Json = {"kb_id": kb_id, "meta_filter": filter_text(meta_filter), "context_id": context_id}
        if fields := projected(projection):
            body["projection"] = fields
        if return_content:
            body["return_content"] = True
        return (await self._data("POST", wire.CHUNKS_META, body)).objects(chunk_id=int)

    async def meta_search_paginated(
        self,
        kb_id: str,
        context_id: str,
        meta_filter: MetaFilter | None = None,
        projection: Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort_order: Literal["asc", "desc"] = "desc",
        sort_by: str = "chunk_id",
        return_content: bool = False,
    ) -> Json:
        """One page of the chunks whose metadata matches: ``results``, ``total``, ``has_more``."""
        body: Json = {
            "kb_id": kb_id,
            "context_id": context_id,
            "offset": offset,
            "sort_order": sort_order,
            "sort_by": sort_by,
        }
        if meta_filter is not None:
            body["meta_filter"] = filter_object(meta_filter)
        if fields := projected(projection):
            body["projection"] = fields
        if limit is not None:
            body["limit"] = limit
        if return_content:
            body["return_content"] = True
        return (await self._data("POST", wire.CHUNKS_META_PAGE, body)).objects_in("results", chunk_id=int)

    async def delete_chunks_by_meta(
        self,
        kb_id: str,
        context_id: str,
        meta_filter: MetaFilter,
        dry_run: bool = False,
        *,
        keeper: Keeper | None = None,
    ) -> Json:
        """Delete the chunks whose metadata matches. Has ``deleted_count`` (or ``would_delete_count``)."""
        body = by_meta(kb_id, context_id, meta_filter, dry_run)
        if keeper is None or dry_run:
            try:
                return (await self._data("DELETE", wire.CHUNKS_BY_META, body)).object()
            except ConflictError as error:
                keeper = self._keepers.get(context_id)
                if error.status != REFUSED or keeper is None:
                    raise
        found = await self.look_up_manifest(kb_id, context_id, meta_filter=meta_filter)
        return await self.delete_chunks([row.chunk_id for row in found.rows], kb_id, keeper=keeper)

    async def patch_chunks_by_meta(
        self, kb_id: str, context_id: str, meta_filter: MetaFilter, patch: Json, dry_run: bool = False
    ) -> Json:
        """Change the metadata of the chunks that match. Has ``updated_count`` (or ``would_update_count``)."""
        body = by_meta(kb_id, context_id, meta_filter, dry_run, patch=patch)
        return (await self._data("PATCH", wire.CHUNKS_BY_META, body)).object()

    # Execution contexts

    async def store_exec_context(self, exec_context_dict: Json, context_id: str) -> str:
        """Store a context whose ``sk`` is encrypted -> its id.

        Raises ConflictError when another public key is stored under this id.
        """
        body = {"data": exec_context_dict, "context_id": context_id}
        answer = await self._data("POST", wire.CONTEXTS, body)
        return str(answer.object(context_id=str)["context_id"])

    async def register_public_context(self, data: Mapping[str, Any], context_id: str) -> None:
        """Make sure that the server has the public part of a context: without it there is no search.

        Only ``pk``, ``type`` and ``config`` of `data` are sent. Asks the server once per object and context.
        Raises KeyMismatchError when the server holds another public part under this id.
        """
        if checked_id(context_id, "context_id") in self._registered:
            return
        if not isinstance(data, Mapping):
            raise WrongTypeError(f"data: expected a dict, got {type(data).__name__}")
        try:
            public = {name: data[name] for name in ("pk", "type", "config")}
        except KeyError as missing:
            raise MissingFieldError(f"data.{missing.args[0]}: missing") from None
        try:
            stored = await self.get_serialized_exec_context(context_id)
        except NotFoundError:
            await self.store_exec_context(public, context_id)
        else:
            if any(stored.get(name) != value for name, value in public.items()):
                raise KeyMismatchError(
                    f"context {context_id}: the server holds another public key under this id"
                )
        self._registered.add(context_id)

    async def get_serialized_exec_context(self, context_id: str) -> Json:
        """The stored context: ``pk``, ``type``, ``config`` and, if saved whole, the encrypted ``sk``."""
        return (await self._data("GET", wire.CONTEXT, context_id=context_id)).object()

    async def list_exec_contexts(self) -> list[str]:
        """Ids of all contexts of the organisation."""
        return (await self._data("GET", wire.CONTEXTS)).strings("contexts")

    async def delete_exec_context(self, context_id: str) -> Literal[True]:
        """Delete a stored context. Chunks encrypted under it stay, unsearchable until it is stored again."""
        (await self._data("DELETE", wire.CONTEXT, context_id=context_id)).done()
        self._registered.discard(context_id)
        return True

    async def get_ctx_for_kb(self, kb_id: str) -> list[str]:
        """Ids of the contexts that a knowledge base is bound to."""
        return (await self._data("GET", wire.KB_CONTEXTS, kb_id=kb_id)).strings("context_ids")

    async def get_kbs_for_ctx(self, ctx_id: str) -> list[str]:
        """Ids of the knowledge bases bound to a context."""
        return (await self._data("GET", wire.CONTEXT_KBS, context_id=ctx_id)).strings("kb_ids")

    async def register_kb_binding(self, kb_id: str, ctx_id: str) -> Literal[True]:
        """Bind a knowledge base to a context."""
        (await self._data("POST", wire.KB_BIND, kb_id=kb_id, context_id=ctx_id)).done()
        return True

    # Below: from a call to a request.

    async def _data(
        self,
        method: str,
        template: str,
        body: Json | None = None,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        longest: int = LONGEST_JSON,
        arriving: Arriving | None = None,
        **parts: str,
    ) -> Answer:
        parts["org_id"] = self.org_id
        sent = CIMultiDict({wire.API_KEY_HEADER: self.api_key, "Accept": wire.JSON})
        sent.update(headers or {})
        return await self._send(
            method, self.api_url, template, parts, body, query, sent, longest=longest, arriving=arriving
        )

    async def _admin(self, method: str, template: str, body: Json | None = None, **parts: str) -> Answer:
        if not self.admin_key:
            raise MissingAdminKeyError("admin_key: this call needs one; give it or set XTRACE_ADMIN_KEY")
        sent = CIMultiDict(
            {wire.ADMIN_KEY_HEADER: self.admin_key, wire.ORG_ID_HEADER: self.org_id, "Accept": wire.JSON}
        )
        # A repeated POST would create a second knowledge base or key.
        return await self._send(
            method, self.admin_api_url, template, parts, body, (), sent, repeatable=method != "POST"
        )

    async def _send(
        self,
        method: str,
        base: str,
        template: str,
        parts: dict[str, str],
        body: Json | None,
        query: Sequence[tuple[str, str]],
        headers: CIMultiDict[str],
        *,
        repeatable: bool = True,
        longest: int = LONGEST_JSON,
        arriving: Arriving | None = None,
    ) -> Answer:
        address = base + wire.path(template, **{name: checked_id(part, name) for name, part in parts.items()})
        if query:
            address += "?" + "&".join(f"{name}={wire.path('{value}', value=value)}" for name, value in query)
        data = None
        if body is not None:
            try:
                data = json.dumps(body, allow_nan=False).encode()
            except TypeError as error:
                raise WrongTypeError(f"request: {error}") from None
            except (ValueError, RecursionError) as error:
                raise InputError(f"request: {error}") from None
            headers["Content-Type"] = wire.JSON
        return await self._transport.request(
            method,
            address,
            headers=headers,
            body=data,
            repeatable=repeatable,
            longest=longest,
            arriving=arriving,
        )
