"""``xtrace kb``: knowledge bases. These commands need the admin key."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import FAILED, command, confirm, print_json, printable, style, table
from xtrace_sdk.cli.settings import API_KEY, Settings
from xtrace_sdk.errors import ApiError

if TYPE_CHECKING:
    from xtrace_sdk.integrations.xtrace import XTraceIntegration

app = typer.Typer(name="kb", help="Knowledge bases.", no_args_is_help=True)


class Permission(StrEnum):
    """What an API key may do with a knowledge base; each includes the ones before."""

    none = "none"
    read = "read"
    write = "write"
    delete = "delete"

    @property
    def bits(self) -> int:
        """The number that the server knows it by."""
        return {"none": 0, "read": 1, "write": 3, "delete": 7}[self.value]


def permission_name(bits: int) -> str:
    """The name of a permission that the server tells as a number."""
    return next((one.value for one in Permission if one.bits == bits), str(bits))


KbIds = Annotated[list[str], typer.Argument(metavar="KB_ID...", help="Ids of knowledge bases.")]


@app.command()
@command
async def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new knowledge base.")],
    description: Annotated[str, typer.Option("--description", "-d", help="A few words about it.")] = "",
    permission: Annotated[
        Permission | None,
        typer.Option("--permission", "-p", help="Right of your API key on it; at least write by default."),
    ] = None,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Create a knowledge base and give your API key a right on it."""
    settings = Settings.load(env_file, api_key)
    async with settings.connect(admin=True) as client:
        kb = await client.create_kb(name, description)
        granted: dict[str, Any] = {}
        try:
            granted["permission"] = await _grant(client, settings, kb["id"], permission)
        except ApiError as error:  # the knowledge base is there all the same
            granted["permissionError"] = str(error)
    if json_output:
        print_json({**kb, **granted})
        return
    print(printable(kb["id"]))
    if "permissionError" in granted:
        print(style(printable(f"The API key was given no right: {granted['permissionError']}"), "yellow"))


async def _grant(
    client: XTraceIntegration, settings: Settings, kb_id: str, wanted: Permission | None
) -> str | None:
    """The right of the API key on the knowledge base, None when no API key is known."""
    secret = settings.secret(API_KEY)
    if secret is None or wanted is Permission.none:
        return None
    key_hash = hash_of(secret)
    if wanted is None:
        held = await _permissions(client, key_hash)
        if held.get(kb_id, 0) >= Permission.write.bits:
            return permission_name(held[kb_id])
        wanted = Permission.write
    await client.set_key_permission(key_hash, kb_id, wanted.bits)
    return wanted.value


def hash_of(secret: str) -> str:
    """The name of an API key in addresses: never a part of it, which others might share."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def _permissions(client: XTraceIntegration, key_hash: str) -> dict[str, int]:
    records = await client.get_key_permissions(key_hash)
    return {record["knowledgeBaseId"]: int(record["permission"]) for record in records}


@app.command("list")
@command
async def list_(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those on which your API key has no right.")
    ] = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """List the knowledge bases that your API key may use."""
    settings = Settings.load(env_file, api_key)
    async with settings.connect(admin=True) as client:
        kbs = await client.list_kbs()
        secret = settings.secret(API_KEY)
        held = await _permissions(client, hash_of(secret)) if secret else None
    if held is None:
        everything, held = True, {}
    shown = [{**kb, "permissionLabel": held.get(kb["id"], 0)} for kb in kbs if everything or kb["id"] in held]
    if json_output:
        print_json(shown)
    elif shown:
        header = ("ID", "NAME", "VECTORS", "RIGHT", "UPDATED")
        rows = [
            (
                kb["id"],
                str(kb.get("name", "")),
                f"{kb['numberOfVectors']:,}" if type(kb.get("numberOfVectors")) is int else "?",
                permission_name(kb["permissionLabel"]),
                str(kb.get("updatedAt", "")),
            )
            for kb in shown
        ]
        print(table([header, *rows], right=(2,)))
    else:
        print("none; `xtrace kb create NAME` makes one")


@app.command()
@command
async def describe(
    kb_ids: KbIds,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Show knowledge bases in detail. Exits with 1 when one is not there."""
    settings = Settings.load(env_file, api_key)
    found: list[dict[str, Any]] = []
    async with settings.connect(admin=True) as client:
        for kb_id in kb_ids:
            try:
                found.append(await client.get_kb(kb_id))
            except ApiError as error:
                found.append({"id": kb_id, "status": "error", "code": error.status, "message": error.message})
    if json_output:
        print_json(found)
    else:
        for kb in found:
            print(table([(name, _shown(value)) for name, value in kb.items()]), end="\n\n")
    if any("code" in kb for kb in found):
        raise typer.Exit(FAILED)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@app.command()
@command
async def delete(
    kb_ids: KbIds,
    yes: options.Yes = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Delete knowledge bases with all their chunks. Exits with 1 unless all were deleted."""
    settings = Settings.load(env_file, api_key)
    what = (
        "this knowledge base with all its"
        if len(kb_ids) == 1
        else f"{len(kb_ids)} knowledge bases with all their"
    )
    confirm(f"Delete {what} chunks?", yes=yes, as_json=json_output)
    results: list[dict[str, Any]] = []
    async with settings.connect(admin=True) as client:
        for kb_id in kb_ids:
            try:
                await client.delete_kb(kb_id)
                results.append({"id": kb_id, "status": "deleted"})
            except ApiError as error:
                status = "not_found" if error.status == 404 else "error"
                results.append(
                    {"id": kb_id, "status": status, "code": error.status, "message": error.message}
                )
    if json_output:
        print_json(results)
    else:
        print(table([(result["id"], result["status"], result.get("message", "")) for result in results]))
    if any(result["status"] != "deleted" for result in results):
        raise typer.Exit(FAILED)
