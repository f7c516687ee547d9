"""The tables as they are, for what walks all of them: verification and backups."""

# ruff: noqa: S608 - statements are made from the fixed names below

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from xtrace_sdk.server.storage.checksums import checksum
from xtrace_sdk.server.storage.statements import Parameter, Repeated, Row, Steps, rows


@dataclass(frozen=True)
class Table:
    """A table: its columns, of which the first `keys` are the primary key; `page` rows are read at once.

    The column `checksum` is over all others, in their order, but for those in `unchecked` and for further
    checksums: `further` says what those are over.
    """

    name: str
    columns: tuple[str, ...]
    keys: int = 1
    page: int = 1000
    unchecked: tuple[str, ...] = ()
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def checksums(self) -> dict[str, tuple[str, ...]]:
        """The columns of each checksum, by the name of the column that holds it."""
        out = {"checksum", *self.unchecked, *self.further}
        return {"checksum": tuple(name for name in self.columns if name not in out), **self.further}


#: Every table that holds what a caller gave, in an order in which they can be filled. `facets` is made anew
#: from the chunks. Columns that copy others (tags, facets) have no checksum; `integrity` compares them
#: with the rest.
TABLES: tuple[Table, ...] = (
    Table("orgs", ("id", "created_at", "checksum")),
    Table(
        "keys",
        (
            "hash",
            "org",
            "admin",
            "active",
            "first_n",
            "name",
            "description",
            "default_permission",
            "created_at",
            "last_used_at",
            "checksum",
        ),
        unchecked=("last_used_at",),
    ),
    Table(
        "kbs",
        (
            "no",
            "id",
            "org",
            "name",
            "description",
            "created_at",
            "updated_at",
            "next_id",
            "count",
            "seq",
            "checksum",
        ),
    ),
    Table("permissions", ("key", "kb", "permission", "updated_at", "checksum"), keys=2),
    Table(
        "contexts",
        ("no", "org", "id", "data", "public", "n", "chunks", "checksum"),
        page=100,
        unchecked=("no",),
    ),
    Table("bindings", ("kb", "context", "checksum"), keys=2),
    Table("manifests", ("kb", "context", "sealed", "checksum"), keys=2),
    Table(
        "chunks",
        (
            "kb",
            "id",
            "seq",
            "context",
            "created_at",
            "key",
            "name",
            "tag1",
            "tag2",
            "tag3",
            "tag4",
            "tag5",
            "facets",
            "meta",
            "content",
            "checksum",
            "content_checksum",
        ),
        keys=2,
        page=500,
        unchecked=("tag1", "tag2", "tag3", "tag4", "tag5", "facets", "content"),
        further={"content_checksum": ("kb", "id", "content")},
    ),
    Table(
        "vectors",
        ("kb", "id", "context", "seq", "ciphertexts", "data", "record", "checksum"),
        keys=2,
    ),
    Table("deletions", ("kb", "seq", "ids", "checksum"), keys=2, page=100),
    Table("replays", ("token", "digest", "kb", "expires", "ids", "checksum")),
)


def read_page(table: Table, last: Sequence[Parameter] | None) -> Steps[Sequence[Row]]:
    """The rows after the one with the primary key `last`, in its order; none at the end."""
    key = ", ".join(table.columns[: table.keys])
    where = "" if last is None else f"WHERE ({key}) > ({', '.join('?' * table.keys)}) "
    return (
        yield from rows(
            f"SELECT {', '.join(table.columns)} FROM {table.name} {where}ORDER BY {key} LIMIT {table.page}",
            *(last or ()),
        )
    )


def write_rows(table: Table, values: Sequence[Sequence[Parameter]]) -> Steps[None]:
    """Add rows with all columns."""
    marks = ", ".join("?" * len(table.columns))
    yield Repeated(f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})", values)


def damaged(table: Table, row: Row) -> list[str]:
    """The columns with checksums that do not fit the row."""
    found = []
    for holder, over in table.checksums.items():
        if row[table.columns.index(holder)] != checksum(row[table.columns.index(name)] for name in over):
            found.append(holder)
    return found
