"""``xtrace init``: settings, embedding model and context, once per project."""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from xtrace_sdk.cli import kms, options
from xtrace_sdk.cli.console import command, fail, print_json, table
from xtrace_sdk.cli.settings import (
    ADMIN_KEY,
    API_KEY,
    DEFAULT_URL,
    INFERENCE_KEY,
    PASSPHRASE,
    Model,
    Settings,
    ask_new_passphrase,
    read_env_file,
    write_env_file,
    write_private,
)
from xtrace_sdk.errors import ConfigurationError

_PROVIDERS: Final = ("simhash", "ollama", "openai", "sentence_transformer")


@command
async def init(
    env_file: Annotated[
        Path, typer.Option("--env-file", "-f", metavar="PATH", help="Where settings are written.")
    ] = Path(".env"),
    api_url: Annotated[str | None, typer.Option(metavar="URL", help="The server.")] = None,
    org_id: Annotated[str | None, typer.Option(metavar="ID", help="Your organisation there.")] = None,
    credentials: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The credentials.json of a server of your own, instead of keys."),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="Ask for the admin key, too.")] = False,
    inference: Annotated[
        bool, typer.Option("--inference", help="Ask for a language model's key, too.")
    ] = False,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Embedding provider: {', '.join(_PROVIDERS)}.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Embedding model.")] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Dimensions of the embedding.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Embedding service, if not the provider's own.")
    ] = None,
    key_len: Annotated[
        int, typer.Option(min=1024, metavar="BITS", help="Bits of each prime; 1536 for data that must last.")
    ] = 1024,
    kms_key: Annotated[
        str | None,
        typer.Option(metavar="ID", help="AWS KMS key (id, ARN or alias) to seal the context with."),
    ] = None,
    kms_context: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Encryption context for KMS. May be given several times."),
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Also keep the context, its keys sealed, on the server.")
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Prepare a project: its settings, its embedding, and your keys.

    Asks at a terminal for what no option tells. Settings go to the .env file, the model's description to
    data/embed_model, the context, sealed by a passphrase or by AWS KMS, to data/exec_context. Secrets go to
    the system's keyring if there is one and are never written to a file. A context that exists is kept and
    used.
    """
    from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.utils.execution_context_files import prepare_target

    if kms_context and not kms_key:
        raise ConfigurationError("--kms-context: goes together with --kms-key")
    in_kms = {kms.KEY_ID: kms_key or "", kms.ENCRYPTION_CONTEXT: kms.pairs(kms_context or [])}
    settings, updates = _settings(env_file, api_url, org_id, credentials, in_kms if kms_key else {})
    described = _model(settings, provider, model, dimensions, base_url)
    new = not settings.context_path.is_file()
    by_kms = bool(settings.values.get(kms.KEY_ID))
    given = {API_KEY: settings.ask(API_KEY)}
    if not by_kms:
        given[PASSPHRASE] = _passphrase(settings, new=new)
    if admin:
        given[ADMIN_KEY] = settings.ask(ADMIN_KEY)
    if inference:
        given[INFERENCE_KEY] = settings.ask(INFERENCE_KEY)
    settings = replace(settings, given=given)
    async with settings.connect() as client:
        await client.list_exec_contexts()  # a wrong address or key is told before anything is made
        if new:
            prepare_target(settings.context_path)
            context = ExecutionContext.create(
                # KMS binds the context's id, which there is only afterwards.
                secrets.token_urlsafe(32) if by_kms else given[PASSPHRASE],
                "paillier_lookup",
                described.dim,
                key_len,
                encoding="authenticated",
            )
            if by_kms:
                context.rewrap(key_provider=kms.new_provider(settings, context.id))
            context.save_to_disk(settings.context_path)
        else:
            context = settings.open_context()
        if context.embed_len() != described.dim:
            fail(
                f"{settings.context_path}: this context holds {context.embed_len()} dimensions, not "
                f"{described.dim}; choose a model that fits, or move the context away to make a new one",
                as_json=json_output,
            )
        if remote:
            await context.save_to_remote(client)
        else:
            await client.register_public_context(context.public_part(), context.id)
    write_private(settings.model_path, json.dumps(vars(described), indent=2) + "\n")
    write_env_file(env_file, {**updates, "XTRACE_CONTEXT_ID": context.id})
    kept = [name for name, secret in given.items() if settings.keep(name, secret)]
    if json_output:
        print_json({"context_id": context.id, "env_file": str(env_file), "in_keyring": kept})
        return
    model_name = " ".join(dict.fromkeys([described.provider, described.model_name]))  # simhash once
    rows = [
        ("server", f"{settings.api_url}, organisation {settings.org_id}"),
        ("embedding", f"{model_name}, {described.dim} dimensions"),
        ("context", f"{'new' if new else 'kept'}: {settings.context_path}, id {context.id[:12]}…"),
        ("settings", str(env_file)),
        ("keyring", ", ".join(kept) or "none (needs the extra 'keyring' and a system that has one)"),
    ]
    print(table(rows))
    if new:
        secret = "keep the KMS key" if by_kms else "remember its passphrase"
        print(f"Keep a copy of the context and {secret}: without both the data stay unreadable.")
    asked = [name for name in given if name not in kept and not replace(settings, given={}).secret(name)]
    if asked:
        print(f"Kept nowhere: {', '.join(asked)}. Set them in the environment, or be asked each time.")


def _settings(
    env_file: Path,
    api_url: str | None,
    org_id: str | None,
    credentials: Path | None,
    more: dict[str, str],
) -> tuple[Settings, dict[str, str]]:
    """The settings to be, and what of them the ``.env`` file shall hold."""
    in_file = read_env_file(env_file, named=env_file != Path(".env")) if env_file.is_file() else {}
    known = {**in_file, **os.environ}
    updates = {
        "XTRACE_API_URL": _asked("Server", api_url or known.get("XTRACE_API_URL"), DEFAULT_URL).rstrip("/"),
        "XTRACE_EXECUTION_CONTEXT_PATH": str(Settings(known).context_path),
        "XTRACE_EMBEDDING_MODEL_PATH": str(Settings(known).model_path),
        **more,
    }
    if credentials is not None:
        updates["XTRACE_CREDENTIALS_FILE"] = str(credentials.resolve())
    settings = Settings({**known, **updates})
    if org_id or credentials is None:
        updates["XTRACE_ORG_ID"] = _asked("Organisation id", org_id or known.get("XTRACE_ORG_ID"))
    else:
        updates["XTRACE_ORG_ID"] = settings.org_id
    return Settings({**known, **updates}), updates


def _model(
    settings: Settings, provider: str | None, name: str | None, dimensions: int | None, base_url: str | None
) -> Model:
    """The embedding model that the options, the earlier description or the person at the terminal choose."""
    from xtrace_sdk.x_vec.inference.embedding import Embedding

    if provider is None and name is None and dimensions is None and settings.model_path.is_file():
        return settings.read_model()
    provider = _asked(f"Embedding provider ({', '.join(_PROVIDERS)})", provider, "simhash")
    if provider not in _PROVIDERS:
        raise typer.BadParameter(f"--provider {provider}: expected one of {', '.join(_PROVIDERS)}")
    name = _asked("Embedding model", name or ("simhash" if provider == "simhash" else None))
    dim = _asked("Dimensions", str(dimensions) if dimensions else None, "512")
    if not dim.isdecimal():
        raise typer.BadParameter(f"--dimensions {dim}: expected a number")
    described = Model(provider, name, int(dim), base_url)
    Embedding(**vars(described))  # refuses what cannot be used, before keys are made
    return described


def _asked(question: str, given: str | None, default: str | None = None) -> str:
    """What was given, else an answer at the terminal, else the default."""
    found = given
    if not found and sys.stdin.isatty():
        found = input(f"{question}{f' [{default}]' if default else ''}: ").strip()
    found = found or default
    if not found:
        raise ConfigurationError(f"{question}: give it as an option, or run this command at a terminal")
    return found


def _passphrase(settings: Settings, *, new: bool) -> str:
    """The passphrase; a new one at a terminal is asked for twice."""
    known = settings.secret(PASSPHRASE)
    if known or not new or not sys.stdin.isatty():
        return known or settings.ask(PASSPHRASE)
    return ask_new_passphrase()
