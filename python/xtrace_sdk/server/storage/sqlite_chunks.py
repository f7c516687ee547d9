"""SQLite statements for chunks and their vectors."""

# ruff: noqa: S608 - statements are made from fixed pieces; everything a caller sent is a bound parameter

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xtrace_sdk.server.metadata import Meta, facets_of, merged, tags_of
from xtrace_sdk.server.storage.base import (
    Change,
    ChunkField,
    ChunkPatch,
    Ciphertexts,
    ConflictError,
    Ids,
    Inserted,
    NewChunk,
    NotFoundError,
    Query,
    Replay,
    SortField,
    StoredChunk,
)
from xtrace_sdk.server.storage.sqlite_admin import bound_context, kb_number, now
from xtrace_sdk.server.storage.sqlite_filters import compile_filter
from xtrace_sdk.wire import FACETS

_PAGE = 4096
_NO_IDS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Kb:
    """A knowledge base that is being changed: its number and the number of this change."""

    no: int
    seq: int


def insert(
    db: sqlite3.Connection,
    org_id: str,
    kb_id: str,
    context_id: str,
    chunks: Sequence[NewChunk],
    replay: Replay | None,
) -> Inserted:
    if replay is not None:
        answered = _replayed(db, kb_number(db, org_id, kb_id), replay)
        if answered is not None:
            return answered
    kb = _begin(db, org_id, kb_id)
    context = bound_context(db, org_id, kb.no, context_id)
    (next_id,) = db.execute("SELECT next_id FROM kbs WHERE no = ?", (kb.no,)).fetchone()
    keys = json.dumps([chunk.key for chunk in chunks if chunk.key is not None])
    present = dict(
        db.execute(
            "SELECT key, id FROM chunks WHERE kb = ? AND key IN (SELECT value FROM json_each(?))",
            (kb.no, keys),
        )
    )
    ids = []
    for chunk in chunks:
        chunk_id = present.get(chunk.key) if chunk.key is not None else None
        if chunk_id is None:
            chunk_id = next_id
            next_id += 1
        ids.append(chunk_id)
    replaced = list(present.values())
    _forget(db, kb, _moved(db, kb.no, context, replaced))
    _remove_rows(db, kb.no, replaced)
    _add_rows(db, kb, context, ids, chunks)
    _end(db, kb, added=len(chunks) - len(present), next_id=next_id)
    if replay is not None:
        db.execute(
            "INSERT OR REPLACE INTO replays VALUES (?, ?, ?, ?, ?)",
            (
                replay.token,
                replay.digest,
                kb.no,
                time.time() + replay.seconds,
                json.dumps([ids, len(present)]),
            ),
        )
    return Inserted(ids, len(present))


def _replayed(db: sqlite3.Connection, kb: int, replay: Replay) -> Inserted | None:
    db.execute("DELETE FROM replays WHERE expires < ?", (time.time(),))
    row = db.execute("SELECT digest, ids FROM replays WHERE token = ?", (replay.token,)).fetchone()
    if row is None:
        return None
    if row[0] != replay.digest:
        raise ConflictError("idempotency-key: was used for another request")
    ids, replaced = json.loads(row[1])
    if not replay.strict and len(_existing(db, kb, ids)) < len(ids):
        return None
    return Inserted(ids, replaced)


def update(
    db: sqlite3.Connection, org_id: str, kb_id: str, context_id: str, updates: Sequence[tuple[int, NewChunk]]
) -> int:
    kb = _begin(db, org_id, kb_id)
    context = bound_context(db, org_id, kb.no, context_id)
    ids = [chunk_id for chunk_id, _ in updates]
    present = _required(db, kb.no, ids)
    chunks = [
        chunk if chunk.key is not None else _with_key(chunk, present[chunk_id]) for chunk_id, chunk in updates
    ]
    created = _created(db, kb.no, ids)
    _forget(db, kb, _moved(db, kb.no, context, ids))
    _remove_rows(db, kb.no, ids)
    _add_rows(db, kb, context, ids, chunks, created)
    _end(db, kb)
    return len(ids)


def _with_key(chunk: NewChunk, key: str | None) -> NewChunk:
    return NewChunk(chunk.content, chunk.name, chunk.meta, chunk.vector, key)


