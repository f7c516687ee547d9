"""The calls of the API that need an admin key: knowledge bases, API keys, rights."""

from __future__ import annotations

from abc import ABC, abstractmethod

from xtrace_sdk import wire
from xtrace_sdk.integrations.answers import Answer
from xtrace_sdk.integrations.arguments import Json


class AdminCalls(ABC):
    """Administration. All of it raises MissingAdminKeyError without an admin key."""

    @abstractmethod
    async def _admin(self, method: str, template: str, body: Json | None = None, **parts: str) -> Answer: ...

    async def list_kbs(self) -> list[Json]:
        """All knowledge bases of the organisation."""
        return (await self._admin("GET", wire.KBS)).objects(id=str)

    async def get_kb(self, kb_id: str) -> Json:
        """One knowledge base: ``id``, ``name``, ``description``, ``numberOfVectors``, ``contextIds``, …"""
        return (await self._admin("GET", wire.KB, kb_id=kb_id)).object()

    async def create_kb(self, name: str, description: str = "") -> Json:
        """Create a knowledge base -> its record; ``id`` names it from then on."""
        body = {"name": name, "description": description}
        return (await self._admin("POST", wire.KBS, body)).object(id=str)

    async def delete_kb(self, kb_id: str) -> None:
        """Delete a knowledge base and all its chunks."""
        (await self._admin("DELETE", wire.KB, kb_id=kb_id)).done()

    async def list_api_keys(self) -> list[Json]:
        """The active API keys: ``hash``, ``firstN``, ``name`` and times, never the secrets."""
        return (await self._admin("GET", wire.KEYS)).objects(hash=str)

    async def create_api_key(self, name: str, description: str = "") -> Json:
        """Create an API key -> ``apiKey``, its record, and ``secretKey``, shown only this once."""
        body = {"name": name, "description": description}
        return (await self._admin("POST", wire.KEYS, body)).object(apiKey=dict, secretKey=str)

    async def revoke_api_key(self, key_hash: str) -> None:
        """Revoke an API key by its hash."""
        (await self._admin("PATCH", wire.KEY_REVOKE, key_hash=key_hash)).done()

    async def get_key_permissions(self, key_hash: str) -> list[Json]:
        """An API key's rights: ``knowledgeBaseId`` and ``permission`` each."""
        answer = await self._admin("GET", wire.KEY_PERMISSIONS, key_hash=key_hash)
        return answer.objects(knowledgeBaseId=str, permission=int)

    async def set_key_permission(self, key_hash: str, kb_id: str, permission: int) -> Json:
        """Set an API key's right on a knowledge base: 0 none, 1 read, 3 write, 7 delete."""
        body = {"permission": permission}
        answer = await self._admin("PUT", wire.KEY_PERMISSION, body, key_hash=key_hash, kb_id=kb_id)
        return answer.object(permission=int)
