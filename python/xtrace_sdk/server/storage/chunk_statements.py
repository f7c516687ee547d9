"""Changes of chunks and their vectors, for every engine.

A change begins by raising the number of the knowledge base (`_begin`), which also keeps other writers of it
waiting until the transaction has ended.
"""

# ruff: noqa: S608 - statements are made from fixed pieces; everything a caller sent is a bound parameter

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xtrace_sdk.server.metadata import Meta, facets_of, merged, tags_of
from xtrace_sdk.server.storage.admin_statements import (
    bound_context,
    checked_kb,
    locked_kb,
    now,
)
from xtrace_sdk.server.storage.base import (
    ChunkPatch,
    Ciphertexts,
    ConflictError,
    DamagedError,
    Inserted,
    NewChunk,
    NewManifest,
    NotFoundError,
    PreconditionError,
    Query,
    Replay,
)
from xtrace_sdk.server.storage.change_statements import forget
from xtrace_sdk.server.storage.checksums import checksum
from xtrace_sdk.server.storage.filter_statements import facet_token
from xtrace_sdk.server.storage.manifest_statements import exchanged, settled, tags_in_force
from xtrace_sdk.server.storage.read_statements import select
from xtrace_sdk.server.storage.statements import (
    Dialect,
    DuplicateError,
    Repeated,
    Steps,
    row,
    rows,
)
from xtrace_sdk.wire import FACETS, MANIFEST_HEADER, manifest_tag

log = logging.getLogger("xtrace.server")


@dataclass(frozen=True, slots=True)
class _Kb:
    """A knowledge base that is being changed: its number, the number of this change, its row before."""

    no: int
    seq: int
    before: tuple[Any, ...]

    @property
    def next_id(self) -> int:
        """The id of the next chunk that is new."""
        return int(self.before[7])


def insert(
    org_id: str,
    kb_id: str,
    context_id: str,
    chunks: Sequence[NewChunk],
    replay: Replay | None,
    manifests: Sequence[NewManifest] = (),
) -> Steps[Inserted]:
    if replay is not None:
        # Locked first: of two equal requests at once the second finds the answer of the first.
        kb_no = yield from locked_kb(org_id, kb_id)
        answered = yield from _replayed(kb_no, replay)
        if answered is not None:
            # By now others may have changed the manifests that this request brought.
            return replace(answered, tags=(yield from tags_in_force(org_id, kb_no, manifests)))
    kb = yield from _begin(org_id, kb_id)
    context = yield from bound_context(org_id, kb.no, context_id)
    next_id = kb.next_id
    keys = [chunk.key for chunk in chunks if chunk.key is not None]
    present = {}
    if keys:
        found = yield from rows("SELECT key, id FROM chunks WHERE kb = ? AND key = ANY(?)", kb.no, keys)
        present = {key: chunk_id for key, chunk_id in found}  # noqa: C416 - rows are of several types
    ids = []
    for chunk in chunks:
        chunk_id = present.get(chunk.key) if chunk.key is not None else None
        if chunk_id is None:
            chunk_id = next_id
            next_id += 1
        ids.append(chunk_id)
    replaced = list(present.values())
    writes = context if chunks else None
    if (yield from settled(org_id, kb.no, manifests, replaced, writes)):
        raise PreconditionError(
            f"{MANIFEST_HEADER}: in force already, but the ids of what was inserted with it are not known"
        )
    if replaced:
        yield from _forget(kb, (yield from _moved(kb.no, context, replaced)))
        yield from _remove_rows(kb.no, replaced)
    yield from _add_rows(kb, context, ids, chunks)
    yield from _end(kb, added=len(chunks) - len(present), next_id=next_id)
    if replay is not None:
        yield from rows(
            "INSERT INTO replays (token, digest, kb, expires, ids, checksum) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (token) DO UPDATE SET digest = excluded.digest, kb = excluded.kb, "
            "expires = excluded.expires, ids = excluded.ids, checksum = excluded.checksum",
            *(
                values := (
                    replay.token,
                    replay.digest,
                    kb.no,
                    time.time() + replay.seconds,
                    json.dumps([ids, len(present)]),
                )
            ),
            checksum(values),
        )
    return Inserted(ids, len(present), tuple(manifest_tag(one.sealed) for one in manifests))


