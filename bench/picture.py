"""The picture of the main table: bars on a logarithmic scale, readable on light and dark pages."""

from __future__ import annotations

import math
from html import escape

from xtrace_sdk.bench.report import TITLES, duration
from xtrace_sdk.bench.results import NATIVE, Results, Row

WIDTH, LABEL, BAR_LEFT, BAR_RIGHT = 860, 200, 210, 740
BAR, GAP, GROUP_GAP, TOP = 15, 4, 34, 66
WORKS = ("client", "encrypt", "product", "decode")

# Colours that keep a contrast of at least 3:1 on white and on #0d1117; the text takes the page's own side.
STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #1f2328 }
    .title { font-size: 15px; font-weight: 600 }
    .work { font-weight: 600 }
    .note, .tick { fill: #656d76; font-size: 11px }
    .ours { fill: #1a7f64 } .second { fill: #5aa88f } .peer { fill: #8a93a0 }
    .grid { stroke: #8a93a0; stroke-opacity: .3 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .note, .tick { fill: #9aa4af }
      .ours { fill: #2fbf94 } .second { fill: #2b7f68 } .peer { fill: #6e7681 }
    }
"""


def draw(results: Results) -> str:
    """An SVG document: time per item on one thread, and of a complete search, of every implementation."""
    groups = [(TITLES[work], _rows(results, work, 0)) for work in WORKS]
    size = 8192 if 8192 in results.search_sizes() else max(results.search_sizes())
    groups.append((f"complete local search, {size:,} vectors", _rows(results, "search", size)))

    parts: list[str] = []
    y = TOP
    for title, rows in groups:
        parts.append(f'<text class="work" x="8" y="{y}">{escape(title)}</text>')
        low, high = _decades(rows)
        y += 10
        bottom = y + len(rows) * (BAR + GAP)
        for decade in range(low, high + 1):
            x = _x(10.0**decade, low, high)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4}" y2="{bottom}"/>')
            tick = f'class="tick" x="{x:.1f}" y="{bottom + 11}" text-anchor="middle"'
            parts.append(f"<text {tick}>{_power(decade)}</text>")
        for row in rows:
            parts += _bar(results, row, y, low, high)
            y += BAR + GAP
        y += GROUP_GAP
    machine, parameters = results.machine, results.parameters
    subtitle = (
        f"{machine['cpu']}, one thread, key_len {parameters['key_len']}, "
        f"alpha_len {parameters['alpha_len']}, {parameters['dimensions']} dimensions; "
        "shorter is faster, logarithmic scales"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img"',
            f' width="{WIDTH}" height="{y}" aria-label="Time per operation beside other implementations">',
            f"<style>{STYLE}</style>",
            '<text class="title" x="8" y="22">Encrypted Hamming search beside its peers</text>',
            f'<text class="note" x="8" y="40">{escape(subtitle)}</text>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _rows(results: Results, work: str, items: int) -> list[Row]:
    found = (results.find(work, name, "1", items) for name in results.implementations)
    return [row for row in found if row is not None]


def _bar(results: Results, row: Row, y: int, low: int, high: int) -> list[str]:
    natives = results.natives()
    kind = (
        "ours" if row.implementation == natives[0] else "second" if row.implementation in natives else "peer"
    )
    x = _x(row.median, low, high)
    value = f"({duration(row.median)})" if row.projected_from else duration(row.median)
    name = row.implementation.removeprefix(f"{NATIVE} ") if kind != "peer" else row.implementation
    label = f"xtrace-sdk-native {name}" if kind != "peer" else name
    return [
        f'<text x="{LABEL}" y="{y + 12}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="{kind}" x="{BAR_LEFT}" y="{y}" width="{x - BAR_LEFT:.1f}" height="{BAR}" rx="2"/>',
        f'<text x="{x + 6:.1f}" y="{y + 12}">{escape(value)}</text>',
    ]


def _decades(rows: list[Row]) -> tuple[int, int]:
    """Powers of ten around the times of one group, at least a decade below the fastest."""
    times = [row.median for row in rows]
    return math.floor(math.log10(min(times)) - 0.3), math.ceil(math.log10(max(times)))


def _x(seconds: float, low: int, high: int) -> float:
    return BAR_LEFT + (BAR_RIGHT - BAR_LEFT) * (math.log10(seconds) - low) / (high - low)


def _power(decade: int) -> str:
    unit, size = next(
        (u, s) for u, s in (("s", 0), ("ms", -3), ("µs", -6), ("ns", -9)) if decade >= s or s == -9
    )
    return f"{10 ** (decade - size)} {unit}"
