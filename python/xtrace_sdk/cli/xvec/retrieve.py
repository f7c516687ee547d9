"""``xtrace xvec retrieve``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import command, print_json, printable

if TYPE_CHECKING:
    from xtrace_sdk.cli.settings import Settings


@command
async def retrieve(
    kb_id: options.KbId,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many chunks.")] = 3,
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Only chunks whose metadata match.")
    ] = None,
    inference: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER", help="Answer from the chunks by a language model: ollama, openai, …"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The language model.")] = None,
    full_chunks: options.FullChunks = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Find the chunks nearest to a text. With --inference a language model answers from them."""
    from xtrace_sdk.cli.xvec.session import open_session
    from xtrace_sdk.cli.xvec.show import print_chunks
    from xtrace_sdk.x_vec.retrievers.retriever import Retriever

    if (inference is None) != (model is None):
        raise typer.BadParameter("--inference and --model go together")
    async with open_session(env_file, api_key) as session:
        retriever = Retriever(session.context, session.client)
        vector = await session.embedding.bin_embed(query)
        ranked = await retriever.nn_search_for_ids(
            vector, k=k, kb_id=kb_id, meta_filter=filter_, include_scores=True
        )
        ids, distances = cast("tuple[list[int], list[int]]", ranked)
        chunks = await retriever.retrieve_and_decrypt(ids, kb_id)
        by_id = dict(zip(ids, distances, strict=True))
        found: list[dict[str, Any]] = [{**chunk, "distance": by_id[chunk["chunk_id"]]} for chunk in chunks]
        answer = None
        if inference is not None and model is not None:
            answer = _answer(session.settings, inference, model, query, Retriever.format_context(chunks))
    if json_output:
        print_json(found if answer is None else {"answer": answer, "chunks": found})
        return
    if answer is not None:
        print(printable(answer), end="\n\n")
    if found:
        print_chunks(found, full=full_chunks)
    else:
        print("nothing found: the knowledge base is empty, or nothing in it matches the filter")


def _answer(settings: Settings, provider: str, model: str, query: str, context: str) -> str:
    from xtrace_sdk.cli.settings import INFERENCE_KEY
    from xtrace_sdk.x_vec.inference.llm import InferenceClient

    key = settings.secret(INFERENCE_KEY)
    base_url = settings.values.get("INFERENCE_BASE_URL")
    return str(InferenceClient(provider, model, api_key=key, base_url=base_url).query(query, context))
