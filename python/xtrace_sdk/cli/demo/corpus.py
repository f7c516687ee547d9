"""What the demo indexes: the docstrings of Python's standard library, or the texts of a folder."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xtrace_sdk.cli.texts import paragraphs, split
from xtrace_sdk.errors import InputError

LONGEST: Final = 800
SHORTEST: Final = 30
FILE_TYPES: Final = (".md", ".txt")
_NOT_LIBRARY: Final = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo"}
)
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Document:
    """One text of a corpus. `text` is what is embedded, encrypted and found."""

    title: str
    body: str

    @property
    def text(self) -> str:
        return f"{self.title}\n{self.body}"


@dataclass(frozen=True)
class Corpus:
    """Documents in the order of their titles, all with different bodies, and words that say where from."""

    source: str
    files: int
    documents: list[Document]


def standard_library() -> Corpus:
    """Docstrings of the running Python's library, read from its source without importing it.

    Raises InputError when this Python came without the sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found: list[Document] = []
    files = 0
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _NOT_LIBRARY.intersection(relative.parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue  # templates and the like; the library's own modules all parse
        files += 1
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        for title, docstring in _docstrings(tree, module):
            found.extend(_documents(title, docstring))
    if not found:
        raise InputError(
            f"{root} holds no sources of the standard library: name a folder of texts with --docs"
        )
    version = sysconfig.get_python_version()
    return Corpus(f"docstrings of Python {version}'s standard library", files, _distinct(found))


def folder(root: Path) -> Corpus:
    """The paragraphs of all .txt and .md files under `root`.

    Raises InputError when there is no such folder or text, or a file is not UTF-8.
    """
    if not root.is_dir():
        raise InputError(f"--docs: {root} is not a folder")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in FILE_TYPES and path.is_file())
    found = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(f"--docs: {path} is not UTF-8 text; convert or remove it") from None
        except OSError as error:
            raise InputError(f"--docs: {path} cannot be read: {error.strerror}") from None
        title = path.relative_to(root).as_posix()
        for paragraph in paragraphs(text, SHORTEST):
            found.extend(_documents(title, paragraph))
    if not found:
        raise InputError(f"--docs: no text in {root}; it takes {' and '.join(FILE_TYPES)} files")
    return Corpus(f"texts of {root}", len(paths), _distinct(found))


def _docstrings(node: _Documented, name: str) -> Iterator[tuple[str, str]]:
    docstring = ast.get_docstring(node)
    if docstring:
        yield name, docstring
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{name}.{child.name}")


def _documents(title: str, text: str) -> list[Document]:
    pieces = split(text, LONGEST)
    return [
        Document(title if len(pieces) == 1 else f"{title} ({number})", piece)
        for number, piece in enumerate(pieces, 1)
    ]


def _distinct(documents: list[Document]) -> list[Document]:
    by_body: dict[str, Document] = {}
    for document in documents:
        by_body.setdefault(document.body, document)
    return sorted(by_body.values(), key=lambda document: (document.title, document.body))
