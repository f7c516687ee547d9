"""What changed in a knowledge base since a change that is known, for every engine."""

# ruff: noqa: S608 - statements are made from fixed pieces; everything a caller sent is a bound parameter

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from xtrace_sdk.server.storage.admin_statements import context_number, kb_and_sequence
from xtrace_sdk.server.storage.base import (
    Change,
    Ciphertexts,
    DamagedError,
    FedChunk,
    FeedPage,
    GoneError,
    Ids,
    NotFoundError,
)
from xtrace_sdk.server.storage.checksums import checksum
from xtrace_sdk.server.storage.manifest_statements import in_force
from xtrace_sdk.server.storage.read_statements import VECTOR, whole_vectors
from xtrace_sdk.server.storage.statements import MAX_INTEGER, Steps, row, rows, the_row

log = logging.getLogger("xtrace.server")

_PAGE = 4096
_KEPT_CHANGES = 10_000  # of each knowledge base: what was deleted in these is known
_BATCH = 256
_NO_IDS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Feed:
    """The vectors of a context in a knowledge base that changed after number `since`."""

    kb: int
    context: int | None
    since: int


def begin_changes(org_id: str, kb_id: str, context_id: str, since: int) -> Steps[tuple[Feed, Change]]:
    """(what to ask `more_changes` for, the change that says what is gone)."""
    found = yield from row(
        "SELECT kbs.no, kbs.seq, contexts.no FROM kbs LEFT JOIN contexts "
        "ON contexts.org = kbs.org AND contexts.id = ? WHERE kbs.id = ? AND kbs.org = ?",
        context_id,
        kb_id,
        org_id,
    )
    if found is None:
        raise NotFoundError("knowledge base not found")
    kb, sequence, context = found
    gone: list[tuple[int, Ids]] = []
    if since:
        gone = yield from _deletions(kb, since, sequence, MAX_INTEGER)
    removed = np.concatenate([_NO_IDS, *(ids for _, ids in gone)])
    manifest = None if context is None else (yield from in_force(kb, context))
    return Feed(kb, context, since), Change(sequence, removed, [], [], manifest)


def _deletions(kb: int, since: int, until: int, limit: int) -> Steps[list[tuple[int, Ids]]]:
    """(number, ids that are gone) after `since` and up to `until`. Raises DamagedError, GoneError."""
    found = yield from rows(
        "SELECT seq, ids, checksum FROM deletions WHERE kb = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        kb,
        since,
        until,
        limit,
    )
    gone = []
    for seq, ids, written in found:
        if written != checksum((kb, seq, ids)):
            log.error("damaged row: deletions %d of knowledge base number %d", seq, kb)
            raise DamagedError("database: a list of deleted chunks is damaged")
        if not ids:  # the mark that `forget` leaves
            raise GoneError("since: too long ago to tell what was deleted since; begin again at 0")
        gone.append((seq, np.frombuffer(ids, dtype="<i8").astype(np.int64)))
    return gone


def more_changes(feed: Feed, last: tuple[int, int]) -> Steps[tuple[tuple[int, int], Change] | None]:
    """The next vectors after the place `last`, (seq, id), and the place after them; None at the end."""
    if feed.context is None:
        return None
    if feed.since:
        where = "kb = ? AND context = ? AND (seq, id) > (?, ?) ORDER BY seq, id"
        parameters: tuple[int, ...] = (feed.kb, feed.context, *last)
    else:  # everything: along the primary key, not through the index on seq
        where = "kb = ? AND id > ? AND +context = ? ORDER BY id"
        parameters = (feed.kb, last[1], feed.context)
    found = yield from rows(
        f"SELECT {VECTOR}, v.seq, v.id FROM vectors AS v WHERE {where} LIMIT {_PAGE}", *parameters
    )
    if not found:
        return None
    whole = whole_vectors(feed.kb, found)
    vectors = [Ciphertexts(*tuple(one)[3:6]) for one in whole]
    return (found[-1][-2], found[-1][-1]), Change(0, _NO_IDS, [one[0] for one in whole], vectors)


def forget(kb: int, seq: int, ids: list[int]) -> Steps[None]:
    """Note with change `seq` what indexes and feeds have to forget.

    Lists older than `_KEPT_CHANGES` go, in batches; an empty list, the first of those that stay, says up to
    which change they are not known any more.
    """
    yield from _put(kb, seq, np.array(ids, dtype="<i8").tobytes())
    old = seq - _KEPT_CHANGES
    full = yield from row(
        "SELECT seq FROM deletions WHERE kb = ? AND seq <= ? ORDER BY seq LIMIT 1 OFFSET ?", kb, old, _BATCH
    )
    if full is not None:
        (last,) = yield from the_row("SELECT MAX(seq) FROM deletions WHERE kb = ? AND seq <= ?", kb, old)
        yield from rows("DELETE FROM deletions WHERE kb = ? AND seq <= ?", kb, last)
        yield from _put(kb, last, b"")


def _put(kb: int, seq: int, ids: bytes) -> Steps[None]:
    yield from rows(
        "INSERT INTO deletions (kb, seq, ids, checksum) VALUES (?, ?, ?, ?)",
        kb,
        seq,
        ids,
        checksum((kb, seq, ids)),
    )


def feed(
    org_id: str,
    kb_id: str,
    context_id: str | None,
    since: int,
    after: int | None,
    limit: int,
    began: int | None,
) -> Steps[FeedPage]:
    kb, sequence = yield from kb_and_sequence(org_id, kb_id)
    context = None if context_id is None else (yield from context_number(org_id, context_id))
    until = sequence
    if not since and after is None:
        began = sequence
    # What was gone when a round from the beginning began, it did not tell of. Within a change whose beginning
    # was told before, what it deleted was told, too.
    gone = yield from _deletions(kb, max(since, began or 0), sequence, limit + 1)
    if len(gone) > limit:
        until = gone[limit][0] - 1
        gone = gone[:limit]
    condition = "" if context is None else "AND c.context = ? "
    found = yield from rows(
        f"SELECT {VECTOR}, c.seq, contexts.id "
        "FROM chunks AS c JOIN vectors AS v ON v.kb = c.kb AND v.id = c.id "
        "JOIN contexts ON contexts.no = c.context "
        f"WHERE c.kb = ? AND (c.seq, c.id) > (?, ?) AND c.seq <= ? {condition}"
        "ORDER BY c.seq, c.id LIMIT ?",
        kb,
        since,
        MAX_INTEGER if after is None else after,
        until,
        *(() if context is None else (context,)),
        limit + 1,
    )
    last: tuple[int, int | None] = (until, None)
    if len(found) > limit:
        found = found[:limit]
        last = (found[-1][7], found[-1][0])
        gone = [one for one in gone if one[0] <= last[0]]
    changed = [
        FedChunk(one[0], one[7], one[8], Ciphertexts(*tuple(one)[3:6])) for one in whole_vectors(kb, found)
    ]
    removed = [(chunk_id, seq) for seq, ids in gone for chunk_id in ids.tolist()]
    more = last != (sequence, None)
    return FeedPage(last[0], last[1], more, removed, changed, began if more else None)
