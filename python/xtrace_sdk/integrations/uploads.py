"""From encrypted chunks and vectors to the batches of an upload, and the record of what was stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index as integer
from typing import Any, Final, Protocol, TypeVar, runtime_checkable
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk import wire
from xtrace_sdk.arguments import listed
from xtrace_sdk.errors import InputError
from xtrace_sdk.integrations.errors import MissingFieldError, WrongTypeError
from xtrace_sdk.records import LONGEST

MAX_BATCH_BYTES: Final = 8 << 20
_ROW_OVERHEAD: Final = 128  # JSON punctuation and field names of one chunk, generously

Result = TypeVar("Result")


@runtime_checkable
class ArrayIndex(Protocol):
    """An encrypted index that keeps its ciphertexts in one array."""

    @property
    def rows(self) -> NDArray[np.uint8]:
        """Ciphertexts (N, chunks, width), little-endian."""


Index = ArrayIndex | NDArray[np.uint8] | Sequence[Sequence[int]]


@dataclass
class Batch:
    """Chunks `start` to `stop` of an upload; `response` is the server's, None until it is stored.

    `manifests` are those that were sent along last, as they stand in the request's headers.
    """

    start: int
    stop: int
    idempotency_key: str = field(default_factory=lambda: uuid4().hex)
    response: dict[str, Any] | None = None
    manifests: list[str] = field(default_factory=list)


@dataclass
class UploadReport:
    """What became of each batch of one `store_db` call.

    Given again to `store_db` with the same data after a failure, it makes the upload go on where it stopped.
    """

    batches: list[Batch] = field(default_factory=list)

    @property
    def stored(self) -> int:
        """Chunks that the server has acknowledged."""
        return sum(batch.stop - batch.start for batch in self.batches if batch.response is not None)

    def batch(self, number: int, start: int, stop: int) -> Batch:
        """The record of batch `number`. Raises InputError when it covered other chunks before."""
        if number == len(self.batches):
            self.batches.append(Batch(start, stop))
        found = self.batches[number]
        if (found.start, found.stop) != (start, stop):
            raise InputError(
                f"report: batch {number} held chunks {found.start} to {found.stop}, now {start} to {stop}; "
                "resume with the same data and batch_size"
            )
        return found


def ciphertext_rows(index: Index, name: str = "index") -> NDArray[np.uint8]:
    """Any form of an encrypted index -> ciphertexts (N, chunks, width).

    Integers are brought to one width for all of them, so that a length tells nothing about a value. Raises
    InputError naming the first row that is not a list of unsigned integers or has another length.
    """
    rows = index.rows if isinstance(index, ArrayIndex) else index
    if isinstance(rows, np.ndarray) and rows.dtype != object:
        if rows.dtype != np.uint8 or rows.ndim != 3:
            raise InputError(f"{name}: expected uint8 (N, chunks, width), got {rows.dtype} {rows.shape}")
        return rows
    integers: list[int] = []
    rows = [listed(row, f"{name}[{number}]") for number, row in enumerate(listed(rows, name))]
    chunks = len(rows[0]) if rows else 1
    if not chunks:
        raise InputError(f"{name}[0]: expected at least one ciphertext")
    for number, row in enumerate(rows):
        if len(row) != chunks:
            raise InputError(f"{name}[{number}]: {len(row)} ciphertexts, the rows before have {chunks}")
        try:
            integers.extend(int(integer(value)) for value in row)  # gmpy2's become Python's
        except TypeError:
            raise InputError(f"{name}[{number}]: expected integers") from None
        if any(value < 0 for value in integers[-chunks:]):
            raise InputError(f"{name}[{number}]: a ciphertext is negative")
    # A ciphertext is uniform below n**2: the longest, rounded up to whole words, is as long as n**2 in words.
    width = max((-(-value.bit_length() // 64) * 8 for value in integers), default=8) or 8
    raw = b"".join(value.to_bytes(width, "little") for value in integers)
    return np.frombuffer(raw, np.uint8).reshape(len(rows), chunks, width)


def batches(
    db: Sequence[Mapping[str, Any]],
    rows: NDArray[np.uint8],
    *,
    update: bool,
    max_count: int,
    max_bytes: int = MAX_BATCH_BYTES,
) -> Iterator[list[dict[str, Any]]]:
    """Chunks as the API takes them, in batches of at most `max_count` chunks and about `max_bytes` bytes.

    A chunk larger than `max_bytes` travels alone. Raises InputError when `db` and `rows` differ in length,
    WrongTypeError when a content is not bytes, MissingFieldError when an update lacks its ``chunk_id``.
    """
    if len(db) != len(rows):
        raise InputError(f"index: {len(rows)} encrypted vectors for {len(db)} chunks")
    batch: list[dict[str, Any]] = []
    size = 0
    vector_size = rows.shape[1] * (rows.shape[2] * 4 // 3 + 8) if len(rows) else 0
    for number, chunk in enumerate(db):
        record = _record(chunk, number, update)
        record_size = (
            len(record["chunk_content"])
            + len(json.dumps(record["meta_data"]))
            + len(record.get(wire.RECORD, ""))
            + vector_size
            + _ROW_OVERHEAD
        )
        if batch and (len(batch) >= max_count or size + record_size > max_bytes):
            yield batch
            batch, size = [], 0
        record["index"] = wire.encode_rows(rows[number : number + 1])[0]
        batch.append(record)
        size += record_size
    if batch:
        yield batch


def _record(chunk: Mapping[str, Any], number: int, update: bool) -> dict[str, Any]:
    if not isinstance(chunk, Mapping):
        raise WrongTypeError(f"db[{number}]: expected a dict, got {type(chunk).__name__}")
    content = chunk.get("chunk_content")
    if not isinstance(content, bytes):
        raise WrongTypeError(
            f"db[{number}].chunk_content: expected encrypted bytes, got {type(content).__name__}"
        )
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        raise InputError(f"db[{number}].chunk_content: expected base64 text") from None
    record: dict[str, Any] = {
        "chunk_content": text,
        "index": [],
        "meta_data": chunk.get("meta_data") or {},
        "name": chunk.get("name", f"default_name_chunk_{number}"),
    }
    if "key" in chunk:
        record["key"] = chunk["key"]
    if chunk.get(wire.RECORD) is not None:
        record[wire.RECORD] = _record_text(chunk[wire.RECORD], f"db[{number}].record")
    if update:
        if chunk.get("chunk_id") is None:
            raise MissingFieldError(f"chunk_updates[{number}].chunk_id: missing")
        record["chunk_id"] = chunk["chunk_id"]
    return record


def _record_text(value: Any, name: str) -> str:
    if not isinstance(value, bytes):
        raise WrongTypeError(f"{name}: expected bytes, got {type(value).__name__}")
    if len(value) > LONGEST:
        raise InputError(f"{name}: {len(value)} bytes, a record has at most {LONGEST}")
    return wire.encode_record(value)


async def in_order(jobs: Iterable[Callable[[], Awaitable[Result]]], limit: int) -> list[Result]:
    """Run `jobs`, at most `limit` at a time -> their results in order.

    After a failure no further job starts, those under way finish, and the first failure is raised.
    """
    tasks: list[asyncio.Task[Result]] = []
    running: set[asyncio.Task[Result]] = set()
    try:
        for job in jobs:
            if len(running) >= limit:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                if any(task.exception() for task in done):
                    break
            tasks.append(asyncio.ensure_future(job()))
            running.add(tasks[-1])
        if running:
            await asyncio.wait(running)
    finally:  # only when the caller was cancelled, or `jobs` raised, is anything still running
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    failures = [error for task in tasks if (error := task.exception()) is not None]
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]
