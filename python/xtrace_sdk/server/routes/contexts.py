"""Execution contexts, as opaque objects with a public key in them, and their bindings to knowledge bases."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.server.auth import ApiCaller, ServicesNow
from xtrace_sdk.server.ciphertexts import public_part
from xtrace_sdk.server.metadata import checked_json
from xtrace_sdk.server.models import (
    Acknowledged,
    ContextBody,
    ContextIds,
    ContextList,
    ContextStored,
    KbIds,
    read_body,
    takes,
)

router = APIRouter(tags=["execution contexts"])
KbId = Annotated[str, Path()]
ContextPath = Annotated[str, Path()]


@router.post(wire.CONTEXTS, openapi_extra=takes(ContextBody))
async def store_context(request: Request, caller: ApiCaller, server: ServicesNow) -> ContextStored:
    _, body = await read_body(request, ContextBody)
    await caller.may_somewhere(wire.WRITE)
    if not body.context_id.strip("."):
        raise InputError("context_id: expected more than dots")
    data = checked_json(body.data, "data")
    public, parsed = public_part(data)
    await server.store.store_context(caller.org_id, body.context_id, data, public, parsed)
    return ContextStored(context_id=body.context_id)


@router.get(wire.CONTEXTS)
async def list_contexts(caller: ApiCaller, server: ServicesNow) -> ContextList:
    return ContextList(contexts=await server.store.list_contexts(caller.org_id))


@router.get(wire.CONTEXT, response_class=Response, responses={200: {"content": {wire.JSON: {}}}})
async def get_context(caller: ApiCaller, server: ServicesNow, context_id: ContextPath) -> Response:
    data = await server.store.get_context(caller.org_id, context_id)
    return Response(data, media_type=wire.JSON)


@router.delete(wire.CONTEXT)
async def delete_context(caller: ApiCaller, server: ServicesNow, context_id: ContextPath) -> Acknowledged:
    """Needs the delete permission on every knowledge base bound to the context (on any, if there is none)."""
    bound = await server.store.kbs_of_context(caller.org_id, context_id)
    for kb_id in bound:
        await caller.may(wire.DELETE, kb_id)
    if not bound:
        await caller.may_somewhere(wire.DELETE)
    await server.store.delete_context(caller.org_id, context_id)
    return Acknowledged(response="execution context deleted")


@router.get(wire.KB_CONTEXTS)
async def contexts_of_kb(caller: ApiCaller, server: ServicesNow, kb_id: KbId) -> ContextIds:
    return ContextIds(context_ids=await server.store.contexts_of_kb(caller.org_id, kb_id))


@router.get(wire.CONTEXT_KBS)
async def kbs_of_context(caller: ApiCaller, server: ServicesNow, context_id: ContextPath) -> KbIds:
    return KbIds(kb_ids=await server.store.kbs_of_context(caller.org_id, context_id))


@router.post(wire.KB_BIND)
async def bind(caller: ApiCaller, server: ServicesNow, kb_id: KbId, context_id: ContextPath) -> Acknowledged:
    await caller.may(wire.WRITE, kb_id)
    await server.store.bind(caller.org_id, kb_id, context_id)
    return Acknowledged(response="execution context bound to the knowledge base")
