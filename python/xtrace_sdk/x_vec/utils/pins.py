"""What a device remembers of the manifests that it has seen, so that no server can take it back in time."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from xtrace_sdk.errors import ConfigurationError, DecryptionError, IntegrityError
from xtrace_sdk.x_vec.utils.execution_context_files import locked, read_stored, write_private

_TAG_LENGTH = 64


class Pin(NamedTuple):
    """The newest manifest of a knowledge base that this device has seen.

    `tag` names it; None says that the owner has done away with it: there is none, or a newer one.
    """

    counter: int
    tag: str | None


class Pins:
    """Pins of any number of contexts and knowledge bases, a file for each, shared by all processes.

    Args:
        folder: where; by default ``$XTRACE_STATE_DIR``, else the system's folder for what programs remember.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder) if folder is not None else state_folder() / "pins"

    def __repr__(self) -> str:
        return f"Pins({str(self.folder)!r})"

    def get(self, context_id: str, kb_id: str) -> Pin | None:
        """The pin of a knowledge base under a context, None when this device has seen none.

        Raises ConfigurationError when its file cannot be read.
        """
        file = self._file(context_id, kb_id)
        try:
            stored = read_stored(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(file, error) from error
        except DecryptionError:
            stored = {}
        counter, tag = stored.get("counter"), stored.get("tag")
        if type(counter) is not int or counter < 0 or not (tag is None or _is_tag(tag)):
            raise ConfigurationError(
                f"{file}: does not hold what this device has seen of knowledge base {kb_id}; "
                "delete it if you accept what the server has now"
            )
        return Pin(counter, tag)

    def advance(self, context_id: str, kb_id: str, seen: Pin) -> None:
        """Remember `seen`, unless something newer is remembered already.

        Raises IntegrityError when another manifest with this counter is remembered: the server shows
        different people different states. Raises ConfigurationError when it cannot be written.
        """
        file = self._file(context_id, kb_id)
        known = self.get(context_id, kb_id)
        if known == seen:
            return
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(file.parent):
                known = self.get(context_id, kb_id)
                if known == seen or (known is not None and seen.counter < known.counter):
                    return
                if known is not None and seen.counter == known.counter and seen.tag is not None:
                    raise IntegrityError(
                        f"knowledge base {kb_id}: the server has shown two different states {seen.counter}"
                    )
                write_private(file, json.dumps(seen._asdict()).encode("ascii"))
        except OSError as error:
            raise _unusable(file, error) from error

    def _file(self, context_id: str, kb_id: str) -> Path:
        # Both may come from a server; as digests they are nothing but names of files.
        context, kb = (
            hashlib.sha256(one.encode("utf-8", "surrogatepass")).hexdigest()[:32]
            for one in (context_id, kb_id)
        )
        return self.folder / context / f"{kb}.json"


def state_folder() -> Path:
    """``$XTRACE_STATE_DIR``, else ``xtrace-sdk`` in the folder where programs keep what they remember."""
    chosen = os.environ.get("XTRACE_STATE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME")
    if base:
        return Path(base) / "xtrace-sdk"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "xtrace-sdk"
    return Path.home() / ".local" / "state" / "xtrace-sdk"


def _unusable(file: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{file}: {error.strerror}; XTRACE_STATE_DIR names a folder that can be written, and manifest=False "
        "does without what this device has seen"
    )


def _is_tag(value: object) -> bool:
    return isinstance(value, str) and len(value) == _TAG_LENGTH and set(value) <= set("0123456789abcdef")
