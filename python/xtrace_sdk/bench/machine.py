"""What the figures were measured on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).resolve().parent / "machine.c"


def cpus() -> list[int]:
    """The CPUs that this process may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pinned(cpus: list[int]) -> list[str]:
    """What to put before a command so that it runs on these CPUs; nothing where that is not possible."""
    return ["taskset", "--cpu-list", ",".join(map(str, cpus))] if sys.platform == "linux" else []


def describe() -> dict[str, Any]:
    """CPU model, counts, memory, system: what a reader needs to compare with a machine of their own."""
    info = _cpuinfo()
    return {
        "cpu": info.get("model name", platform.machine()),
        "cpu_family_model": "/".join(info.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "cpus": len(cpus()),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def speed(cpu: int) -> dict[str, float]:
    """Clock frequency (`ghz`) and multiplications per cycle of one CPU, measured now.

    Empty without a C compiler: then no cycles are reported.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "machine")
        subprocess.run([compiler, "-O2", "-o", program, str(_SOURCE)], check=True)
        output = subprocess.run([*pinned([cpu]), program], check=True, capture_output=True).stdout
    measured: dict[str, float] = json.loads(output)
    return measured


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    return {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())
    }
