"""Manifests: exchanged in the transaction of the change that they describe, for every engine.

What a manifest says is sealed. Its tag is all that is compared here.
"""

# ruff: noqa: S608 - statements are made from fixed pieces; everything a caller sent is a bound parameter

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xtrace_sdk.server.storage.admin_statements import context_number, kb_and_sequence
from xtrace_sdk.server.storage.base import (
    DamagedError,
    Ids,
    ManifestPage,
    ManifestRow,
    NewManifest,
    PreconditionError,
    Query,
    Selection,
)
from xtrace_sdk.server.storage.checksums import checksum
from xtrace_sdk.server.storage.read_statements import VECTOR, select, whole_vectors
from xtrace_sdk.server.storage.statements import Dialect, Row, Steps, row, rows
from xtrace_sdk.wire import MANIFEST_HEADER, NO_MANIFEST, manifest_tag

log = logging.getLogger("xtrace.server")

_PAGE = 1024


def settled(
    org_id: str, kb: int, sent: Sequence[NewManifest], ids: Sequence[int], context: int | None
) -> Steps[bool]:
    """Put the manifests that came with a change in force, before the change itself.

    The change takes away or replaces the vectors of `ids` and gives vectors to the context number `context`,
    None if to none. True, and nothing done, when all of the manifests are in force: then so is the change.
    Raises PreconditionError when another manifest is in force than was expected, and for a change without one
    of a context that has one; DamagedError.
    """
    held = {one[0]: one for one in (yield from rows(f"{_SELECT} WHERE kb = ?", kb))}
    if not held and not sent:
        return False
    numbers = {}
    for one in sent:
        numbers[(yield from context_number(org_id, one.context_id))] = one
    tags = {no: manifest_tag(_whole(kb, held[no])) if no in held else NO_MANIFEST for no in numbers}
    if sent and all(tags[no] == manifest_tag(one.sealed) for no, one in numbers.items()):
        return True
    for no, one in numbers.items():
        if tags[no] != one.expected:
            raise PreconditionError(f"{MANIFEST_HEADER}: another manifest is in force than the expected one")
        if one.expected == NO_MANIFEST and (yield from _has_vectors(kb, no)):
            raise PreconditionError(f"{MANIFEST_HEADER}: there are vectors already, and no manifest of them")
    without = held.keys() - numbers.keys()
    if without and (context in without or without & (yield from _contexts_of(kb, ids))):
        raise PreconditionError(
            f"{MANIFEST_HEADER}: missing; this knowledge base keeps a manifest of these vectors, which every "
            "change of them has to renew: write with the DataLoader of their owner, or remove the manifest"
        )
    for no, one in numbers.items():
        yield from _put(kb, no, one.sealed)
    return False


def exchanged(org_id: str, kb: int, context_id: str, expected: str, sealed: bytes | None) -> Steps[bool]:
    """Put `sealed`, None for no manifest, in the place of the one with the tag `expected`.

    False, and nothing done, when that is in force already. A damaged manifest counts as none: this is the way
    out. Raises PreconditionError.
    """
    no = yield from context_number(org_id, context_id)
    try:
        present = yield from in_force(kb, no)
    except DamagedError:
        present = None
    else:
        if present == sealed:
            return False
    if manifest_tag(present) != expected:
        raise PreconditionError("expected: another manifest is in force")
    yield from _put(kb, no, sealed)
    return True


def in_force(kb: int, context: int) -> Steps[bytes | None]:
    """The manifest of a context in a knowledge base, by their numbers. Raises DamagedError."""
    found = yield from row(f"{_SELECT} WHERE kb = ? AND context = ?", kb, context)
    return None if found is None else _whole(kb, found)


def tags_in_force(org_id: str, kb: int, sent: Sequence[NewManifest]) -> Steps[tuple[str, ...]]:
    """The tags in force where `sent` were to be."""
    tags = []
    for one in sent:
        no = yield from context_number(org_id, one.context_id)
        tags.append(manifest_tag((yield from in_force(kb, no))))
    return tuple(tags)


_SELECT = "SELECT context, sealed, checksum FROM manifests"


