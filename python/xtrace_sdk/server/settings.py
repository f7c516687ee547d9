"""What a server can be told, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from xtrace_sdk.errors import ConfigurationError

_MIB = 1 << 20
_SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one server process.

    Attributes:
        host: address to listen on; anything but loopback should come with a certificate.
        port: 0 picks a free one.
        data: folder of the database and of ``credentials.json``; created with mode 0700. ``:memory:`` keeps
            the database in memory, where it ends with the process.
        database_url: ``postgresql://...``: the database is there instead. Kept out of the repr: it may hold a
            password.
        pool_size: connections to PostgreSQL of each process; it uses two more.
        max_body_bytes: longer request bodies are answered with 413.
        index_bytes: memory for ciphertext indexes; the least recently used ones are dropped above it.
        replay_seconds: how long a byte-identical insert is answered again instead of stored twice; 0 never.
        ssl_certfile: certificate chain in PEM; with it the server speaks HTTPS only.
        ssl_keyfile: its private key; None when the certificate's file holds it.
        workers: processes that serve; each gets an equal part of `index_bytes`.
    """

    host: str = "127.0.0.1"
    port: int = 8700
    data: Path = field(default_factory=lambda: Path("xtrace-data"))
    database_url: str | None = field(default=None, repr=False)
    pool_size: int = 10
    max_body_bytes: int = 64 * _MIB
    index_bytes: int = 1024 * _MIB
    replay_seconds: float = 600.0
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"port: expected 0 to 65535, got {self.port}")
        for name in ("max_body_bytes", "index_bytes", "workers", "pool_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}: expected at least 1")
        if self.database_url is not None and not self.database_url.startswith(_SCHEMES):
            raise ConfigurationError("database_url: expected postgresql://...")
        if self.in_memory and self.workers > 1:
            raise ConfigurationError("workers: processes cannot share a database in memory")
        if self.replay_seconds < 0:
            raise ConfigurationError("replay_seconds: expected at least 0")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ConfigurationError("ssl_keyfile: needs ssl_certfile")

    @property
    def in_memory(self) -> bool:
        """Whether nothing is kept."""
        return self.database_url is None and str(self.data) == ":memory:"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data / "xtrace.sqlite3"

    @property
    def credentials(self) -> Path:
        """Where generated credentials are written at the first start."""
        return self.data / "credentials.json"


def environment(name: str) -> str | None:
    """An environment variable, None when unset or empty."""
    return os.environ.get(name) or None
