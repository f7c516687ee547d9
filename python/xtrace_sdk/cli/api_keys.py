"""``xtrace api-keys``: the keys with which programs reach the server. These commands need the admin key."""

from __future__ import annotations

from typing import Annotated

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import command, confirm, print_json, table
from xtrace_sdk.cli.kb import Permission, permission_name
from xtrace_sdk.cli.settings import Settings

app = typer.Typer(name="api-keys", help="Keys that programs reach the server with.", no_args_is_help=True)

KeyHash = Annotated[str, typer.Argument(metavar="HASH", help="Hash of the key, as `api-keys list` shows it.")]


@app.command()
@command
async def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    description: Annotated[str, typer.Option("--description", "-d", help="A few words about it.")] = "",
    json_output: options.Json = False,
    env_file: options.EnvFile = None,
) -> None:
    """Create an API key and show it, this once. It has no rights until `api-keys grant` gives it some."""
    async with Settings.load(env_file).connect(admin=True) as client:
        created = await client.create_api_key(name, description)
    if json_output:
        print_json(created)
    else:
        print(table([("hash", str(created["apiKey"].get("hash", ""))), ("key", created["secretKey"])]))
        print("It is shown only now. `xtrace api-keys grant HASH KB_ID read|write|delete` gives it a right.")


@app.command("list")
@command
async def list_(json_output: options.Json = False, env_file: options.EnvFile = None) -> None:
    """List the active API keys."""
    async with Settings.load(env_file).connect(admin=True) as client:
        keys = await client.list_api_keys()
    if json_output:
        print_json(keys)
    else:
        rows = [
            (key["hash"], *(str(key.get(name) or "") for name in ("firstN", "name", "lastUsedAt")))
            for key in keys
        ]
        print(table([("HASH", "BEGINS", "NAME", "LAST USED"), *rows]))


@app.command()
@command
async def revoke(
    key_hash: KeyHash,
    yes: options.Yes = False,
    json_output: options.Json = False,
    env_file: options.EnvFile = None,
) -> None:
    """Revoke an API key: whoever holds it is locked out at once."""
    settings = Settings.load(env_file)
    confirm(f"Revoke the key {key_hash}?", yes=yes, as_json=json_output)
    async with settings.connect(admin=True) as client:
        await client.revoke_api_key(key_hash)
    if json_output:
        print_json({"hash": key_hash, "status": "revoked"})
    else:
        print("revoked")


@app.command()
@command
async def grant(
    key_hash: KeyHash,
    kb_id: options.KbId,
    permission: Annotated[
        Permission,
        typer.Argument(metavar="PERMISSION", help="none, read, write or delete."),
    ],
    json_output: options.Json = False,
    env_file: options.EnvFile = None,
) -> None:
    """Set the right of an API key on a knowledge base. The right "none" takes it away."""
    async with Settings.load(env_file).connect(admin=True) as client:
        record = await client.set_key_permission(key_hash, kb_id, permission.bits)
    if json_output:
        print_json(record)
    else:
        print(f"{kb_id}: {permission_name(record['permission'])}")
