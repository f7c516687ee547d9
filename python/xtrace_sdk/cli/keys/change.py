"""``xtrace keys rewrap``, ``begin-epoch`` and ``retire-epoch``: change a context, not the data under it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import command, confirm, print_json
from xtrace_sdk.cli.settings import PASSPHRASE, Settings, ask_new_passphrase
from xtrace_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.crypto.key_provider import KeyProvider, PassphraseKeyProvider
    from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

NEW_PASSPHRASE: Final = "XTRACE_NEW_PASS_PHRASE"  # noqa: S105 - the name of a variable

File = Annotated[
    Path | None, typer.Option("--context", "-c", metavar="FILE", help="Context instead of the settings'.")
]
Remote = Annotated[
    bool, typer.Option("--remote", help="Also replace the copy that the server keeps for other devices.")
]


@command
async def rewrap(
    to_kms: Annotated[
        bool, typer.Option("--to-kms", help="Move to the AWS KMS key XTRACE_KMS_KEY_ID, not to a passphrase.")
    ] = False,
    context: File = None,
    remote: Remote = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Protect a context by a new passphrase or by AWS KMS. No data are touched.

    The new passphrase is XTRACE_NEW_PASS_PHRASE, or asked for. Copies made before still open as they did:
    destroy them, and if the old passphrase is known to others, move the data with `xtrace keys migrate`.
    """
    settings = Settings.load(env_file, api_key)
    path = context or settings.context_path
    opened = settings.open_context(path)
    opened.rewrap(key_provider=_new_provider(settings, opened, to_kms=to_kms))
    await _saved(settings, opened, path, remote=remote)
    report = {"id": opened.id, "key_provider": opened.key_provider.provider_id(), "revision": opened.revision}
    _say(report, f"{path} is now protected by {_NAMES[to_kms]}.", json_output)


@command
async def begin_epoch(
    context: File = None,
    remote: Remote = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Start a key epoch: new data are under a key of their own. The rest stays readable."""
    settings = Settings.load(env_file, api_key)
    path = context or settings.context_path
    opened = settings.open_context(path)
    epoch = opened.begin_epoch()
    await _saved(settings, opened, path, remote=remote)
    report = {"id": opened.id, "epoch": epoch, "epochs": opened.epochs, "revision": opened.revision}
    _say(report, f"Epoch {epoch} has begun; other devices need this context anew.", json_output)


@command
async def retire_epoch(
    epoch: Annotated[int, typer.Argument(metavar="EPOCH", help="A past epoch.")],
    context: File = None,
    remote: Remote = False,
    yes: options.Yes = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Destroy the key of a past epoch, and its data with it.

    Nobody can read the data that were stored under it any more, wherever copies of them are. That holds
    once no copy of the context is left that has the key: backups, other devices, the server (--remote).
    """
    settings = Settings.load(env_file, api_key)
    path = context or settings.context_path
    opened = settings.open_context(path)
    opened.retire_epoch(epoch)
    confirm(f"Make everything stored in epoch {epoch} unreadable for ever?", yes=yes, as_json=json_output)
    await _saved(settings, opened, path, remote=remote)
    report = {"id": opened.id, "epoch": opened.epoch, "epochs": opened.epochs, "revision": opened.revision}
    _say(report, f"The key of epoch {epoch} is destroyed in {path}.", json_output)


_NAMES: Final = {False: "the new passphrase", True: "AWS KMS"}


def _new_provider(settings: Settings, context: ExecutionContext, *, to_kms: bool) -> KeyProvider:
    from xtrace_sdk.cli import kms

    return kms.new_provider(settings, context.id) if to_kms else new_passphrase(settings)


def new_passphrase(settings: Settings) -> PassphraseKeyProvider:
    """A provider of the new passphrase, asked for if need be. Raises ConfigurationError without one."""
    from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider

    given = settings.values.get(NEW_PASSPHRASE)
    if given:
        return PassphraseKeyProvider(given)
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"{NEW_PASSPHRASE}: set it in the environment, or run this command at a terminal"
        )
    return PassphraseKeyProvider(ask_new_passphrase())


async def _saved(settings: Settings, context: ExecutionContext, path: Path, *, remote: bool) -> None:
    context.save_to_disk(path)
    if remote:
        async with settings.connect() as client:
            await context.save_to_remote(client)


def _say(report: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        print(text)
        if report.get("key_provider") == "passphrase":
            print(f"If {PASSPHRASE} is set or in the keyring, change it there.")