def patch(
    db: sqlite3.Connection, org_id: str, kb_id: str, context_id: str, patches: Sequence[ChunkPatch]
) -> int:
    kb = _begin(db, org_id, kb_id)
    ids = [one.id for one in patches]
    _required(db, kb.no, ids)
    vectors = [(one.id, one.vector) for one in patches if one.vector is not None]
    if vectors:
        _patch_vectors(db, kb, bound_context(db, org_id, kb.no, context_id), vectors)
    for one in patches:
        if one.content is not None:
            db.execute("UPDATE chunks SET content = ? WHERE kb = ? AND id = ?", (one.content, kb.no, one.id))
        if one.name is not None:
            db.execute("UPDATE chunks SET name = ? WHERE kb = ? AND id = ?", (one.name, kb.no, one.id))
        if one.meta is not None:
            _patch_meta(db, kb.no, [one.id], one.meta)
    _end(db, kb)
    return len(ids)


def _patch_vectors(
    db: sqlite3.Connection, kb: _Kb, context: int, vectors: Sequence[tuple[int, Ciphertexts]]
) -> None:
    ids = [chunk_id for chunk_id, _ in vectors]
    _forget(db, kb, _moved(db, kb.no, context, ids))
    db.execute(
        "UPDATE chunks SET context = ? WHERE kb = ? AND id IN (SELECT value FROM json_each(?))",
        (context, kb.no, json.dumps(ids)),
    )
    _add_vectors(db, kb, context, ids, [vector for _, vector in vectors])


def patch_matching(db: sqlite3.Connection, org_id: str, kb_id: str, query: Query, changes: Meta) -> int:
    kb = _begin(db, org_id, kb_id)
    ids = select(db, org_id, kb_id, query).tolist()
    _patch_meta(db, kb.no, ids, changes)
    _end(db, kb)
    return len(ids)


def delete(db: sqlite3.Connection, org_id: str, kb_id: str, ids: Sequence[int]) -> int:
    kb = _begin(db, org_id, kb_id)
    present = _existing(db, kb.no, ids)
    _forget(db, kb, sorted(present))
    _remove_rows(db, kb.no, list(present))
    _end(db, kb, added=-len(present))
    return len(present)


def delete_matching(db: sqlite3.Connection, org_id: str, kb_id: str, query: Query) -> int:
    return delete(db, org_id, kb_id, select(db, org_id, kb_id, query).tolist())


def fetch(
    db: sqlite3.Connection, org_id: str, kb_id: str, ids: Sequence[int], fields: frozenset[ChunkField]
) -> dict[int, StoredChunk]:
    kb = kb_number(db, org_id, kb_id)
    content = "c.content" if "content" in fields else "NULL"
    vector = "v.ciphertexts, v.data" if "index" in fields else "NULL, NULL"
    record = "v.record" if "record" in fields else "NULL"
    join = "JOIN vectors AS v ON v.kb = c.kb AND v.id = c.id" if fields & {"index", "record"} else ""
    rows = db.execute(
        f"SELECT c.id, c.name, c.key, c.meta, {content}, {vector}, {record} FROM chunks AS c {join} "
        "WHERE c.kb = ? AND c.id IN (SELECT value FROM json_each(?))",
        (kb, json.dumps(list(ids))),
    )
    return {
        chunk_id: StoredChunk(
            chunk_id,
            name,
            key,
            json.loads(meta),
            text,
            None if data is None else Ciphertexts(count, data),
            record,
        )
        for chunk_id, name, key, meta, text, count, data, record in rows
    }


def select(db: sqlite3.Connection, org_id: str, kb_id: str, query: Query) -> Ids:
    condition, parameters = _condition(db, org_id, kb_id, query)
    # With a filter, the plus keeps SQLite from walking all chunks only because they come sorted.
    order = "c.id" if query.filter is None else "+c.id"
    rows = db.execute(f"SELECT c.id FROM chunks AS c WHERE {condition} ORDER BY {order}", parameters)
    return np.fromiter((chunk_id for (chunk_id,) in rows), dtype=np.int64)


def count(db: sqlite3.Connection, org_id: str, kb_id: str, query: Query) -> int:
    condition, parameters = _condition(db, org_id, kb_id, query)
    (number,) = db.execute(f"SELECT COUNT(*) FROM chunks AS c WHERE {condition}", parameters).fetchone()
    return int(number)


