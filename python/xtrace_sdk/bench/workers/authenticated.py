"""xtrace-sdk-native's authenticated encoding, beside its plain one and under the same keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk import _core
from xtrace_sdk.records import as_table
from xtrace_sdk.server.search import CiphertextIndex
from xtrace_sdk.x_vec.crypto.authenticated import RecordKeys, RecordQuery, read_records, write_records
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.crypto.secrets import SecretBytes

from .worker import Bits, Stages, Worker


class Plain(Protocol):
    """What it takes of the worker that it stands beside."""

    dimensions: int

    @property
    def client(self) -> PaillierLookupClient: ...
    @property
    def n_squared(self) -> int: ...


@dataclass(frozen=True)
class Rows:
    """Rows, stored or multiplied, their nonces, and the query that they were multiplied by."""

    rows: Bits
    nonces: Bits
    query: RecordQuery | None = None


class Authenticated(Worker):
    """A batch is `Rows`, a query a `RecordQuery`."""

    builds = ()

    def __init__(self, plain: Plain) -> None:
        self._plain = plain
        self._records = RecordKeys.of_owner(_subkey, lambda: 0)
        self._output = np.zeros((0, 0, 0), dtype=np.uint8)

    @property
    def _client(self) -> PaillierLookupClient:
        self._plain.client.use_records(self._records)
        return self._plain.client

    def describe(self) -> dict[str, Any]:
        return {}

    def build(self, work: str) -> None:
        raise ValueError(f"{work}: built by the plain worker")

    def encode(self, bits: Bits) -> Bits:
        return bits

    def encrypt(self, inputs: Bits) -> Rows:
        return Rows(*self._client.encrypt_records(inputs))

    def query(self, inputs: Bits) -> RecordQuery:
        return self._client.encrypt_query(inputs[0])

    def take(self, batch: Rows, count: int) -> Rows:
        if count > len(batch.rows):
            raise ValueError("records may not repeat in an answer")
        rows = batch.rows[:count].copy()
        self._output = np.zeros_like(rows)
        return Rows(rows, batch.nonces[:count], batch.query)

    def products(self, query: RecordQuery, batch: Rows) -> Rows:
        multiplier = _core.Multiplier(self._plain.n_squared)
        return Rows(multiplier.products(query.rows, batch.rows, out=self._output), batch.nonces, query)

    def decode(self, products: Rows) -> NDArray[np.int32]:
        if products.query is None:
            raise ValueError("only products are decoded")
        return self._client.decode_records(products.rows, products.nonces, products.query)

    def distances(self, decoded: NDArray[np.int32]) -> NDArray[np.int64]:
        return decoded.astype(np.int64)

    def index(self, batch: Rows) -> CiphertextIndex:
        index = CiphertextIndex(self._plain.n_squared, batch.rows.shape[1])
        index.extend(np.arange(1, len(batch.rows) + 1, dtype=np.int64), batch.rows, self._table(batch))
        return index

    def search(
        self, bits: Bits, index: CiphertextIndex, stages: dict[str, float], *, vartime: bool = False
    ) -> NDArray[np.int64]:
        clock = Stages(stages)
        query = self._client.encrypt_query(bits[0])
        clock.mark("encrypt")
        snapshot = index.snapshot()
        rows = np.empty((snapshot.ids.size, index.chunks, index.width), dtype=np.uint8)
        for _ in snapshot.products(query.rows, out=rows):
            pass
        clock.mark("product")
        found = self._client.decode_records(rows, read_records(snapshot.records()), query)
        clock.mark("decode")
        return found.astype(np.int64)

    def more(self, request: dict[str, Any]) -> dict[str, Any]:
        """ "row": bytes that are stored for a vector."""
        if request["op"] != "row":
            return super().more(request)
        batch = self.encrypt(np.zeros((1, self._plain.dimensions), dtype=np.uint8))
        return {"ciphertext": batch.rows.nbytes, "record": int(self._table(batch)[0, 0])}

    def _table(self, batch: Rows) -> NDArray[np.uint8]:
        return as_table(write_records(batch.nonces, 0, self._records.writer))


def _subkey(label: bytes, epoch: int) -> SecretBytes:
    """Of no context: nothing that a benchmark encrypts is secret."""
    return SecretBytes.of(hashlib.sha256(label + epoch.to_bytes(4, "little")).digest())
