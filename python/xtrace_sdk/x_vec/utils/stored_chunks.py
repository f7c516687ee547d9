"""Chunks as a server stores them: opened by the owner of their context, vectors and all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import CiphertextError, DecryptionError, InputError
from xtrace_sdk.records import as_table
from xtrace_sdk.wire import RECORD
from xtrace_sdk.x_vec.crypto.authenticated import read_records
from xtrace_sdk.x_vec.crypto.core_client import CorePaillierClient
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


def retired(context: ExecutionContext, epochs: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which key epochs (N,) the context had and has no keys for any more."""
    known = np.array(context.epochs, np.uint32)
    present: NDArray[np.bool_] = np.isin(epochs, known) | (epochs > context.epoch) | (epochs == 0)
    return ~present


def core_client(context: ExecutionContext) -> CorePaillierClient:
    """The client of a context. Raises InputError when it is somebody else's."""
    client = context.homomorphic
    if not isinstance(client, CorePaillierClient):
        raise InputError(f"{type(client).__name__}: not a client of this package")
    return client


def stored_content(context: ExecutionContext, chunk: Mapping[str, Any]) -> str:
    """The content of a stored chunk. Raises DecryptionError naming it."""
    try:
        return context.open_content(chunk)
    except DecryptionError as error:
        raise type(error)(f"chunk {chunk['chunk_id']}: {error}") from None


def stored_vectors(context: ExecutionContext, stored: Sequence[Mapping[str, Any]]) -> NDArray[np.uint8]:
    """The bits (N, dimensions) of stored chunks. Raises DecryptionError naming them."""
    client = core_client(context)
    size = (client.chunk_num, client.width)
    rows = np.zeros((len(stored), *size), np.uint8)
    for number, chunk in enumerate(stored):
        index = chunk.get("index") or []
        if len(index) != size[0] or any(len(one) > size[1] for one in index):
            raise CiphertextError(f"chunk {chunk['chunk_id']}: its vector does not belong to the context")
        for part, one in enumerate(index):
            rows[number, part, : len(one)] = np.frombuffer(one, np.uint8)
    try:
        if context.records is None:
            return client.decrypt_vectors(rows)
        return client.open_records(
            rows, read_records(as_table([chunk.get(RECORD) or b"" for chunk in stored]))
        )
    except DecryptionError as error:
        names = f"chunks {stored[0]['chunk_id']} to {stored[-1]['chunk_id']}"
        raise type(error)(f"{names}: {error}") from None