def _replayed(kb: int, replay: Replay) -> Steps[Inserted | None]:
    moment = time.time()
    yield from rows(
        "DELETE FROM replays WHERE token IN "
        "(SELECT token FROM replays WHERE expires < ? FOR UPDATE SKIP LOCKED)",
        moment,
    )
    found = yield from row(
        "SELECT digest, ids, kb, expires, checksum FROM replays WHERE token = ? AND expires >= ?",
        replay.token,
        moment,
    )
    if found is None:
        return None
    if found[4] != checksum((replay.token, found[0], found[2], found[3], found[1])):
        log.error("damaged row: replays")
        raise DamagedError("database: the record of this insert is damaged; see what is stored")
    if found[0] != replay.digest:
        raise ConflictError("idempotency-key: was used for another request")
    ids, replaced = json.loads(found[1])
    if not replay.strict and len((yield from _existing(kb, ids))) < len(ids):
        return None
    return Inserted(ids, replaced)


def update(
    org_id: str,
    kb_id: str,
    context_id: str,
    updates: Sequence[tuple[int, NewChunk]],
    manifests: Sequence[NewManifest] = (),
) -> Steps[int]:
    kb = yield from _begin(org_id, kb_id)
    context = yield from bound_context(org_id, kb.no, context_id)
    ids = [chunk_id for chunk_id, _ in updates]
    if (yield from settled(org_id, kb.no, manifests, ids, context if ids else None)):
        return len(ids)
    present = yield from _required(kb.no, ids)
    chunks = [
        chunk if chunk.key is not None else replace(chunk, key=present[chunk_id])
        for chunk_id, chunk in updates
    ]
    created = yield from _created(kb.no, ids)
    yield from _forget(kb, (yield from _moved(kb.no, context, ids)))
    yield from _remove_rows(kb.no, ids)
    yield from _add_rows(kb, context, ids, chunks, created)
    yield from _end(kb)
    return len(ids)


def patch(
    org_id: str,
    kb_id: str,
    context_id: str,
    patches: Sequence[ChunkPatch],
    manifests: Sequence[NewManifest] = (),
) -> Steps[int]:
    kb = yield from _begin(org_id, kb_id)
    ids = [one.id for one in patches]
    vectors = [(one.id, one.vector) for one in patches if one.vector is not None]
    moving = [chunk_id for chunk_id, _ in vectors]
    context = (yield from bound_context(org_id, kb.no, context_id)) if vectors else None
    if (yield from settled(org_id, kb.no, manifests, moving, context)):
        return len(ids)
    yield from _required(kb.no, ids)
    if context is not None:
        yield from _forget(kb, (yield from _moved(kb.no, context, moving)))
        yield from _add_vectors(kb, context, moving, [vector for _, vector in vectors])
    yield from _rewrite(kb, patches, context)
    yield Repeated(
        "UPDATE chunks SET content = ?, content_checksum = ? WHERE kb = ? AND id = ?",
        (
            (one.content, checksum((kb.no, one.id, one.content)), kb.no, one.id)
            for one in patches
            if one.content is not None
        ),
    )
    yield from _end(kb)
    return len(ids)


def patch_matching(dialect: Dialect, org_id: str, kb_id: str, query: Query, changes_of: Meta) -> Steps[int]:
    kb = yield from _begin(org_id, kb_id)
    ids = (yield from select(dialect, org_id, kb_id, query)).tolist()
    yield from _rewrite(kb, [ChunkPatch(chunk_id, meta=changes_of) for chunk_id in ids])
    yield from _end(kb)
    return len(ids)


def delete(org_id: str, kb_id: str, ids: Sequence[int], manifests: Sequence[NewManifest] = ()) -> Steps[int]:
    kb = yield from _begin(org_id, kb_id)
    if (yield from settled(org_id, kb.no, manifests, ids, None)):
        return len(set(ids))
    present = sorted((yield from _existing(kb.no, ids)))
    yield from _forget(kb, present)
    yield from _remove_rows(kb.no, present)
    yield from _end(kb, added=-len(present))
    return len(present)


def delete_matching(dialect: Dialect, org_id: str, kb_id: str, query: Query) -> Steps[int]:
    yield from locked_kb(org_id, kb_id)
    ids = yield from select(dialect, org_id, kb_id, query)
    return (yield from delete(org_id, kb_id, ids.tolist()))


