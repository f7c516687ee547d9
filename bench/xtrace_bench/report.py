"""The Markdown report of a run."""

from __future__ import annotations

from .results import BASELINE, NATIVE, Results, Row, quiet
from .rooflines import share

TITLES = {
    "client": "build a client (keys, tables)",
    "keys": "– of which keys",
    "tables": "– of which tables",
    "encrypt": "encrypt, per vector",
    "product": "server product, per ciphertext",
    "decode": "decode, per ciphertext",
}


def report(results: Results) -> str:
    """Everything a reader needs to judge the figures, as Markdown."""
    parts = [_heading(results)]
    for threads in sorted({row.threads for row in results.rows}):
        parts += [_works(results, threads), _searches(results, threads)]
    parts += [_speedups(results), _cycles(results), _index(results), _implementations(results)]
    return "\n".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """Three significant digits with a fitting unit."""
    unit, size = next((u, s) for u, s in (("s", 1.0), ("ms", 1e-3), ("µs", 0.0)) if seconds >= s)
    value = seconds / (size or 1e-6)
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    if row.projected_from is not None:
        return f"({duration(row.median)})"
    if len(row.samples) == 1:
        return duration(row.median)
    return f"{duration(row.median)} ({duration(min(row.samples))} – {duration(max(row.samples))})"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 20 else f"{ratio:.1f}x" if ratio >= 2 else f"{ratio:.2f}x"


def _table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines)) + "\n"


def _heading(results: Results) -> str:
    machine, parameters, speed = results.machine, results.parameters, results.speed
    clock = f"{speed['ghz']:.2f} GHz measured" if "ghz" in speed else "clock not measured (no C compiler)"
    checked = "; ".join(f"{count:,} {what}" for what, count in results.checks.items())
    return (
        f"{machine['cpu']} (family/model/stepping {machine['cpu_family_model']}), {machine['cpus']} CPUs, "
        f"{clock}, {machine['memory_gib']} GiB; {machine['system']}, Python {machine['python']}; "
        f"{results.started}, {results.mode} run.\n\n"
        f"key_len {parameters['key_len']}, alpha_len {parameters['alpha_len']}, "
        f"{parameters['dimensions']} dimensions. Medians, with minimum and maximum in brackets. "
        f"One thread: CPU time of the pinned process (wall time was at most {quiet(results.rows):.2f} times "
        f"as much); all threads: wall time. Figures in brackets alone are scaled up from fewer vectors.\n\n"
        f"Checked: {checked}.\n"
    )


def _works(results: Results, threads: str) -> str:
    names = list(results.implementations)
    lines = []
    for work, title in TITLES.items():
        rows = [results.find(work, name, threads) for name in names]
        if any(rows):
            lines.append([title, *map(_cell, rows)])
    return f"### {_threads(results, threads)}\n\n" + _table(["work", *names], lines)


def _searches(results: Results, threads: str) -> str:
    names = list(results.implementations)
    lines = [
        [f"search {size:,} vectors", *(_cell(results.find("search", name, threads, size)) for name in names)]
        for size in results.search_sizes()
    ]
    return _table(["complete local search", *names], lines)


def _speedups(results: Results) -> str:
    """How many times faster we are, by work, kernel and number of threads."""
    natives = results.natives()
    lines = []
    for threads in sorted({row.threads for row in results.rows}):
        for row in results.rows:
            if row.implementation != natives[0] or row.threads != threads:
                continue
            for baseline in dict.fromkeys((BASELINE[row.work], "gmpy2")):
                ours = (results.find(row.work, name, threads, row.key[3]) for name in natives)
                ratios = [results.ratio(one, baseline) if one else None for one in ours]
                if any(ratios):
                    what = f"search {row.items:,}" if row.work == "search" else row.work
                    cells = ["–" if r is None else _times(r) for r in ratios]
                    lines.append([what, threads, baseline, *cells])
    if not lines:
        return ""
    return "### Times faster than\n\n" + _table(["work", "threads", "than", *natives], lines)


def _cycles(results: Results) -> str:
    lines = []
    for row in results.rows:
        cycles = results.cycles(row)
        if row.work in ("encrypt", "product", "decode") and cycles is not None:
            reached = share(results, row) if row.implementation.startswith(NATIVE) else None
            lines.append(
                [row.work, row.implementation, f"{cycles:,.0f}", "–" if reached is None else f"{reached:.0%}"]
            )
    if not lines:
        return ""
    return "### Cycles per item, one thread\n\n" + _table(
        ["work", "implementation", "cycles", "of the roofline"], lines
    )


def _index(results: Results) -> str:
    index = results.index
    if not index:
        return ""
    rows = index["rows"]
    return (
        f"Server index, {rows:,} vectors: built at {rows / index['cold']['wall']:,.0f} vectors/s cold and "
        f"{rows / index['warm']['wall']:,.0f} warm; {index['bytes'] / rows:.0f} bytes of memory a vector, "
        f"{index['bytes'] / index['ciphertext_bytes']:.3f} times its ciphertext.\n"
    )


def _implementations(results: Results) -> str:
    lines = []
    for name, about in results.implementations.items():
        versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
        lines.append(f"- **{name}**: {versions}" + (f"; {about['note']}" if about["note"] else ""))
    return "### Implementations\n\n" + "\n".join(lines) + "\n"


def _threads(results: Results, threads: str) -> str:
    return "One thread" if threads == "1" else f"All threads ({results.machine['cpus']})"
