"""Starting a server: the certificate, the socket, the first organisation."""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import logging
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from xtrace_sdk.errors import ConfigurationError
from xtrace_sdk.server import credentials
from xtrace_sdk.server.processes import log_to_stderr, run_server, supervise
from xtrace_sdk.server.settings import Settings, environment
from xtrace_sdk.server.storage.base import Store, StoreError
from xtrace_sdk.server.storage.opening import open_store

log = logging.getLogger("xtrace.server")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun and return.

    Prints ``listening on http://HOST:PORT`` (or https) on stdout when ready, and at the first start the
    generated credentials before it. Request logs go to stderr. Call it from the main thread.

    Raises ConfigurationError when the address, the data folder or the certificate cannot be used, or a
    variable is wrong.
    """
    log_to_stderr()
    if not settings.in_memory:
        try:
            for folder in (*reversed(settings.data.parents), settings.data):
                folder.mkdir(mode=0o700, exist_ok=True)  # parents=True would let the umask decide
        except OSError as error:
            raise ConfigurationError(f"data: {settings.data}: {error.strerror}") from error
    _check_certificate(settings)
    try:
        kept = asyncio.run(_first_start(settings))
    except (StoreError, OSError) as error:
        where = f"data: {settings.data}" if settings.database_url is None else "database_url"
        raise ConfigurationError(f"{where}: {error}") from error
    listener = _listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.ssl_certfile else "http"
    address = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    if scheme == "http" and not ipaddress.ip_address(host).is_loopback:
        log.warning("access keys travel in clear: no certificate is set, and this is not loopback")

    def ready() -> None:
        print(f"listening on {address}", flush=True)  # noqa: T201

    if settings.workers == 1:
        run_server(settings, listener, ready, kept)
    else:
        supervise(settings, listener, ready)


def _check_certificate(settings: Settings) -> None:
    if settings.ssl_certfile is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.ssl_certfile,
            settings.ssl_keyfile,
            password=lambda: "",  # never a prompt
        )
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ssl_certfile, ssl_keyfile: {error}") from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()  # two processes may bind one port, but not listen on it
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"host, port: {host}:{port}: {reason}") from error
    return listener


async def _first_start(settings: Settings) -> Store | None:
    """Create the organisation and its keys if there is none: from the environment, else generated.

    What was generated is written before the database knows it, so that it cannot get lost, and printed once.
    A database in memory is returned, for it would be gone when closed.
    """
    with nullcontext() if settings.in_memory else _locked(settings.data):
        store = await open_store(settings)
        try:
            if not await store.has_org():
                await _create_org(settings, store)
        except BaseException:
            await store.close()
            raise
        if settings.in_memory:
            return store
        await store.close()
        return None


async def _create_org(settings: Settings, store: Store) -> None:
    given = {name: environment(name) for name in ("XTRACE_ORG_ID", "XTRACE_ADMIN_KEY", "XTRACE_API_KEY")}
    org_id = given["XTRACE_ORG_ID"] or credentials.new_id()
    admin_key = given["XTRACE_ADMIN_KEY"] or credentials.new_secret()
    api_key = given["XTRACE_API_KEY"] or credentials.new_secret()
    keys = credentials.org_keys(org_id, admin_key, api_key)
    made = {"org_id": org_id, "admin_key": admin_key, "api_key": api_key} if None in given.values() else {}
    if made and not settings.in_memory:
        _write_private(settings.credentials, json.dumps(made, indent=2) + "\n")
    if not await store.create_org(org_id, keys):  # a server on another machine was first
        settings.credentials.unlink(missing_ok=True)
    elif made:
        lines = [f"{name}: {value}" for name, value in made.items()]
        print("\n".join(["first start, credentials:", *lines]), flush=True)  # noqa: T201


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time: of several that start together, the first creates what the others find."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # and with it the lock


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
