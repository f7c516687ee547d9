"""The texts in files of several types."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from xtrace_sdk.errors import InputError, XTraceError

# Elements that begin and end a line.
_BLOCKS: Final = re.compile(
    "address|article|aside|blockquote|br|d[dlt]|div|fig(caption|ure)|footer|h[1-6r]|header|li|main|nav|[ou]l"
    "|p|pre|section|table|t[dhr]|title"
)
_UNSEEN: Final = frozenset({"script", "style", "template", "noscript"})


class UnreadableFileError(XTraceError):
    """A file is not what its name says; the message names the file."""


def read_texts(path: Path) -> list[str]:
    """The texts of a file, by its suffix, one of TYPES. Each CSV row and item of a JSON list is a text.

    Raises UnreadableFileError for a file that is malformed or not UTF-8, InputError for another suffix.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: expected a file of type {', '.join(TYPES)}")
    try:
        content = path.read_bytes()
        return [text for text in reader(content) if text.strip()]
    except XTraceError:
        raise
    except OSError as error:
        raise UnreadableFileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UnreadableFileError(f"{path}: not UTF-8 text") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise UnreadableFileError(f"{path}: not {path.suffix.lower()[1:].upper()}: {error}") from None


def _plain(content: bytes) -> list[str]:
    return [content.decode("utf-8-sig")]


def _json(content: bytes) -> list[str]:
    value = json.loads(content.decode("utf-8-sig"))
    return [_json_text(item) for item in (value if isinstance(value, list) else [value])]


def _json_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def _csv(content: bytes) -> list[str]:
    rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restkey="", strict=True)
    return ["\n".join(_cells(row)) for row in rows]


def _cells(row: dict[str, Any]) -> list[str]:
    texts = ((name, ", ".join(value) if isinstance(value, list) else value) for name, value in row.items())
    return [f"{name}: {value}" if name else value for name, value in texts if value]


def _html(content: bytes) -> list[str]:
    parser = _VisibleText()
    parser.feed(content.decode("utf-8-sig"))
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return ["\n".join(line for line in lines if line)]


class _VisibleText(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in _UNSEEN
        if _BLOCKS.fullmatch(tag):
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        if _BLOCKS.fullmatch(tag):
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data.replace("\n", " "))


def _pdf(content: bytes) -> list[str]:
    try:
        pypdf, errors = import_module("pypdf"), import_module("pypdf.errors")
    except ModuleNotFoundError:
        raise InputError("PDF files need the extra 'pdf': pip install 'xtrace-sdk-native[cli,pdf]'") from None
    try:
        return ["\n\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages)]
    except errors.PyPdfError as error:
        raise ValueError(str(error)) from None


_READERS: Final[dict[str, Callable[[bytes], list[str]]]] = {
    ".txt": _plain,
    ".md": _plain,
    ".json": _json,
    ".csv": _csv,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
TYPES: Final = tuple(suffix[1:] for suffix in _READERS)
