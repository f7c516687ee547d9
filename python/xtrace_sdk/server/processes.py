"""The process that serves, or several that share one socket, and how they stop."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Semaphore

import uvicorn

from xtrace_sdk.server.app import create_app
from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage.base import Store

log = logging.getLogger("xtrace.server")

_MAX_REQUEST_LINE = 8 << 20  # ids of a fetch travel in the address
_GRACEFUL_SECONDS = 30
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def log_to_stderr() -> None:
    """Request logs and warnings on stderr; stdout is for what a starting program waits for."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")


def run_server(
    settings: Settings, listener: socket.socket, ready: Callable[[], object], store: Store | None = None
) -> None:
    """Serve in this process until SIGTERM or SIGINT; `ready` is called when requests are taken.

    Without `store` it opens, and closes, the one of the settings.
    """
    config = uvicorn.Config(
        create_app(settings, store),
        http="h11",
        h11_max_incomplete_event_size=_MAX_REQUEST_LINE,
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
    )
    # uvicorn raises the signal again after its own shutdown; by then there is nothing left to do.
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    _Server(config, ready).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def supervise(settings: Settings, listener: socket.socket, ready: Callable[[], object]) -> None:
    """Serve in `settings.workers` spawned processes until SIGTERM or SIGINT; replace those that die.

    Spawned, not forked: the core's threads do not survive a fork.
    """
    context = multiprocessing.get_context("spawn")
    started = context.Semaphore(0)
    own = replace(settings, index_bytes=max(1, settings.index_bytes // settings.workers))
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        with suppress(BlockingIOError):
            wake.send(b"\0")

    def start() -> SpawnProcess:
        process = context.Process(target=_worker, args=(own, listener, started))
        process.start()
        return process

    def announce() -> None:
        for _ in range(settings.workers):
            started.acquire()
        if not stopping.is_set():
            ready()

    for number in _SIGNALS:
        signal.signal(number, stop)
    workers = [start() for _ in range(settings.workers)]
    threading.Thread(target=announce, daemon=True).start()
    while not stopping.is_set():
        wait([woken, *(worker.sentinel for worker in workers)])
        for at, worker in enumerate(workers):
            if not worker.is_alive() and not stopping.is_set():
                log.error("a worker ended with status %s and is replaced", worker.exitcode)
                stopping.wait(1.0)  # one that cannot start must not keep the machine busy
                workers[at] = start()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()


def _worker(settings: Settings, listener: socket.socket, started: Semaphore) -> None:
    log_to_stderr()
    parent = multiprocessing.parent_process()

    def follow_parent() -> None:
        """A supervisor that was killed must not leave processes behind that hold the port."""
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow_parent, daemon=True).start()
    run_server(settings, listener, started.release)
