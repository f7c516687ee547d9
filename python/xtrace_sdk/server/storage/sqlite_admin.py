"""SQLite statements for organisations, keys, knowledge bases and execution contexts."""

# ruff: noqa: S608 - statements are made from fixed pieces; everything a caller sent is a bound parameter

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from xtrace_sdk.server.metadata import Meta
from xtrace_sdk.server.storage.base import (
    Access,
    ConflictError,
    Key,
    KnowledgeBase,
    NotFoundError,
    Permission,
    PublicContext,
)

_KEY_COLUMNS = (
    "hash, org, admin, first_n, name, description, default_permission, active, created_at, last_used_at"
)


def now() -> str:
    """The present moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def check(db: sqlite3.Connection) -> dict[str, Any]:
    (number,) = db.execute("SELECT MAX(number) FROM migrations").fetchone()
    (kbs, chunks) = db.execute("SELECT COUNT(*), COALESCE(SUM(count), 0) FROM kbs").fetchone()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    return {"format": number, "bytes": pages * size, "knowledge_bases": kbs, "chunks": chunks}


# Organisations and keys


def has_org(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM orgs LIMIT 1").fetchone() is not None


def create_org(db: sqlite3.Connection, org_id: str, keys: Sequence[Key]) -> bool:
    if has_org(db):
        return False
    db.execute("INSERT INTO orgs VALUES (?, ?)", (org_id, now()))
    for key in keys:
        create_key(db, key)
    return True


def create_key(db: sqlite3.Connection, key: Key) -> Key:
    key = replace(key, created_at=now())
    try:
        db.execute(
            f"INSERT INTO keys ({_KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, NULL)",
            (
                key.hash,
                key.org_id,
                key.admin,
                key.first_n,
                key.name,
                key.description,
                key.default_permission,
                key.created_at,
            ),
        )
    except sqlite3.IntegrityError:
        raise ConflictError("an API key that begins like this one exists already") from None
    return key


def find_key(db: sqlite3.Connection, key_hash: str) -> Key | None:
    row = db.execute(f"SELECT {_KEY_COLUMNS} FROM keys WHERE hash = ? AND active", (key_hash,)).fetchone()
    return _key(row) if row else None


def touch_key(db: sqlite3.Connection, key_hash: str) -> None:
    db.execute("UPDATE keys SET last_used_at = ? WHERE hash = ?", (now(), key_hash))


def list_keys(db: sqlite3.Connection, org_id: str) -> list[Key]:
    rows = db.execute(
        f"SELECT {_KEY_COLUMNS} FROM keys WHERE org = ? AND active AND NOT admin ORDER BY created_at, hash",
        (org_id,),
    )
    return [_key(row) for row in rows]


def revoke_key(db: sqlite3.Connection, org_id: str, key_hash: str) -> None:
    _api_key(db, org_id, key_hash)
    db.execute("UPDATE keys SET active = 0 WHERE hash = ?", (key_hash,))


def permissions(db: sqlite3.Connection, org_id: str, key_hash: str) -> list[Permission]:
    _api_key(db, org_id, key_hash)
    rows = db.execute(
        "SELECT kbs.id, COALESCE(p.permission, keys.default_permission), "
        "COALESCE(p.updated_at, keys.created_at) "
        "FROM keys JOIN kbs ON kbs.org = keys.org "
        "LEFT JOIN permissions AS p ON p.key = keys.hash AND p.kb = kbs.no "
        "WHERE keys.hash = ? AND COALESCE(p.permission, keys.default_permission) > 0 ORDER BY kbs.no",
        (key_hash,),
    )
    return [Permission(*row) for row in rows]


def set_permission(
    db: sqlite3.Connection, org_id: str, key_hash: str, kb_id: str, permission: int
) -> Permission:
    _api_key(db, org_id, key_hash)
    kb = kb_number(db, org_id, kb_id)
    moment = now()
    db.execute(
        "INSERT INTO permissions VALUES (?, ?, ?, ?) ON CONFLICT (key, kb) DO UPDATE "
        "SET permission = excluded.permission, updated_at = excluded.updated_at",
        (key_hash, kb, permission, moment),
    )
    return Permission(kb_id, permission, moment)


def access(db: sqlite3.Connection, org_id: str, key_hash: str, kb_id: str) -> Access:
    row = db.execute(
        "SELECT COALESCE(p.permission, keys.default_permission), kbs.seq "
        "FROM kbs JOIN keys ON keys.org = kbs.org AND keys.hash = ? AND keys.active "
        "LEFT JOIN permissions AS p ON p.key = keys.hash AND p.kb = kbs.no "
        "WHERE kbs.id = ? AND kbs.org = ?",
        (key_hash, kb_id, org_id),
    ).fetchone()
    if row is None:
        raise NotFoundError("knowledge base not found")
    return Access(*row)


def rights(db: sqlite3.Connection, org_id: str, key_hash: str) -> int:
    rows = db.execute(
        "SELECT default_permission FROM keys WHERE hash = ? AND org = ? AND active "
        "UNION SELECT p.permission FROM permissions AS p JOIN kbs ON kbs.no = p.kb "
        "JOIN keys ON keys.hash = p.key AND keys.active WHERE p.key = ? AND kbs.org = ?",
        (key_hash, org_id, key_hash, org_id),
    )
    union = 0
    for (permission,) in rows:
        union |= permission
    return union


def _api_key(db: sqlite3.Connection, org_id: str, key_hash: str) -> None:
    found = db.execute(
        "SELECT 1 FROM keys WHERE hash = ? AND org = ? AND NOT admin", (key_hash, org_id)
    ).fetchone()
    if found is None:
        raise NotFoundError("API key not found")


def _key(row: tuple[Any, ...]) -> Key:
    key_hash, org, admin, first_n, name, description, default_permission, active, created_at, last_used = row
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
        last_used,
    )


# Knowledge bases


def create_kb(db: sqlite3.Connection, org_id: str, kb_id: str, name: str, description: str) -> KnowledgeBase:
    moment = now()
    db.execute(
        "INSERT INTO kbs (id, org, name, description, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)",
        (kb_id, org_id, name, description, moment, moment),
    )
    return KnowledgeBase(kb_id, name, description, moment, moment, 0, ())


def list_kbs(db: sqlite3.Connection, org_id: str) -> list[KnowledgeBase]:
    return [_kb(db, row) for row in db.execute(f"{_KB_QUERY} WHERE org = ? ORDER BY no", (org_id,))]


def get_kb(db: sqlite3.Connection, org_id: str, kb_id: str) -> KnowledgeBase:
    row = db.execute(f"{_KB_QUERY} WHERE org = ? AND id = ?", (org_id, kb_id)).fetchone()
    if row is None:
        raise NotFoundError("knowledge base not found")
    return _kb(db, row)


_KB_QUERY = "SELECT no, id, name, description, created_at, updated_at, count FROM kbs"


def _kb(db: sqlite3.Connection, row: tuple[Any, ...]) -> KnowledgeBase:
    no, kb_id, name, description, created_at, updated_at, count = row
    contexts = tuple(_bound_contexts(db, no))
    return KnowledgeBase(kb_id, name, description, created_at, updated_at, count, contexts)


def delete_kb(db: sqlite3.Connection, org_id: str, kb_id: str) -> None:
    kb = kb_number(db, org_id, kb_id)
    for table in ("vectors", "facets", "chunks", "deletions", "replays", "bindings", "permissions"):
        db.execute(f"DELETE FROM {table} WHERE kb = ?", (kb,))
    db.execute("DELETE FROM kbs WHERE no = ?", (kb,))


def kb_number(db: sqlite3.Connection, org_id: str, kb_id: str) -> int:
    """The internal number of a knowledge base. Raises NotFoundError."""
    row = db.execute("SELECT no FROM kbs WHERE id = ? AND org = ?", (kb_id, org_id)).fetchone()
    if row is None:
        raise NotFoundError("knowledge base not found")
    return int(row[0])


# Execution contexts


def store_context(
    db: sqlite3.Connection, org_id: str, context_id: str, data: Meta, public: str, parsed: PublicContext
) -> None:
    row = db.execute(
        "SELECT data, public FROM contexts WHERE org = ? AND id = ?", (org_id, context_id)
    ).fetchone()
    if row is not None and row[0] is not None:
        if row[1] != public:
            raise ConflictError("another public key, type or configuration is stored under this context id")
        if json.loads(row[0]).get("sk") and not data.get("sk"):
            return
    db.execute(
        "INSERT INTO contexts (org, id, data, public, n, chunks) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (org, id) DO UPDATE SET "
        "data = excluded.data, public = excluded.public, n = excluded.n, chunks = excluded.chunks",
        (
            org_id,
            context_id,
            json.dumps(data, ensure_ascii=False),
            public,
            parsed.n.to_bytes((parsed.n.bit_length() + 7) // 8, "little"),
            parsed.chunks,
        ),
    )


def get_context(db: sqlite3.Connection, org_id: str, context_id: str) -> str:
    row = db.execute(
        "SELECT data FROM contexts WHERE org = ? AND id = ? AND data IS NOT NULL", (org_id, context_id)
    ).fetchone()
    if row is None:
        raise NotFoundError("execution context not found")
    return str(row[0])


def public_context(db: sqlite3.Connection, org_id: str, context_id: str) -> PublicContext | None:
    row = db.execute(
        "SELECT n, chunks FROM contexts WHERE org = ? AND id = ? AND data IS NOT NULL", (org_id, context_id)
    ).fetchone()
    return PublicContext(int.from_bytes(row[0], "little"), row[1]) if row else None


def list_contexts(db: sqlite3.Connection, org_id: str) -> list[str]:
    rows = db.execute("SELECT id FROM contexts WHERE org = ? AND data IS NOT NULL ORDER BY no", (org_id,))
    return [context_id for (context_id,) in rows]


def delete_context(db: sqlite3.Connection, org_id: str, context_id: str) -> None:
    get_context(db, org_id, context_id)
    no = context_number(db, org_id, context_id)
    db.execute("UPDATE contexts SET data = NULL, public = NULL, n = NULL, chunks = NULL WHERE no = ?", (no,))
    db.execute("DELETE FROM bindings WHERE context = ?", (no,))


def bind(db: sqlite3.Connection, org_id: str, kb_id: str, context_id: str) -> None:
    kb = kb_number(db, org_id, kb_id)
    get_context(db, org_id, context_id)
    no = context_number(db, org_id, context_id)
    db.execute("INSERT OR IGNORE INTO bindings VALUES (?, ?)", (kb, no))


def contexts_of_kb(db: sqlite3.Connection, org_id: str, kb_id: str) -> list[str]:
    return _bound_contexts(db, kb_number(db, org_id, kb_id))


def kbs_of_context(db: sqlite3.Connection, org_id: str, context_id: str) -> list[str]:
    rows = db.execute(
        "SELECT kbs.id FROM contexts JOIN bindings ON bindings.context = contexts.no "
        "JOIN kbs ON kbs.no = bindings.kb WHERE contexts.org = ? AND contexts.id = ? ORDER BY kbs.no",
        (org_id, context_id),
    )
    return [kb_id for (kb_id,) in rows]


def context_number(db: sqlite3.Connection, org_id: str, context_id: str) -> int:
    """The internal number of a context that is stored or named by chunks. Raises NotFoundError."""
    row = db.execute("SELECT no FROM contexts WHERE org = ? AND id = ?", (org_id, context_id)).fetchone()
    if row is None:
        raise NotFoundError("execution context not found")
    return int(row[0])


def bound_context(db: sqlite3.Connection, org_id: str, kb: int, context_id: str) -> int:
    """The number of the context to write under; binds a knowledge base that is bound to none.

    Raises ConflictError when the knowledge base is bound to other contexts only.
    """
    db.execute("INSERT OR IGNORE INTO contexts (org, id) VALUES (?, ?)", (org_id, context_id))
    no = context_number(db, org_id, context_id)
    bound = [number for (number,) in db.execute("SELECT context FROM bindings WHERE kb = ?", (kb,))]
    if not bound:
        db.execute("INSERT INTO bindings VALUES (?, ?)", (kb, no))
    elif no not in bound:
        raise ConflictError("context_id: the knowledge base is bound to another execution context")
    return no


def _bound_contexts(db: sqlite3.Connection, kb: int) -> list[str]:
    rows = db.execute(
        "SELECT contexts.id FROM bindings JOIN contexts ON contexts.no = bindings.context "
        "WHERE bindings.kb = ? ORDER BY contexts.no",
        (kb,),
    )
    return [context_id for (context_id,) in rows]
