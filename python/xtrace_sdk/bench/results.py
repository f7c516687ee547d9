"""The JSON file of one run, and the arithmetic on it.

::

    {"format": 1, "started": ISO time, "mode": "quick" | "full",
     "parameters": {"key_len", "alpha_len", "dimensions", "bits"},
     "machine": {...}, "speed": {"ghz", ...},
     "implementations": {name: {"versions", "note", "kernel"?, "threads"?}},
     "rows": [Row, ...], "index": {...}, "row_bytes": {...}, "checks": {...}, "took": {part: seconds},
     "variants": [the same again for other parameters, ...]}

Seconds are per item: per vector or ciphertext, per built client, per whole search.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
NATIVE = "xtrace-sdk-native"
WORKS = ("client", "keys", "tables", "encrypt", "product", "decode", "search")
#: Decoding by a schedule that depends on the key, for machines of one's own; ours alone.
VARTIME = "_vartime"
#: A work in the authenticated encoding, measured in pairs with the plain one; ours alone.
AUTHENTICATED = "_authenticated"
#: The implementation that each work is compared with.
BASELINE = dict.fromkeys(WORKS, "xtrace-ai-sdk") | {"product": "gmpy2"}


def plain_work(work: str) -> str:
    """The work that everybody does: without what is ours alone."""
    return work.removesuffix(VARTIME).removesuffix(AUTHENTICATED)


def is_search(work: str) -> bool:
    """Whether the figures of a work are those of whole searches."""
    return plain_work(work) == "search"


@dataclass
class Row:
    """One work of one implementation on one thread or on all.

    The figure is CPU time on one thread (a busy machine then disturbs it least) and wall time on all
    threads; `wall_over_cpu` of a one-thread row tells how quiet the machine was.
    """

    work: str
    implementation: str
    threads: str  # "1" or "all"
    items: int  # per sample; of a search: the number of vectors
    samples: list[float]  # seconds per item; of a search: per search
    wall_over_cpu: float
    projected_from: int | None = None  # a search measured on fewer vectors and scaled up
    stages: dict[str, float] = field(default_factory=dict)  # seconds of the median search
    over_plain: list[float] = field(
        default_factory=list
    )  # authenticated: times the plain one just before or after

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What makes the row unique in a run, and comparable between runs."""
        return self.work, self.implementation, self.threads, self.items if is_search(self.work) else 0

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass
class Results:
    started: str
    mode: str
    parameters: dict[str, Any]
    machine: dict[str, Any]
    speed: dict[str, float]
    implementations: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    index: dict[str, Any] = field(default_factory=dict)
    row_bytes: dict[str, int] = field(default_factory=dict)  # of a stored vector: "ciphertext", "record"
    checks: dict[str, int] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    variants: list[Results] = field(default_factory=list)
    format: int = FORMAT

    def find(self, work: str, implementation: str, threads: str, items: int = 0) -> Row | None:
        """The row, or None where that work does not exist for that implementation."""
        return next((row for row in self.rows if row.key == (work, implementation, threads, items)), None)

    def natives(self) -> list[str]:
        """Our own implementations (one a kernel), fastest first."""
        return [name for name in self.implementations if name.startswith(NATIVE)]

    def search_sizes(self) -> list[int]:
        return sorted({row.items for row in self.rows if row.work == "search"})

    def ratio(self, row: Row, baseline: str) -> float | None:
        """How many times faster `row` is than the same work of `baseline` in the same run."""
        other = self.find(plain_work(row.work), baseline, row.threads, row.key[3])
        return other.median / row.median if other is not None else None

    def efficiency(self, row: Row) -> float | None:
        """Of a row on all threads: what each thread does in units of what one alone does."""
        one = self.find(row.work, row.implementation, "1", row.key[3])
        if one is None or row.threads == "1" or one.projected_from != row.projected_from:
            return None
        return one.median / row.median / int(self.machine["cpus"])

    def cycles(self, row: Row) -> float | None:
        """Cycles per item of a one-thread row, by the measured clock frequency."""
        ghz = self.speed.get("ghz")
        return row.median * ghz * 1e9 if ghz and row.threads == "1" else None

    def dump(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def save(self, path: Path) -> None:
        path.write_text(self.dump())


def load(path: Path) -> Results:
    """Raises ValueError for a file of another format."""
    data = json.loads(path.read_text())
    if data.get("format") != FORMAT:
        raise ValueError(f"{path}: format {data.get('format')!r}, expected {FORMAT}")
    return _results(data)


def _results(data: dict[str, Any]) -> Results:
    rows = [Row(**row) for row in data.pop("rows")]
    variants = [_results(variant) for variant in data.pop("variants", [])]
    return Results(rows=rows, variants=variants, **data)


def quiet(rows: Iterable[Row]) -> float:
    """The largest wall/CPU ratio of one-thread rows: 1.0 on an idle machine."""
    return max((row.wall_over_cpu for row in rows if row.threads == "1"), default=1.0)
