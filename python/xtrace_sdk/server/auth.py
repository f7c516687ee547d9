"""Who is calling, and what may they do. Asked on every call; nothing is remembered between calls."""

from __future__ import annotations

import hmac
import time
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Header, Path, Security
from fastapi.security import APIKeyHeader

from xtrace_sdk import wire
from xtrace_sdk.server.credentials import hash_secret
from xtrace_sdk.server.problems import forbidden, unauthorized
from xtrace_sdk.server.services import Services, services
from xtrace_sdk.server.storage.base import Access, Key, UnavailableError

_TOUCH_SECONDS = 60.0
_NAMES = {wire.READ: "read", wire.WRITE: "write", wire.DELETE: "delete"}

_api_key = APIKeyHeader(name=wire.API_KEY_HEADER, scheme_name="api key", auto_error=False)
_admin_key = APIKeyHeader(name=wire.ADMIN_KEY_HEADER, scheme_name="admin key", auto_error=False)

ServicesNow = Annotated[Services, Depends(services)]


class Caller:
    """An authenticated key. `org_id` is that of the key, and of the address."""

    def __init__(self, key: Key, server: Services) -> None:
        self.key = key
        self.org_id = key.org_id
        self._store = server.store

    async def may(self, right: int, kb_id: str) -> Access:
        """The caller's access to a knowledge base. Raises NotFoundError, or 403 when it lacks the right."""
        access = await self._store.access(self.org_id, self.key.hash, kb_id)
        if access.permission & right != right:
            raise forbidden(f"the API key lacks the {_NAMES[right]} permission on this knowledge base")
        return access

    async def may_somewhere(self, right: int) -> None:
        """For objects of the whole organisation: the right on at least one knowledge base."""
        if await self._store.rights(self.org_id, self.key.hash) & right != right:
            raise forbidden(f"the API key has the {_NAMES[right]} permission on no knowledge base")


async def _authenticated(server: Services, secret: str | None, header: str, *, admin: bool) -> Caller:
    if not secret:
        raise unauthorized(f"{header}: missing")
    key_hash = hash_secret(secret)
    key = await server.store.find_key(key_hash)
    if key is None or not hmac.compare_digest(key.hash, key_hash) or key.admin is not admin:
        raise unauthorized(f"{header}: unknown or revoked key")
    if time.monotonic() - server.touched.get(key_hash, -_TOUCH_SECONDS) >= _TOUCH_SECONDS:
        server.touched[key_hash] = time.monotonic()
        with suppress(UnavailableError):  # a note for people; no request fails for it
            await server.store.touch_key(key_hash)
    return Caller(key, server)


async def api_caller(
    server: ServicesNow, org_id: Annotated[str, Path()], secret: Annotated[str | None, Security(_api_key)]
) -> Caller:
    """The caller of a data route; its key belongs to the organisation of the address."""
    caller = await _authenticated(server, secret, wire.API_KEY_HEADER, admin=False)
    if caller.org_id != org_id:
        raise forbidden("the API key belongs to another organisation")
    return caller


async def admin_caller(
    server: ServicesNow,
    secret: Annotated[str | None, Security(_admin_key)],
    org_id: Annotated[
        str | None, Header(alias=wire.ORG_ID_HEADER, description="the organisation of the admin key")
    ] = None,
) -> Caller:
    """The caller of an admin route; the organisation's id comes in a header and must be that of the key."""
    caller = await _authenticated(server, secret, wire.ADMIN_KEY_HEADER, admin=True)
    if org_id != caller.org_id:
        raise forbidden(f"{wire.ORG_ID_HEADER}: not the organisation of the admin key")
    return caller


ApiCaller = Annotated[Caller, Depends(api_caller)]
AdminCaller = Annotated[Caller, Depends(admin_caller)]
