"""What the commands of this folder work with: a client, the context, the embedding model, opaque labels."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from xtrace_sdk.cli.settings import Settings
from xtrace_sdk.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from xtrace_sdk.integrations.xtrace import XTraceIntegration
    from xtrace_sdk.x_vec.inference.embedding import Embedding
    from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.utils.execution_context_writer import WriterContext
    from xtrace_sdk.x_vec.utils.xtrace_types import MetaData


@dataclass
class Session:
    """A client of the server and, opened when first used, the context and the embedding model."""

    settings: Settings
    client: XTraceIntegration

    @cached_property
    def writing(self) -> ExecutionContext | WriterContext:
        """The context of those who store, which may be a writer's."""
        return self.settings.open_for_writing()

    @cached_property
    def context(self) -> ExecutionContext:
        """The context of those who read. Raises ConfigurationError when it is a writer's."""
        from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

        context = self.writing
        if isinstance(context, ExecutionContext):
            return context
        path = self.settings.context_path
        raise ConfigurationError(f"XTRACE_EXECUTION_CONTEXT_PATH: {path} is a writer's, which reads nothing")

    @cached_property
    def embedding(self) -> Embedding:
        embedding = self.settings.open_embedding()
        if embedding.dim != self.writing.embed_len():
            raise InputError(
                f"the embedding model gives {embedding.dim} dimensions, the context holds "
                f"{self.writing.embed_len()}; `xtrace init` makes both fit"
            )
        return embedding

    @cached_property
    def _label_key(self) -> bytearray:
        return self.writing.subkey(b"xtrace command line labels", 0)

    def label(self, kind: str, *parts: str | int) -> str:
        """A name that tells the server nothing, the same for the same parts under the same context."""
        message = "\0".join([kind, *(f"{len(str(part))}:{part}" for part in parts)])
        return hmac.digest(self._label_key, message.encode("utf-8", "surrogatepass"), "sha256").hex()[:40]


@asynccontextmanager
async def open_session(env_file: Path | None, api_key: str | None) -> AsyncIterator[Session]:
    """A session with the settings that a command was given."""
    settings = Settings.load(env_file, api_key)
    async with settings.connect() as client:
        yield Session(settings, client)


def has_more(page: dict[str, Any], after: int) -> bool:
    """Whether there is a page after this one, which began after chunk `after`.

    Raises InputError unless the ids ascend: then a server could keep its client asking for ever.
    """
    ids = [after, *(chunk["chunk_id"] for chunk in page["results"])]
    if any(later <= earlier for earlier, later in pairwise(ids)):
        raise InputError("the server's answer is not sorted by chunk id as it was asked to be")
    return len(ids) > 1 and bool(page.get("has_more"))


def metadata(tags: list[str] | None) -> MetaData:
    """``["tag1=a", "facets=x,y"]`` -> metadata of a chunk. Raises BadParameter naming a malformed one."""
    from xtrace_sdk import wire

    made: dict[str, Any] = {}
    for tag in tags or ():
        name, equals, value = tag.partition("=")
        if not equals or name not in (*wire.TAGS, wire.FACETS) or name in made:
            raise typer.BadParameter(
                f"--tag {tag}: expected tag1 to tag5 or facets, each once, as NAME=VALUE"
            )
        made[name] = value.split(",") if name == wire.FACETS else value
    return cast("MetaData", made)
