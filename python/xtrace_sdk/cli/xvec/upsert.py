"""``xtrace xvec upsert`` and ``upsert-file``: one text, one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import command, print_json
from xtrace_sdk.errors import InputError

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.utils.xtrace_types import Chunk


@command
async def upsert(
    kb_id: options.KbId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text; - reads it from standard input.")],
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Your name for the text: replaces the one of that name."),
    ] = None,
    chunk_id: Annotated[
        int | None, typer.Option("--id", min=1, metavar="ID", help="Replace the chunk with this id.")
    ] = None,
    tag: options.Tags = None,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Store one text, or replace one; prints the id of its chunk."""
    from xtrace_sdk.cli.xvec.session import metadata, open_session
    from xtrace_sdk.x_vec.data_loaders.loader import DataLoader

    if key is not None and chunk_id is not None:
        raise typer.BadParameter("--key and --id exclude each other")
    content = sys.stdin.read() if text == "-" else text
    if not content.strip():
        raise InputError("TEXT: is empty")
    chunk: Chunk = {"chunk_content": content, "meta_data": metadata(tag)}
    async with open_session(env_file, api_key) as session:
        if key is not None:
            chunk["key"] = session.label("key", key)
        if chunk_id is not None:
            chunk["chunk_id"] = chunk_id
        vector = await session.embedding.bin_embed(content)
        answers = await DataLoader(session.writing, session.client).upsert_one(chunk, vector, kb_id)
    stored = chunk_id if chunk_id is not None else next(iter(answers[0].get("chunk_ids", ())), None)
    if json_output:
        print_json({"chunk_id": stored})
    else:
        print(stored)


@command
async def upsert_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of a type that load takes.")],
    kb_id: options.KbId,
    tag: options.Tags = None,
    max_chunk_chars: options.MaxChunkChars = options.LONGEST_PIECE,
    max_parallel_embeddings: options.MaxParallelEmbeddings = options.PARALLEL_EMBEDDINGS,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Store one file, in place of what was stored under its name."""
    from xtrace_sdk.cli.xvec.files import read_texts
    from xtrace_sdk.cli.xvec.ingest import Ingest
    from xtrace_sdk.cli.xvec.session import metadata, open_session

    meta_data = metadata(tag)
    texts = read_texts(file)
    async with open_session(env_file, api_key) as session:
        ingest = await Ingest.open(
            session,
            kb_id,
            longest=max_chunk_chars,
            parallel=max_parallel_embeddings,
            metadata=meta_data,
        )
        await ingest.add(file.name, texts)
        await ingest.flush()
    outcome = ingest.outcome
    if json_output:
        print_json(vars(outcome))
    else:
        print(
            f"{outcome.stored:,} pieces stored, {outcome.unchanged:,} unchanged, {outcome.removed:,} removed"
        )