def set_manifest(
    org_id: str, kb_id: str, context_id: str, expected: str, sealed: bytes | None
) -> Steps[None]:
    kb = yield from _begin(org_id, kb_id)
    if (yield from exchanged(org_id, kb.no, context_id, expected, sealed)):
        yield from _end(kb)


# Pieces of a change


def _begin(org_id: str, kb_id: str) -> Steps[_Kb]:
    found = yield from row(
        "SELECT no, id, org, name, description, created_at, updated_at, next_id, count, seq, checksum "
        "FROM kbs WHERE id = ? AND org = ? FOR UPDATE",
        kb_id,
        org_id,
    )
    if found is None:
        raise NotFoundError("knowledge base not found")
    before = tuple(checked_kb(found))
    return _Kb(before[0], before[9] + 1, before)


def _end(kb: _Kb, added: int = 0, next_id: int = 0) -> Steps[None]:
    no, kb_id, org, name, description, created_at, _, old_next_id, old_count, _, _ = kb.before
    changed = (now(), max(next_id, old_next_id), old_count + added, kb.seq)
    yield from rows(
        "UPDATE kbs SET updated_at = ?, next_id = ?, count = ?, seq = ?, checksum = ? WHERE no = ?",
        *changed,
        checksum((no, kb_id, org, name, description, created_at, *changed)),
        no,
    )


def _existing(kb: int, ids: Sequence[int]) -> Steps[dict[int, str | None]]:
    """Those of `ids` that exist, with their keys."""
    found = yield from rows("SELECT id, key FROM chunks WHERE kb = ? AND id = ANY(?)", kb, list(ids))
    return {chunk_id: key for chunk_id, key in found}  # noqa: C416 - rows are of several types


def _required(kb: int, ids: Sequence[int]) -> Steps[dict[int, str | None]]:
    present = yield from _existing(kb, ids)
    absent = [str(chunk_id) for chunk_id in ids if chunk_id not in present]
    if absent:
        more = f" and {len(absent) - 20} more" if len(absent) > 20 else ""
        raise NotFoundError(f"chunk_id: no chunk {', '.join(absent[:20])}{more}")
    return present


def _created(kb: int, ids: Sequence[int]) -> Steps[dict[int, int]]:
    found = yield from rows("SELECT id, created_at FROM chunks WHERE kb = ? AND id = ANY(?)", kb, list(ids))
    return {chunk_id: created for chunk_id, created in found}  # noqa: C416 - rows are of several types


def _add_rows(
    kb: _Kb,
    context: int,
    ids: Sequence[int],
    chunks: Sequence[NewChunk],
    created: dict[int, int] | None = None,
) -> Steps[None]:
    moment = time.time_ns() // 1000
    created = created or {}
    try:
        yield Repeated(
            "INSERT INTO chunks (kb, id, seq, context, created_at, key, name, meta, checksum, "
            "tag1, tag2, tag3, tag4, tag5, facets, content, content_checksum) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    *(start := (kb.no, chunk_id, kb.seq, context, created.get(chunk_id, moment))),
                    *(middle := (chunk.key, chunk.name, json.dumps(chunk.meta, ensure_ascii=False))),
                    checksum(start + middle),
                    *tags_of(chunk.meta),
                    _facet_count(chunk.meta),
                    chunk.content,
                    checksum((kb.no, chunk_id, chunk.content)),
                )
                for chunk_id, chunk in zip(ids, chunks, strict=True)
            ),
        )
    except DuplicateError:
        raise ConflictError("key: another chunk of the knowledge base has this key") from None
    yield from add_facets(
        ((kb.no, chunk_id, chunk.meta) for chunk_id, chunk in zip(ids, chunks, strict=True))
    )
    yield from _add_vectors(kb, context, ids, [chunk.vector for chunk in chunks])


def add_facets(metas: Iterable[tuple[int, int, Meta]]) -> Steps[None]:
    """Note the facets of (knowledge base number, chunk id, metadata), to filter by."""
    yield Repeated(
        "INSERT INTO facets (kb, token, id) VALUES (?, ?, ?)",
        ((kb, facet_token(token), chunk_id) for kb, chunk_id, meta in metas for token in facets_of(meta)),
    )


def _facet_count(meta: Meta) -> int | None:
    return None if meta.get(FACETS) is None else len(facets_of(meta))


