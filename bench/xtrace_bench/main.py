"""The command line of the harness."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from . import comparison, picture, results
from .measure import FULL, QUICK, Suite
from .peers import PEERS, PeerError, environment
from .report import report

_TABLE_START, _TABLE_END = "<!-- table: written by `python bench record` -->", "<!-- end of table -->"


def main(arguments: list[str] | None = None, *, home: Path) -> int:
    """Run one command; returns the exit status. `home` holds environments, results and the recorded run."""
    parser = _parser(home)
    options = parser.parse_args(arguments if arguments is not None else (sys.argv[1:] or ["run"]))
    try:
        status: int = options.do(options, home)
    except (PeerError, ValueError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return status


def _parser(home: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure xtrace-sdk beside its peers.")
    commands = parser.add_subparsers(required=True)

    run = commands.add_parser("run", help="measure; writes a JSON file and a Markdown table")
    run.add_argument("--full", action="store_true", help="more turns, searches up to 100,000 vectors")
    run.add_argument("--bits", type=Path, help="your own vectors: .npy, shape (N, dimensions), 0 and 1")
    run.add_argument("--key-len", type=int, default=1024, help="bits of each prime (default 1024)")
    run.add_argument("--alpha-len", type=int, default=448, help="bits of the secret subgroup (default 448)")
    run.add_argument("--dimensions", type=int, default=512, help="of the random vectors used without --bits")
    run.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="default: all of them")
    run.add_argument("--kernels", nargs="+", help="default: all that run here")
    run.add_argument("--out", type=Path, default=home / "results", help="folder of the results")
    run.set_defaults(do=_run)

    show = commands.add_parser("compare", help="compare two JSON files; exit 1 if something is slower")
    show.add_argument("old", type=Path)
    show.add_argument("new", type=Path)
    show.add_argument("--tolerance", type=float, default=0.15, help="accepted slowdown (default 0.15)")
    show.set_defaults(do=_compare)

    record = commands.add_parser("record", help="make a result the recorded one: baseline, table, picture")
    record.add_argument("results", type=Path)
    record.set_defaults(do=_record)

    peers = commands.add_parser("peers", help="create peers' environments; prints their interpreters")
    peers.add_argument("names", nargs="*", default=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    peers.set_defaults(do=_peers)
    return parser


def _run(options: argparse.Namespace, home: Path) -> int:
    from xtrace_sdk import _core

    options.out.mkdir(parents=True, exist_ok=True)
    mode = FULL if options.full else QUICK
    bits = options.out / "bits.npy"
    if options.bits is None:
        vectors = np.random.default_rng(20).integers(0, 2, (8192, options.dimensions), dtype=np.uint8)
    else:
        vectors = _own_bits(options.bits, options.key_len)
    np.save(bits, vectors)
    found = Suite(
        mode,
        bits,
        key_len=options.key_len,
        alpha_len=options.alpha_len,
        kernels=options.kernels or _core.kernels(),
        peers=options.peers,
        environments=home / ".envs",
        say=lambda line: print(line, file=sys.stderr, flush=True),
    ).run()
    found.save(options.out / "latest.json")
    text = report(found)
    (options.out / "latest.md").write_text(text)
    print(text)
    print(f"written: {options.out / 'latest.json'}, {options.out / 'latest.md'}", file=sys.stderr)
    return 0


def _own_bits(path: Path, key_len: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """The caller's vectors. Raises ValueError naming what is wrong with them."""
    vectors = np.load(path, allow_pickle=False)
    if vectors.ndim != 2 or not len(vectors) or not np.isin(vectors, (0, 1)).all():
        raise ValueError(f"--bits {path}: expected zeros and ones of shape (N, dimensions), N > 0")
    if not 1 <= vectors.shape[1] < key_len:
        # One ciphertext a vector is what every peer can do.
        raise ValueError(f"--bits {path}: dimensions must be in [1, {key_len - 1}] for key_len {key_len}")
    return np.ascontiguousarray(vectors, dtype=np.uint8)


def _compare(options: argparse.Namespace, home: Path) -> int:
    old, new = comparison.load(options.old), comparison.load(options.new)
    table, slower = comparison.compare(old, new, options.tolerance)
    print(table)
    for line in slower:
        print(f"slower: {line}", file=sys.stderr)
    return 1 if slower else 0


def _record(options: argparse.Namespace, home: Path) -> int:
    found = results.load(options.results)
    found.save(home / "baseline" / "search.json")
    readme = home / "README.md"
    before, _, rest = readme.read_text().partition(_TABLE_START)
    _, end, after = rest.partition(_TABLE_END)
    if not end:
        raise ValueError(f"{readme}: the marks around the table are missing")
    readme.write_text(f"{before}{_TABLE_START}\n{report(found)}{_TABLE_END}{after}")
    picture_file = home.parent / "docs" / "img" / "bench.svg"
    picture_file.parent.mkdir(parents=True, exist_ok=True)
    picture_file.write_text(picture.draw(found))
    print(f"written: {home / 'baseline' / 'search.json'}, {readme}, {picture_file}")
    return 0


def _peers(options: argparse.Namespace, home: Path) -> int:
    for name in options.names:
        if name not in PEERS:
            raise ValueError(f"unknown peer {name!r}: choose from {', '.join(PEERS)}")
        print(environment(name, home / ".envs"))
    return 0
