"""What the owner of a knowledge base alone decides about its manifest: to examine, accept or remove it.

Nothing here happens by itself. After a backup was restored, or rows were changed without their manifest, all
unfiltered searches fail until the owner has accepted what is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError, IntegrityError
from xtrace_sdk.integrations.errors import ConflictError, ServerError
from xtrace_sdk.manifests import StoredManifest, StoredRow
from xtrace_sdk.records import as_table
from xtrace_sdk.x_vec.crypto.authenticated import read_records
from xtrace_sdk.x_vec.crypto.manifest import EMPTY, Manifest, ManifestKeys
from xtrace_sdk.x_vec.crypto.secrets import Secret
from xtrace_sdk.x_vec.manifests import ManifestSource, State, fits, opened, pinned
from xtrace_sdk.x_vec.utils.background import in_thread
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.pins import Pin, Pins
from xtrace_sdk.x_vec.utils.stored_chunks import retired, stored_content, stored_vectors

_AT_ONCE: Final = 200
_FIELDS: Final = ("chunk_id", "chunk_content", "index", wire.RECORD)


class ManifestStore(ManifestSource, Protocol):
    """Where manifests and rows are: the calls of ``XTraceIntegration`` that this module makes."""

    async def replace_manifest(
        self, kb_id: str, context_id: str, expected: str, sealed: bytes | None
    ) -> None: ...
    async def get_chunk_by_id(
        self, chunk_ids: Sequence[int], kb_id: str, projection: Sequence[str] | None = None
    ) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Findings:
    """What was found of a knowledge base.

    Attributes:
        rows: rows of the context that the server has.
        listed: rows that the manifest lists; None when there is no manifest, or none that opens.
        complete: whether it lists these rows, and is not older than what this device has seen.
        opened: rows whose vector and content were opened and belong together.
        retired: rows of retired key epochs, which cannot be opened any more.
    """

    rows: int
    listed: int | None
    complete: bool
    opened: int
    retired: int


class ManifestCare(Secret):
    """The manifest of one knowledge base of a context, in its owner's hands.

    Args:
        context: of the authenticated encoding.
        integration: the server.
        kb_id: the knowledge base.
        pins: what this device remembers; by default in the system's folder for such things.

    Raises InputError for a context of the plain encoding.
    """

    def __init__(
        self, context: ExecutionContext, integration: ManifestStore, kb_id: str, *, pins: Pins | None = None
    ) -> None:
        if context.records is None:
            raise InputError("context: has the plain encoding, which has no manifests")
        self._context = context
        self._server = integration
        self._kb_id = kb_id
        self._pins = pins or Pins()
        self._keys = ManifestKeys(context.subkey, context.id)
        self._examined: tuple[str, Manifest] | None = None

    async def examine(self, progress: Callable[[int, int], None] | None = None) -> Findings:
        """Open all rows and hold them against the manifest; nothing is changed.

        `progress(done, total)` counts rows. Raises DecryptionError naming rows that do not open.
        """
        pin = await self._pin()
        stored = await self._server.look_up_manifest(self._kb_id, self._context.id, everything=True)
        records = as_table([row.record for row in stored.rows])
        said = self._said(stored.sealed)
        try:
            state = opened(self._keys, self._kb_id, pin, stored.sealed)
            complete = await asyncio.to_thread(fits, self._keys, state.manifest or EMPTY, records)
        except IntegrityError:
            complete = False
        gone = retired(self._context, read_records(records).epochs)
        rows = [row for row, lost in zip(stored.rows, gone, strict=True) if not lost]
        for at in range(0, len(rows), _AT_ONCE):
            await self._open(rows[at : at + _AT_ONCE])
            if progress is not None:
                progress(min(at + _AT_ONCE, len(rows)), len(rows))
        total = await asyncio.to_thread(self._keys.total, records)
        following = Manifest(_last(pin, said) + 1, len(records), total)
        self._examined = wire.manifest_tag(stored.sealed), following
        return Findings(
            rows=len(stored.rows),
            listed=None if said is None else said.rows,
            complete=complete,
            opened=len(rows),
            retired=len(stored.rows) - len(rows),
        )

    async def accept(self) -> None:
        """Make a manifest of the very rows that `examine` has found.

        For a knowledge base that has none, and after a backup was restored. Other devices that have seen a
        later state refuse this one until it is accepted there, too. Raises ConflictError when the manifest
        was changed meanwhile, InputError when nothing was examined.
        """
        if self._examined is None:
            raise InputError("accept: examine first what is to be accepted")
        expected, manifest = self._examined
        sealed = self._keys.seal(manifest, self._kb_id)
        await self._server.replace_manifest(self._kb_id, self._context.id, expected, sealed)
        state = State(manifest, wire.manifest_tag(sealed))
        await asyncio.to_thread(pinned, self._pins, self._keys, self._kb_id, state)
        self._examined = None

    async def remove(self) -> None:
        """Do away with the manifest, so that others can write, or when it is damaged in the database.

        This device remembers that none is wanted: its loaders keep none and its searches ask for none, until
        there is one again (`accept`). Raises ConflictError when the manifest is changed meanwhile.
        """
        pin = await self._pin()
        stored = await self._undamaged()
        if stored.sealed is not None:
            tag = wire.manifest_tag(stored.sealed)
            await self._server.replace_manifest(self._kb_id, self._context.id, tag, None)
        removed = Pin(_last(pin, self._said(stored.sealed)), None)
        await asyncio.to_thread(self._pins.advance, self._context.id, self._kb_id, removed)

    async def _undamaged(self) -> StoredManifest:
        """The stored manifest, none after one that the server cannot read was taken away."""
        try:
            return await self._server.look_up_manifest(self._kb_id, self._context.id)
        except ServerError as error:
            try:
                await self._server.replace_manifest(self._kb_id, self._context.id, wire.NO_MANIFEST, None)
            except (ConflictError, ServerError):  # it is something else
                raise error from None
            return StoredManifest(None, [])

    async def _open(self, rows: Sequence[StoredRow]) -> None:
        """Open vectors and contents. Raises DecryptionError naming what does not open."""
        chunks = await self._server.get_chunk_by_id([row.chunk_id for row in rows], self._kb_id, _FIELDS)
        there = {chunk["chunk_id"]: chunk.get(wire.RECORD) for chunk in chunks}
        for row in rows:
            if there.get(row.chunk_id) != row.record:
                raise IntegrityError(
                    f"chunk {row.chunk_id}: is not as the server listed it; was it changed just now?"
                )

        def work() -> None:
            stored_vectors(self._context, chunks)
            for chunk in chunks:
                stored_content(self._context, chunk)

        await in_thread(lambda _: work(), "Opening", len(chunks), quiet=True)

    async def _pin(self) -> Pin | None:
        return await asyncio.to_thread(self._pins.get, self._context.id, self._kb_id)

    def _said(self, sealed: bytes | None) -> Manifest | None:
        """What a manifest says, None if it does not open: the owner sees it and decides."""
        try:
            return None if sealed is None else self._keys.open(sealed, self._kb_id)
        except IntegrityError:
            return None


def _last(*seen: Pin | Manifest | None) -> int:
    return max(0 if one is None else one.counter for one in seen)
