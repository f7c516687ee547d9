"""``xtrace bench``"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from xtrace_sdk.cli.console import USAGE, command, fail, print_json
from xtrace_sdk.cli.options import Json


@command
def bench(
    bits: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npy", help="Your vectors: zeros and ones, (N, dimensions); else random ones."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="More turns, and searches up to 100,000 vectors.")
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Every part, too short for figures: does it work here?")
    ] = False,
    key_len: Annotated[int, typer.Option(min=1024, metavar="BITS", help="Bits of each prime.")] = 1024,
    alpha_len: Annotated[
        int | None, typer.Option(metavar="BITS", help="Bits of the secret subgroup's order.")
    ] = None,
    dimensions: Annotated[int, typer.Option(min=1, metavar="N", help="Of the random vectors.")] = 512,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Measure this implementation from PyPI too, in an environment of its own; may be repeated.",
        ),
    ] = None,
    kernel: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this kernel; may be repeated.")
    ] = None,
    environments: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the peers' environments.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Measure this machine: encryption, products, decoding, searches. Every answer is checked."""
    from xtrace_sdk import _core
    from xtrace_sdk.bench.measure import FULL, QUICK, SMOKE
    from xtrace_sdk.bench.peers import PEERS
    from xtrace_sdk.bench.report import report
    from xtrace_sdk.bench.run import Parameters, read_bits, run

    if full and smoke:
        fail("--full and --smoke exclude each other", as_json=json_output, code=USAGE)
    for what, names, known in (("peer", peer, list(PEERS)), ("kernel", kernel, _core.kernels())):
        for name in names or ():
            if name not in known:
                fail(f"--{what}: {name!r} is not one of {', '.join(known)}", as_json=json_output, code=USAGE)
    found = run(
        FULL if full else SMOKE if smoke else QUICK,
        Parameters(key_len, alpha_len, dimensions),
        None if bits is None else read_bits(bits, key_len),
        peers=peer or (),
        kernels=kernel or (),
        environments=environments or _cache() / "xtrace-bench",
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if json_output:
        print_json(asdict(found))
    else:
        print(report(found))


def _cache() -> Path:
    """The user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
