"""What is seen while the demo works: lines and bars for people, nothing before the end for scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tqdm import tqdm

from xtrace_sdk.cli.console import print_json, style
from xtrace_sdk.cli.demo import report

if TYPE_CHECKING:
    from xtrace_sdk.cli.demo.run import Answered, Demo


class Display:
    """Shows the demo's steps on stdout, or with `as_json` only its end."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.bars = not as_json and sys.stderr.isatty()
        self.stages: dict[str, float] = {}

    def title(self) -> None:
        if not self.as_json:
            print(style("xtrace demo: search that the server cannot read", "bold"), end="\n\n")

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Count the time of the ``with`` block as stage `name`; show what it appends to the list."""
        waits = not self.as_json and sys.stdout.isatty()
        if waits:
            print(f"  {name} …", end="", flush=True)
        words: list[str] = []
        begin = time.perf_counter()
        try:
            yield words
        except BaseException:
            if waits:
                print()
            raise
        self.stages[name] = time.perf_counter() - begin
        if not self.as_json:
            start = "\r" if waits else ""
            print(f"{start}  {name:<11} {' '.join(words):<72} {self.stages[name]:6.1f} s", flush=True)

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """A progress bar, moved by calling it with (done, total)."""
        with tqdm(total=total, desc=name, unit=" chunks", disable=not self.bars, leave=False) as bar:
            yield lambda done, _total: bar.update(done - bar.n) and None

    def answer(self, answered: Answered, documents: int) -> None:
        if not self.as_json:
            report.print_answer(answered, documents)

    def prompted(self) -> Iterator[str]:
        """Questions typed at a terminal, until an empty line; none when there is no terminal."""
        if self.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return
        print("\nAsk something yourself; an empty line ends the demo.")
        while True:
            try:
                question = input("? ").strip()
            except EOFError:
                return
            if not question:
                return
            yield question

    def summary(self, demo: Demo, secrecy: tuple[int, int] | None) -> None:
        if self.as_json:
            print_json(report.as_json(demo, self.stages, secrecy))
        else:
            report.print_summary(demo, self.stages, secrecy)