def page(
    db: sqlite3.Connection,
    org_id: str,
    kb_id: str,
    query: Query,
    sort_by: SortField,
    descending: bool,
    limit: int | None,
    offset: int,
) -> tuple[list[int], int]:
    condition, parameters = _condition(db, org_id, kb_id, query)
    direction = "DESC" if descending else "ASC"
    column = "" if sort_by == "chunk_id" else f"c.{sort_by} {direction} NULLS LAST, "
    order = f"{column}c.id {'ASC' if column else direction}"
    rows = db.execute(
        f"SELECT c.id FROM chunks AS c WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",
        [*parameters, -1 if limit is None else limit, offset],
    )
    return [chunk_id for (chunk_id,) in rows], count(db, org_id, kb_id, query)


def _condition(db: sqlite3.Connection, org_id: str, kb_id: str, query: Query) -> tuple[str, list[str | int]]:
    """The rows of ``chunks AS c`` that a query means: (condition, parameters in order)."""
    kb = kb_number(db, org_id, kb_id)
    conditions = ["c.kb = ?"]
    parameters: list[str | int] = [kb]
    if query.context_id is not None:
        conditions.append("c.context IN (SELECT no FROM contexts WHERE org = ? AND id = ?)")
        parameters += [org_id, query.context_id]
    if query.id_range is not None:
        conditions.append("c.id BETWEEN ? AND ?")
        parameters += query.id_range
    if query.filter is not None:
        condition, bound = compile_filter(query.filter, kb)
        conditions.append(condition)
        parameters += bound
    return " AND ".join(conditions), parameters


def changes(db: sqlite3.Connection, org_id: str, kb_id: str, context_id: str, since: int) -> Iterator[Change]:
    row = db.execute(
        "SELECT kbs.no, kbs.seq, contexts.no FROM kbs LEFT JOIN contexts "
        "ON contexts.org = kbs.org AND contexts.id = ? WHERE kbs.id = ? AND kbs.org = ?",
        (context_id, kb_id, org_id),
    ).fetchone()
    if row is None:
        raise NotFoundError("knowledge base not found")
    kb, sequence, context = row
    gone = db.execute("SELECT ids FROM deletions WHERE kb = ? AND seq > ?", (kb, since)) if since else ()
    removed = np.frombuffer(b"".join(ids for (ids,) in gone), dtype="<i8").astype(np.int64)
    yield Change(sequence, removed, [], [])
    if since:
        which = "WHERE kb = ? AND context = ? AND seq > ?"
    else:  # everything: along the primary key, not through the index on seq
        which = "WHERE kb = ? AND +context = ? AND +seq > ?"
    rows = db.execute(
        f"SELECT id, ciphertexts, data, record FROM vectors {which} ORDER BY id", (kb, context, since)
    )
    while page := rows.fetchmany(_PAGE):
        ids = [chunk_id for chunk_id, *_ in page]
        yield Change(sequence, _NO_IDS, ids, [Ciphertexts(*vector) for _, *vector in page])


def _begin(db: sqlite3.Connection, org_id: str, kb_id: str) -> _Kb:
    row = db.execute(
        "UPDATE kbs SET seq = seq + 1 WHERE id = ? AND org = ? RETURNING no, seq", (kb_id, org_id)
    ).fetchone()
    if row is None:
        raise NotFoundError("knowledge base not found")
    return _Kb(*row)


def _end(db: sqlite3.Connection, kb: _Kb, added: int = 0, next_id: int = 0) -> None:
    db.execute(
        "UPDATE kbs SET count = count + ?, next_id = MAX(next_id, ?), updated_at = ? WHERE no = ?",
        (added, next_id, now(), kb.no),
    )


def _existing(db: sqlite3.Connection, kb: int, ids: Sequence[int]) -> dict[int, str | None]:
    """Those of `ids` that exist, with their keys."""
    rows = db.execute(
        "SELECT id, key FROM chunks WHERE kb = ? AND id IN (SELECT value FROM json_each(?))",
        (kb, json.dumps(list(ids))),
    )
    return dict(rows)


def _required(db: sqlite3.Connection, kb: int, ids: Sequence[int]) -> dict[int, str | None]:
    present = _existing(db, kb, ids)
    absent = [str(chunk_id) for chunk_id in ids if chunk_id not in present]
    if absent:
        more = f" and {len(absent) - 20} more" if len(absent) > 20 else ""
        raise NotFoundError(f"chunk_id: no chunk {', '.join(absent[:20])}{more}")
    return present


def _created(db: sqlite3.Connection, kb: int, ids: Sequence[int]) -> dict[int, int]:
    rows = db.execute(
        "SELECT id, created_at FROM chunks WHERE kb = ? AND id IN (SELECT value FROM json_each(?))",
        (kb, json.dumps(list(ids))),
    )
    return dict(rows)


