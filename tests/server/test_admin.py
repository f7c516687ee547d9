"""Knowledge bases, API keys, permissions."""

import hashlib
import re
from datetime import datetime

import pytest

from xtrace_sdk import wire

ENGINES = ("sqlite", "postgresql")


def test_knowledge_bases(org, client) -> None:
    assert org.admin.get(wire.KBS).json() == []
    made = org.admin.post("/api" + wire.KBS, json={"name": "Ä", "description": "d"}).json()
    assert re.fullmatch("[A-Za-z0-9]{12}", made["id"])
    assert (made["name"], made["description"], made["numberOfVectors"]) == ("Ä", "d", 0)
    assert made["contextIds"] == []
    assert datetime.fromisoformat(made["createdAt"]) == datetime.fromisoformat(made["updatedAt"])
    client.register(org)
    org.insert(made["id"], client.context_id, client.chunks(client.vectors(3)))
    got = org.admin.get(wire.path(wire.KB, kb_id=made["id"])).json()
    assert got["numberOfVectors"] == 3
    assert got["contextIds"] == [client.context_id]
    assert got["updatedAt"] > made["updatedAt"]
    assert org.admin.get(wire.KBS).json() == [got]


def test_deleting_a_knowledge_base_deletes_everything_in_it(org, client, kb) -> None:
    org.insert(kb, client.context_id, client.chunks(client.vectors(3), meta_data={"facets": ["a"]}))
    org.api.delete(org.path(wire.CHUNKS), params={"kb_id": kb, "chunk_ids": 1})
    client.distances(org, kb, client.vectors(1)[0])
    indexed = org.server.services.indexes._entries
    assert kb in [name[0] for name in indexed]
    path = wire.path(wire.KB, kb_id=kb)
    assert org.admin.delete(path).status_code == 200
    assert kb not in [name[0] for name in indexed]
    assert org.admin.delete(path).status_code == 404
    assert org.admin.get(path).status_code == 404
    assert client.search(org, kb, client.vectors(1)[0]).status_code == 404
    kbs = org.path(wire.CONTEXT_KBS, context_id=client.context_id)
    assert org.api.get(kbs).json() == {"kb_ids": []}


def test_api_keys(org) -> None:
    made = org.admin.post(wire.KEYS, json={"name": "n", "description": "d"}).json()
    secret, record = made["secretKey"], made["apiKey"]
    assert re.fullmatch("[A-Za-z0-9]{48}", secret)
    assert record["hash"] == hashlib.sha256(secret.encode()).hexdigest()
    assert record["firstN"] == secret[:5]
    assert (record["name"], record["description"], record["status"]) == ("n", "d", "active")
    assert record["lastUsedAt"] is None
    listed = {key["hash"]: key for key in org.admin.get(wire.KEYS).json()}
    assert listed[record["hash"]] == record
    assert len(listed) == 2, "the organisation's own API key, and no admin key"


def test_use_is_noted(org, live) -> None:
    secret, key_hash = org.new_key()
    live.client({wire.API_KEY_HEADER: secret}).get(org.path(wire.CONTEXTS))
    (record,) = [key for key in org.admin.get(wire.KEYS).json() if key["hash"] == key_hash]
    assert record["lastUsedAt"] is not None


def test_revoked_keys_are_unknown_at_once(org, live) -> None:
    secret, key_hash = org.new_key()
    client = live.client({wire.API_KEY_HEADER: secret})
    assert client.get(org.path(wire.CONTEXTS)).status_code == 200
    assert org.admin.patch(wire.path(wire.KEY_REVOKE, key_hash=key_hash)).status_code == 200
    assert client.get(org.path(wire.CONTEXTS)).status_code == 401
    assert key_hash not in [key["hash"] for key in org.admin.get(wire.KEYS).json()]


def test_first_characters_are_unique(org) -> None:
    firsts = [org.new_key()[0][:5].lower() for _ in range(20)]
    assert len(set(firsts)) == 20


@pytest.mark.parametrize("permission", [0, 1, 3, 7])
def test_permissions(org, kb, permission: int) -> None:
    _, key_hash = org.new_key()
    path = wire.path(wire.KEY_PERMISSIONS, key_hash=key_hash)
    assert org.admin.get(path).json() == []
    org.permit(key_hash, kb, permission)
    got = [(one["knowledgeBaseId"], one["permission"]) for one in org.admin.get(path).json()]
    assert got == ([(kb, permission)] if permission else [])


def test_the_first_api_key_may_do_everything_until_told_otherwise(org, kb, client) -> None:
    key_hash = hashlib.sha256(org.api_key.encode()).hexdigest()
    path = wire.path(wire.KEY_PERMISSIONS, key_hash=key_hash)
    assert [one["permission"] for one in org.admin.get(path).json()] == [7]
    org.permit(key_hash, kb, 1)
    assert org.insert(kb, client.context_id, []).status_code == 403
    assert org.insert(org.new_kb(), client.context_id, []).status_code == 200


@pytest.mark.parametrize("value", [2, -1, 8, "7", None, True, 1.5])
def test_bad_permissions(org, kb, value) -> None:
    _, key_hash = org.new_key()
    path = wire.path(wire.KEY_PERMISSION, key_hash=key_hash, kb_id=kb)
    answer = org.admin.put(path, json={"permission": value})
    assert answer.status_code == 400 and "permission" in answer.json()["message"]


def test_unknown_keys_and_knowledge_bases(org, kb) -> None:
    _, key_hash = org.new_key()
    body = {"permission": 1}
    for path in (
        wire.path(wire.KEY_PERMISSION, key_hash="0" * 64, kb_id=kb),
        wire.path(wire.KEY_PERMISSION, key_hash=key_hash, kb_id="nothingthere"),
    ):
        assert org.admin.put(path, json=body).status_code == 404
    assert org.admin.get(wire.path(wire.KEY_PERMISSIONS, key_hash="0" * 64)).status_code == 404
    assert org.admin.patch(wire.path(wire.KEY_REVOKE, key_hash="0" * 64)).status_code == 404


@pytest.mark.parametrize("body", [{}, {"name": 5}, {"name": "a\0"}, {"name": "x" * 1001}, {"name": None}])
def test_bad_names(org, body) -> None:
    for path in (wire.KBS, wire.KEYS):
        answer = org.admin.post(path, json=body)
        assert answer.status_code == 400 and "name" in answer.json()["message"]


def test_health(org, live, engine) -> None:
    assert live.client({}).get(wire.HEALTH).json()["status"] == "ok"
    assert org.api.get(wire.HEALTH_DETAILED).status_code == 401
    detailed = org.admin.get(wire.HEALTH_DETAILED).json()
    assert detailed["store"]["engine"] == engine and detailed["kernel"]
