"""The Markdown report of a run."""

from __future__ import annotations

import statistics

from .results import AUTHENTICATED, BASELINE, NATIVE, VARTIME, Results, Row, is_search, plain_work, quiet
from .rooflines import share

TITLES = {
    "client": "build a client (keys, tables)",
    "keys": "– of which keys",
    "tables": "– of which tables",
    "encrypt": "encrypt, per vector",
    "product": "server product, per vector",
    "decode": "decode, per vector",
    "decode" + VARTIME: "– by the variable-time schedule",
}


def report(results: Results) -> str:
    """Everything a reader needs to judge the figures, as Markdown."""
    parts = [_heading(results), *_figures(results), _authenticated(results)]
    parts += [_efficiency(results), _speedups(results), _cycles(results), _index(results)]
    for variant in results.variants:
        parts += [f"### {_parameters(variant)}\n", *_figures(variant, level="####")]
    parts += [_implementations(results), _took(results)]
    return "\n".join(part for part in parts if part)


def _figures(results: Results, level: str = "###") -> list[str]:
    parts = []
    for threads in sorted({row.threads for row in results.rows}):
        title = f"{level} {_threads(results, threads)}\n"
        parts += [title, _works(results, threads), _searches(results, threads)]
    return parts


def summary(results: Results) -> str:
    """The tables of the project's README."""
    names = list(results.implementations)
    lines = [
        [title, *(_short(results.find(work, name, "1")) for name in names)]
        for work, title in TITLES.items()
        if work not in ("keys", "tables")
    ]
    lines += [
        [f"search {size:,} vectors", *(_short(results.find("search", name, "1", size)) for name in names)]
        for size in results.search_sizes()
    ]
    machine = results.machine
    clock = f", {results.speed['ghz']:.2f} GHz measured" if "ghz" in results.speed else ""
    versions = {n: v for about in results.implementations.values() for n, v in about["versions"].items()}
    named = ", ".join(
        f"{n} {v}" for n, v in versions.items() if n in (NATIVE, "GMP") or n in results.implementations
    )
    text = (
        f"One thread of an {machine['cpu']} (family/model/stepping {machine['cpu_family_model']}{clock}), "
        f"{_parameters(results)}, fresh secure randomness, constant schedule. Medians of CPU time in one "
        f"run; every answer was checked; figures in brackets are scaled up from fewer vectors. {named}; "
        f"Python {machine['python']}; {results.started[:10]}.\n"
    )
    if (disturbed := quiet(results.rows)) > 1.1:
        text += (
            f"Other work shared the CPUs: wall time was up to {disturbed:.1f} times CPU time, so compare "
            "columns, and give nothing for figures of several threads, which are wall times.\n"
        )
    text += "\n"
    natives = results.natives()
    return (
        text
        + _table(["", *names], lines)
        + "\nOurs in more detail:\n\n"
        + _table(
            ["", *(name.removeprefix(NATIVE).strip(" ()") for name in natives)], _details(results, natives)
        )
        + "\n"
        + _index(results)
    )


def _details(results: Results, natives: list[str]) -> list[list[str]]:
    """Lines of the summary: cycles, all threads, other parameters."""
    lines = []
    for work in ("encrypt", "product", "decode"):
        cells = []
        for name in natives:
            row = results.find(work, name, "1")
            cycles = results.cycles(row) if row else None
            reached = share(results, row) if row else None
            of = f" ({reached:.0%} of the roofline)" if reached else ""
            cells.append("–" if cycles is None else f"{cycles:,.0f}{of}")
        lines.append([f"{work}: cycles", *cells])
    lines += [
        [f"{title} (more than plain)", *cells] for title, *cells in _authenticated_lines(results, natives)
    ]
    threads = results.machine["cpus"]
    for work, items in [("encrypt", 0), ("product", 0), ("decode", 0)] + [
        (work, size) for size in results.search_sizes() for work in ("search", "search" + VARTIME)
    ]:
        rows = [results.find(work, name, "all", items) for name in natives]
        if any(rows):
            what = f"{_search_title(work, items)}" if items else work
            lines.append(
                [f"{what}, {threads} threads (efficiency)", *(_with_efficiency(results, r) for r in rows)]
            )
    for variant in results.variants:
        short = ", ".join(f"{name} {variant.parameters[name]}" for name in variant.parameters)
        for work, items in [("encrypt", 0), ("product", 0), ("decode", 0)] + [
            ("search", size) for size in variant.search_sizes()
        ]:
            title = _search_title(work, items) if items else work
            lines.append([f"{title}; {short}", *(_short(variant.find(work, n, "1", items)) for n in natives)])
    return lines


def _with_efficiency(results: Results, row: Row | None) -> str:
    efficiency = results.efficiency(row) if row else None
    return _short(row) + ("" if efficiency is None else f" ({efficiency:.0%})")


def _short(row: Row | None) -> str:
    if row is None:
        return "–"
    return f"({duration(row.median)})" if row.projected_from is not None else duration(row.median)


def _search_title(work: str, size: int) -> str:
    kind = ", variable time" if work.endswith(VARTIME) else ""
    return f"search {size:,} vectors{kind}{', authenticated' if work.endswith(AUTHENTICATED) else ''}"


def _parameters(results: Results) -> str:
    parameters = results.parameters
    return (
        f"key_len {parameters['key_len']}, alpha_len {parameters['alpha_len']}, "
        f"{parameters['dimensions']} dimensions"
    )


