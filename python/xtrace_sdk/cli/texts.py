"""Texts from files, cut into pieces that an embedding model can take in."""

from __future__ import annotations

import re
from typing import Final

from xtrace_sdk.errors import InputError

_PARAGRAPH: Final = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE: Final = re.compile(r"[.!?…][\"'”’)\]]*\s+|\n")
_SPACE: Final = re.compile(r"\s+")


def split(text: str, longest: int, overlap: int = 0) -> list[str]:
    """Cut `text` into pieces of at most `longest` characters: after a paragraph, else sentence, else word.

    Each piece repeats up to `overlap` characters of the one before, from the start of a sentence. Nothing but
    white space is lost. Raises InputError unless 0 <= 2 * overlap < longest.
    """
    if not 0 <= 2 * overlap < longest:
        raise InputError(f"overlap: expected less than half of {longest} characters, got {overlap}")
    pieces = []
    start = 0
    while len(text) - start > longest:
        cut = start + _cut(text[start : start + longest])
        pieces.append(text[start:cut])
        start = cut - _repeated(text[cut - overlap : cut])
    pieces.append(text[start:])
    return [piece for piece in (piece.strip() for piece in pieces) if piece]


def paragraphs(text: str, shortest: int = 0) -> list[str]:
    """The paragraphs of `text`; one shorter than `shortest` characters (a heading) goes with the next."""
    found: list[str] = []
    waiting = ""
    for paragraph in _PARAGRAPH.split(text.strip()):
        waiting = f"{waiting}\n\n{paragraph}" if waiting else paragraph
        if len(waiting) >= shortest and waiting:
            found.append(waiting)
            waiting = ""
    return [*found, waiting] if waiting else found


def _cut(window: str) -> int:
    for border in (_PARAGRAPH, _SENTENCE, _SPACE):
        ends = [match.end() for match in border.finditer(window) if match.end() > len(window) // 2]
        if ends:
            return ends[-1]
    return len(window)


def _repeated(tail: str) -> int:
    """How much of `tail` the next piece repeats: from its first sentence, else word."""
    for border in (_SENTENCE, _SPACE):
        match = border.search(tail)
        if match and match.end() < len(tail):
            return len(tail) - match.end()
    return 0
