"""How the demo shows its work: lines for people, one JSON value for scripts."""

from __future__ import annotations

import json
import platform
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtrace_sdk import _core
from xtrace_sdk.cli.console import human_bytes, style, table

if TYPE_CHECKING:
    from xtrace_sdk.cli.demo.run import Answered, Demo


def print_answer(answer: Answered, documents: int) -> None:
    """A question and its nearest documents."""
    width = text_width()
    print(f"\n{style('?', 'cyan', 'bold')} {style(answer.question, 'bold')}")
    for hit in answer.hits:
        print(f"  {style(f'{hit.distance:>4}', 'yellow')}  {hit.document.title}")
        text = textwrap.shorten(hit.document.body, 2 * (width - 8), placeholder=" …")
        print(style(textwrap.indent(textwrap.fill(text, width - 8), " " * 8), "dim"))
    print(
        f"  {style('✓', 'green')} {documents:,} encrypted distances, each equal to the plain one, "
        f"in {answer.seconds:.1f} s"
    )


def print_summary(demo: Demo, stages: dict[str, float], secrecy: tuple[int, int] | None) -> None:
    """The proof in numbers, the table of stage times, and what the server could see."""
    queries, documents = len(demo.answered), len(demo.documents)
    print(f"\n{style('Proven', 'green', 'bold')}")
    print(
        f"  queries {queries:,} × documents {documents:,} = {queries * documents:,} encrypted distances, "
        "each equal to the plain Hamming distance"
    )
    print(f"  {_texts(demo):,} fetched texts, each equal to the original")
    if secrecy is not None:
        print(
            f"  {secrecy[0]:,} of the texts looked for in the server's {human_bytes(secrecy[1])}: none found"
        )

    print(f"\n{style('Time', 'bold')}")
    print(textwrap.indent(table(_times(demo, stages), right=(1,)), "  "))
    traffic = demo.client.traffic
    print(f"\n{style('Machine', 'bold')}")
    machine = [
        ("sent, received", f"{human_bytes(traffic.sent)}, {human_bytes(traffic.received)}"),
        ("kernel, threads", f"{_core.kernel()}, {_core.max_threads()}"),
        ("CPU", cpu_model()),
    ]
    print(textwrap.indent(table(machine), "  "))
    print(f"\n{style('The server saw', 'bold')}")
    print(textwrap.indent(textwrap.fill(server_saw(demo), text_width() - 2), "  "))


def as_json(demo: Demo, stages: dict[str, float], secrecy: tuple[int, int] | None) -> dict[str, Any]:
    """The same for scripts: times in seconds, sizes in bytes."""
    traffic, public = demo.client.traffic, demo.context.public_part()
    return {
        "proven": True,
        "corpus": {
            "source": demo.corpus.source,
            "files": demo.corpus.files,
            "documents": len(demo.documents),
        },
        "parameters": {
            "type": public["type"],
            **json.loads(public["config"]),
        },
        "queries": [
            {
                "query": answer.question,
                "seconds": round(answer.seconds, 4),
                "server_seconds": round(answer.server_seconds, 4),
                "hits": [
                    {
                        "chunk_id": hit.chunk_id,
                        "distance": hit.distance,
                        "title": hit.document.title,
                        "text": hit.document.body,
                    }
                    for hit in answer.hits
                ],
            }
            for answer in demo.answered
        ],
        "proof": {
            "distances": len(demo.answered) * len(demo.documents),
            "texts": _texts(demo),
            "texts_not_in_server_files": secrecy[0] if secrecy else None,
            "server_bytes_searched": secrecy[1] if secrecy else None,
        },
        "stages": {name: round(seconds, 4) for name, seconds in (stages | _query_time(demo)).items()},
        "sent_bytes": traffic.sent,
        "received_bytes": traffic.received,
        "kernel": _core.kernel(),
        "threads": _core.max_threads(),
        "cpu": cpu_model(),
        "python": platform.python_version(),
        "server_saw": server_saw(demo),
    }


def text_width() -> int:
    """Columns for running text."""
    return max(40, min(shutil.get_terminal_size((100, 24)).columns, 110))


def server_saw(demo: Demo) -> str:
    """One line: all that the server could learn."""
    fetched = len({hit.chunk_id for answer in demo.answered for hit in answer.hits})
    return (
        f"the public key; encrypted vectors and sealed texts and their sizes ({len(demo.documents):,}); "
        f"encrypted queries and their times ({len(demo.answered):,}); "
        f"which chunks were fetched ({fetched:,}). "
        "No text, no vector, no query, no distance."
    )


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _query_time(demo: Demo) -> dict[str, float]:
    return {"queries": sum(answer.seconds for answer in demo.answered)}


def _times(demo: Demo, stages: dict[str, float]) -> list[tuple[str, str, str]]:
    documents = len(demo.documents)
    rows = []
    for name, seconds in (stages | _query_time(demo)).items():
        rate = ""
        if name in ("embedding", "encryption", "upload") and seconds > 0:
            rate = f"{documents / seconds:,.0f} documents/s"
        elif name == "queries" and demo.answered:
            waited = sum(answer.server_seconds for answer in demo.answered)
            rate = f"{seconds / len(demo.answered):.2f} s each, of which server {waited:.2f} s in all"
        rows.append((name, f"{seconds:.2f} s", rate))
    rows.append(("total", f"{sum(stages.values()) + _query_time(demo)['queries']:.2f} s", ""))
    return rows


def _texts(demo: Demo) -> int:
    return sum(len(answer.hits) for answer in demo.answered)
