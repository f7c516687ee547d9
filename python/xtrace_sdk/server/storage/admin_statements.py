"""Organisations, keys, knowledge bases and execution contexts, for every engine."""

# ruff: noqa: S608 - statements are made from fixed pieces; everything a caller sent is a bound parameter

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from xtrace_sdk.server.metadata import Meta
from xtrace_sdk.server.storage.base import (
    Access,
    ConflictError,
    DamagedError,
    Key,
    KnowledgeBase,
    NotFoundError,
    Permission,
    PublicContext,
)
from xtrace_sdk.server.storage.checksums import checksum
from xtrace_sdk.server.storage.statements import DuplicateError, Row, Steps, row, rows, the_row

log = logging.getLogger("xtrace.server")

_KEY_COLUMNS = (
    "hash, org, admin, active, first_n, name, description, default_permission, created_at, last_used_at, "
    "checksum"
)


def now() -> str:
    """The present moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def check() -> Steps[dict[str, int]]:
    (number,) = yield from the_row("SELECT MAX(number) FROM migrations")
    kbs, chunks = yield from the_row("SELECT COUNT(*), COALESCE(SUM(count), 0) FROM kbs")
    return {"format": int(number), "knowledge_bases": int(kbs), "chunks": int(chunks)}


# Organisations and keys


def has_org() -> Steps[bool]:
    return (yield from row("SELECT 1 FROM orgs LIMIT 1")) is not None


def create_org(org_id: str, keys: Sequence[Key], first: bool) -> Steps[bool]:
    if (yield from has_org()) if first else (yield from row("SELECT 1 FROM orgs WHERE id = ?", org_id)):
        return False
    yield from add_org(org_id, keys)
    return True


def add_org(org_id: str, keys: Sequence[Key]) -> Steps[None]:
    """An organisation that is not there yet."""
    moment = now()
    yield from rows(
        "INSERT INTO orgs (id, created_at, checksum) VALUES (?, ?, ?)",
        org_id,
        moment,
        checksum((org_id, moment)),
    )
    for key in keys:
        yield from create_key(key)


def create_key(key: Key) -> Steps[Key]:
    key = replace(key, created_at=now())
    try:
        yield from rows(
            f"INSERT INTO keys ({_KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)",
            *_key_values(key),
            checksum(_key_values(key)),
        )
    except DuplicateError:
        raise ConflictError("an API key that begins like this one exists already") from None
    return key


def find_key(key_hash: str) -> Steps[Key | None]:
    found = yield from row(f"SELECT {_KEY_COLUMNS} FROM keys WHERE hash = ? AND active = 1", key_hash)
    if found is None:
        return None
    key = _key(found)
    if found[-1] != checksum(_key_values(key)):
        log.error("damaged row: keys %s", key_hash[:12])
        return None
    return key


def touch_key(key_hash: str) -> Steps[None]:
    yield from rows("UPDATE keys SET last_used_at = ? WHERE hash = ?", now(), key_hash)


def list_keys(org_id: str) -> Steps[list[Key]]:
    found = yield from rows(
        f"SELECT {_KEY_COLUMNS} FROM keys WHERE org = ? AND active = 1 AND admin = 0 "
        "ORDER BY created_at, hash",
        org_id,
    )
    return [_key(one) for one in found]


def revoke_key(org_id: str, key_hash: str) -> Steps[None]:
    key = yield from _api_key(org_id, key_hash)
    revoked = replace(key, active=False)
    yield from rows(
        "UPDATE keys SET active = 0, checksum = ? WHERE hash = ?", checksum(_key_values(revoked)), key_hash
    )


def permissions(org_id: str, key_hash: str) -> Steps[list[Permission]]:
    yield from _api_key(org_id, key_hash)
    found = yield from rows(
        "SELECT kbs.id, COALESCE(p.permission, keys.default_permission), "
        "COALESCE(p.updated_at, keys.created_at) "
        "FROM keys JOIN kbs ON kbs.org = keys.org "
        "LEFT JOIN permissions AS p ON p.key = keys.hash AND p.kb = kbs.no "
        "WHERE keys.hash = ? AND COALESCE(p.permission, keys.default_permission) > 0 ORDER BY kbs.no",
        key_hash,
    )
    return [Permission(*one) for one in found]


def set_permission(org_id: str, key_hash: str, kb_id: str, permission: int) -> Steps[Permission]:
    yield from _api_key(org_id, key_hash)
    kb = yield from kb_number(org_id, kb_id)
    moment = now()
    yield from rows(
        "INSERT INTO permissions (key, kb, permission, updated_at, checksum) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (key, kb) DO UPDATE SET permission = excluded.permission, "
        "updated_at = excluded.updated_at, checksum = excluded.checksum",
        key_hash,
        kb,
        permission,
        moment,
        checksum((key_hash, kb, permission, moment)),
    )
    return Permission(kb_id, permission, moment)


def access(org_id: str, key_hash: str, kb_id: str) -> Steps[Access]:
    found = yield from row(
        f"SELECT keys.default_permission, p.permission, p.updated_at, p.checksum, {_KB_COLUMNS} "
        "FROM kbs JOIN keys ON keys.org = kbs.org AND keys.hash = ? AND keys.active = 1 "
        "LEFT JOIN permissions AS p ON p.key = keys.hash AND p.kb = kbs.no "
        "WHERE kbs.id = ? AND kbs.org = ?",
        key_hash,
        kb_id,
        org_id,
    )
    if found is None:
        raise NotFoundError("knowledge base not found")
    default, permission, moment, written, *kb = found
    checked_kb(kb)
    if permission is None:
        return Access(default, kb[9])
    if written != checksum((key_hash, kb[0], permission, moment)):
        log.error("damaged row: the permission of a key on knowledge base %s", kb_id)
        raise DamagedError("database: the key's permission is damaged; set it again")
    return Access(permission, kb[9])


def rights(org_id: str, key_hash: str) -> Steps[int]:
    found = yield from rows(
        "SELECT default_permission FROM keys WHERE hash = ? AND org = ? AND active = 1 "
        "UNION SELECT p.permission FROM permissions AS p JOIN kbs ON kbs.no = p.kb "
        "JOIN keys ON keys.hash = p.key AND keys.active = 1 WHERE p.key = ? AND kbs.org = ?",
        key_hash,
        org_id,
        key_hash,
        org_id,
    )
    union = 0
    for (permission,) in found:
        union |= permission
    return union


def _api_key(org_id: str, key_hash: str) -> Steps[Key]:
    found = yield from row(
        f"SELECT {_KEY_COLUMNS} FROM keys WHERE hash = ? AND org = ? AND admin = 0", key_hash, org_id
    )
    if found is None:
        raise NotFoundError("API key not found")
    return _key(found)


def _key(found: Row) -> Key:
    key_hash, org, admin, active, first_n, name, description, default_permission, created_at, used_at, _ = (
        found
    )
    return Key(
        key_hash,
        org,
        bool(admin),
        first_n,
        name,
        description,
        default_permission,
        bool(active),
        created_at,
        used_at,
    )


def _key_values(key: Key) -> tuple[str | int, ...]:
    """The columns of a key that its checksum is over."""
    return (
        key.hash,
        key.org_id,
        int(key.admin),
        int(key.active),
        key.first_n,
        key.name,
        key.description,
        key.default_permission,
        key.created_at,
    )


# Knowledge bases


def create_kb(org_id: str, kb_id: str, name: str, description: str) -> Steps[KnowledgeBase]:
    moment = now()
    (no,) = yield from the_row(
        "INSERT INTO kbs (id, org, name, description, created_at, updated_at, checksum) "
        "VALUES (?, ?, ?, ?, ?, ?, 0) RETURNING no",
        kb_id,
        org_id,
        name,
        description,
        moment,
        moment,
    )
    whole = checksum((no, kb_id, org_id, name, description, moment, moment, 1, 0, 0))
    yield from rows("UPDATE kbs SET checksum = ? WHERE no = ?", whole, no)
    return KnowledgeBase(kb_id, name, description, moment, moment, 0, ())


def list_kbs(org_id: str) -> Steps[list[KnowledgeBase]]:
    kbs = []
    for one in (yield from rows(f"SELECT {_KB_COLUMNS} FROM kbs WHERE org = ? ORDER BY no", org_id)):
        kbs.append((yield from _kb(one)))  # noqa: PERF401 - no comprehension yields
    return kbs


def get_kb(org_id: str, kb_id: str) -> Steps[KnowledgeBase]:
    found = yield from row(f"SELECT {_KB_COLUMNS} FROM kbs WHERE org = ? AND id = ?", org_id, kb_id)
    if found is None:
        raise NotFoundError("knowledge base not found")
    return (yield from _kb(found))


_KB_COLUMNS = (
    "kbs.no, kbs.id, kbs.org, kbs.name, kbs.description, kbs.created_at, kbs.updated_at, kbs.next_id, "
    "kbs.count, kbs.seq, kbs.checksum"
)


def checked_kb(found: Sequence[Any]) -> Sequence[Any]:
    """A row of ``kbs`` if it is as it was written. Raises DamagedError."""
    if found[10] != checksum(tuple(found)[:10]):
        log.error("damaged row: knowledge base number %s", found[0])
        raise DamagedError("database: the knowledge base's record is damaged; see xtrace verify")
    return found


def _kb(found: Row) -> Steps[KnowledgeBase]:
    no, kb_id, _, name, description, created_at, updated_at, _, count, _, _ = checked_kb(found)
    contexts = yield from _bound_contexts(no)
    return KnowledgeBase(kb_id, name, description, created_at, updated_at, count, tuple(contexts))


def delete_kb(org_id: str, kb_id: str) -> Steps[None]:
    kb = yield from locked_kb(org_id, kb_id)
    for table in (
        "vectors",
        "facets",
        "chunks",
        "deletions",
        "replays",
        "manifests",
        "bindings",
        "permissions",
    ):
        yield from rows(f"DELETE FROM {table} WHERE kb = ?", kb)
    yield from rows("DELETE FROM kbs WHERE no = ?", kb)


def kb_number(org_id: str, kb_id: str) -> Steps[int]:
    """The internal number of a knowledge base. Raises NotFoundError."""
    return (yield from _kb_number("SELECT no FROM kbs WHERE id = ? AND org = ?", org_id, kb_id))


def locked_kb(org_id: str, kb_id: str) -> Steps[int]:
    """`kb_number`, and nobody else changes the knowledge base until the transaction has ended."""
    return (yield from _kb_number("SELECT no FROM kbs WHERE id = ? AND org = ? FOR UPDATE", org_id, kb_id))


def _kb_number(sql: str, org_id: str, kb_id: str) -> Steps[int]:
    found = yield from row(sql, kb_id, org_id)
    if found is None:
        raise NotFoundError("knowledge base not found")
    return int(found[0])


def kb_and_sequence(org_id: str, kb_id: str) -> Steps[tuple[int, int]]:
    """The internal number of a knowledge base and that of its last change. Raises NotFoundError."""
    found = yield from row("SELECT no, seq FROM kbs WHERE id = ? AND org = ?", kb_id, org_id)
    if found is None:
        raise NotFoundError("knowledge base not found")
    return found[0], found[1]


# Execution contexts


def store_context(
    org_id: str, context_id: str, data: Meta, public: str, parsed: PublicContext
) -> Steps[None]:
    found = yield from row(
        "SELECT data, public FROM contexts WHERE org = ? AND id = ? FOR UPDATE", org_id, context_id
    )
    if found is not None and found[0] is not None:
        if found[1] != public:
            raise ConflictError("another public key, type or configuration is stored under this context id")
        if json.loads(found[0]).get("sk") and not data.get("sk"):
            return
    values = (
        org_id,
        context_id,
        json.dumps(data, ensure_ascii=False),
        public,
        parsed.n.to_bytes((parsed.n.bit_length() + 7) // 8, "little"),
        parsed.chunks,
    )
    yield from rows(
        "INSERT INTO contexts (org, id, data, public, n, chunks, checksum) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (org, id) DO UPDATE SET data = excluded.data, public = excluded.public, "
        "n = excluded.n, chunks = excluded.chunks, checksum = excluded.checksum",
        *values,
        checksum(values),
    )


def get_context(org_id: str, context_id: str) -> Steps[str]:
    found = yield from _context(org_id, context_id)
    if found is None:
        raise NotFoundError("execution context not found")
    return str(found[0])


def public_context(org_id: str, context_id: str) -> Steps[PublicContext | None]:
    found = yield from _context(org_id, context_id)
    return PublicContext(int.from_bytes(found[2], "little"), found[3]) if found else None


def _context(org_id: str, context_id: str) -> Steps[Row | None]:
    """(data, public, n, chunks) of a context that is stored. Raises DamagedError."""
    found = yield from row(
        "SELECT data, public, n, chunks, checksum FROM contexts "
        "WHERE org = ? AND id = ? AND data IS NOT NULL",
        org_id,
        context_id,
    )
    if found is not None and found[4] != checksum((org_id, context_id, *tuple(found)[:4])):
        log.error("damaged row: contexts %s", context_id)
        raise DamagedError("database: the execution context is damaged")
    return found


def list_contexts(org_id: str) -> Steps[list[str]]:
    found = yield from rows("SELECT id FROM contexts WHERE org = ? AND data IS NOT NULL ORDER BY no", org_id)
    return [context_id for (context_id,) in found]


def delete_context(org_id: str, context_id: str) -> Steps[None]:
    yield from get_context(org_id, context_id)
    no = yield from context_number(org_id, context_id)
    yield from rows(
        "UPDATE contexts SET data = NULL, public = NULL, n = NULL, chunks = NULL, checksum = ? WHERE no = ?",
        checksum((org_id, context_id, None, None, None, None)),
        no,
    )
    yield from rows("DELETE FROM bindings WHERE context = ?", no)


def bind(org_id: str, kb_id: str, context_id: str) -> Steps[None]:
    kb = yield from locked_kb(org_id, kb_id)
    yield from get_context(org_id, context_id)
    no = yield from context_number(org_id, context_id)
    yield from rows(
        "INSERT INTO bindings (kb, context, checksum) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        kb,
        no,
        checksum((kb, no)),
    )


def contexts_of_kb(org_id: str, kb_id: str) -> Steps[list[str]]:
    return (yield from _bound_contexts((yield from kb_number(org_id, kb_id))))


def kbs_of_context(org_id: str, context_id: str) -> Steps[list[str]]:
    found = yield from rows(
        "SELECT kbs.id FROM contexts JOIN bindings ON bindings.context = contexts.no "
        "JOIN kbs ON kbs.no = bindings.kb WHERE contexts.org = ? AND contexts.id = ? ORDER BY kbs.no",
        org_id,
        context_id,
    )
    return [kb_id for (kb_id,) in found]


def context_number(org_id: str, context_id: str) -> Steps[int]:
    """The internal number of a context that is stored or named by chunks. Raises NotFoundError."""
    found = yield from row("SELECT no FROM contexts WHERE org = ? AND id = ?", org_id, context_id)
    if found is None:
        raise NotFoundError("execution context not found")
    return int(found[0])


def bound_context(org_id: str, kb: int, context_id: str) -> Steps[int]:
    """The number of the context to write under; binds a knowledge base that is bound to none.

    Raises ConflictError when the knowledge base is bound to other contexts only.
    """
    yield from rows(
        "INSERT INTO contexts (org, id, checksum) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        org_id,
        context_id,
        checksum((org_id, context_id, None, None, None, None)),
    )
    no = yield from context_number(org_id, context_id)
    bound = [number for (number,) in (yield from rows("SELECT context FROM bindings WHERE kb = ?", kb))]
    if not bound:
        yield from rows(
            "INSERT INTO bindings (kb, context, checksum) VALUES (?, ?, ?)", kb, no, checksum((kb, no))
        )
    elif no not in bound:
        raise ConflictError("context_id: the knowledge base is bound to another execution context")
    return no


def _bound_contexts(kb: int) -> Steps[list[str]]:
    found = yield from rows(
        "SELECT contexts.id FROM bindings JOIN contexts ON contexts.no = bindings.context "
        "WHERE bindings.kb = ? ORDER BY contexts.no",
        kb,
    )
    return [context_id for (context_id,) in found]