def _add_vectors(kb: _Kb, context: int, ids: Sequence[int], vectors: Sequence[Ciphertexts]) -> Steps[None]:
    yield Repeated(
        "INSERT INTO vectors (kb, id, context, seq, ciphertexts, data, record, checksum) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (kb, id) DO UPDATE SET context = excluded.context, seq = excluded.seq, "
        "ciphertexts = excluded.ciphertexts, data = excluded.data, record = excluded.record, "
        "checksum = excluded.checksum",
        (
            (
                *(values := (kb.no, chunk_id, context, kb.seq, vector.count, vector.data, vector.record)),
                checksum(values),
            )
            for chunk_id, vector in zip(ids, vectors, strict=True)
        ),
    )


def _remove_rows(kb: int, ids: Sequence[int]) -> Steps[None]:
    yield from _remove_facets(kb, ids)
    for table in ("vectors", "chunks"):
        yield from rows(f"DELETE FROM {table} WHERE kb = ? AND id = ANY(?)", kb, list(ids))


def _remove_facets(kb: int, ids: Sequence[int]) -> Steps[None]:
    found = yield from rows(
        "SELECT id, seq, context, created_at, key, name, meta, checksum FROM chunks "
        "WHERE kb = ? AND id = ANY(?)",
        kb,
        list(ids),
    )
    whole = [one for one in found if one[7] == checksum((kb, *tuple(one)[:7]))]
    yield Repeated(
        "DELETE FROM facets WHERE kb = ? AND token = ? AND id = ?",
        ((kb, facet_token(token), one[0]) for one in whole for token in facets_of(json.loads(one[6]))),
    )
    if len(whole) < len(found):  # which facets a damaged chunk had is not known: slow
        kept = {one[0] for one in whole}
        yield from rows(
            "DELETE FROM facets WHERE kb = ? AND id = ANY(?)",
            kb,
            [one[0] for one in found if one[0] not in kept],
        )


def _moved(kb: int, context: int, ids: Sequence[int]) -> Steps[list[int]]:
    """Those of `ids` that leave another context: its index has to forget them."""
    found = yield from rows(
        "SELECT id FROM vectors WHERE kb = ? AND id = ANY(?) AND context <> ?", kb, list(ids), context
    )
    return [chunk_id for (chunk_id,) in found]


def _forget(kb: _Kb, ids: list[int]) -> Steps[None]:
    if ids:
        yield from forget(kb.no, kb.seq, ids)


def _rewrite(kb: _Kb, patches: Sequence[ChunkPatch], context: int | None = None) -> Steps[None]:
    """Apply the patches to everything but contents; those with a vector move to `context`."""
    by_id = {one.id: one for one in patches}
    found = yield from rows(
        "SELECT id, context, created_at, key, name, meta, checksum, seq FROM chunks "
        "WHERE kb = ? AND id = ANY(?)",
        kb.no,
        list(by_id),
    )
    refaceted = [one.id for one in patches if one.meta is not None and FACETS in one.meta]
    yield from _remove_facets(kb.no, refaceted)
    changed = []
    for chunk_id, old_context, created, key, old_name, old_meta, written, seq in found:
        one = by_id[chunk_id]
        if written != checksum((kb.no, chunk_id, seq, old_context, created, key, old_name, old_meta)):
            raise DamagedError(f"database: chunk {chunk_id} is damaged; delete it, or replace all its fields")
        meta = json.loads(old_meta) if one.meta is None else merged(json.loads(old_meta), one.meta)
        changed.append(
            (
                chunk_id,
                old_context if one.vector is None or context is None else context,
                created,
                key,
                old_name if one.name is None else one.name,
                meta,
            )
        )
    yield Repeated(
        "UPDATE chunks SET seq = ?, context = ?, name = ?, meta = ?, checksum = ?, "
        "tag1 = ?, tag2 = ?, tag3 = ?, tag4 = ?, tag5 = ?, facets = ? WHERE kb = ? AND id = ?",
        (
            (
                kb.seq,
                new_context,
                name,
                text := json.dumps(meta, ensure_ascii=False),
                checksum((kb.no, chunk_id, kb.seq, new_context, created, key, name, text)),
                *tags_of(meta),
                _facet_count(meta),
                kb.no,
                chunk_id,
            )
            for chunk_id, new_context, created, key, name, meta in changed
        ),
    )
    again = set(refaceted)
    yield from add_facets((kb.no, one[0], one[5]) for one in changed if one[0] in again)
