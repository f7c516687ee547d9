"""Knowledge bases, API keys and permissions: the routes of an organisation's administrator."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from xtrace_sdk import wire
from xtrace_sdk.server import credentials
from xtrace_sdk.server.auth import AdminCaller, ServicesNow
from xtrace_sdk.server.models import (
    Acknowledged,
    KbAnswer,
    KeyAnswer,
    KeyCreated,
    NamedBody,
    PermissionAnswer,
    PermissionBody,
    read_body,
    takes,
)
from xtrace_sdk.server.storage.base import ConflictError, Key, KnowledgeBase, Permission

router = APIRouter(tags=["admin"])
KbId = Annotated[str, Path()]
KeyHash = Annotated[str, Path()]


@router.get(wire.KBS)
async def list_kbs(caller: AdminCaller, server: ServicesNow) -> list[KbAnswer]:
    return [_kb(kb) for kb in await server.store.list_kbs(caller.org_id)]


@router.post(wire.KBS, openapi_extra=takes(NamedBody))
async def create_kb(request: Request, caller: AdminCaller, server: ServicesNow) -> KbAnswer:
    _, body = await read_body(request, NamedBody)
    kb_id = credentials.new_id()
    return _kb(await server.store.create_kb(caller.org_id, kb_id, body.name, body.description))


@router.get(wire.KB)
async def get_kb(caller: AdminCaller, server: ServicesNow, kb_id: KbId) -> KbAnswer:
    return _kb(await server.store.get_kb(caller.org_id, kb_id))


@router.delete(wire.KB)
async def delete_kb(caller: AdminCaller, server: ServicesNow, kb_id: KbId) -> Acknowledged:
    await server.store.delete_kb(caller.org_id, kb_id)
    server.indexes.forget(kb_id)
    return Acknowledged(response="knowledge base deleted")


@router.get(wire.KEYS)
async def list_keys(caller: AdminCaller, server: ServicesNow) -> list[KeyAnswer]:
    return [_key(key) for key in await server.store.list_keys(caller.org_id)]


@router.post(wire.KEYS, openapi_extra=takes(NamedBody))
async def create_key(request: Request, caller: AdminCaller, server: ServicesNow) -> KeyCreated:
    _, body = await read_body(request, NamedBody)
    while True:
        secret = credentials.new_secret()
        record = credentials.key_record(
            secret, caller.org_id, admin=False, name=body.name, description=body.description
        )
        try:
            stored = await server.store.create_key(record)
        except ConflictError:  # the first characters are taken: draw again
            continue
        return KeyCreated(api_key=_key(stored), secret_key=secret)


@router.get(wire.KEY_PERMISSIONS)
async def get_permissions(
    caller: AdminCaller, server: ServicesNow, key_hash: KeyHash
) -> list[PermissionAnswer]:
    return [_permission(one) for one in await server.store.permissions(caller.org_id, key_hash)]


@router.put(wire.KEY_PERMISSION, openapi_extra=takes(PermissionBody))
async def set_permission(
    request: Request, caller: AdminCaller, server: ServicesNow, key_hash: KeyHash, kb_id: KbId
) -> PermissionAnswer:
    _, body = await read_body(request, PermissionBody)
    return _permission(await server.store.set_permission(caller.org_id, key_hash, kb_id, body.permission))


@router.patch(wire.KEY_REVOKE)
async def revoke_key(caller: AdminCaller, server: ServicesNow, key_hash: KeyHash) -> Acknowledged:
    await server.store.revoke_key(caller.org_id, key_hash)
    return Acknowledged(response="API key revoked")


def _kb(kb: KnowledgeBase) -> KbAnswer:
    return KbAnswer(
        id=kb.id,
        name=kb.name,
        description=kb.description,
        number_of_vectors=kb.count,
        created_at=kb.created_at,
        updated_at=kb.updated_at,
        context_ids=list(kb.context_ids),
    )


def _key(key: Key) -> KeyAnswer:
    return KeyAnswer(
        hash=key.hash,
        first_n=key.first_n,
        name=key.name,
        description=key.description,
        status="active" if key.active else "revoked",
        created_at=key.created_at,
        last_used_at=key.last_used_at,
    )


def _permission(one: Permission) -> PermissionAnswer:
    return PermissionAnswer(knowledge_base_id=one.kb_id, permission=one.permission, updated_at=one.updated_at)
