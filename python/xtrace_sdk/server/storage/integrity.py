"""Verification: walks everything that is stored and names what is not as it was written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xtrace_sdk.errors import InputError
from xtrace_sdk.server.ciphertexts import public_part
from xtrace_sdk.server.metadata import facets_of, tags_of
from xtrace_sdk.server.storage.base import StoreError
from xtrace_sdk.server.storage.filter_statements import facet_token
from xtrace_sdk.server.storage.sql_store import Snapshot, SqlStore
from xtrace_sdk.server.storage.statements import Parameter, Row, Steps, rows
from xtrace_sdk.server.storage.tables import TABLES, Table, damaged, read_page

_FACETS = Table("facets", ("kb", "token", "id"), keys=3)
_BY_NAME = {table.name: table for table in TABLES}


@dataclass(slots=True)
class Report:
    """What a verification found; `damage` names each fault in one line."""

    rows: int = 0
    damage: list[str] = field(default_factory=list)


async def verify(store: SqlStore) -> Report:
    """Read every row of one state of the store and compare it with its checksums and with what copies it.

    Also asks the engine to examine its own structures. Never raises for damage: what cannot be read at all is
    named, too.
    """
    report = Report()
    report.damage += await store.examine()
    async with store.snapshot() as state:
        for check in (_plain, _knowledge_bases):
            try:
                await check(state, report)
            except (StoreError, ValueError, KeyError, TypeError, ArithmeticError) as error:
                report.damage.append(f"unreadable: {error}")
    return report


async def pages(state: Snapshot, table: Table) -> AsyncIterator[Sequence[Row]]:
    """All rows of a table, a page at a time."""
    last: tuple[Parameter, ...] | None = None
    while page := await state.run(read_page, table, last):
        yield page
        last = tuple(page[-1][: table.keys])


async def _plain(state: Snapshot, report: Report) -> None:
    """Tables whose rows stand for themselves."""
    for table in TABLES:
        if table.name in ("chunks", "vectors"):
            continue
        async for page in pages(state, table):
            for row in page:
                report.rows += 1
                wrong = damaged(table, row)
                if table.name == "contexts" and not wrong and not _fits(row):
                    wrong = ["n"]
                report.damage += [f"{_name(table, row)}: {one}" for one in wrong]


def _fits(context: Row) -> bool:
    """Whether the numbers that the server computes with are those of the context."""
    _, _, _, data, public, n, chunks, _ = context
    if data is None:
        return bool(public is None and n is None and chunks is None)
    try:
        again, parsed = public_part(json.loads(data))
    except (ValueError, InputError):
        return False
    return bool(again == public and parsed.n == int.from_bytes(n, "little") and parsed.chunks == chunks)


async def _knowledge_bases(state: Snapshot, report: Report) -> None:
    """Chunks, vectors and facets against each other and against the counts."""
    counts: Counter[int] = Counter()
    greatest: dict[int, tuple[int, int]] = {}
    facets: Counter[tuple[int, int]] = Counter()
    async for page in pages(state, _BY_NAME["chunks"]):
        by_key = {(row[0], row[1]): row for row in page}
        first, last = tuple(page[0][:2]), tuple(page[-1][:2])
        vectors = {(row[0], row[1]): row for row in await state.run(_vectors_between, first, last)}
        for key, row in by_key.items():
            report.rows += 2
            counts[key[0]] += 1
            ids, numbers = greatest.get(key[0], (0, 0))
            greatest[key[0]] = (max(ids, key[1]), max(numbers, row[2]))
            wrong = damaged(_BY_NAME["chunks"], row)
            if "checksum" not in wrong:
                meta = json.loads(row[13])
                if tuple(row[7:12]) != tags_of(meta):
                    wrong.append("tags")
                if row[12] != (None if meta.get("facets") is None else len(facets_of(meta))):
                    wrong.append("facets")
                facets.update((key[0], _mark(key[1], facet_token(token))) for token in facets_of(meta))
            report.damage += [f"{_name(_BY_NAME['chunks'], row)}: {one}" for one in wrong]
            vector = vectors.pop(key, None)
            if vector is None:
                report.damage.append(f"vectors {key[0]} {key[1]}: missing")
            elif damaged(_BY_NAME["vectors"], vector):
                report.damage.append(f"{_name(_BY_NAME['vectors'], vector)}: checksum")
            elif vector[2] != row[3]:
                report.damage.append(f"{_name(_BY_NAME['vectors'], vector)}: context")
        report.damage += [f"{_name(_BY_NAME['vectors'], one)}: without a chunk" for one in vectors.values()]
    async for page in pages(state, _FACETS):
        report.rows += len(page)
        facets.subtract((kb, _mark(chunk_id, token)) for kb, token, chunk_id in page)
    report.damage += [
        f"facets of knowledge base number {kb}: {'missing' if number > 0 else 'too many'}"
        for kb, number in _sums(facets).items()
    ]
    (total,) = (await state.run(_number_of_vectors))[0]
    if total != counts.total():
        report.damage.append(f"vectors: {total} rows for {counts.total()} chunks")
    async for page in pages(state, _BY_NAME["kbs"]):
        for row in page:
            values: dict[str, Any] = dict(zip(_BY_NAME["kbs"].columns, row, strict=True))
            chunk_id, sequence = greatest.get(values["no"], (0, 0))
            for name, fits in (
                ("count", values["count"] == counts.pop(values["no"], 0)),
                ("next_id", values["next_id"] > chunk_id),
                ("seq", values["seq"] >= sequence),
            ):
                if not fits:
                    report.damage.append(f"{_name(_BY_NAME['kbs'], row)}: {name}")
    report.damage += [f"chunks of knowledge base number {kb}: without it" for kb in counts]


def _mark(chunk_id: int, token: str) -> int:
    """A number for a facet, so that millions of them fit into memory."""
    return hash((chunk_id, token))


def _sums(facets: Counter[tuple[int, int]]) -> dict[int, int]:
    wrong: dict[int, int] = {}
    for (kb, _), number in facets.items():
        if number:
            wrong[kb] = max(wrong.get(kb, -(1 << 62)), number)
    return wrong


def _vectors_between(first: Sequence[int], last: Sequence[int]) -> Steps[Sequence[Row]]:
    columns = ", ".join(_BY_NAME["vectors"].columns)
    return (
        yield from rows(
            f"SELECT {columns} FROM vectors WHERE (kb, id) >= (?, ?) AND (kb, id) <= (?, ?)",  # noqa: S608
            *first,
            *last,
        )
    )


def _number_of_vectors() -> Steps[Sequence[Row]]:
    return (yield from rows("SELECT COUNT(*) FROM vectors"))


def _name(table: Table, row: Row) -> str:
    shown = [one if isinstance(one, int) else f"{one!s:.24}" for one in row[: table.keys]]
    return f"{table.name} {' '.join(map(str, shown))}"
