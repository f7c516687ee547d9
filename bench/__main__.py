"""`python bench run`, `python bench compare OLD NEW`, ...: the harness of this checkout."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import comparison
import picture
from xtrace_sdk.bench import results
from xtrace_sdk.bench.measure import FULL, QUICK, SMOKE
from xtrace_sdk.bench.peers import PEERS, environment
from xtrace_sdk.bench.report import report, summary
from xtrace_sdk.bench.run import Parameters, read_bits, run
from xtrace_sdk.errors import XTraceError

HOME = Path(__file__).resolve().parent
ENVIRONMENTS = HOME / ".envs"
BASELINE = HOME / "baseline" / "search.json"
TABLE_START, TABLE_END = "<!-- table: written by `python bench record` -->", "<!-- end of table -->"


def main() -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(sys.argv[1:] or ["run"])
    try:
        status: int = options.do(options)
    except (XTraceError, ValueError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure xtrace-sdk beside its peers.")
    commands = parser.add_subparsers(required=True)

    measure = commands.add_parser("run", help="measure; writes a JSON file and a Markdown table")
    length = measure.add_mutually_exclusive_group()
    length.add_argument(
        "--full",
        action="store_true",
        help="more turns, searches up to 100,000 vectors, other parameters beside",
    )
    length.add_argument("--smoke", action="store_true", help="every part, too short for figures")
    measure.add_argument("--bits", type=Path, help="your own vectors: .npy, shape (N, dimensions), 0 and 1")
    measure.add_argument("--key-len", type=int, default=1024, help="bits of each prime (default 1024)")
    measure.add_argument("--alpha-len", type=int, help="bits of the secret subgroup (default by key_len)")
    measure.add_argument("--dimensions", type=int, default=512, help="of random vectors (default 512)")
    measure.add_argument(
        "--peers", nargs="*", choices=PEERS, default=list(PEERS), help="default: all of them"
    )
    measure.add_argument("--kernels", nargs="+", default=[], help="default: all that run here")
    measure.add_argument("--out", type=Path, default=HOME / "results", help="folder of the results")
    measure.set_defaults(do=_run)

    show = commands.add_parser("compare", help="compare two JSON files; exit 1 if something is slower")
    show.add_argument("old", type=Path)
    show.add_argument("new", type=Path)
    show.add_argument("--tolerance", type=float, default=0.15, help="accepted slowdown (default 0.15)")
    show.set_defaults(do=_compare)

    record = commands.add_parser("record", help="make a result the recorded one: baseline, tables, picture")
    record.add_argument("results", type=Path, nargs="?", default=BASELINE)
    record.add_argument("--check", action="store_true", help="only say what differs; exit 1 if any")
    record.set_defaults(do=_record)

    peers = commands.add_parser("peers", help="create peers' environments; prints their interpreters")
    peers.add_argument("names", nargs="*", default=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    peers.set_defaults(do=_peers)
    return parser


def _run(options: argparse.Namespace) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    found = run(
        FULL if options.full else SMOKE if options.smoke else QUICK,
        Parameters(options.key_len, options.alpha_len, options.dimensions),
        None if options.bits is None else read_bits(options.bits, options.key_len),
        peers=options.peers,
        kernels=options.kernels,
        environments=ENVIRONMENTS,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    found.save(options.out / "latest.json")
    text = report(found)
    (options.out / "latest.md").write_text(text)
    print(text)
    print(f"written: {options.out / 'latest.json'}, {options.out / 'latest.md'}", file=sys.stderr)
    return 0


def _compare(options: argparse.Namespace) -> int:
    old, new = comparison.load(options.old), comparison.load(options.new)
    table, slower = comparison.compare(old, new, options.tolerance)
    print(table)
    for line in slower:
        print(f"slower: {line}", file=sys.stderr)
    return 1 if slower else 0


def _record(options: argparse.Namespace) -> int:
    if not options.check and (kept := comparison.essence(options.results)) is not None:
        name, text = kept
        (BASELINE.parent / name).write_text(text)
        print(f"written: {BASELINE.parent / name}")
        return 0
    found = results.load(options.results)
    if found.mode == SMOKE.name:
        raise ValueError(f"{options.results}: a smoke run measures nothing")
    project = HOME.parent
    contents = {
        BASELINE: found.dump(),
        HOME / "README.md": _with_table(HOME / "README.md", report(found)),
        project / "README.md": _with_table(project / "README.md", summary(found)),
        project / "docs" / "img" / "bench.svg": picture.draw(found),
    }
    if options.check:
        different = [path for path, text in contents.items() if not path.exists() or path.read_text() != text]
        for path in different:
            print(f"differs from {options.results}: {path}", file=sys.stderr)
        return 1 if different else 0
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"written: {path}")
    return 0


def _with_table(readme: Path, table: str) -> str:
    """The file's text with `table` between the marks."""
    before, start, rest = readme.read_text().partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not start or not end:
        raise ValueError(f"{readme}: the marks around the table are missing")
    return f"{before}{start}\n{table}{end}{after}"


def _peers(options: argparse.Namespace) -> int:
    for name in options.names:
        if name not in PEERS:
            raise ValueError(f"unknown peer {name!r}: choose from {', '.join(PEERS)}")
        print(environment(name, ENVIRONMENTS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
