"""Storing, changing, fetching and deleting chunks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.server.auth import ApiCaller, Caller, ServicesNow
from xtrace_sdk.server.chunk_json import Fields, json_array
from xtrace_sdk.server.ciphertexts import decode_vectors
from xtrace_sdk.server.manifests import TAGGED, Manifests, tags_header, tags_of
from xtrace_sdk.server.metadata import Meta, checked_changes, checked_meta
from xtrace_sdk.server.models import (
    ChunkAnswer,
    ChunkPatchBody,
    Deleted,
    InsertBody,
    Inserted,
    NewChunkBody,
    PatchBody,
    UpdateBody,
    Updated,
    read_body,
    takes,
)
from xtrace_sdk.server.services import Services
from xtrace_sdk.server.storage.base import ChunkPatch, NewChunk, PublicContext, Replay

router = APIRouter(tags=["chunks"])

_MAX_IDS = 1_000_000
_IDEMPOTENCY_SECONDS = 24 * 3600.0
# At most 18 digits: every such number fits into 64 bits, and no larger id exists.
JoinedIds = Annotated[str, Field(pattern=r"^([0-9]{0,18},)*[0-9]{0,18}$")]
ChunkIds = Annotated[
    list[JoinedIds], Query(default_factory=list, description="decimal, repeated or joined by commas")
]


@router.post(wire.CHUNKS, openapi_extra=takes(InsertBody), responses=TAGGED)
async def insert(
    request: Request,
    response: Response,
    caller: ApiCaller,
    server: ServicesNow,
    manifests: Manifests,
    idempotency_key: Annotated[str | None, Header(max_length=256)] = None,
) -> Inserted:
    raw, body = await read_body(request, InsertBody)
    await caller.may(wire.WRITE, body.kb_id)
    chunks = await _new_chunks(server, caller.org_id, body.context_id, body.chunks, "chunks")
    replay = _replay(caller, raw, idempotency_key, server.settings.replay_seconds)
    done = await server.store.insert(caller.org_id, body.kb_id, body.context_id, chunks, replay, manifests)
    response.headers.update(tags_header(done.tags))
    return Inserted(
        response=f"Data loaded into KB {body.kb_id} successfully",
        chunk_ids=done.ids,
        count=len(done.ids),
        replaced_count=done.replaced,
    )


def _replay(caller: Caller, raw: bytes, idempotency_key: str | None, seconds: float) -> Replay | None:
    """A request with a key is the same request when the key is, one without when its bytes are."""
    digest = hashlib.sha256(raw).hexdigest()
    if idempotency_key:
        token = f"key/{caller.org_id}/{caller.key.hash}/{idempotency_key}"
        return Replay(token, digest, _IDEMPOTENCY_SECONDS, strict=True)
    if not seconds:
        return None
    return Replay(f"body/{caller.org_id}/{digest}", digest, seconds, strict=False)


@router.put(wire.CHUNKS, openapi_extra=takes(UpdateBody), responses=TAGGED)
async def update(
    request: Request, response: Response, caller: ApiCaller, server: ServicesNow, manifests: Manifests
) -> Updated:
    _, body = await read_body(request, UpdateBody)
    await caller.may(wire.WRITE, body.kb_id)
    ids = _distinct([one.chunk_id for one in body.chunk_updates], "chunk_updates", "chunk_id")
    chunks = await _new_chunks(server, caller.org_id, body.context_id, body.chunk_updates, "chunk_updates")
    count = await server.store.update(
        caller.org_id, body.kb_id, body.context_id, list(zip(ids, chunks, strict=True)), manifests
    )
    response.headers.update(tags_header(tags_of(manifests)))
    return Updated(response="chunks updated", updated_count=count)


@router.patch(wire.CHUNKS, openapi_extra=takes(PatchBody), responses=TAGGED)
async def patch(
    request: Request, response: Response, caller: ApiCaller, server: ServicesNow, manifests: Manifests
) -> Updated:
    _, body = await read_body(request, PatchBody)
    await caller.may(wire.WRITE, body.kb_id)
    _distinct([one.chunk_id for one in body.chunk_patches], "chunk_patches", "chunk_id")
    context = await server.store.public_context(caller.org_id, body.context_id)
    patches = await asyncio.to_thread(_checked_patches, body.chunk_patches, context)
    count = await server.store.patch(caller.org_id, body.kb_id, body.context_id, patches, manifests)
    response.headers.update(tags_header(tags_of(manifests)))
    return Updated(response="chunks patched", updated_count=count)


def _checked_patches(bodies: Sequence[ChunkPatchBody], context: PublicContext | None) -> list[ChunkPatch]:
    patches = []
    for at, one in enumerate(bodies):
        field = f"chunk_patches[{at}]"
        changes = patch_changes(one, field)
        vector = None
        if one.index is not None:
            vector = decode_vectors([one.index], [one.record], context, field)[0]
        elif one.record is not None:
            raise InputError(f"{field}.record: belongs to an index, which is missing")
        patches.append(
            ChunkPatch(
                one.chunk_id,
                content=one.chunk_content,
                name=one.name,
                vector=vector,
                meta=checked_changes(changes, field) if changes else None,
            )
        )
    return patches


def patch_changes(one: ChunkPatchBody, field: str) -> Meta:
    """The changes of metadata, nested and flat together. Raises InputError when one field is given twice."""
    changes = dict(one.meta_data or {})
    for name in (*wire.TAGS, wire.FACETS):
        if name in one.model_fields_set:
            if name in changes:
                raise InputError(f"{field}.{name}: given twice")
            changes[name] = getattr(one, name)
    return changes


@router.delete(wire.CHUNKS, responses=TAGGED)
async def delete(
    response: Response,
    caller: ApiCaller,
    server: ServicesNow,
    kb_id: Annotated[str, Query()],
    chunk_ids: ChunkIds,
    manifests: Manifests,
) -> Deleted:
    """Ids that do not exist are ignored and not counted."""
    await caller.may(wire.DELETE, kb_id)
    count = await server.store.delete(caller.org_id, kb_id, _ids(chunk_ids), manifests)
    response.headers.update(tags_header(tags_of(manifests)))
    return Deleted(response="chunks deleted", deleted_count=count)


@router.get(wire.CHUNKS, response_model=list[ChunkAnswer])
async def fetch(
    caller: ApiCaller,
    server: ServicesNow,
    kb_id: Annotated[str, Query()],
    chunk_ids: ChunkIds,
    projection: Annotated[list[str], Query(default_factory=list)],
) -> StreamingResponse:
    """In the order of the request; ids that do not exist are left out."""
    await caller.may(wire.READ, kb_id)
    ids = _ids(chunk_ids)
    names = [name for joined in projection for name in joined.split(",") if name]
    fields = Fields(names, default=wire.PROJECTIONS)
    return StreamingResponse(
        json_array(server.store, caller.org_id, kb_id, ids, fields), media_type=wire.JSON
    )


def _ids(values: list[str]) -> list[int]:
    ids = [int(text) for joined in values for text in joined.split(",") if text]
    if len(ids) > _MAX_IDS:
        raise InputError(f"chunk_ids: more than {_MAX_IDS}")
    return ids


async def _new_chunks(
    server: Services, org_id: str, context_id: str, bodies: Sequence[NewChunkBody], field: str
) -> list[NewChunk]:
    context = await server.store.public_context(org_id, context_id)
    # Thousands of ciphertexts take a while, and other requests are not to wait for it.
    return await asyncio.to_thread(_checked_chunks, bodies, context, field)


def _checked_chunks(
    bodies: Sequence[NewChunkBody], context: PublicContext | None, field: str
) -> list[NewChunk]:
    vectors = decode_vectors(
        [one.index for one in bodies], [one.record for one in bodies], context, field + "[{row}]"
    )
    _distinct([one.key for one in bodies if one.key is not None], field, "key")
    return [
        NewChunk(
            one.chunk_content,
            one.name,
            checked_meta(one.meta_data or {}, f"{field}[{at}].meta_data"),
            vector,
            one.key,
        )
        for at, (one, vector) in enumerate(zip(bodies, vectors, strict=True))
    ]


def _distinct(values: list[Any], field: str, name: str) -> list[Any]:
    if len(set(values)) < len(values):
        raise InputError(f"{field}: the same {name} is given twice")
    return values
