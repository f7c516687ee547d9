"""What is timed, in which order, and how the answers are checked.

Every implementation runs in a process of its own and waits while another one works. Within one work the
implementations take turns (A B C A B C …), so that a disturbance of the machine hits all of them. Every
distance that a timed decoding or search gives is compared with NumPy's on the plain bits, and one wrong
answer stops the run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import machine
from .peers import PEERS, PeerError
from .process import Process, start_native, start_peer
from .results import AUTHENTICATED, NATIVE, VARTIME, Results, Row, is_search

Answer = dict[str, Any]
NEAREST = 3
PRODUCT_ROWS = 8192


@dataclass(frozen=True)
class Mode:
    """How much patience a run has."""

    name: str
    turns: int  # that every implementation gets at a work
    turn: float  # seconds that one turn aims at
    budget: float  # seconds for all builds of one of ours, and for all searches of one size
    peer_budget: float  # the same for a peer
    checked: int  # rows that are decoded to check an encryption or a product
    search_sizes: tuple[int, ...]
    index_rows: int

    def budget_of(self, process: Process) -> float:
        return self.budget if process.name.startswith(NATIVE) else self.peer_budget


QUICK = Mode(
    "quick", 3, 0.15, budget=2, peer_budget=2, checked=64, search_sizes=(1024, 8192), index_rows=100_000
)
FULL = Mode(
    "full",
    7,
    0.5,
    budget=26,
    peer_budget=8,
    checked=512,
    search_sizes=(1024, 8192, 100_000),
    index_rows=100_000,
)
#: Other parameters beside a full run.
BESIDE = Mode("beside", 3, 0.3, budget=5, peer_budget=3, checked=64, search_sizes=(8192,), index_rows=0)
#: Every part of a full run, too short for figures.
SMOKE = Mode(
    "smoke", 2, 0.002, budget=0.05, peer_budget=0.05, checked=8, search_sizes=(64, 256), index_rows=1024
)


class Suite:
    """One run over one data set with one parameter set."""

    def __init__(
        self,
        mode: Mode,
        bits: Path,
        *,
        key_len: int,
        alpha_len: int,
        kernels: list[str],
        peers: list[str],
        environments: Path,
        say: Callable[[str], None],
    ) -> None:
        self._mode, self._kernels, self._peers = mode, kernels, peers
        self._environments, self._say = environments, say
        self._start = {"bits": str(bits), "key_len": key_len, "alpha_len": alpha_len}
        plain: NDArray[np.uint8] = np.load(bits)
        self._truth: NDArray[np.int64] = (plain != plain[0]).sum(axis=1, dtype=np.int64)
        self._cpus = machine.cpus()
        self.results = Results(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            mode=mode.name,
            parameters={"key_len": key_len, "alpha_len": alpha_len, "dimensions": int(plain.shape[1])},
            machine=machine.describe(),
            speed=machine.speed(self._cpus[-1]),
        )

    def run(self) -> Results:
        """Raises PeerError when an implementation is missing, fails, or answers wrongly."""
        for threads in ("1", "all") if len(self._cpus) > 1 else ("1",):
            cpus = self._cpus[-1:] if threads == "1" else self._cpus
            wanted = [name for name in self._peers if threads == "1" or not PEERS[name].one_core]
            # Thread pools are sized when a process starts: hence new processes for each number of threads.
            with ExitStack() as stack:
                natives = [stack.enter_context(self._opened(start_native(k, cpus))) for k in self._kernels]
                peers = [
                    stack.enter_context(self._opened(start_peer(name, self._environments, cpus)))
                    for name in wanted
                ]
                self._measure(threads, [*natives, *peers])
                for gmp in (peer for peer in peers if peer.name == "gmpy2"):
                    for process in natives:
                        self._check_bytes(process, gmp)
            if self._mode.index_rows and threads == "1" and Path("/proc/self/statm").exists():
                with self._part("index"):
                    self._measure_index(cpus)
        return self.results

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """Note how long a part of the run takes."""
        start = time.perf_counter()
        yield
        self.results.took[name] = round(time.perf_counter() - start, 1)

    @contextmanager
    def _opened(self, process: Process) -> Iterator[Process]:
        try:
            process.about = process.ask("start", **self._start)
            note = PEERS[process.name].note if process.name in PEERS else ""
            self.results.implementations.setdefault(
                process.name, {"versions": process.about["versions"], "note": note}
            )
            yield process
        finally:
            process.close()

    def _measure_index(self, cpus: list[int]) -> None:
        """In a fresh process: memory that earlier work has freed would be taken again, and not be counted."""
        with self._opened(start_native(self._kernels[0], cpus)) as process:
            process.ask("build", work="client")
            self.results.index = process.ask("index", count=self._mode.index_rows)

    # -- the works ------------------------------------------------------------------------------------

    def _measure(self, threads: str, processes: list[Process]) -> None:
        self._say("one thread" if threads == "1" else f"all threads ({len(self._cpus)} CPUs)")
        label = "1 thread" if threads == "1" else "all threads"
        natives = [process for process in processes if process.name.startswith(NATIVE)]
        with self._part(f"builds, {label}"):
            for work in ("client", "keys", "tables"):
                self._build(work, threads, [p for p in processes if work in p.about["builds"]])

        with self._part(f"encrypt, product, decode, {label}"):
            encryption = self._turns("encrypt", threads, processes)
            for process in processes:
                self._product(process, self._mode.checked)
                self._decode(process, self._mode.checked)
            self._turns("product", threads, processes, items=PRODUCT_ROWS)
            for process in processes:
                self._decode(process, self._mode.checked)
            decoding = self._turns("decode", threads, processes)
            self._turns("decode" + VARTIME, threads, natives)

        with self._part(f"searches, {label}"):
            for process in processes:
                # As many different vectors as half a second of encryption gives, but one at least.
                distinct = max(1, min(8192, len(self._truth), int(0.5 / encryption[process.name])))
                process.ask("encrypt", count=distinct)
            searches: dict[tuple[str, int], list[Answer]] = {}
            for size in self._mode.search_sizes:
                self._search("search", size, threads, processes, decoding, searches)
            self._search(
                "search" + VARTIME, min(8192, max(self._mode.search_sizes)), threads, natives, decoding, {}
            )

        if threads == "1":
            with self._part("authenticated beside plain"):
                self._authenticated(natives)

    def _authenticated(self, processes: list[Process]) -> None:
        """Time both encodings in pairs, so short that what disturbs one disturbs the other, on one thread."""
        self.results.row_bytes = processes[0].ask("row", authenticated=True)
        size = min(8192, max(self._mode.search_sizes))
        for process in processes:
            for work in ("encrypt", "decode", "search"):
                items = size if work == "search" else self._items(process, work, self._mode.turn / 4)
                pairs = self._mode.turns if work == "search" else 2 * self._mode.turns
                taken: dict[bool, list[Answer]] = {False: [], True: []}
                for authenticated in (False, True):
                    # An answer may hold no record twice, so there must be as many as are decoded.
                    process.ask("encrypt", count=max(items, self._mode.checked), authenticated=authenticated)
                    self._work(process, "product", items, authenticated=authenticated)
                    self._work(process, work, items, authenticated=authenticated)  # a warm-up
                for pair in range(pairs):
                    if work == "search" and _seconds(taken[True]) > self._mode.budget / 4:
                        break
                    for authenticated in (pair % 2 == 0, pair % 2 == 1):
                        answer = self._work(process, work, items, authenticated=authenticated)
                        taken[authenticated].append(answer)
                ratios = [b["cpu"] / a["cpu"] for a, b in zip(taken[False], taken[True], strict=True)]
                measured = items if work == "search" else 0
                self._record(work + AUTHENTICATED, process, "1", items, taken[True], measured, ratios)

    def _items(self, process: Process, work: str, seconds: float) -> int:
        """As many items of a batch work, plain, as take so long, in eights."""
        per_item = float(self._work(process, work, 8)["wall"]) / 8
        return min(8192, 8 * max(1, round(seconds / per_item / 8)))

    def _work(self, process: Process, work: str, items: int, *, authenticated: bool = False) -> Answer:
        asked: dict[str, Any] = {"count": items, "authenticated": authenticated}
        if work == "decode":
            asked |= {"vartime": False}
        if work == "search":
            asked |= {"vartime": False, "k": NEAREST}
        answer = process.ask(work, **asked)
        if work in ("decode", "search"):
            self._check(process, answer)
        return answer

    def _build(self, work: str, threads: str, processes: list[Process]) -> None:
        taken: dict[str, list[Answer]] = {process.name: [] for process in processes}
        for _ in range(self._mode.turns):
            for process in processes:
                turn = 0.0
                while turn < self._mode.turn and _seconds(taken[process.name]) < self._mode.budget_of(
                    process
                ):
                    taken[process.name].append(process.ask("build", work=work))
                    turn += taken[process.name][-1]["wall"]
        for process in processes:
            self._record(work, process, threads, 1, taken[process.name])

    def _turns(self, work: str, threads: str, processes: list[Process], items: int = 0) -> dict[str, float]:
        """Time a batch work in turns of `items`, or of as many as fill a turn: seconds per item by name."""
        do = {
            "encrypt": self._encrypt,
            "product": self._product,
            "decode": self._decode,
            "decode" + VARTIME: self._decode_vartime,
        }[work]
        counts: dict[str, int] = {}
        for process in processes:  # a warm-up that also tells how many items fill a turn
            per_item = do(process, 8)["wall"] / 8
            counts[process.name] = items or min(8192, 8 * max(1, round(self._mode.turn / per_item / 8)))
        taken: dict[str, list[Answer]] = {process.name: [] for process in processes}
        for _ in range(self._mode.turns):
            for process in processes:
                taken[process.name].append(do(process, counts[process.name]))
        return {
            process.name: self._record(work, process, threads, counts[process.name], taken[process.name])
            for process in processes
        }

    def _search(
        self,
        work: str,
        size: int,
        threads: str,
        processes: list[Process],
        decoding: dict[str, float],
        done: dict[tuple[str, int], list[Answer]],
    ) -> None:
        """Time searches of `size` vectors, or of fewer beyond the budget; `done` keeps them all."""
        sizes: dict[str, int] = {}
        for process in processes:
            affordable = int(self._mode.budget_of(process) / decoding[process.name])
            sizes[process.name] = max(
                s for s in (64, 256, *self._mode.search_sizes) if s <= max(64, min(size, affordable))
            )
        fresh = [p for p in processes if (p.name, sizes[p.name]) not in done]
        for turn in range(self._mode.turns):
            for process in fresh:
                taken = done.setdefault((process.name, sizes[process.name]), [])
                expected = _seconds(taken) + (taken[-1]["wall"] if taken else 0.0)
                if turn == 0 or expected < self._mode.budget_of(process):
                    count, vartime = sizes[process.name], work.endswith(VARTIME)
                    taken.append(process.ask("search", count=count, k=NEAREST, vartime=vartime))
                    self._check(process, taken[-1])
        for process in processes:
            measured = sizes[process.name]
            self._record(work, process, threads, size, done[process.name, measured], measured)

    def _encrypt(self, process: Process, count: int) -> Answer:
        return process.ask("encrypt", count=count)

    def _product(self, process: Process, count: int) -> Answer:
        return process.ask("product", count=count)

    def _decode(self, process: Process, count: int) -> Answer:
        return self._decode_by(process, count, vartime=False)

    def _decode_vartime(self, process: Process, count: int) -> Answer:
        return self._decode_by(process, count, vartime=True)

    def _decode_by(self, process: Process, count: int, *, vartime: bool) -> Answer:
        answer = process.ask("decode", count=count, vartime=vartime)
        self._check(process, answer)
        return answer

    def _record(
        self,
        work: str,
        process: Process,
        threads: str,
        items: int,
        taken: list[Answer],
        measured: int = 0,
        over_plain: Sequence[float] = (),
    ) -> float:
        """Append a row; returns its median seconds per item (of a search: per search)."""
        clock = "cpu" if threads == "1" else "wall"
        scale = items / measured if is_search(work) else 1.0 / items
        samples = [answer[clock] * scale for answer in taken]
        middle = sorted(taken, key=lambda answer: float(answer[clock]))[len(taken) // 2]
        row = Row(
            work=work,
            implementation=process.name,
            threads=threads,
            items=items,
            samples=samples,
            wall_over_cpu=statistics.median(answer["wall"] / answer["cpu"] for answer in taken),
            projected_from=measured if measured != items and is_search(work) else None,
            stages=middle.get("stages", {}),
            over_plain=list(over_plain),
        )
        self.results.rows.append(row)
        what = f"{work} {items}" if is_search(work) else work
        self._say(f"  {what:21} {process.name:32} {row.median * 1e6:14,.2f} µs")
        return row.median

    # -- the checks -----------------------------------------------------------------------------------

    def _check(self, process: Process, answer: Answer) -> None:
        """Compare every distance, and the nearest, with the plain bits."""
        distances = np.array(answer["distances"], dtype=np.int64)
        rows = np.arange(len(distances)) % answer["distinct"] % len(self._truth)
        expected = self._truth[rows]
        if not np.array_equal(distances, expected):
            wrong = np.flatnonzero(distances != expected)
            raise PeerError(
                f"{process.name}: {len(wrong)} of {len(distances)} distances are wrong, the first at row "
                f"{wrong[0]}: {distances[wrong[0]]}, not {expected[wrong[0]]}"
            )
        nearest = np.argsort(expected, kind="stable")[:NEAREST].tolist()
        if answer.get("nearest", nearest) != nearest:
            raise PeerError(f"{process.name}: nearest {answer['nearest']}, not {nearest}")
        self._count("distances equal to NumPy's", len(distances))

    def _check_bytes(self, process: Process, gmp: Process) -> None:
        """Compare every byte of a kernel's products with GMP's."""
        with tempfile.TemporaryDirectory() as folder:
            exported = process.ask("export", folder=folder, count=PRODUCT_ROWS)
            arrays = {name: exported[name] for name in ("rows", "query", "products", "n_squared")}
            verdict = gmp.ask("check", **arrays)
        if verdict["wrong"]:
            raise PeerError(f"{process.name}: {len(verdict['wrong'])} products differ from GMP's")
        self._count("products equal to GMP's, byte for byte", verdict["checked"])

    def _count(self, what: str, count: int) -> None:
        self.results.checks[what] = self.results.checks.get(what, 0) + count


def _seconds(taken: list[Answer]) -> float:
    return sum(float(answer["wall"]) for answer in taken)
