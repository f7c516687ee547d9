"""``xtrace verify``, ``xtrace backup`` and ``xtrace restore``: the database, while the server runs or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from xtrace_sdk.cli.console import FAILED, USAGE, command, fail, print_json
from xtrace_sdk.cli.options import Json
from xtrace_sdk.cli.serve import DATA, Data, DatabaseUrl

if TYPE_CHECKING:
    from xtrace_sdk.server.storage.sql_store import SqlStore

T = TypeVar("T")


@command
def verify(data: Data = DATA, database_url: DatabaseUrl = None, json_output: Json = False) -> None:
    """Read everything that the server stores. Damage is named, and then the status is 1."""
    from xtrace_sdk.server.storage.integrity import verify as examine

    report = _with_store(examine, data, database_url, json_output)
    if json_output:
        print_json({"rows": report.rows, "damage": report.damage})
    else:
        for line in report.damage:
            print(line)
        print(f"{report.rows:,} rows read, {len(report.damage):,} faults")
    if report.damage:
        raise typer.Exit(FAILED)


@command
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")],
    data: Data = DATA,
    database_url: DatabaseUrl = None,
    sqlite: Annotated[
        bool, typer.Option("--sqlite", help="Copy the SQLite file instead: larger, ready to be served.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Write one state of the server's data to a file. The server goes on working."""
    from xtrace_sdk.server.storage.backup import backup as write
    from xtrace_sdk.server.storage.sqlite import SqliteStore

    if sqlite:

        async def copy(store: SqlStore) -> None:
            if not isinstance(store, SqliteStore):
                fail("--sqlite: the data are not in SQLite", as_json=json_output, code=USAGE)
            await store.copy(file)

        _with_store(copy, data, database_url, json_output)
        if json_output:
            print_json({"file": str(file)})
        else:
            print(f"copied to {file}")
        return
    rows, damaged = _with_store(lambda store: write(store, file), data, database_url, json_output)
    if json_output:
        print_json({"file": str(file), "rows": rows, "damaged": damaged})
        raise typer.Exit(FAILED if damaged else 0)
    print(f"{rows:,} rows written to {file}")
    if damaged:
        fail(f"{damaged:,} of them are damaged, and as damaged in the backup: see xtrace verify")


@command
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written by xtrace backup, of any engine.")],
    data: Data = DATA,
    database_url: DatabaseUrl = None,
    json_output: Json = False,
) -> None:
    """Fill an empty database from a backup. Nothing is stored if the file is not whole."""
    from xtrace_sdk.server.storage.backup import restore as read

    rows = _with_store(lambda store: read(store, file), data, database_url, json_output, new=True)
    if json_output:
        print_json({"rows": rows})
    else:
        print(f"{rows:,} rows restored")


def _with_store(
    call: Callable[[SqlStore], Coroutine[Any, Any, T]],
    data: Path,
    database_url: str | None,
    as_json: bool,
    new: bool = False,
) -> T:
    from xtrace_sdk.server.settings import Settings
    from xtrace_sdk.server.storage.base import StoreError
    from xtrace_sdk.server.storage.opening import open_store

    settings = Settings(data=data, database_url=database_url)
    if database_url is None:
        if new:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not settings.database.is_file():
            fail(f"--data: no database in {data}; name the server's folder", as_json=as_json, code=USAGE)

    async def run() -> T:
        store = await open_store(settings)
        try:
            return await call(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreError as error:
        fail(str(error), as_json=as_json)
    except FileExistsError:
        fail("FILE: exists already", as_json=as_json, code=USAGE)