def _whole(kb: int, found: Row) -> bytes:
    context, sealed, written = found
    if written != checksum((kb, context, sealed)):
        log.error("damaged row: manifests %d %d", kb, context)
        raise DamagedError(
            "database: the knowledge base's manifest is damaged; its owner can remove or replace it"
        )
    return bytes(sealed)


def _put(kb: int, context: int, sealed: bytes | None) -> Steps[None]:
    if sealed is None:
        yield from rows("DELETE FROM manifests WHERE kb = ? AND context = ?", kb, context)
        return
    yield from rows(
        "INSERT INTO manifests (kb, context, sealed, checksum) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (kb, context) DO UPDATE SET sealed = excluded.sealed, checksum = excluded.checksum",
        kb,
        context,
        sealed,
        checksum((kb, context, sealed)),
    )


def _has_vectors(kb: int, context: int) -> Steps[bool]:
    return (
        yield from row("SELECT 1 FROM vectors WHERE kb = ? AND context = ? LIMIT 1", kb, context)
    ) is not None


def _contexts_of(kb: int, ids: Sequence[int]) -> Steps[set[int]]:
    found = yield from rows(
        "SELECT DISTINCT context FROM vectors WHERE kb = ? AND id = ANY(?)", kb, list(ids)
    )
    return {context for (context,) in found}


# What an owner asks before a change: the manifest in force, and the records of vectors


@dataclass(frozen=True, slots=True)
class LookUp:
    """Vectors of a context in a knowledge base: those under `ids`, None for all."""

    kb: int
    context: int
    ids: Ids | None


def begin_look_up(
    dialect: Dialect, org_id: str, kb_id: str, context_id: str, selection: Selection
) -> Steps[tuple[LookUp, ManifestPage]]:
    """(what to ask `more_rows` for, the manifest without rows). Raises DamagedError."""
    kb, sequence = yield from kb_and_sequence(org_id, kb_id)
    context = yield from context_number(org_id, context_id)
    manifest = yield from in_force(kb, context)
    ids: Ids | None = None
    if selection.keys:
        found = yield from rows(
            "SELECT id FROM chunks WHERE kb = ? AND key = ANY(?) ORDER BY id", kb, selection.keys
        )
        ids = np.fromiter((chunk_id for (chunk_id,) in found), dtype=np.int64)
    elif selection.filter is not None:
        ids = yield from select(dialect, org_id, kb_id, Query(context_id, selection.filter))
    elif not selection.everything:
        ids = np.unique(np.array(selection.ids, dtype=np.int64))
    return LookUp(kb, context, ids), ManifestPage(manifest, sequence, [])


def more_rows(look_up: LookUp, last: int) -> Steps[tuple[int, list[ManifestRow]] | None]:
    """The next rows after the place `last`, and the place after them; None at the end.

    The first place is -1. Damaged vectors are left out, as they are of a search.
    """
    if look_up.ids is None:
        condition, parameter = "v.id > ?", last
    else:
        wanted = look_up.ids[np.searchsorted(look_up.ids, last, "right") :][:_PAGE].tolist()
        if not wanted:
            return None
        condition, parameter = "v.id = ANY(?)", wanted
    found = yield from rows(
        f"SELECT {VECTOR}, c.seq, c.context, c.created_at, c.key, c.name, c.meta, c.checksum "
        "FROM vectors AS v LEFT JOIN chunks AS c ON c.kb = v.kb AND c.id = v.id "
        f"WHERE v.kb = ? AND +v.context = ? AND {condition} ORDER BY v.id LIMIT {_PAGE}",
        look_up.kb,
        look_up.context,
        parameter,
    )
    if look_up.ids is not None:
        last = wanted[-1]
    elif found:
        last = found[-1][0]
    else:
        return None
    return last, [
        ManifestRow(one[0], _key(look_up.kb, one), one[5]) for one in whole_vectors(look_up.kb, found)
    ]


def _key(kb: int, found: Row) -> str | None:
    """The key of a chunk; none where the chunk is damaged, though its vector is not."""
    seq, context, created_at, key, name, meta, written = found[7:14]
    if written != checksum((kb, found[0], seq, context, created_at, key, name, meta)):
        return None
    return None if key is None else str(key)
