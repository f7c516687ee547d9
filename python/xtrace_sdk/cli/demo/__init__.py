"""``xtrace demo``: the product's main job on real texts, proving itself as it goes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from xtrace_sdk.cli.console import command
from xtrace_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from xtrace_sdk.cli.demo.corpus import Corpus
    from xtrace_sdk.cli.demo.display import Display
    from xtrace_sdk.cli.demo.run import Demo
    from xtrace_sdk.integrations.xtrace import XTraceIntegration

LIBRARY_QUESTIONS: Final = (
    "How do I parse a JSON document?",
    "compute the SHA-256 hash of a file",
    "run a subprocess and capture its output",
    "send an email message through an SMTP server",
    "compress data with gzip",
    "schedule a callback to run later on the event loop",
    "copy a directory tree recursively",
    "parse a date and time string",
    "arithmetic mean and standard deviation of data",
    "find similar words, the closest matches of a sequence",
)
_OWN_QUESTIONS: Final = 3


@command
def demo(
    docs: Annotated[
        Path | None, typer.Option(help="Index the .txt and .md files of this folder instead.")
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", "-q", metavar="TEXT", help="Ask this too; may be given several times."),
    ] = None,
    api_url: Annotated[
        str | None,
        typer.Option(
            help="Use this server instead of starting one, with XTRACE_ORG_ID, XTRACE_API_KEY and "
            "XTRACE_ADMIN_KEY of the environment.",
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end and nothing else.")
    ] = False,
) -> None:
    """Search thousands of encrypted texts and prove every answer.

    The server that is searched holds no key.
    Indexes the docstrings of Python's standard library, unless --docs names a folder. Starts a server of its
    own on this machine and leaves nothing behind. For every question the encrypted distances of all documents
    are compared with the plain ones; a difference ends the demo with status 1.
    """
    from xtrace_sdk.cli.demo import corpus as corpora
    from xtrace_sdk.cli.demo.display import Display
    from xtrace_sdk.cli.demo.run import Demo
    from xtrace_sdk.x_vec.utils.pins import Pins

    # SIGTERM takes the same way out as Ctrl-C, so that the server and its folder go too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    show = Display(as_json=json_output)
    show.title()
    with show.step("reading") as words:
        corpus = corpora.standard_library() if docs is None else corpora.folder(docs)
        words.append(f"{len(corpus.documents):,} texts: {corpus.source}, {corpus.files} files")
    fixed = LIBRARY_QUESTIONS if docs is None else _openings(corpus) if not query else ()
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        with show.step("server") as words:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="xtrace-demo-")))
            client, files = _connect(stack, runner, api_url, folder)
            words.append(f"at {client.api_url}" + (", a process of its own" if files else ""))
        work = Demo(corpus, client, Pins(folder / "pins"))  # of keys that end with the demo
        _run(runner, work, [*fixed, *(query or ())], files, show, prompt=not query)


def _connect(
    stack: ExitStack, runner: asyncio.Runner, api_url: str | None, folder: Path
) -> tuple[XTraceIntegration, Path | None]:
    """A client of the server at `api_url`, or of one started in `folder`, and that one's files."""
    from xtrace_sdk.cli.demo.process import ServerProcess
    from xtrace_sdk.integrations.xtrace import XTraceIntegration

    if api_url is None:
        server = stack.enter_context(ServerProcess(folder))
        client = XTraceIntegration(server.org_id, server.api_key, server.admin_key, server.url, server.url)
        files: Path | None = server.data
    else:
        org_id = os.environ.get("XTRACE_ORG_ID")
        if not org_id:
            raise ConfigurationError("XTRACE_ORG_ID: set it to the organisation's id on that server")
        client = XTraceIntegration(org_id, api_url=api_url)
        files = None
    stack.callback(lambda: runner.run(client.close()))
    return client, files


def _run(
    runner: asyncio.Runner,
    work: Demo,
    questions: list[str],
    files: Path | None,
    show: Display,
    *,
    prompt: bool,
) -> None:
    from xtrace_sdk.cli.demo.run import DIMENSIONS, KEY_LEN

    count = len(work.corpus.documents)
    with show.step("embedding") as words:
        runner.run(work.embed())
        words.append(f"{count:,} texts to {DIMENSIONS} bits each, by hashed words (simhash)")
    with show.step("keys") as words:
        work.make_keys()
        words.append(f"a Paillier key with primes of {KEY_LEN} bits; it stays here")
    with show.step("encryption") as words:
        runner.run(work.encrypt(quiet=not show.bars))
        words.append(f"{count:,} vectors and texts, on this side")
    try:
        with show.step("upload") as words, show.bar("Uploading", count) as progress:
            runner.run(work.upload(progress))
            words.append(f"{count:,} chunks over HTTP")
        for question in questions:
            show.answer(runner.run(work.ask(question)), count)
        if prompt:
            for question in show.prompted():
                show.answer(runner.run(work.ask(question)), count)
        secrecy = work.prove_secrecy(files) if files is not None else None
    finally:
        if files is None:
            runner.run(work.clean_up())
    show.summary(work, secrecy)


def _openings(corpus: Corpus) -> list[str]:
    """The opening words of some documents, spread over the corpus, as questions to unknown texts."""
    step = max(1, len(corpus.documents) // _OWN_QUESTIONS)
    picked = corpus.documents[step // 2 :: step][:_OWN_QUESTIONS]
    return [" ".join(document.body.split()[:12]) for document in picked]
