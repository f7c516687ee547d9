"""Starting a server: the first organisation, the socket, the signals."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn

from xtrace_sdk import wire
from xtrace_sdk.errors import ConfigurationError
from xtrace_sdk.server import credentials
from xtrace_sdk.server.app import create_app
from xtrace_sdk.server.settings import Settings, environment
from xtrace_sdk.server.storage.sqlite import SqliteStore

_MAX_REQUEST_LINE = 8 << 20  # ids of a fetch travel in the address
_GRACEFUL_SECONDS = 30


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun and return.

    Prints ``listening on http://HOST:PORT`` on stdout when ready, and at the first start the generated
    credentials before it. Request logs go to stderr. Call it from the main thread.

    Raises ConfigurationError when the address or the data folder cannot be used, or a variable is wrong.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"data: {settings.data}: {error.strerror}") from error
    asyncio.run(_first_start(settings))
    listener = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        create_app(settings),
        http="h11",
        h11_max_incomplete_event_size=_MAX_REQUEST_LINE,
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
    )
    # uvicorn raises the signal again after its own shutdown; by then there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets and self.started:
            host, port = sockets[0].getsockname()[:2]
            address = f"[{host}]" if ":" in host else host
            print(f"listening on http://{address}:{port}", flush=True)  # noqa: T201


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigurationError(f"host, port: {host}:{port}: {error.strerror}") from error
    return listener


async def _first_start(settings: Settings) -> None:
    """Create the organisation and its keys if there is none: from the environment, else generated.

    What was generated is printed once and written before the database knows it, so that it cannot get lost.
    """
    store = SqliteStore(settings.database)
    try:
        if await store.has_org():
            return
        given = {name: environment(name) for name in ("XTRACE_ORG_ID", "XTRACE_ADMIN_KEY", "XTRACE_API_KEY")}
        org_id = given["XTRACE_ORG_ID"] or credentials.new_id()
        admin_key = given["XTRACE_ADMIN_KEY"] or credentials.new_secret()
        api_key = given["XTRACE_API_KEY"] or credentials.new_secret()
        if not org_id.isascii() or not org_id.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError("XTRACE_ORG_ID: expected letters, digits, '-' and '_'")
        if admin_key == api_key:
            raise ConfigurationError("XTRACE_ADMIN_KEY, XTRACE_API_KEY: must differ")
        keys = [
            credentials.key_record(admin_key, org_id, admin=True, name="XTRACE_ADMIN_KEY"),
            credentials.key_record(
                api_key, org_id, admin=False, name="XTRACE_API_KEY", default_permission=wire.DELETE
            ),
        ]
        if None in given.values():
            made = {"org_id": org_id, "admin_key": admin_key, "api_key": api_key}
            _write_private(settings.credentials, json.dumps(made, indent=2) + "\n")
            lines = [f"{name}: {value}" for name, value in made.items()]
            print("\n".join(["first start, credentials:", *lines]), flush=True)  # noqa: T201
        await store.create_org(org_id, keys)
    finally:
        await store.close()


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, durable, readable by the owner only."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
