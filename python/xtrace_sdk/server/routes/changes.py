"""The change feed: what is new, changed and gone since a caller looked last."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from xtrace_sdk import wire
from xtrace_sdk.server.auth import ApiCaller, ServicesNow
from xtrace_sdk.server.ciphertexts import encode_vector
from xtrace_sdk.server.models import ChangedChunk, Changes, Count, RemovedChunk
from xtrace_sdk.server.storage.base import FedChunk

router = APIRouter(tags=["changes"])

_MAX_CHUNKS = 10_000


@router.get(wire.CHANGES, response_model_exclude_none=True)
async def changes(
    caller: ApiCaller,
    server: ServicesNow,
    kb_id: Annotated[str, Query()],
    context_id: Annotated[str | None, Query(description="only chunks under this context")] = None,
    since: Annotated[Count, Query(description="`sequence` of the page before; 0 for everything")] = 0,
    after: Annotated[Count | None, Query(description="`after` of the page before, if it has one")] = None,
    began: Annotated[Count | None, Query(description="`began` of the page before, if it has one")] = None,
    limit: Annotated[int, Query(ge=1, le=_MAX_CHUNKS, description="changed chunks of one page")] = 1000,
) -> Changes:
    """Pages of what happened to the chunks of a knowledge base, in order.

    Apply `removed` first, then `changed`: a chunk that is not known yet is new, a known one is replaced.
    Go on with `sequence`, `after` and `began` of the answer while `has_more`, and later to hear what happened
    since. Every change of a chunk counts, of its metadata too; a chunk is told with its last change only. A
    first round from 0 tells of no chunks that were removed before it. 410 means that too much happened since
    to tell what was removed: begin again at 0.
    """
    await caller.may(wire.READ, kb_id)
    page = await server.store.feed(caller.org_id, kb_id, context_id, since, after, limit, began)
    return Changes(
        sequence=page.sequence,
        after=page.after,
        began=page.began,
        has_more=page.more,
        removed=[RemovedChunk(chunk_id=one, sequence=sequence) for one, sequence in page.removed],
        changed=[_changed(one) for one in page.changed],
    )


def _changed(chunk: FedChunk) -> ChangedChunk:
    return ChangedChunk(
        chunk_id=chunk.id,
        sequence=chunk.sequence,
        context_id=chunk.context_id,
        index=encode_vector(chunk.vector),
        record=wire.encode_record(chunk.vector.record) if chunk.vector.record else None,
    )
