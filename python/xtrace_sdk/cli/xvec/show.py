"""How chunks are shown."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from xtrace_sdk.cli.console import printable, style


def print_chunks(chunks: Sequence[dict[str, Any]], *, full: bool) -> None:
    """Ids, distances if there are any, metadata and texts."""
    width = max(40, min(shutil.get_terminal_size((100, 24)).columns, 110))
    for chunk in chunks:
        distance = f"  distance {chunk['distance']}" if "distance" in chunk else ""
        tags = " ".join(f"{name}={value}" for name, value in chunk["meta_data"].items() if value)
        head = style(f"{chunk['chunk_id']:>6}{distance}", "bold")
        print(f"{head}  {style(printable(tags), 'cyan')}" if tags else head)
        text = printable(chunk.get("chunk_content", ""))
        shown = text if full else textwrap.shorten(text, 3 * (width - 8), placeholder=" …")
        lines = shown.splitlines() if full else textwrap.wrap(shown, width - 8)
        print(textwrap.indent("\n".join(lines), " " * 8))
