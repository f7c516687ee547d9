"""``xtrace xvec head``, ``fetch`` and ``delete``: chunks by their ids."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import FAILED, command, confirm, print_json

if TYPE_CHECKING:
    from xtrace_sdk.cli.xvec.session import Session

_FIRST: Final = 25
_PAGE: Final = 1000

ChunkIds = Annotated[list[int], typer.Argument(metavar="ID...", help="Ids of chunks.")]


@command
async def head(
    kb_id: options.KbId,
    everything: Annotated[bool, typer.Option("--all", help="All chunks, not the first 25.")] = False,
    full_chunks: options.FullChunks = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Show the first chunks of a knowledge base, decrypted."""
    from xtrace_sdk.cli.xvec.session import open_session
    from xtrace_sdk.cli.xvec.show import print_chunks

    async with open_session(env_file, api_key) as session:
        chunks, more = await _page(session, kb_id, 0, _PAGE if everything else _FIRST)
        while everything and more:
            page, more = await _page(session, kb_id, chunks[-1]["chunk_id"], _PAGE)
            chunks += page
    if json_output:
        print_json(chunks)
    else:
        print_chunks(chunks, full=full_chunks)
        if more:
            print(f"… and more; --all shows them all, after the first {_FIRST}")


async def _page(session: Session, kb_id: str, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Chunks with ids above `after`, decrypted, and whether there are more."""
    from xtrace_sdk.cli.xvec.session import has_more
    from xtrace_sdk.wire import RECORD

    page = await session.client.meta_search_paginated(
        kb_id,
        session.context.id,
        {"chunk_id": {"$gt": after}},
        projection=["meta_data", RECORD],
        limit=limit,
        sort_order="asc",
        return_content=True,
    )
    chunks = [
        {
            "chunk_id": chunk["chunk_id"],
            "meta_data": chunk["meta_data"] if isinstance(chunk.get("meta_data"), dict) else {},
            "chunk_content": session.context.open_content(chunk),
        }
        for chunk in page["results"]
    ]
    return chunks, has_more(page, after)


@command
async def fetch(
    kb_id: options.KbId,
    chunk_ids: ChunkIds,
    full_chunks: options.FullChunks = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Show chunks by id, decrypted. Exits with 1 when one is not there."""
    from xtrace_sdk.cli.xvec.session import open_session
    from xtrace_sdk.cli.xvec.show import print_chunks
    from xtrace_sdk.x_vec.retrievers.retriever import Retriever

    async with open_session(env_file, api_key) as session:
        chunks = await Retriever(session.context, session.client).retrieve_and_decrypt(chunk_ids, kb_id)
    there = {chunk["chunk_id"] for chunk in chunks}
    missing = [chunk_id for chunk_id in chunk_ids if chunk_id not in there]
    if json_output:
        print_json({"chunks": chunks, "missing": missing})
    else:
        print_chunks(chunks, full=full_chunks)
        if missing:
            print(f"not there: {', '.join(map(str, missing))}", file=sys.stderr)
    if missing:
        raise typer.Exit(FAILED)


@command
async def delete(
    kb_id: options.KbId,
    chunk_ids: ChunkIds,
    yes: options.Yes = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Delete chunks by id; ids that are not there are ignored."""
    from xtrace_sdk.cli.xvec.session import open_session
    from xtrace_sdk.x_vec.data_loaders.loader import DataLoader

    confirm(f"Delete {len(chunk_ids)} chunk(s)?", yes=yes, as_json=json_output)
    async with open_session(env_file, api_key) as session:
        answer = await DataLoader(session.writing, session.client).delete_chunks(chunk_ids, kb_id)
    if json_output:
        print_json({"deleted": answer["deleted_count"]})
    else:
        print(f"{answer['deleted_count']:,} deleted")