def _add_rows(
    db: sqlite3.Connection,
    kb: _Kb,
    context: int,
    ids: Sequence[int],
    chunks: Sequence[NewChunk],
    created: dict[int, int] | None = None,
) -> None:
    moment = time.time_ns() // 1000
    created = created or {}
    try:
        db.executemany(
            "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    kb.no,
                    chunk_id,
                    context,
                    created.get(chunk_id, moment),
                    chunk.key,
                    chunk.name,
                    *tags_of(chunk.meta),
                    _facet_count(chunk.meta),
                    json.dumps(chunk.meta, ensure_ascii=False),
                    chunk.content,
                )
                for chunk_id, chunk in zip(ids, chunks, strict=True)
            ),
        )
    except sqlite3.IntegrityError:
        raise ConflictError("key: another chunk of the knowledge base has this key") from None
    _add_facets(db, kb.no, ((chunk_id, chunk.meta) for chunk_id, chunk in zip(ids, chunks, strict=True)))
    _add_vectors(db, kb, context, ids, [chunk.vector for chunk in chunks])


def _add_facets(db: sqlite3.Connection, kb: int, metas: Iterator[tuple[int, Meta]]) -> None:
    db.executemany(
        "INSERT INTO facets VALUES (?, ?, ?)",
        ((kb, token, chunk_id) for chunk_id, meta in metas for token in facets_of(meta)),
    )


def _facet_count(meta: Meta) -> int | None:
    return None if meta.get(FACETS) is None else len(facets_of(meta))


def _add_vectors(
    db: sqlite3.Connection, kb: _Kb, context: int, ids: Sequence[int], vectors: Sequence[Ciphertexts]
) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (kb.no, chunk_id, context, kb.seq, vector.count, vector.data, vector.record)
            for chunk_id, vector in zip(ids, vectors, strict=True)
        ),
    )


def _remove_rows(db: sqlite3.Connection, kb: int, ids: Sequence[int]) -> None:
    chosen = (kb, json.dumps(list(ids)))
    _remove_facets(db, kb, ids)
    for table in ("vectors", "chunks"):
        db.execute(f"DELETE FROM {table} WHERE kb = ? AND id IN (SELECT value FROM json_each(?))", chosen)


def _remove_facets(db: sqlite3.Connection, kb: int, ids: Sequence[int]) -> None:
    db.execute(
        "DELETE FROM facets WHERE kb = ? AND (token, id) IN (SELECT f.value, c.id FROM chunks AS c, "
        "json_each(c.meta, '$.facets') AS f WHERE c.kb = ? AND c.facets > 0 "
        "AND c.id IN (SELECT value FROM json_each(?)))",
        (kb, kb, json.dumps(list(ids))),
    )


def _moved(db: sqlite3.Connection, kb: int, context: int, ids: Sequence[int]) -> list[int]:
    """Those of `ids` that leave another context: its index has to forget them."""
    rows = db.execute(
        "SELECT id FROM vectors WHERE kb = ? AND id IN (SELECT value FROM json_each(?)) AND context != ?",
        (kb, json.dumps(list(ids)), context),
    )
    return [chunk_id for (chunk_id,) in rows]


def _forget(db: sqlite3.Connection, kb: _Kb, ids: list[int]) -> None:
    if ids:
        data = np.array(ids, dtype="<i8").tobytes()
        db.execute("INSERT INTO deletions VALUES (?, ?, ?)", (kb.no, kb.seq, data))


def _patch_meta(db: sqlite3.Connection, kb: int, ids: Sequence[int], patch_of: Meta) -> None:
    rows: list[tuple[Any, ...]] = db.execute(
        "SELECT id, meta FROM chunks WHERE kb = ? AND id IN (SELECT value FROM json_each(?))",
        (kb, json.dumps(list(ids))),
    ).fetchall()
    patched = [(chunk_id, merged(json.loads(meta), patch_of)) for chunk_id, meta in rows]
    if FACETS in patch_of:
        _remove_facets(db, kb, ids)
    db.executemany(
        "UPDATE chunks SET tag1 = ?, tag2 = ?, tag3 = ?, tag4 = ?, tag5 = ?, facets = ?, meta = ? "
        "WHERE kb = ? AND id = ?",
        (
            (
                *tags_of(meta),
                _facet_count(meta),
                json.dumps(meta, ensure_ascii=False),
                kb,
                chunk_id,
            )
            for chunk_id, meta in patched
        ),
    )
    if FACETS in patch_of:
        _add_facets(db, kb, iter(patched))
