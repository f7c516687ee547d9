"""Files of contexts: private, replaced in one step, never lost to another one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

from xtrace_sdk.errors import ConfigurationError, DecryptionError, IntegrityError
from xtrace_sdk.x_vec.crypto.encryption.aes import undecryptable

# Room for moduli of 200,000 bits. A server may send longer ones, and computing with them takes minutes.
LONGEST_FIELD: Final = 1 << 18


def prepare_target(target: Path) -> None:
    """Make sure that a file can be written to `target`, creating folders. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise IsADirectoryError(f"path: {target} is a directory, expected a file name")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"path: no permission to write into {target.parent}")


def keep_other(target: Path, public: Mapping[str, str]) -> None:
    """Give a second name to the context at `target` if its pk or type is another: it may be the only copy."""
    try:
        content = target.read_bytes()
    except FileNotFoundError:
        return
    try:
        stored = parse_object(content)
        if all(stored.get(name) == public[name] for name in ("pk", "type")):
            return
    except DecryptionError:
        pass  # whatever it is, it is kept
    backup = target.with_name(f"{target.name}.{hashlib.sha256(content).hexdigest()[:8]}.bak")
    if not backup.exists():
        write_private(backup, content)


def check_pin(pin: Path, context_id: str, revision: int) -> None:
    """Remember `revision` of a context in the file `pin`; refuse one before what is remembered.

    Raises IntegrityError, ConfigurationError for a file that is no such memory, OSError.
    """
    pin.parent.mkdir(parents=True, exist_ok=True)
    with locked(pin.parent):
        pins: dict[str, Any] = {}
        if pin.exists():
            try:
                pins = read_stored(pin)
            except DecryptionError:
                raise ConfigurationError(f"pin: {pin} does not hold revisions of contexts") from None
        known = pins.get(context_id, 0)
        if not isinstance(known, int):
            raise ConfigurationError(f"pin: {pin} does not hold revisions of contexts")
        if revision < known:
            raise IntegrityError(
                f"context {context_id}: the server gave revision {revision}, this device has seen {known}"
            )
        if revision > known:
            prepare_target(pin)
            write_private(pin, json.dumps({**pins, context_id: revision}).encode("ascii"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes and threads from changing what is in the folder."""
    import fcntl

    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def check_fields(stored: Any, names: Iterable[str]) -> None:
    """Raise DecryptionError unless `stored` is an object with texts of bearable length under `names`."""
    if not isinstance(stored, dict):
        raise undecryptable()
    for name in names:
        if not isinstance(stored.get(name), str) or len(stored[name]) > LONGEST_FIELD:
            raise undecryptable()


def read_stored(path: Path) -> dict[str, Any]:
    """The stored object in a file, not opened. Raises DecryptionError when it is none, OSError."""
    return parse_object(path.read_bytes())


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object, none of whose names occurs twice. Raises DecryptionError."""
    try:
        parsed = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise undecryptable() from None
    if not isinstance(parsed, dict):
        raise undecryptable()
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def write_private(target: Path, content: bytes) -> None:
    """Replace `target` by a file of mode 0600, in one step, durably."""
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself
    finally:
        os.close(directory)
