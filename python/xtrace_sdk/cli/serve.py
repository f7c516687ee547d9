"""``xtrace serve``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from xtrace_sdk.cli.console import USAGE, command, fail

Data = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="Folder of the database and of the first credentials; :memory: keeps nothing."
    ),
]
DATA: Final = Path("xtrace-data")
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="XTRACE_DATABASE_URL",
        metavar="URL",
        show_envvar=True,
        help="postgresql://...: keep the data there, not in the folder.",
    ),
]


@command
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8700,
    data: Data = DATA,
    database_url: DatabaseUrl = None,
    ssl_certfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate chain (PEM): serve HTTPS only.")
    ] = None,
    ssl_keyfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its private key, if the chain's file has none.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that serve.")] = 1,
) -> None:
    """Run the server. It holds no key and cannot read what it stores."""
    try:
        from xtrace_sdk.server.run import serve as run_server
        from xtrace_sdk.server.settings import Settings
    except ModuleNotFoundError as error:
        missing_extra(error)
    run_server(
        Settings(
            host=host,
            port=port,
            data=data,
            database_url=database_url,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            workers=workers,
        )
    )


def missing_extra(error: ModuleNotFoundError) -> NoReturn:
    """Say which package the server lacks; raises `error` when it is no optional one."""
    if (error.name or "").startswith("xtrace_sdk"):
        raise error
    fail(
        f"the server needs {error.name}, of the extra 'server': pip install 'xtrace-sdk-native[cli,server]'",
        code=USAGE,
    )
