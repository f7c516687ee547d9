"""Keeps the manifests of knowledge bases right, and holds answers against them.

A manifest (`xtrace_sdk.x_vec.crypto.manifest`) says which records the owner has stored. Every change of rows
carries the manifest after it, and the server makes both or neither: `Manifests.write`. An unfiltered search
comes with the manifest of its moment, and what this device has seen (`Pins`) tells an old one:
`Manifests.check`.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from xtrace_sdk import wire
from xtrace_sdk.errors import ApiError, InputError, IntegrityError
from xtrace_sdk.manifests import REFUSED, Change, Send, StoredManifest, manifest_tags
from xtrace_sdk.records import Table, as_table
from xtrace_sdk.x_vec.crypto.authenticated import read_records
from xtrace_sdk.x_vec.crypto.manifest import EMPTY, Manifest, ManifestKeys
from xtrace_sdk.x_vec.utils.pins import Pin, Pins

if TYPE_CHECKING:
    from xtrace_sdk.integrations.answers import Answer
    from xtrace_sdk.integrations.uploads import Batch
    from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

_ATTEMPTS: Final = 20
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0


class ManifestSource(Protocol):
    """Where manifests are: the call of ``XTraceIntegration`` that this module makes."""

    async def look_up_manifest(
        self,
        kb_id: str,
        context_id: str,
        *,
        chunk_ids: Sequence[int] = (),
        keys: Sequence[str] = (),
        everything: bool = False,
    ) -> StoredManifest: ...


class State(NamedTuple):
    """A manifest in force and its tag; None and "none" where there is none."""

    manifest: Manifest | None
    tag: str


class Step(NamedTuple):
    """The manifest that follows `expected`: what it says and, sealed, what is sent; records that it loses."""

    keys: ManifestKeys
    manifest: Manifest
    expected: str
    sealed: bytes
    gone: Sequence[bytes]

    @property
    def tag(self) -> str:
        return wire.manifest_tag(self.sealed)

    @property
    def header(self) -> str:
        return wire.encode_manifest_header(self.keys.context_id, self.expected, self.sealed)


def incomplete() -> IntegrityError:
    """The one error for rows and manifests that do not fit, or are of the past."""
    return IntegrityError(
        "the server's answer is not complete, or not the latest; if a backup was restored, or rows were "
        "changed without their manifest, `xtrace keys manifest` examines and accepts what is there"
    )


def missing() -> IntegrityError:
    """The error for rows without a manifest, where this device knows of none."""
    return IntegrityError(
        "the knowledge base has rows and no manifest, so that nobody can tell whether they are complete; "
        "`xtrace keys manifest KB_ID --accept` makes one, manifest=False does without"
    )


def opened(keys: ManifestKeys, kb_id: str, pin: Pin | None, sealed: bytes | None) -> State:
    """The state that the server shows. Raises IntegrityError when this device has seen one after it."""
    if sealed is None:
        if pin is not None and pin.tag is not None:
            raise incomplete()
        return State(None, wire.NO_MANIFEST)
    state = State(_read(keys, kb_id, sealed), wire.manifest_tag(sealed))
    if pin is not None and state.manifest is not None:
        counter = state.manifest.counter
        if counter < pin.counter or (counter == pin.counter and state.tag != pin.tag):
            raise incomplete()
    return state


def fits(keys: ManifestKeys, manifest: Manifest, records: Table) -> bool:
    """Whether the manifest is that of these records, no more and no less."""
    return manifest.rows == len(records) and manifest.total == keys.total(records)


def pinned(pins: Pins, keys: ManifestKeys, kb_id: str, state: State) -> None:
    """Remember a state with a manifest. Raises IntegrityError, ConfigurationError as `Pins.advance`."""
    if state.manifest is not None:
        pins.advance(keys.context_id, kb_id, Pin(state.manifest.counter, state.tag))


def _read(keys: ManifestKeys, kb_id: str, sealed: bytes) -> Manifest:
    try:
        return keys.open(sealed, kb_id)
    except IntegrityError:
        raise incomplete() from None


def _is_behind(state: State, pin: Pin | None) -> bool:
    """Whether another process of this device has seen something newer."""
    counter = 0 if state.manifest is None else state.manifest.counter
    return pin is not None and (counter, state.tag) != (pin.counter, pin.tag)


def _expected(steps: list[Step]) -> list[tuple[str, str]]:
    return [(step.keys.context_id, step.expected) for step in steps]


class Manifests:
    """The manifests of the knowledge bases of a context, for its owner.

    Args:
        context: of the authenticated encoding.
        server: where they are.
        pins: what this device remembers; by default in the system's folder for such things.
        leaving: a context whose chunks move to `context` when they are replaced; its manifests are kept too.
    """

    def __init__(
        self,
        context: ExecutionContext,
        server: ManifestSource,
        pins: Pins | None = None,
        leaving: ExecutionContext | None = None,
    ) -> None:
        self._server = server
        self._pins = pins or Pins()
        self._keys = ManifestKeys(context.subkey, context.id)
        self._leaving: ManifestKeys | None = None
        if leaving is not None and leaving.records is not None and leaving != context:
            self._leaving = ManifestKeys(leaving.subkey, leaving.id)
        self._states: dict[str, State] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    @classmethod
    def of(
        cls,
        context: ExecutionContext,
        server: ManifestSource,
        pins: Pins | None = None,
        leaving: ExecutionContext | None = None,
    ) -> Manifests | None:
        """None for a context of the plain encoding, which has no records."""
        return None if context.records is None else cls(context, server, pins, leaving)

    # Searching

    async def pin(self, kb_id: str) -> Pin | None:
        """What this device has seen: to be read before a search is sent, and given to `check` after it."""
        return await asyncio.to_thread(self._pins.get, self._keys.context_id, kb_id)

    async def check(self, kb_id: str, pin: Pin | None, header: str | None, records: Table) -> None:
        """Hold all records of an unfiltered answer (N, W) against the manifest that came with it.

        Raises IntegrityError when rows are missing, foreign, repeated or of the past, or when there is no
        manifest where one belongs.
        """
        try:
            sealed = None if header is None else wire.decode_manifest(header, "manifest")
        except InputError:
            raise incomplete() from None
        await asyncio.to_thread(self._check, kb_id, pin, sealed, records)

    def _check(self, kb_id: str, pin: Pin | None, sealed: bytes | None, records: Table) -> None:
        state = opened(self._keys, kb_id, pin, sealed)
        if state.manifest is None:
            if len(records) and pin is None:
                raise missing()
        elif fits(self._keys, state.manifest, records):
            pinned(self._pins, self._keys, kb_id, state)
        else:
            raise incomplete()

    async def check_empty(self, kb_id: str) -> None:
        """Raise IntegrityError when the manifest, if there is one, lists rows."""
        pin = await self.pin(kb_id)
        stored = await self._server.look_up_manifest(kb_id, self._keys.context_id)
        state = opened(self._keys, kb_id, pin, stored.sealed)
        if state.manifest is not None and state.manifest.rows:
            raise incomplete()

    async def check_moved(self, kb_id: str, epoch: int) -> None:
        """Raise IntegrityError unless the manifest, if there is one, lists rows of this epoch alone."""
        pin = await self.pin(kb_id)
        stored = await self._server.look_up_manifest(kb_id, self._keys.context_id, everything=True)
        state = opened(self._keys, kb_id, pin, stored.sealed)
        records = as_table([row.record for row in stored.rows])
        if state.manifest is not None and not (
            await asyncio.to_thread(fits, self._keys, state.manifest, records)
            and (read_records(records).epochs == epoch).all()
        ):
            raise incomplete()

    # Writing

    async def write(self, kb_id: str, change: Change, send: Send, batch: Batch | None = None) -> Answer:
        """Make a change of rows together with the manifest that follows from it -> the server's answer.

        One at a time for each knowledge base. When somebody else was faster, the manifest is made anew.
        Raises IntegrityError when the server shows a state before one that this device has seen, rows without
        a manifest, or an acknowledgement that its rows belie; ConflictError when others are always faster.
        """
        async with self._turns.setdefault(kb_id, asyncio.Lock()):
            if batch is not None and batch.manifests:
                # The server may have made this very change: then it says so, and makes it no second time.
                try:
                    return await self._sent(kb_id, change, send, self._remembered(kb_id, batch.manifests))
                except ApiError as error:
                    if error.status != REFUSED:
                        raise
                if (answer := await self._answered(kb_id, change)) is not None:
                    return answer
            refused: list[Step] | None = None
            for attempt in range(_ATTEMPTS):
                steps = await self._steps(kb_id, change, refused)
                if batch is not None:
                    batch.manifests = [step.header for step in steps]
                try:
                    return await self._sent(kb_id, change, send, steps)
                except ApiError as error:
                    # Refused in the very state that it was made for, it is not another's change that it met.
                    again = refused is not None and _expected(steps) == _expected(refused)
                    if error.status != REFUSED or attempt == _ATTEMPTS - 1 or again:
                        raise
                refused = steps
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter is no secret
        raise AssertionError("not reached")

    async def _answered(self, kb_id: str, change: Change) -> Answer | None:
        """The answer to an insertion that the server has made, and forgot that it did; None if it has not.

        Made once more it would bring equal nonces, and with them the end of all searches.
        """
        from xtrace_sdk.integrations.answers import Answer

        pin = await self.pin(kb_id)
        stored = await self._server.look_up_manifest(kb_id, self._keys.context_id, everything=True)
        ids = {row.record: row.chunk_id for row in stored.rows}
        if not ids.keys() >= {*change.added}:
            return None
        state = opened(self._keys, kb_id, pin, stored.sealed)
        records = as_table([row.record for row in stored.rows])
        if state.manifest is None or not await asyncio.to_thread(fits, self._keys, state.manifest, records):
            raise incomplete()
        await asyncio.to_thread(pinned, self._pins, self._keys, kb_id, state)
        body = json.dumps({"chunk_ids": [ids[record] for record in change.added]}).encode("ascii")
        return Answer("POST", wire.CHUNKS, 200, wire.JSON, body, None)

    async def _steps(self, kb_id: str, change: Change, refused: list[Step] | None) -> list[Step]:
        """The manifests after a change; `refused` are those that the server has just refused."""
        replaces = bool(change.chunk_ids or change.keys)
        gone: list[bytes] = []
        pin, state = await self.pin(kb_id), self._states.get(kb_id)
        if replaces or refused is not None or state is None or _is_behind(state, pin):
            pin, state, gone = await self._look(self._keys, kb_id, change)
        steps = []
        if state.manifest is not None:
            if change.added or gone:
                steps.append(self._step(self._keys, kb_id, state, change.added, gone))
        elif pin is None or pin.tag is not None:
            if gone or any(step.expected == wire.NO_MANIFEST for step in refused or ()):
                raise missing()
            if change.added:
                steps.append(self._step(self._keys, kb_id, state, change.added, []))
        if self._leaving is not None and replaces:
            _, left, gone = await self._look(self._leaving, kb_id, change)
            if left.manifest is not None and gone:
                steps.append(self._step(self._leaving, kb_id, left, [], gone))
        return steps

    async def _look(
        self, keys: ManifestKeys, kb_id: str, change: Change
    ) -> tuple[Pin | None, State, list[bytes]]:
        """The pin, the state that the server shows, and the records that the change takes away."""
        pin = await asyncio.to_thread(self._pins.get, keys.context_id, kb_id)
        stored = await self._server.look_up_manifest(
            kb_id, keys.context_id, chunk_ids=change.chunk_ids, keys=change.keys
        )
        state, gone = opened(keys, kb_id, pin, stored.sealed), [row.record for row in stored.rows]
        if change.known is not None and not {*gone} <= {*change.known}:
            raise incomplete()  # another version than the one that was read
        return pin, state, gone

    def _step(
        self, keys: ManifestKeys, kb_id: str, state: State, added: Sequence[bytes], gone: Sequence[bytes]
    ) -> Step:
        following = keys.changed(state.manifest or EMPTY, added, gone)
        return Step(keys, following, state.tag, keys.seal(following, kb_id), gone)

    def _remembered(self, kb_id: str, headers: Sequence[str]) -> list[Step]:
        """Steps that were sent before, from their headers. Raises InputError, IntegrityError."""
        steps = []
        for header in headers:
            context_id, expected, sealed = wire.decode_manifest_header(header)
            keys = self._leaving if self._leaving and context_id == self._leaving.context_id else self._keys
            steps.append(Step(keys, keys.open(sealed, kb_id), expected, sealed, ()))
        return steps

    async def _sent(self, kb_id: str, change: Change, send: Send, steps: list[Step]) -> Answer:
        self._states.pop(kb_id, None)
        answer = await send([step.header for step in steps])
        in_force = manifest_tags(answer) == [step.tag for step in steps]
        for step in steps:
            state = State(step.manifest, step.tag)
            if in_force:
                await asyncio.to_thread(pinned, self._pins, step.keys, kb_id, state)
            else:  # made before, and followed by others' changes; or not made at all
                added = change.added if step.keys is self._keys else ()
                state = await self._confirmed(step, kb_id, added)
            if step.keys is self._keys:
                self._states[kb_id] = state
        return answer

    async def _confirmed(self, step: Step, kb_id: str, added: Sequence[bytes]) -> State:
        """The state in force, if its rows say that a change was made. Raises IntegrityError."""
        pin = await asyncio.to_thread(self._pins.get, step.keys.context_id, kb_id)
        stored = await self._server.look_up_manifest(kb_id, step.keys.context_id, everything=True)
        state = opened(step.keys, kb_id, pin, stored.sealed)
        records = [row.record for row in stored.rows]
        there = set(records)
        if (
            state.manifest is None
            or not await asyncio.to_thread(fits, step.keys, state.manifest, as_table(records))
            or not there.issuperset(added)
            or not there.isdisjoint(step.gone)
        ):
            raise incomplete()
        await asyncio.to_thread(pinned, self._pins, step.keys, kb_id, state)
        return state
