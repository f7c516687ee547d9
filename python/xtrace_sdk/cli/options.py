"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

LONGEST_PIECE: Final = 3000
PARALLEL_EMBEDDINGS: Final = 4

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        "--api_key",
        "-a",
        metavar="KEY",
        help="API key; others on this machine can see it here, so prefer XTRACE_API_KEY or the keyring.",
    ),
]
EnvFile = Annotated[
    Path | None,
    typer.Option("--env-file", metavar="PATH", help="Settings file instead of XTRACE_ENV_FILE or ./.env."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
KbId = Annotated[str, typer.Argument(metavar="KB_ID", help="Id of the knowledge base.")]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="NAME=VALUE",
        help="tag1 to tag5 or facets=A,B; the server can read it. May be given several times.",
    ),
]
MaxChunkChars = Annotated[
    int, typer.Option(min=50, metavar="N", help="Longest piece of a text, in characters.")
]
MaxParallelEmbeddings = Annotated[
    int, typer.Option(min=1, max=64, metavar="N", help="Requests to the embedding service at once.")
]
FullChunks = Annotated[
    bool, typer.Option("--full-chunks", "--fullChunks", help="Show whole texts, not their beginnings.")
]
