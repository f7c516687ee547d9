"""One run against an earlier one: of this harness, of Google Benchmark or of pytest-benchmark."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtrace_sdk.bench import results
from xtrace_sdk.bench.report import duration


@dataclass(frozen=True)
class Figure:
    """Seconds of one benchmark; `beside` is its ratio to gmpy2 in the same run, where there is one.

    `lucky`: how long it takes is chance (a search for primes), so no verdict follows from two runs.
    """

    median: float
    minimum: float
    beside: float | None = None
    lucky: bool = False


@dataclass(frozen=True)
class Run:
    machine: str
    figures: dict[str, Figure]


def load(path: Path) -> Run:
    """Raises ValueError for a file that none of the three wrote."""
    data = json.loads(path.read_text())
    if "rows" in data:
        return _own(results.load(path))
    if "benchmarks" in data and "context" in data:
        return _google(data)
    if "benchmarks" in data and "machine_info" in data:
        return _pytest(data)
    raise ValueError(f"{path}: not a result of this harness, of Google Benchmark or of pytest-benchmark")


def essence(path: Path) -> tuple[str, str] | None:
    """(name, text) of what `load` needs of a file of Google Benchmark or pytest-benchmark, without the rest.

    None for a file of another kind.
    """
    data = json.loads(path.read_text())
    kept: dict[str, Any]
    if "benchmarks" in data and "context" in data:
        context = {name: data["context"][name] for name in ("date", "mhz_per_cpu", "num_cpus")}
        fields = ("name", "run_type", "real_time", "cpu_time", "time_unit")
        runs = [entry for entry in data["benchmarks"] if entry["run_type"] == "iteration"]
        kept = {"context": context, "benchmarks": [{name: one[name] for name in fields} for one in runs]}
        return "kernels.json", json.dumps(kept, indent=1) + "\n"
    if "benchmarks" in data and "machine_info" in data:
        machine = data["machine_info"]
        cpu = {name: text for name, text in machine["cpu"].items() if name == "brand_raw"}
        kept = {
            "datetime": data["datetime"],
            "machine_info": {"machine": machine["machine"], "cpu": cpu},
            "benchmarks": [
                {"name": one["name"], "stats": {name: one["stats"][name] for name in ("median", "min")}}
                for one in data["benchmarks"]
            ],
        }
        return "python.json", json.dumps(kept, indent=1) + "\n"
    return None


def compare(old: Run, new: Run, tolerance: float) -> tuple[str, list[str]]:
    """A table of then and now, and what became slower by more than `tolerance`.

    On the same machine times are judged; on another one, times in units of gmpy2's in the same run.
    """
    same = old.machine == new.machine
    lines = ["{:52} {:>10} {:>10} {:>8} {:>13}".format("", "old", "new", "new/old", "beside gmpy2")]
    slower = []
    for name, now in new.figures.items():
        before = old.figures.get(name)
        if before is None:
            continue
        ratio = now.median / before.median
        beside = now.beside / before.beside if now.beside and before.beside else None
        shown = "–" if beside is None else f"{beside:.2f}"
        lines.append(
            f"{name:52} {duration(before.median):>10} {duration(now.median):>10} {ratio:8.2f} {shown:>13}"
        )
        judged = None if now.lucky else ratio if same else beside
        # The minimum too: a busy machine raises medians, a slower program raises everything.
        if judged is not None and judged > 1 + tolerance and now.minimum > before.minimum:
            slower.append(f"{name}: {judged:.2f}")
    if len(lines) == 1:
        raise ValueError("the two runs have no benchmark in common")
    return "\n".join(lines), slower


def _own(run: results.Results) -> Run:
    figures = {}
    for row in run.rows:
        if not row.implementation.startswith(results.NATIVE):
            continue
        gain = run.ratio(row, "gmpy2")
        what = f"{row.work} {row.items}" if results.is_search(row.work) else row.work
        name = f"{what}, {row.threads} thread{'s' * (row.threads != '1')}, {row.implementation}"
        figures[name] = Figure(
            row.median,
            min(row.samples),
            beside=None if gain is None else 1 / gain,
            lucky=row.work in ("client", "keys"),
        )
    return Run(f"{run.machine['cpu']} x {run.machine['cpus']}", figures)


def _google(data: dict[str, Any]) -> Run:
    """Repetitions of one benchmark have one name; its aggregates are left out."""
    samples: dict[str, list[float]] = {}
    for entry in data["benchmarks"]:
        if entry["run_type"] == "iteration":
            timed = "real_time" if entry["name"].endswith("real_time") else "cpu_time"
            unit = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[entry["time_unit"]]
            samples.setdefault(entry["name"], []).append(entry[timed] * unit)
    context = data["context"]
    return Run(
        f"{context['mhz_per_cpu']} MHz x {context['num_cpus']}",
        {name: Figure(sorted(times)[len(times) // 2], min(times)) for name, times in samples.items()},
    )


def _pytest(data: dict[str, Any]) -> Run:
    return Run(
        data["machine_info"]["cpu"].get("brand_raw", data["machine_info"]["machine"]),
        {
            entry["name"]: Figure(entry["stats"]["median"], entry["stats"]["min"])
            for entry in data["benchmarks"]
        },
    )
