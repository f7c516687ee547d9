"""One run against an earlier one."""

from __future__ import annotations

from .report import duration
from .results import NATIVE, Results


def compare(old: Results, new: Results, tolerance: float) -> tuple[str, list[str]]:
    """A table of what we did then and now, and the rows that became slower by more than `tolerance`.

    On the same CPU model times are compared. On another one, times in units of gmpy2's in the same run.
    """
    same_machine = old.machine["cpu"] == new.machine["cpu"] and old.machine["cpus"] == new.machine["cpus"]
    titles = ("work", "threads", "implementation", "old", "new", "new/old", "beside gmpy2")
    lines = ["{:16} {:7} {:32} {:>10} {:>10} {:>8} {:>13}".format(*titles)]
    slower = []
    for row in new.rows:
        before = old.find(*row.key)
        if before is None or not row.implementation.startswith(NATIVE):
            continue
        ratio, beside = row.median / before.median, None
        gains = old.ratio(before, "gmpy2"), new.ratio(row, "gmpy2")
        if gains[0] is not None and gains[1] is not None:
            beside = gains[0] / gains[1]
        what = f"search {row.items:,}" if row.work == "search" else row.work
        lines.append(
            f"{what:16} {row.threads:7} {row.implementation:32} {duration(before.median):>10} "
            f"{duration(row.median):>10} {ratio:8.2f} {'–' if beside is None else f'{beside:.2f}':>13}"
        )
        judged = ratio if same_machine else beside
        # The minimum too: a busy machine raises medians, a slower program raises everything.
        if judged is not None and judged > 1 + tolerance and min(row.samples) > min(before.samples):
            slower.append(f"{what}, {row.threads} thread(s), {row.implementation}: {judged:.2f}")
    return "\n".join(lines), slower
