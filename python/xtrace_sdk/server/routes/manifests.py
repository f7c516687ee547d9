"""Manifests by themselves: looked up before a change and by an audit, exchanged without one."""

from __future__ import annotations

import json

from fastapi import APIRouter, Request, Response

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.server.auth import ApiCaller, ServicesNow
from xtrace_sdk.server.filters import parse_filter
from xtrace_sdk.server.manifests import TAGGED, tags_header
from xtrace_sdk.server.models import (
    Manifest,
    ManifestBody,
    ManifestLookUpBody,
    ManifestStored,
    read_body,
    takes,
)
from xtrace_sdk.server.storage.base import ManifestPage, Selection

router = APIRouter(tags=["manifests"])


@router.post(wire.MANIFESTS, openapi_extra=takes(ManifestLookUpBody), response_model=Manifest)
async def look_up(request: Request, caller: ApiCaller, server: ServicesNow) -> Response:
    """The manifest of a context, and the records of chunks of it, all from one state.

    Chunks that do not exist, that are under another context or whose stored vectors are damaged are left out.
    """
    _, body = await read_body(request, ManifestLookUpBody)
    await caller.may(wire.READ, body.kb_id)
    # One read transaction, held no longer than the database needs, however slowly the answer is fetched.
    pieces: list[bytes] = []
    head = b""
    async for page in server.store.manifest(caller.org_id, body.kb_id, body.context_id, _selection(body)):
        if not head:
            sealed = None if page.sealed is None else wire.encode_manifest(page.sealed)
            head = json.dumps({"manifest": sealed, "sequence": page.sequence}).encode()
        if page.rows:
            pieces.append(_rows(page))
    return Response(head[:-1] + b', "rows": [' + b",".join(pieces) + b"]}", media_type=wire.JSON)


def _selection(body: ManifestLookUpBody) -> Selection:
    given = [name for name in ("chunk_ids", "keys", "meta_filter") if getattr(body, name) is not None]
    if len(given) + body.all > 1:
        raise InputError("body: expected at most one of chunk_ids, keys, meta_filter and all")
    condition = parse_filter(body.meta_filter)
    if condition is None and body.meta_filter is not None:
        raise InputError("meta_filter: expected a filter; `all` asks for every chunk")
    return Selection(tuple(body.chunk_ids or ()), tuple(body.keys or ()), condition, body.all)


def _rows(page: ManifestPage) -> bytes:
    return b",".join(
        json.dumps(
            {"chunk_id": one.id, "key": one.key, "record": wire.encode_record(one.record) or None},
            ensure_ascii=False,
        ).encode()
        for one in page.rows
    )


@router.put(wire.MANIFESTS, openapi_extra=takes(ManifestBody), responses=TAGGED)
async def store(
    request: Request, response: Response, caller: ApiCaller, server: ServicesNow
) -> ManifestStored:
    """Put a manifest in force, or none, without a change of chunks: 412 unless `expected` is in force.

    It is for owners who accept what is stored as it is. A damaged manifest counts as none.
    """
    _, body = await read_body(request, ManifestBody)
    await caller.may(wire.WRITE, body.kb_id)
    expected = wire.checked_manifest_tag(body.expected, "expected")
    sealed = None if body.manifest is None else wire.decode_manifest(body.manifest, "manifest")
    await server.store.set_manifest(caller.org_id, body.kb_id, body.context_id, expected, sealed)
    tag = wire.manifest_tag(sealed)
    response.headers.update(tags_header([tag]))
    return ManifestStored(tag=tag)
