"""Reading chunks, by id and by metadata, for every engine."""

# ruff: noqa: S608 - statements are made from fixed pieces; everything a caller sent is a bound parameter

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import numpy as np

from xtrace_sdk.server.storage.admin_statements import kb_number
from xtrace_sdk.server.storage.base import ChunkField, Ciphertexts, Ids, Query, SortField, StoredChunk
from xtrace_sdk.server.storage.checksums import checksum
from xtrace_sdk.server.storage.filter_statements import Bound, compile_filter
from xtrace_sdk.server.storage.statements import MAX_INTEGER, Dialect, Row, Steps, rows, the_row

log = logging.getLogger("xtrace.server")


def fetch(
    org_id: str, kb_id: str, ids: Sequence[int], fields: frozenset[ChunkField]
) -> Steps[dict[int, StoredChunk]]:
    kb = yield from kb_number(org_id, kb_id)
    content = "c.content, c.content_checksum" if "content" in fields else "NULL, NULL"
    vector, join = "NULL, NULL, NULL, NULL, NULL, NULL", ""
    if fields & {"index", "record"}:
        vector = "v.context, v.seq, v.ciphertexts, v.data, v.record, v.checksum"
        join = "JOIN vectors AS v ON v.kb = c.kb AND v.id = c.id"
    found = yield from rows(
        "SELECT c.id, c.seq, c.context, c.created_at, c.key, c.name, c.meta, c.checksum, "
        f"{content}, {vector} FROM chunks AS c {join} WHERE c.kb = ? AND c.id = ANY(?)",
        kb,
        list(ids),
    )
    whole = {}
    for one in found:
        (
            chunk_id,
            _,
            _,
            _,
            key,
            name,
            meta,
            _,
            text,
            text_sum,
            context,
            seq,
            count,
            data,
            record,
            vector_sum,
        ) = one
        if (
            one[7] != checksum((kb, *tuple(one)[:7]))
            or (text is not None and text_sum != checksum((kb, chunk_id, text)))
            or (
                data is not None and vector_sum != checksum((kb, chunk_id, context, seq, count, data, record))
            )
        ):
            log.error("damaged row: chunk %d of knowledge base %s is not served", chunk_id, kb_id)
            continue
        whole[chunk_id] = StoredChunk(
            chunk_id,
            name,
            key,
            json.loads(meta),
            text,
            Ciphertexts(count, data) if "index" in fields else None,
            record if "record" in fields else None,
        )
    return whole


def select(dialect: Dialect, org_id: str, kb_id: str, query: Query) -> Steps[Ids]:
    condition, parameters = yield from _condition(dialect, org_id, kb_id, query)
    # With a filter, the plus keeps the database from walking all chunks only because they come sorted.
    order = "c.id" if query.filter is None else "+c.id"
    found = yield from rows(f"SELECT c.id FROM chunks AS c WHERE {condition} ORDER BY {order}", *parameters)
    return np.fromiter((chunk_id for (chunk_id,) in found), dtype=np.int64)


def count(dialect: Dialect, org_id: str, kb_id: str, query: Query) -> Steps[int]:
    condition, parameters = yield from _condition(dialect, org_id, kb_id, query)
    (number,) = yield from the_row(f"SELECT COUNT(*) FROM chunks AS c WHERE {condition}", *parameters)
    return int(number)


def page(
    dialect: Dialect,
    org_id: str,
    kb_id: str,
    query: Query,
    sort_by: SortField,
    descending: bool,
    limit: int | None,
    offset: int,
) -> Steps[tuple[list[int], int]]:
    condition, parameters = yield from _condition(dialect, org_id, kb_id, query)
    direction = "DESC" if descending else "ASC"
    column = "" if sort_by == "chunk_id" else f"c.{sort_by} {direction} NULLS LAST, "
    order = f"{column}c.id {'ASC' if column else direction}"
    found = yield from rows(
        f"SELECT c.id FROM chunks AS c WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",
        *parameters,
        MAX_INTEGER if limit is None else limit,
        offset,
    )
    total = yield from count(dialect, org_id, kb_id, query)
    return [chunk_id for (chunk_id,) in found], total


def _condition(dialect: Dialect, org_id: str, kb_id: str, query: Query) -> Steps[tuple[str, list[Bound]]]:
    """The rows of ``chunks AS c`` that a query means: (condition, parameters in order)."""
    kb = yield from kb_number(org_id, kb_id)
    conditions = ["c.kb = ?"]
    parameters: list[Bound] = [kb]
    if query.context_id is not None:
        conditions.append("c.context IN (SELECT no FROM contexts WHERE org = ? AND id = ?)")
        parameters += [org_id, query.context_id]
    if query.id_range is not None:
        conditions.append("c.id BETWEEN ? AND ?")
        parameters += query.id_range
    if query.filter is not None:
        condition, bound = compile_filter(query.filter, kb, dialect)
        conditions.append(condition)
        parameters += bound
    return " AND ".join(conditions), parameters


#: The columns that `whole_vectors` looks at, of ``vectors AS v``.
VECTOR = "v.id, v.context, v.seq, v.ciphertexts, v.data, v.record, v.checksum"


def whole_vectors(kb: int, vectors: Sequence[Row]) -> list[Row]:
    """The rows, which begin with the columns of `VECTOR`, that are as they were written."""
    whole: list[Row] = []
    damaged: list[Row] = []
    for one in vectors:
        (whole if one[6] == checksum((kb, *tuple(one)[:6])) else damaged).append(one)
    if damaged:
        log.error(
            "damaged rows: %d vectors of knowledge base number %d are left out, from chunk %s on",
            len(damaged),
            kb,
            damaged[0][0],
        )
    return whole
