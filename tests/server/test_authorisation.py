"""Every principal against every endpoint and every object: what is not allowed never succeeds."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from xtrace_sdk import wire

READ, WRITE, DELETE = 1, 2, 4


@dataclass(frozen=True)
class Endpoint:
    """`right` on the knowledge base, or (`anywhere`) on some knowledge base of the organisation."""

    method: str
    path: str
    right: int = 0
    anywhere: bool = False
    body: dict[str, Any] | None = None
    params: bool = False


CHUNK = {"chunk_content": "x", "index": ["BQ=="]}
ENDPOINTS = [
    Endpoint("POST", wire.CHUNKS, WRITE, body={"chunks": [CHUNK]}),
    Endpoint("PUT", wire.CHUNKS, WRITE, body={"chunk_updates": [{**CHUNK, "chunk_id": 1}]}),
    Endpoint("PATCH", wire.CHUNKS, WRITE, body={"chunk_patches": [{"chunk_id": 1, "name": "stolen"}]}),
    Endpoint("GET", wire.CHUNKS, READ, params=True),
    Endpoint("DELETE", wire.CHUNKS, DELETE, params=True),
    Endpoint("GET", wire.CHANGES, READ, params=True),
    Endpoint("POST", wire.MANIFESTS, READ, body={"all": True}),
    Endpoint("PUT", wire.MANIFESTS, WRITE, body={"expected": "none", "manifest": "AAAA"}),
    Endpoint("POST", wire.HAMMING, READ, body={"query": ["BQ=="]}),
    Endpoint("POST", wire.CHUNKS_META, READ, body={}),
    Endpoint("POST", wire.CHUNKS_META_PAGE, READ, body={}),
    Endpoint("DELETE", wire.CHUNKS_BY_META, DELETE, body={"meta_filter": {"chunk_id": {"$gte": 0}}}),
    Endpoint(
        "PATCH",
        wire.CHUNKS_BY_META,
        WRITE,
        body={"meta_filter": {"chunk_id": 1}, "patch": {"tag1": "stolen"}},
    ),
    Endpoint("POST", wire.CONTEXTS, WRITE, anywhere=True, body={"data": {}}),
    Endpoint("GET", wire.CONTEXTS, anywhere=True),
    Endpoint("GET", wire.CONTEXT, anywhere=True),
    Endpoint("DELETE", wire.CONTEXT, DELETE, anywhere=True),
    Endpoint("GET", wire.KB_CONTEXTS, anywhere=True),
    Endpoint("GET", wire.CONTEXT_KBS, anywhere=True),
    Endpoint("POST", wire.KB_BIND, WRITE),
]
ADMIN_ENDPOINTS = [
    Endpoint("GET", wire.KBS),
    Endpoint("POST", wire.KBS, body={"name": "stolen"}),
    Endpoint("GET", wire.KB),
    Endpoint("DELETE", wire.KB),
    Endpoint("GET", wire.KEYS),
    Endpoint("POST", wire.KEYS, body={"name": "stolen"}),
    Endpoint("GET", wire.KEY_PERMISSIONS),
    Endpoint("PUT", wire.KEY_PERMISSION, body={"permission": 7}),
    Endpoint("PATCH", wire.KEY_REVOKE),
    Endpoint("GET", wire.HEALTH_DETAILED),
]


@pytest.fixture(scope="module")
def world(live, client):
    """Two organisations; the first with two knowledge bases and a key for every permission on the first."""
    ours, theirs = live.new_org(), live.new_org()
    kbs = {}
    for org, names in ((ours, ("kb", "other")), (theirs, ("foreign",))):
        client.register(org)
        for name in names:
            kbs[name] = org.new_kb(name)
            org.insert(kbs[name], client.context_id, client.chunks(client.vectors(2)))
    kbs["absent"] = "nothingthere"
    secrets, hashes = {}, {}
    for name, permission in (("none", 0), ("read", 1), ("write", 3), ("delete", 7)):
        secrets[name], hashes[name] = ours.new_key(name)
        ours.permit(hashes[name], kbs["kb"], permission)
    secrets["revoked"], revoked = ours.new_key("revoked")
    ours.permit(revoked, kbs["kb"], 7)
    ours.admin.patch(wire.path(wire.KEY_REVOKE, key_hash=revoked))
    secrets |= {"their key": theirs.api_key, "our admin": ours.admin_key, "nobody": "x" * 48, "empty": ""}
    return ours, theirs, kbs, secrets, hashes


def send(
    http, endpoint: Endpoint, org_id: str, kb_id: str, context_id: str, headers, key_hash: str = "0" * 64
):
    path = wire.path(endpoint.path, org_id=org_id, kb_id=kb_id, context_id=context_id, key_hash=key_hash)
    body = None
    if endpoint.body is not None:
        body = {"kb_id": kb_id, "context_id": context_id, **endpoint.body}
    params = {"kb_id": kb_id, "chunk_ids": [1, 2]} if endpoint.params else None
    return http.request(endpoint.method, path, json=body, params=params, headers=headers)


def state(org) -> list[Any]:
    """Everything of an organisation that a caller could change."""
    kbs = org.admin.get(wire.KBS).json()
    keys = [{**key, "lastUsedAt": None} for key in org.admin.get(wire.KEYS).json()]
    permissions = [
        org.admin.get(wire.path(wire.KEY_PERMISSIONS, key_hash=key["hash"])).json() for key in keys
    ]
    chunks = [org.fetch(kb["id"], [1, 2, 3]) for kb in kbs]
    return [kbs, keys, permissions, chunks, org.api.get(org.path(wire.CONTEXTS)).json()]


def test_every_documented_endpoint_is_in_the_matrix(live) -> None:
    documented = {
        (method.upper(), path) for path, item in live.app.openapi()["paths"].items() for method in item
    }
    assert documented == {(one.method, one.path) for one in ENDPOINTS + ADMIN_ENDPOINTS} | {
        ("GET", wire.HEALTH)
    }


RIGHTS = {"none": 0, "read": READ, "write": READ | WRITE, "delete": READ | WRITE | DELETE}


def allowed(endpoint: Endpoint, principal: str, owner: str, kb: str) -> bool:
    """May `principal` do this in the organisation `owner`? ("ours", "theirs" or "absent")"""
    deletes_context = endpoint.path == wire.CONTEXT and endpoint.method == "DELETE"
    if owner == "theirs":
        return principal == "their key" and (kb == "foreign" or endpoint.anywhere)
    if owner == "absent" or principal not in RIGHTS:
        return False
    if endpoint.path == wire.KB_CONTEXTS:
        return kb in ("kb", "other")
    # Deleting the context needs the right on every knowledge base bound to it, "other" too.
    enough = RIGHTS[principal] & endpoint.right == endpoint.right and not deletes_context
    return enough and (kb == "kb" or endpoint.anywhere)


def test_data_endpoints(world, live, client) -> None:
    ours, theirs, kbs, secrets, _ = world
    orgs = {"ours": ours.id, "theirs": theirs.id, "absent": "nobody"}
    before = state(ours), state(theirs)
    http = live.client({})
    answers = {}
    for number, endpoint in enumerate(ENDPOINTS):
        matters = "{context_id}" in endpoint.path or endpoint.path == wire.HAMMING
        contexts = (client.context_id, "absent") if matters else (client.context_id,)
        for principal, owner, kb, context_id in product(secrets, orgs, kbs, contexts):
            if allowed(endpoint, principal, owner, kb):
                continue
            headers = {wire.API_KEY_HEADER: secrets[principal]}
            answer = send(http, endpoint, orgs[owner], kbs[kb], context_id, headers)
            case = (number, principal, owner, kb, context_id)
            assert answer.status_code in (401, 403, 404), (endpoint, case, answer.text)
            answers[case] = (answer.status_code, answer.json()["message"])
    assert len(answers) >= 2000
    assert (state(ours), state(theirs)) == before
    for (number, principal, owner, kb, context_id), answer in answers.items():
        if owner == "ours" and kb == "foreign":
            absent = answers[number, principal, owner, "absent", context_id]
            assert answer == absent, "another organisation's object answers like an absent one"


def test_admin_endpoints(world, live) -> None:
    ours, theirs, kbs, secrets, hashes = world
    before = state(ours), state(theirs)
    http = live.client({})
    attempts = 0
    admins = {**secrets, "their admin": theirs.admin_key}
    orgs = (ours.id, theirs.id, "nobody")
    cases = (
        case
        for endpoint in ADMIN_ENDPOINTS
        for case in product(
            [endpoint],
            admins,
            orgs,
            kbs if "{kb_id}" in endpoint.path else ["kb"],
            ("write", "absent") if "{key_hash}" in endpoint.path else ["write"],
        )
    )
    for endpoint, principal, org_id, kb, key in cases:
        if principal == "our admin" and org_id == ours.id:
            continue
        own = "{" not in endpoint.path or (endpoint.path == wire.KB and kb == "foreign")
        if principal == "their admin" and org_id == theirs.id and own:
            continue
        headers = {wire.ADMIN_KEY_HEADER: admins[principal], wire.ORG_ID_HEADER: org_id}
        answer = send(http, endpoint, "", kbs[kb], "", headers, hashes.get(key, "0" * 64))
        attempts += 1
        assert answer.status_code in (401, 403, 404), (endpoint, principal, org_id, kb, answer.text)
    assert attempts >= 500
    assert (state(ours), state(theirs)) == before


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
def test_the_right_is_enough(org, live, client, endpoint: Endpoint) -> None:
    """The control: a key with no more than the right succeeds."""
    client.register(org)
    kb = org.new_kb()
    org.insert(kb, client.context_id, client.chunks(client.vectors(2)))
    secret, key_hash = org.new_key()
    org.permit(key_hash, kb, {0: 0, READ: 1, WRITE: 3, DELETE: 7}[endpoint.right])
    if endpoint.path == wire.CONTEXTS and endpoint.method == "POST":
        endpoint = Endpoint("POST", wire.CONTEXTS, WRITE, body={"data": client.data})
    headers = {wire.API_KEY_HEADER: secret}
    answer = send(live.client({}), endpoint, org.id, kb, client.context_id, headers)
    assert answer.status_code == 200, answer.text
