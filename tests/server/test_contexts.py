"""Execution contexts: stored as they are, told apart by their public part."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from xtrace_sdk import wire

ENGINES = ("sqlite", "postgresql")


def post(org, data: Any, context_id: str = "c1"):
    return org.api.post(org.path(wire.CONTEXTS), json={"data": data, "context_id": context_id})


def get(org, context_id: str = "c1"):
    return org.api.get(org.path(wire.CONTEXT, context_id=context_id))


def test_stored_as_it_is(org, client) -> None:
    data = {**client.data, "later": {"x": [1, None, "ü"]}}
    answer = post(org, data)
    assert (answer.status_code, answer.json()) == (200, {"context_id": "c1"})
    got = get(org)
    assert got.json() == data and list(got.json()) == list(data)
    assert got.headers["content-type"] == wire.JSON
    assert org.api.get(org.path(wire.CONTEXTS)).json() == {"contexts": ["c1"]}


def test_integers_and_decimal_strings(org, client) -> None:
    n = client.key.public.n
    for pk in ({"g": n + 1, "n": n, "n_squared": n * n, "g_n": 1}, {"n": str(n)}):
        assert post(org, {**client.data, "pk": json.dumps(pk)}, f"c{len(pk)}").status_code == 200


def test_same_public_part_overwrites(org, client, make_client) -> None:
    post(org, client.data)
    resealed = {**client.data, "sk": "sealed again", "wrapped_key": "bmV3"}
    assert post(org, resealed).status_code == 200
    assert get(org).json() == resealed
    other = post(org, make_client().data)
    assert other.status_code == 409 and "public key" in other.json()["message"]
    assert get(org).json() == resealed


def test_public_part_alone_never_replaces_a_secret_key(org, client) -> None:
    public = {name: client.data[name] for name in ("pk", "type", "config")}
    assert post(org, public).status_code == 200
    assert get(org).json() == public
    post(org, client.data)
    assert post(org, public).status_code == 200
    assert get(org).json() == client.data


def replaced(pk: dict[str, Any] | None = None, config: dict[str, Any] | None = None, **fields: Any):
    def change(data: dict[str, Any]) -> dict[str, Any]:
        changed = {**data, **fields}
        if pk is not None:
            changed["pk"] = json.dumps({**json.loads(data["pk"]), **pk})
        if config is not None:
            changed["config"] = json.dumps({**json.loads(data["config"]), **config})
        return changed

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: [], "data"),
        (lambda data: {}, "data.pk"),
        (replaced(pk={"n_squared": "15"}), "data.pk.n_squared: is not the square"),
        (replaced(pk={"n": "16", "n_squared": "256"}), "data.pk.n: expected an odd number"),
        (replaced(pk={"n": "1", "n_squared": "1"}), "data.pk.n"),
        (replaced(pk={"n": -15}), "data.pk.n"),
        (replaced(pk={"n": None}), "data.pk.n"),
        (replaced(pk={"n": True}), "data.pk.n"),
        (replaced(pk={"n": 1.5}), "data.pk.n"),
        (replaced(pk={"n": "0x11"}), "data.pk.n"),
        (replaced(pk={"n": "1" * 5000}), "data.pk.n"),
        (lambda data: {**data, "pk": '{"n": ' + "1" * 5000 + "}"}, "data.pk: not valid JSON"),
        (replaced(pk={"n": "1" * 4300}), "data.pk.n_squared"),
        (replaced(type=5), "data.type"),
        (lambda data: {**data, "pk": "{"}, "data.pk: not valid JSON"),
        (lambda data: {**data, "pk": "[" * 10_000}, "data.pk: not valid JSON"),
        (lambda data: {**data, "pk": "[]"}, "data.pk: expected the text of a JSON object"),
        (lambda data: {**data, "pk": json.loads(data["pk"])}, "data.pk: expected a string"),
        (replaced(config={"embed_len": 0}), "data.config"),
        (replaced(config={"key_len": 0}), "data.config"),
        (replaced(config={"embed_len": 10**9}), "data.config"),
        (replaced(config={"embed_len": None}), "data.config.embed_len"),
    ],
)
def test_refusals(org, client, change, named: str) -> None:
    answer = post(org, change(client.data))
    assert answer.status_code == 400 and answer.json()["message"].startswith(named), answer.text
    assert get(org).status_code == 404


@pytest.mark.parametrize("value", ["NaN", "1e999", '{"x": [-Infinity]}', '"a\\u0000"'])
def test_what_no_json_can_hold(org, client, value: str) -> None:
    data = json.dumps({**client.data, "later": 0}).replace('"later": 0', f'"later": {value}')
    body = f'{{"context_id": "c1", "data": {data}}}'
    answer = org.api.post(org.path(wire.CONTEXTS), content=body)
    assert answer.status_code == 400 and answer.json()["message"].startswith("data.later"), answer.text
    assert get(org).status_code == 404


@pytest.mark.parametrize("revoked", [False, True])
def test_a_key_revoked_while_it_sends_stores_nothing(org, live, client, kb, revoked: bool) -> None:
    secret, key_hash = org.new_key()
    org.permit(key_hash, kb, wire.WRITE)
    content = json.dumps({"data": client.data, "context_id": "c1"}).encode()

    def body() -> Iterator[bytes]:
        yield content[:10]
        deadline = time.monotonic() + 10
        while key_hash not in live.services.touched:  # the key has been looked at
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if revoked:
            org.admin.patch(wire.path(wire.KEY_REVOKE, key_hash=key_hash))
        yield content[10:]

    sender = live.client({wire.API_KEY_HEADER: secret})
    answer = sender.post(org.path(wire.CONTEXTS), content=body())
    assert answer.status_code == (403 if revoked else 200), answer.text
    assert get(org).status_code == (404 if revoked else 200)


def test_ids_that_do_not_fit_into_a_path(org, client) -> None:
    for context_id in ("", "a/b", "a b", "ä", ".", "..", "x" * 129):
        answer = post(org, client.data, context_id)
        assert answer.status_code == 400 and "context_id" in answer.json()["message"]


def test_delete_and_bindings(org, client, kb) -> None:
    bind = org.path(wire.KB_BIND, kb_id=kb, context_id=client.context_id)
    contexts = org.path(wire.KB_CONTEXTS, kb_id=kb)
    kbs = org.path(wire.CONTEXT_KBS, context_id=client.context_id)
    assert org.api.get(contexts).json() == {"context_ids": []}
    assert org.api.post(bind, headers={"content-type": "application/octet-stream"}).status_code == 200
    assert org.api.post(bind).status_code == 200
    assert org.api.get(contexts).json() == {"context_ids": [client.context_id]}
    assert org.api.get(kbs).json() == {"kb_ids": [kb]}
    assert org.api.delete(org.path(wire.CONTEXT, context_id=client.context_id)).status_code == 200
    assert get(org, client.context_id).status_code == 404
    assert org.api.get(contexts).json() == {"context_ids": []}
    assert org.api.get(org.path(wire.CONTEXTS)).json() == {"contexts": []}
    assert org.api.delete(org.path(wire.CONTEXT, context_id=client.context_id)).status_code == 404


def test_binding_of_unknown_objects(org, client, kb) -> None:
    for kb_id, context_id in [("nothingthere", client.context_id), (kb, "unknown")]:
        answer = org.api.post(org.path(wire.KB_BIND, kb_id=kb_id, context_id=context_id))
        assert answer.status_code == 404
    assert org.api.get(org.path(wire.KB_CONTEXTS, kb_id="nothingthere")).status_code == 404
    assert org.api.get(org.path(wire.CONTEXT_KBS, context_id="unknown")).json() == {"kb_ids": []}


def test_deleting_needs_the_right_on_every_bound_knowledge_base(org, client, kb, live) -> None:
    secret, key_hash = org.new_key()
    key = live.client({wire.API_KEY_HEADER: secret})
    other = org.new_kb()
    for one in (kb, other):
        org.api.post(org.path(wire.KB_BIND, kb_id=one, context_id=client.context_id))
    path = org.path(wire.CONTEXT, context_id=client.context_id)
    assert key.delete(path).status_code == 403
    org.permit(key_hash, kb, 7)
    assert key.delete(path).status_code == 403
    org.permit(key_hash, other, 7)
    assert key.delete(path).status_code == 200
