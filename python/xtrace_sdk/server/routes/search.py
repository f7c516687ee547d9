"""Searching: encrypted distances, and metadata alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.server.auth import ApiCaller, ServicesNow
from xtrace_sdk.server.chunk_json import Fields, json_array
from xtrace_sdk.server.ciphertexts import decode_rows
from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.manifests import SEALED, Manifests, refuse
from xtrace_sdk.server.metadata import checked_changes
from xtrace_sdk.server.models import (
    ByMetaBody,
    ChunkAnswer,
    HammingBody,
    MetaPageBody,
    MetaSearchBody,
    Page,
    PatchByMetaBody,
    read_body,
    takes,
)
from xtrace_sdk.server.search import Rows, Snapshot
from xtrace_sdk.server.storage.base import NotFoundError, Query

router = APIRouter(tags=["search"])

_NO_IDS = (1, 0)  # a range with no id in it

_BINARY = {
    "headers": SEALED,
    "description": "Products of the query with every candidate, ascending by chunk id.",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in (wire.MSGPACK, wire.COLUMNS)
    },
}


@router.post(
    wire.HAMMING,
    openapi_extra=takes(HammingBody),
    response_class=StreamingResponse,
    responses={200: _BINARY},
)
async def compute_hamming(request: Request, caller: ApiCaller, server: ServicesNow) -> StreamingResponse:
    """Encrypted Hamming distances: msgpack, or columns for callers that accept them.

    `meta_filter` and `range` limit the candidates; without them every chunk under the context is one. A row
    of a chunk that has a record holds it as third element, or column.
    """
    _, body = await read_body(request, HammingBody)
    access = await caller.may(wire.READ, body.kb_id)
    context = await server.store.public_context(caller.org_id, body.context_id)
    if context is None:
        raise NotFoundError("context_id: execution context not found")
    query = decode_rows([body.query], context, "query")[0]
    candidates = Query(body.context_id, parse_filter(body.meta_filter), _range(body.range))
    ids = None
    if candidates.filter is not None or candidates.id_range is not None:
        ids = await server.store.select(caller.org_id, body.kb_id, candidates)
    state = await server.indexes.snapshot(
        caller.org_id, body.kb_id, body.context_id, context, access.sequence, ids
    )
    snapshot = state.rows
    headers = {"Vary": "Accept"}
    if ids is None and state.manifest is not None:
        headers[wire.MANIFEST_HEADER] = wire.encode_manifest(state.manifest)
    chunks, width = query.shape
    products = snapshot.products(query)
    if wire.COLUMNS in request.headers.get("accept", ""):
        pieces = wire.pack_columns(snapshot.ids, chunks, width, products, snapshot.records())
        kind = wire.COLUMNS
    else:
        blocks = _with_ids(snapshot, products)
        pieces = wire.pack_distances(snapshot.ids.size, chunks, width, blocks, snapshot.records())
        kind = wire.MSGPACK
    return StreamingResponse(pieces, media_type=kind, headers=headers)


def _with_ids(snapshot: Snapshot, products: Iterator[Rows]) -> Iterator[wire.Block]:
    at = 0
    for rows in products:
        yield snapshot.ids[at : at + len(rows)], rows
        at += len(rows)


def _range(bounds: list[int] | None) -> tuple[int, int] | None:
    if bounds is None:
        return None
    low, high = bounds
    if not low <= high:
        raise InputError("range: expected [smallest chunk id, greatest chunk id]")
    limit = np.iinfo(np.int64)
    low, high = max(low, int(limit.min)), min(high, int(limit.max))
    return (low, high) if low <= high else _NO_IDS


@router.post(wire.CHUNKS_META, openapi_extra=takes(MetaSearchBody), response_model=list[ChunkAnswer])
async def meta_search(request: Request, caller: ApiCaller, server: ServicesNow) -> StreamingResponse:
    """All chunks that match, ascending by chunk id."""
    _, body = await read_body(request, MetaSearchBody)
    await caller.may(wire.READ, body.kb_id)
    query = Query(body.context_id, parse_filter(body.meta_filter))
    ids = await server.store.select(caller.org_id, body.kb_id, query)
    array = json_array(server.store, caller.org_id, body.kb_id, ids.tolist(), _fields(body))
    return StreamingResponse(array, media_type=wire.JSON)


@router.post(wire.CHUNKS_META_PAGE, openapi_extra=takes(MetaPageBody), response_model=Page)
async def meta_page(request: Request, caller: ApiCaller, server: ServicesNow) -> StreamingResponse:
    """One page of the chunks that match. Absent values sort last, equal ones by chunk id."""
    _, body = await read_body(request, MetaPageBody)
    await caller.may(wire.READ, body.kb_id)
    query = Query(body.context_id, parse_filter(body.meta_filter))
    ids, total = await server.store.page(
        caller.org_id,
        body.kb_id,
        query,
        sort_by=body.sort_by,
        descending=body.sort_order == "desc",
        limit=body.limit,
        offset=body.offset,
    )
    limit = "null" if body.limit is None else str(body.limit)
    has_more = "true" if body.limit is not None and body.offset + body.limit < total else "false"

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"results":'
        async for piece in json_array(server.store, caller.org_id, body.kb_id, ids, _fields(body)):
            yield piece
        tail = f',"total":{total},"offset":{body.offset},"limit":{limit},"has_more":{has_more}}}'
        yield tail.encode()

    return StreamingResponse(pieces(), media_type=wire.JSON)


def _fields(body: MetaSearchBody) -> Fields:
    fields = [*(body.projection or ("name", "key", "meta_data"))]
    return Fields([*fields, "chunk_content"] if body.return_content else fields, default=())


@router.delete(wire.CHUNKS_BY_META, openapi_extra=takes(ByMetaBody))
async def delete_by_meta(
    request: Request, caller: ApiCaller, server: ServicesNow, manifests: Manifests
) -> dict[str, int]:
    """`deleted_count`, or `would_delete_count` when `dry_run`. Takes no manifest."""
    refuse(manifests)
    _, body = await read_body(request, ByMetaBody)
    await caller.may(wire.DELETE, body.kb_id)
    query = _matching(body)
    if body.dry_run:
        return {"would_delete_count": await server.store.count(caller.org_id, body.kb_id, query)}
    return {"deleted_count": await server.store.delete_matching(caller.org_id, body.kb_id, query)}


@router.patch(wire.CHUNKS_BY_META, openapi_extra=takes(PatchByMetaBody))
async def patch_by_meta(
    request: Request, caller: ApiCaller, server: ServicesNow, manifests: Manifests
) -> dict[str, int]:
    """`updated_count`, or `would_update_count` when `dry_run`. Takes no manifest, and needs none."""
    refuse(manifests)
    _, body = await read_body(request, PatchByMetaBody)
    await caller.may(wire.WRITE, body.kb_id)
    query = _matching(body)
    changes = checked_changes(_flat(body.patch), "patch")
    if not changes:
        raise InputError("patch: expected at least one field")
    if body.dry_run:
        return {"would_update_count": await server.store.count(caller.org_id, body.kb_id, query)}
    count = await server.store.patch_matching(caller.org_id, body.kb_id, query, changes)
    return {"updated_count": count}


def _matching(body: ByMetaBody) -> Query:
    """A filter that matches everything is an accident rather than a wish, unless nothing will happen."""
    condition = parse_filter(body.meta_filter)
    if condition is None and not body.dry_run:
        raise InputError("meta_filter: expected a filter; an empty one would match every chunk")
    return Query(body.context_id, condition)


def _flat(patch: dict[str, Any]) -> dict[str, Any]:
    """A nested `meta_data` counts like flat fields."""
    nested = patch.get("meta_data")
    if not isinstance(nested, dict):
        return patch
    flat = {name: value for name, value in patch.items() if name != "meta_data"}
    twice = flat.keys() & nested.keys()
    if twice:
        raise InputError(f"patch.{min(twice)}: given twice")
    return {**flat, **nested}