def duration(seconds: float) -> str:
    """Three significant digits with a fitting unit."""
    unit, size = next((u, s) for u, s in (("s", 1.0), ("ms", 1e-3), ("µs", 0.0)) if seconds >= s)
    value = seconds / (size or 1e-6)
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    if row.projected_from is not None or len(row.samples) == 1:
        return _short(row)
    return f"{duration(row.median)} ({duration(min(row.samples))} – {duration(max(row.samples))})"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 20 else f"{ratio:.1f}x" if ratio >= 2 else f"{ratio:.2f}x"


def _table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines)) + "\n"


def _heading(results: Results) -> str:
    machine, speed = results.machine, results.speed
    clock = f"{speed['ghz']:.2f} GHz measured" if "ghz" in speed else "clock not measured (no C compiler)"
    checked = "; ".join(f"{count:,} {what}" for what, count in results.checks.items())
    return (
        f"{machine['cpu']} (family/model/stepping {machine['cpu_family_model']}), {machine['cpus']} CPUs, "
        f"{clock}, {machine['memory_gib']} GiB; {machine['system']}, Python {machine['python']}; "
        f"{results.started}, {results.mode} run.\n\n"
        f"{_parameters(results)}. Medians, with minimum and maximum in brackets. "
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
    return _table(["work", *names], lines)


def _searches(results: Results, threads: str) -> str:
    names = list(results.implementations)
    lines = []
    for size in results.search_sizes():
        for work in ("search", "search" + VARTIME):
            rows = [results.find(work, name, threads, size) for name in names]
            if any(rows):
                lines.append([_search_title(work, size), *map(_cell, rows)])
    return _table(["complete local search", *names], lines)


def _speedups(results: Results) -> str:
    """How many times faster we are, by work, kernel and number of threads."""
    natives = results.natives()
    lines = []
    for threads in sorted({row.threads for row in results.rows}):
        for row in results.rows:
            if row.implementation != natives[0] or row.threads != threads:
                continue
            for baseline in dict.fromkeys((BASELINE[plain_work(row.work)], "gmpy2")):
                ours = (results.find(row.work, name, threads, row.key[3]) for name in natives)
                ratios = [results.ratio(one, baseline) if one else None for one in ours]
                if any(ratios):
                    what = _search_title(row.work, row.items) if is_search(row.work) else row.work
                    cells = ["–" if r is None else _times(r) for r in ratios]
                    lines.append([what, threads, baseline, *cells])
    if not lines:
        return ""
    return "### Times faster than\n\n" + _table(["work", "threads", "than", *natives], lines)


def _authenticated(results: Results) -> str:
    """The authenticated encoding beside the plain one, by work and kernel."""
    natives = results.natives()
    lines = _authenticated_lines(results, natives)
    if not lines:
        return ""
    pairs = min(len(row.over_plain) for row in results.rows if row.over_plain)
    sizes = results.row_bytes
    text = (
        "The time it takes, and in brackets how much more than the plain encoding: medians of "
        f"{pairs} or more pairs, one right after the other, on one thread. Products are the same work. A "
        f"stored vector takes {sizes['record']} bytes beside its ciphertext of {sizes['ciphertext']} "
        f"({sizes['record'] / sizes['ciphertext']:.1%}).\n\n"
    )
    return "### Authenticated beside plain\n\n" + text + _table(["work", *natives], lines)


def _authenticated_lines(results: Results, natives: list[str]) -> list[list[str]]:
    lines = []
    for key in dict.fromkeys((row.work, row.key[3]) for row in results.rows if row.over_plain):
        rows = [results.find(key[0], name, "1", key[1]) for name in natives]
        title = _search_title(*key) if key[1] else f"{plain_work(key[0])}, authenticated"
        lines.append([title, *map(_with_cost, rows)])
    return lines


def _with_cost(row: Row | None) -> str:
    more = "" if row is None else f" ({100 * (statistics.median(row.over_plain) - 1):+.1f} %)"
    return _short(row) + more


def _efficiency(results: Results) -> str:
    """What a second thread brings, by work and kernel."""
    natives = results.natives()
    lines = []
    for row in results.rows:
        if row.implementation == natives[0] and row.threads == "all":
            ours = (results.find(row.work, name, "all", row.key[3]) for name in natives)
            shares = [results.efficiency(one) if one else None for one in ours]
            if row.work not in ("client", "keys", "tables"):
                what = _search_title(row.work, row.items) if is_search(row.work) else row.work
                lines.append([what, *("–" if share is None else f"{share:.0%}" for share in shares)])
    if not lines:
        return ""
    cpus = results.machine["cpus"]
    title = f"### Efficiency on {cpus} threads\n\nTime on one, over {cpus} times the time on {cpus}.\n\n"
    return title + _table(["work", *natives], lines)


def _cycles(results: Results) -> str:
    lines = []
    for row in results.rows:
        cycles = results.cycles(row)
        if row.work.removesuffix(VARTIME) in ("encrypt", "product", "decode") and cycles is not None:
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


def _took(results: Results) -> str:
    """How long the run took, and each part of it."""
    parts = [("", results), *((f"; {_parameters(variant)}", variant) for variant in results.variants)]
    lines = [[part + where, f"{seconds:.0f} s"] for where, run in parts for part, seconds in run.took.items()]
    if not lines:
        return ""
    total = sum(sum(run.took.values()) for _, run in parts)
    return "### How long the run took\n\n" + _table(["part", "time"], [*lines, ["all", f"{total:.0f} s"]])


def _threads(results: Results, threads: str) -> str:
    return "One thread" if threads == "1" else f"All threads ({results.machine['cpus']})"
