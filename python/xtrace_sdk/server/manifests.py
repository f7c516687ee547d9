"""Manifests in the headers of requests and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, Header

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.server.storage.base import NewManifest

_MOST: Final = 8  # a change takes chunks from few contexts to one

_DESCRIPTION: Final = (
    "`<context id>;<tag of the manifest in force, or none>;<base64 of the new one>`, once for each context "
    "whose vectors the request changes. Both are stored together, or neither: 412 when another manifest is "
    "in force, and when a context has a manifest and its header is missing."
)
#: The OpenAPI entry of an answer that says which manifests are in force.
TAGGED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            wire.MANIFEST_TAG_HEADER: {
                "description": "The tag of the manifest in force, for a request that brought one; of "
                "several, in their order, joined by commas.",
                "schema": {"type": "string"},
            }
        }
    }
}
#: The OpenAPI entry of the header of a search.
SEALED: Final[dict[str, Any]] = {
    wire.MANIFEST_HEADER: {
        "description": "Base64 of the manifest of the very state that was searched; only of a search without "
        "filter and range in a knowledge base that keeps one.",
        "schema": {"type": "string"},
    }
}


def _sent(
    x_xtrace_manifest: Annotated[list[str] | None, Header(description=_DESCRIPTION)] = None,
) -> tuple[NewManifest, ...]:
    values = [one.strip() for line in x_xtrace_manifest or () for one in line.split(",")]
    if len(values) > _MOST:
        raise InputError(f"{wire.MANIFEST_HEADER}: given more than {_MOST} times")
    manifests = tuple(NewManifest(*wire.decode_manifest_header(one)) for one in values)
    if len({one.context_id for one in manifests}) < len(manifests):
        raise InputError(f"{wire.MANIFEST_HEADER}: the same context is given twice")
    return manifests


Manifests = Annotated[tuple[NewManifest, ...], Depends(_sent)]


def tags_header(tags: Sequence[str]) -> dict[str, str]:
    """The header of an answer to a request that brought manifests, with the tags in force; else nothing."""
    return {wire.MANIFEST_TAG_HEADER: ",".join(tags)} if tags else {}


def tags_of(manifests: Sequence[NewManifest]) -> list[str]:
    """The tags in force after a change that was made with `manifests`."""
    return [wire.manifest_tag(one.sealed) for one in manifests]


def refuse(manifests: Sequence[NewManifest]) -> None:
    """For routes where a manifest has no meaning. Raises InputError."""
    if manifests:
        raise InputError(
            f"{wire.MANIFEST_HEADER}: not with a filter, as the server settles what that matches; "
            "resolve it first and name the chunks"
        )
