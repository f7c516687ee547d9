"""Where commands find the server, the context and the keys.

Settings come from options, the environment, a ``.env`` file (``--env-file``, else ``XTRACE_ENV_FILE``,
else ``./.env``), in this order. Secrets (API keys, passphrase) come from the environment, the
server's own ``credentials.json`` if ``XTRACE_CREDENTIALS_FILE`` names it, the system's keyring if the extra
``keyring`` is installed, or a prompt. Nothing here writes a secret to a file.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Final, TypeVar

from xtrace_sdk.errors import ConfigurationError, DecryptionError

if TYPE_CHECKING:
    from xtrace_sdk.integrations.xtrace import XTraceIntegration
    from xtrace_sdk.x_vec.crypto.key_provider import KeyProvider
    from xtrace_sdk.x_vec.inference.embedding import Embedding
    from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.utils.execution_context_writer import WriterContext

T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:8700"
DEFAULT_CONTEXT: Final = Path("data/exec_context")
DEFAULT_MODEL: Final = Path("data/embed_model")
API_KEY: Final = "XTRACE_API_KEY"
ADMIN_KEY: Final = "XTRACE_ADMIN_KEY"
PASSPHRASE: Final = "XTRACE_PASS_PHRASE"  # noqa: S105 - the name of a variable
OLD_PASSPHRASE: Final = "XTRACE_OLD_PASS_PHRASE"  # noqa: S105 - the same
INFERENCE_KEY: Final = "INFERENCE_API_KEY"

_KEYRING_SERVICE: Final = "xtrace"
_IN_CREDENTIALS: Final = {API_KEY: "api_key", ADMIN_KEY: "admin_key"}
_PROMPTS: Final = {
    API_KEY: "API key",
    ADMIN_KEY: "Admin key",
    PASSPHRASE: "Passphrase of the context",
    OLD_PASSPHRASE: "Passphrase of the old context",
    INFERENCE_KEY: "Key of the language model's service",
}
_ASSIGNMENT: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


@dataclass(frozen=True)
class Model:
    """What ``xtrace init`` writes down of an embedding model."""

    provider: str
    model_name: str
    dim: int
    base_url: str | None = None


@dataclass(frozen=True)
class Settings:
    """Everything a command can be told.

    `values` holds variables of the environment and the ``.env`` file, `given` secrets that win over all.
    """

    values: Mapping[str, str]
    given: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, env_file: Path | None = None, api_key: str | None = None) -> Settings:
        """Settings of the environment and the ``.env`` file; `api_key` wins over both.

        Raises ConfigurationError when a named file is missing, malformed or writable by others.
        """
        named = env_file or (
            Path(os.environ["XTRACE_ENV_FILE"]) if os.environ.get("XTRACE_ENV_FILE") else None
        )
        path = named or Path(".env")
        if named is not None and not path.is_file():
            raise ConfigurationError(f"{path}: no such settings file; `xtrace init` writes one")
        in_file = read_env_file(path, named=named is not None) if path.is_file() else {}
        return cls({**in_file, **os.environ}, {API_KEY: api_key} if api_key else {})

    def __repr__(self) -> str:
        return f"Settings(api_url={self.api_url!r})"

    @property
    def api_url(self) -> str:
        return self.values.get("XTRACE_API_URL") or DEFAULT_URL

    @property
    def context_path(self) -> Path:
        return Path(self.values.get("XTRACE_EXECUTION_CONTEXT_PATH") or DEFAULT_CONTEXT)

    @property
    def model_path(self) -> Path:
        return Path(self.values.get("XTRACE_EMBEDDING_MODEL_PATH") or DEFAULT_MODEL)

    @property
    def org_id(self) -> str:
        """Raises ConfigurationError when nothing tells it."""
        found = self.values.get("XTRACE_ORG_ID") or self._credentials().get("org_id")
        if not found:
            raise ConfigurationError("XTRACE_ORG_ID: not set; `xtrace init` asks for it and remembers it")
        return found

    def secret(self, name: str) -> str | None:
        """The secret `name` (API_KEY, …) from wherever it is kept, None when it is nowhere."""
        return (
            self.given.get(name)
            or self.values.get(name)
            or self._credentials().get(_IN_CREDENTIALS.get(name, ""))
            or self._from_keyring(name)
        )

    def ask(self, name: str) -> str:
        """The secret `name`, asked for at a terminal if need be. Raises ConfigurationError without one."""
        found = self.secret(name)
        if not found and sys.stdin.isatty():
            found = getpass.getpass(f"{_PROMPTS[name]}: ")
        if not found:
            raise ConfigurationError(f"{name}: set it in the environment, or run this command at a terminal")
        return found

    def connect(self, *, admin: bool = False) -> XTraceIntegration:
        """A client of the server. With `admin` the admin key is needed and asked for, the API key is not."""
        from xtrace_sdk.integrations.xtrace import XTraceIntegration

        org_id = self.org_id
        admin_key = self.ask(ADMIN_KEY) if admin else self.secret(ADMIN_KEY)
        # Admin calls do not send the API key, but a client cannot be made without one.
        api_key = (self.secret(API_KEY) or "none") if admin else self.ask(API_KEY)
        admin_url = self.values.get("XTRACE_ADMIN_API_URL") or self.api_url
        return XTraceIntegration(org_id, api_key, admin_key, self.api_url, admin_url)

    def open_context(
        self, path: Path | None = None, passphrase: str = PASSPHRASE, *, allow_insecure: bool = False
    ) -> ExecutionContext:
        """The context on disk, opened with the secret named `passphrase` or, if that holds its keys, AWS KMS.

        Raises ConfigurationError when there is none.
        """
        from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

        insecure = allow_insecure or self.values.get("XTRACE_ALLOW_INSECURE") == "1"
        return self._open(
            path or self.context_path,
            passphrase,
            partial(ExecutionContext.load_from_disk, allow_insecure=insecure),
        )

    def open_for_writing(self) -> ExecutionContext | WriterContext:
        """The context on disk, be it the owner's or a writer's. Raises as `open_context`."""
        from xtrace_sdk.x_vec.utils.execution_context_files import read_stored
        from xtrace_sdk.x_vec.utils.execution_context_writer import TYPE, WriterContext

        path = self.context_path
        if path.is_file() and read_stored(path).get("type") == TYPE:
            return self._open(path, PASSPHRASE, WriterContext.load_from_disk)
        return self.open_context()

    def _open(
        self, path: Path, passphrase: str, load: Callable[[str | None, Path, KeyProvider | None], T]
    ) -> T:
        from xtrace_sdk.cli import kms
        from xtrace_sdk.x_vec.utils.execution_context_files import read_stored

        if not path.is_file():
            raise ConfigurationError(
                f"XTRACE_EXECUTION_CONTEXT_PATH: no context at {path}; `xtrace init` makes one"
            )
        stored = read_stored(path)
        if stored.get("key_provider") == "aws_kms":
            return load(None, path, kms.stored_provider(self, stored))
        secret = self.ask(passphrase)
        try:
            return load(secret, path, None)
        except DecryptionError as error:
            error.add_note(f"It is {path} that does not open; is its passphrase ({passphrase}) right?")
            raise

    def open_embedding(self) -> Embedding:
        """The embedding model that ``xtrace init`` described. Raises ConfigurationError without one."""
        from xtrace_sdk.x_vec.inference.embedding import Embedding

        return Embedding(**vars(self.read_model()))

    def read_model(self) -> Model:
        """The description of the embedding model. Raises ConfigurationError when there is none."""
        path = self.model_path
        if not path.is_file():
            raise ConfigurationError(
                f"XTRACE_EMBEDDING_MODEL_PATH: no model at {path}; `xtrace init` describes one"
            )
        text = _trusted_text(path, named=path != DEFAULT_MODEL)
        try:
            return Model(**json.loads(text))
        except (ValueError, TypeError):
            raise ConfigurationError(
                f"{path}: expected JSON with provider, model_name and dim; run `xtrace init`"
            ) from None

    def keyring_name(self, name: str) -> str:
        """Under which name the keyring keeps a secret: bound to the server or the context it belongs to."""
        if name == PASSPHRASE:
            return f"{name} {self.context_path.resolve()}"
        return f"{name} {self.api_url} {self.values.get('XTRACE_ORG_ID', '')}"

    def _credentials(self) -> dict[str, str]:
        named = self.values.get("XTRACE_CREDENTIALS_FILE")
        if not named:
            return {}
        try:
            content = json.loads(Path(named).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"XTRACE_CREDENTIALS_FILE: {named}: {error.strerror}") from None
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ConfigurationError(f"XTRACE_CREDENTIALS_FILE: {named} is not the server's credentials.json")
        return {name: value for name, value in content.items() if isinstance(value, str)}

    def _from_keyring(self, name: str) -> str | None:
        keyring = system_keyring()
        if keyring is None:
            return None
        with suppress(keyring.errors.KeyringError):  # locked, for one
            found: str | None = keyring.get_password(_KEYRING_SERVICE, self.keyring_name(name))
            return found
        return None

    def keep(self, name: str, secret: str) -> bool:
        """Put a secret into the system's keyring -> whether it is there now."""
        keyring = system_keyring()
        if keyring is None:
            return False
        with suppress(keyring.errors.KeyringError):
            keyring.set_password(_KEYRING_SERVICE, self.keyring_name(name), secret)
        return self._from_keyring(name) == secret


