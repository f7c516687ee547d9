"""``xtrace xvec load``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import FAILED, command, print_json, style
from xtrace_sdk.errors import InputError

_DEFAULT_TYPES = "txt,md,json,csv,html,htm"


@command
async def load(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder, searched with all below it.")],
    kb_id: options.KbId,
    filetypes: Annotated[
        str, typer.Option("--filetypes", "-f", metavar="LIST", help="Types to load, by commas; also pdf.")
    ] = _DEFAULT_TYPES,
    tag: options.Tags = None,
    max_chunk_chars: options.MaxChunkChars = options.LONGEST_PIECE,
    max_parallel_embeddings: options.MaxParallelEmbeddings = options.PARALLEL_EMBEDDINGS,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Encrypt the texts of a folder into a knowledge base.

    What is stored already and unchanged is skipped, what has changed is replaced; a load that was stopped
    goes on where it was. Files are known by their path below FOLDER. Exits with 1 if a file cannot be read.
    """
    from tqdm import tqdm

    from xtrace_sdk.cli.xvec.files import UnreadableFileError, read_texts
    from xtrace_sdk.cli.xvec.ingest import Ingest
    from xtrace_sdk.cli.xvec.session import metadata, open_session

    meta_data = metadata(tag)
    files = _files(folder, filetypes)
    unreadable: list[str] = []
    async with open_session(env_file, api_key) as session:
        ingest = await Ingest.open(
            session,
            kb_id,
            longest=max_chunk_chars,
            parallel=max_parallel_embeddings,
            metadata=meta_data,
        )
        quiet = json_output or not sys.stderr.isatty()
        with tqdm(files, desc="Loading", unit=" files", disable=quiet, leave=False) as bar:
            for path in bar:
                try:
                    texts = read_texts(path)
                except UnreadableFileError as error:
                    unreadable.append(str(error))
                    continue
                await ingest.add(path.relative_to(folder).as_posix(), texts)
            await ingest.flush()
    outcome = ingest.outcome
    result: dict[str, Any] = {
        "files": len(files) - len(unreadable),
        "stored": outcome.stored,
        "unchanged": outcome.unchanged,
        "removed": outcome.removed,
        "unreadable": unreadable,
    }
    if json_output:
        print_json(result)
    else:
        print(
            f"{result['files']:,} files: {outcome.stored:,} pieces stored, {outcome.unchanged:,} unchanged, "
            f"{outcome.removed:,} removed"
        )
        for message in unreadable:
            print(style("not loaded:", "yellow", to=sys.stderr), message, file=sys.stderr)
    if unreadable:
        raise typer.Exit(FAILED)


def _files(folder: Path, filetypes: str) -> list[Path]:
    from xtrace_sdk.cli.xvec.files import TYPES

    wanted = {kind.strip().lower().lstrip(".") for kind in filetypes.split(",") if kind.strip()}
    if not wanted or not wanted <= set(TYPES):
        raise typer.BadParameter(f"--filetypes {filetypes}: expected some of {', '.join(TYPES)}")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    files = sorted(
        path for path in folder.rglob("*") if path.suffix.lower().lstrip(".") in wanted and path.is_file()
    )
    if not files:
        raise InputError(f"{folder} holds no file of type {', '.join(sorted(wanted))}")
    return files