def system_keyring() -> Any:
    """The module ``keyring`` (extra ``keyring``), None without it or without a keyring on this system."""
    try:
        keyring, fail = import_module("keyring"), import_module("keyring.backends.fail")
    except ImportError:
        return None
    return None if isinstance(keyring.get_keyring(), fail.Keyring) else keyring


def read_env_file(path: Path, *, named: bool = True) -> dict[str, str]:
    """``NAME=value`` lines: values bare, in single quotes (as they are) or double quotes (with escapes).

    Raises ConfigurationError naming a malformed line, or when others may write the file: it could send keys
    to a server of theirs. A file that nobody `named` must also belong to the user.
    """
    values = {}
    for number, line in enumerate(_trusted_text(path, named=named).split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(text)
        value = _unquoted(match[2]) if match else None
        if match is None or value is None:
            raise ConfigurationError(f"{path}:{number}: expected NAME=value")
        values[match[1]] = value
    return values


def _trusted_text(path: Path, *, named: bool) -> str:
    """The text of a file that decides where keys and queries go."""
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(f"{path}: others may write it; run: chmod go-w {path}")
    # In a folder that all share, such as /tmp, somebody else may have left it for us to find.
    if not named and hasattr(os, "getuid") and status.st_uid not in (0, os.getuid()):
        raise ConfigurationError(f"{path}: belongs to another user; if you trust it, name its full path")
    return text


def write_env_file(path: Path, updates: Mapping[str, str]) -> None:
    """Set variables in a ``.env`` file, keeping its other lines: in one step, readable by its owner only."""
    kept = path.read_text(encoding="utf-8").rstrip("\n").split("\n") if path.is_file() else []
    for name in updates:
        kept = [line for line in kept if not re.match(rf"\s*(export\s+)?{re.escape(name)}\s*=", line)]
    lines = [*kept, *(f"{name}={json.dumps(value)}" for name, value in updates.items())]
    write_private(path, "".join(f"{line}\n" for line in lines))


def write_private(path: Path, text: str) -> None:
    """Replace the file at `path` in one step; mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
    ) as new:
        try:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).replace(path)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


def _unquoted(text: str) -> str | None:
    if text[:1] == "'":
        inner, closed, rest = text[1:].partition("'")
        return inner if closed and _is_comment(rest) else None
    if text[:1] == '"':
        match = re.fullmatch(r'"((?:[^"\\]|\\.)*)"(.*)', text)
        if match is None or not _is_comment(match[2]):
            return None
        try:
            return str(json.loads(f'"{match[1]}"', strict=False))
        except ValueError:  # an escape that JSON does not know stands for the character itself
            return re.sub(r"\\(.)", r"\1", match[1])
    return re.split(r"\s#", text, maxsplit=1)[0].strip()


def _is_comment(rest: str) -> bool:
    return not rest.strip() or rest.strip().startswith("#")


def ask_new_passphrase() -> str:
    """A new passphrase for a context, asked for at the terminal until it is typed the same twice."""
    while True:
        first = getpass.getpass("New passphrase for the context: ")
        if first and first == getpass.getpass("Once more: "):
            return first
        print("They differ, or are empty; again.", file=sys.stderr)
