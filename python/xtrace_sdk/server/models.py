"""Request and response bodies: they check what arrives, and the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.records import LONGEST
from xtrace_sdk.server.problems import location

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

_MAX_ID = (1 << 63) - 1


def _integral(value: Any) -> Any:
    """JSON does not tell 5 from 5.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _known_permission(value: int) -> int:
    if value not in (0, wire.READ, wire.WRITE, wire.DELETE):
        raise ValueError("expected 0, 1, 3 or 7")
    return value


# The first wrong element ends the check: a list of a million wrong ones must not become a million errors.
Listed = Annotated[list[T], Field(fail_fast=True)]
# One request is one transaction and is held in memory as a whole; clients send far fewer.
MAX_CHUNKS = 10_000
# Parsing takes up to a microsecond and 200 bytes for each value; a request of so many is no honest one.
MAX_VALUES = 1_000_000
Chunks = Annotated[list[T], Field(fail_fast=True, max_length=MAX_CHUNKS)]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # no database holds NUL
Name = Annotated[Text, Field(max_length=1000)]
ContextId = Annotated[str, Field(pattern=f"^{wire.CONTEXT_ID}$")]
Integer = Annotated[int, BeforeValidator(_integral)]
Permission = Annotated[
    int,
    Field(json_schema_extra={"enum": [0, 1, 3, 7]}),
    AfterValidator(_known_permission),
    BeforeValidator(_integral),
]
Count = Annotated[int, Field(ge=0, le=_MAX_ID), BeforeValidator(_integral)]
ChunkId = Count
ChunkKey = Annotated[Text, Field(min_length=1, max_length=512)]
MetaFilter = Annotated[
    str | dict[str, Any] | None,
    Field(description="a filter as an object or its JSON text; see the documentation of the filter language"),
]
Projection = Listed[str] | None
Index = Annotated[Listed[str], Field(description="base64 of each ciphertext, little-endian")]
Record = Annotated[
    str,
    Field(
        max_length=-(-LONGEST // 3) * 4,
        description=f"base64 of at most {LONGEST} bytes, kept beside the vector and never looked into",
    ),
]


_TEXT = {"type": "string", "pattern": r"^[^\x00]*$"}
_TEXTS = {"type": "array", "items": _TEXT}
_EDITS = {
    "type": "object",
    "properties": {"$add": _TEXTS, "$remove": _TEXTS},
    "additionalProperties": False,
    "minProperties": 1,
}
_FACETS = {"anyOf": [_TEXTS, {"type": "null"}]}
_FACET_CHANGE = {"anyOf": [_TEXTS, _EDITS, {"type": "null"}]}


def _meta_schema(facets: dict[str, Any], **more: Any) -> WithJsonSchema:
    tags = {tag: {"anyOf": [_TEXT, {"type": "null"}]} for tag in wire.TAGS}
    return WithJsonSchema({"type": "object", "properties": {**tags, wire.FACETS: facets}, **more})


# Checked by `metadata`, which names the part that is wrong.
Meta = Annotated[dict[str, Any], _meta_schema(_FACETS)]
MetaChange = Annotated[dict[str, Any], _meta_schema(_FACET_CHANGE)]
MetaPatch = Annotated[dict[str, Any], _meta_schema(_FACET_CHANGE, minProperties=1)]
FacetChange = Annotated[Any, WithJsonSchema(_FACET_CHANGE)]


class Body(BaseModel):
    """Unknown fields are ignored, so that newer clients may send more; types are not converted."""

    model_config = ConfigDict(strict=True, extra="ignore")


async def read_body(request: Request, model: type[M]) -> tuple[bytes, M]:
    """The request's body and what it says. Raises InputError naming the first field that is wrong."""
    raw = await request.body()
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise InputError(
            f"body: more than {MAX_VALUES:,} commas and brackets, those inside texts included; "
            "send fewer chunks at a time"
        )
    try:
        return raw, model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(f"{location(first['loc'])}: {first['msg']}") from None


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI entry of a route that reads its own body (bounded, and after the key was checked)."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


class NewChunkBody(Body):
    """A chunk to store. `key` is the caller's own name for it, unique in the knowledge base."""

    chunk_content: Text
    index: Index
    record: Record | None = None
    meta_data: Meta | None = None
    name: Text = ""
    key: ChunkKey | None = None


class ChunkUpdateBody(NewChunkBody):
    """All fields of a chunk that exists; without `key` it keeps the key it has."""

    chunk_id: ChunkId


class ChunkPatchBody(Body):
    """Fields to change; tags and facets may stand beside `meta_data`.

    A new `index` comes with its own `record`, or without one.
    """

    chunk_id: ChunkId
    chunk_content: Text | None = None
    index: Index | None = None
    record: Record | None = None
    name: Text | None = None
    meta_data: MetaChange | None = None
    tag1: Text | None = None
    tag2: Text | None = None
    tag3: Text | None = None
    tag4: Text | None = None
    tag5: Text | None = None
    facets: FacetChange = None


class InsertBody(Body):
    """Chunks to store under new ids; a chunk whose key is taken replaces the one that has it."""

    kb_id: str
    chunks: Chunks[NewChunkBody]
    context_id: ContextId


class UpdateBody(Body):
    """Chunks to replace, all of them or none."""

    kb_id: str
    chunk_updates: Chunks[ChunkUpdateBody]
    context_id: ContextId


class PatchBody(Body):
    """Chunks to change in part, all of them or none."""

    kb_id: str
    context_id: ContextId
    chunk_patches: Chunks[ChunkPatchBody]


class ByMetaBody(Body):
    """Chunks by a filter."""

    kb_id: str
    context_id: ContextId | None = None
    meta_filter: MetaFilter = None
    dry_run: bool = False


class PatchByMetaBody(ByMetaBody):
    """Changes of metadata for all chunks that match."""

    patch: MetaPatch


class MetaSearchBody(Body):
    """A search by metadata alone."""

    kb_id: str
    meta_filter: MetaFilter = None
    context_id: ContextId | None = None
    projection: Projection = None
    return_content: bool = False


class MetaPageBody(MetaSearchBody):
    """One page of a search by metadata."""

    limit: Count | None = None
    offset: Count = 0
    sort_order: Literal["asc", "desc"] = "desc"
    sort_by: Literal["chunk_id", "name", "tag1", "tag2", "tag3", "tag4", "tag5", "created_at"] = "chunk_id"


class HammingBody(Body):
    """An encrypted query. `range` is the smallest and the greatest chunk id to search."""

    kb_id: str
    query: Index
    context_id: ContextId
    meta_filter: MetaFilter = None
    range: Annotated[list[Integer], Field(min_length=2, max_length=2)] | None = None


SealedManifest = Annotated[
    str,
    Field(
        max_length=-(-wire.MANIFEST_LONGEST // 3) * 4,
        description=f"base64 of 1 to {wire.MANIFEST_LONGEST} bytes, never looked into",
    ),
]


class ManifestLookUpBody(Body):
    """Which chunks to name beside the manifest, by at most one of the last four fields; none without."""

    kb_id: str
    context_id: ContextId
    chunk_ids: Listed[ChunkId] | None = None
    keys: Listed[ChunkKey] | None = None
    meta_filter: MetaFilter = None
    all: bool = False


class ManifestBody(Body):
    """The manifest to put in force, null for none, and the tag of the one in force, or ``none``."""

    kb_id: str
    context_id: ContextId
    expected: str
    manifest: SealedManifest | None


_CONTEXT_DATA = {
    "required": ["pk", "type", "config"],
    "properties": {
        "pk": {"type": "string", "description": "JSON text with the modulus n, an integer or its digits"},
        "type": {"type": "string"},
        "config": {"type": "string", "description": "JSON text with embed_len and key_len"},
    },
}


class ContextBody(Body):
    """A serialised execution context; `data` is stored and given back as it is."""

    data: Annotated[dict[str, Any], Field(json_schema_extra=_CONTEXT_DATA)]
    context_id: ContextId


class NamedBody(Body):
    """A knowledge base or an API key to create."""

    name: Name
    description: Name = ""


class PermissionBody(Body):
    """1 read, 3 read and write, 7 read, write and delete, 0 nothing."""

    permission: Permission


class Inserted(BaseModel):
    """`chunk_ids` in the order of the request."""

    response: str
    chunk_ids: list[int]
    count: int
    replaced_count: int


class Updated(BaseModel):
    response: str
    updated_count: int


class Deleted(BaseModel):
    response: str
    deleted_count: int


class ChunkAnswer(BaseModel):
    """A chunk; fields that were not asked for are absent."""

    chunk_id: int
    meta_data: dict[str, Any]
    name: str | None = None
    key: str | None = None
    chunk_content: str | None = None
    index: list[str] | None = None
    record: str | None = None


class RemovedChunk(BaseModel):
    """A chunk that is gone, or has left the context, with the change `sequence`."""

    chunk_id: int
    sequence: int


class ChangedChunk(BaseModel):
    """A chunk that is new or was changed, the last time with the change `sequence`."""

    chunk_id: int
    sequence: int
    context_id: str
    index: list[str]
    record: str | None = None


class Changes(BaseModel):
    """A page of the change feed; `sequence`, `after` and `began` say where the next one begins."""

    sequence: int
    after: int | None = None
    began: int | None = None
    has_more: bool
    removed: list[RemovedChunk]
    changed: list[ChangedChunk]


class ManifestRow(BaseModel):
    """A chunk and what its owner stored beside its vector, null if nothing."""

    chunk_id: int
    key: str | None
    record: str | None


class Manifest(BaseModel):
    """The manifest in force, null if none, and the chunks asked for, ascending, at change `sequence`."""

    manifest: str | None
    sequence: int
    rows: list[ManifestRow]


class ManifestStored(BaseModel):
    """The tag of the manifest that is in force now, ``none`` if none is."""

    tag: str


class Page(BaseModel):
    """One page; `total` counts all matches."""

    results: list[ChunkAnswer]
    total: int
    offset: int
    limit: int | None
    has_more: bool


class ContextStored(BaseModel):
    context_id: str


class ContextList(BaseModel):
    contexts: list[str]


class ContextIds(BaseModel):
    context_ids: list[str]


class KbIds(BaseModel):
    kb_ids: list[str]


class Acknowledged(BaseModel):
    response: str


class AdminRecord(BaseModel):
    """The admin routes answer in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class KbAnswer(AdminRecord):
    """A knowledge base; times are ISO 8601 in UTC."""

    id: str
    name: str
    description: str
    number_of_vectors: int
    created_at: str
    updated_at: str
    context_ids: list[str]


class KeyAnswer(AdminRecord):
    """An API key by the hash of its secret."""

    hash: str
    first_n: str
    name: str
    description: str
    status: Literal["active", "revoked"]
    created_at: str
    last_used_at: str | None


class KeyCreated(AdminRecord):
    """`secretKey` is shown this once."""

    api_key: KeyAnswer
    secret_key: str


class PermissionAnswer(AdminRecord):
    knowledge_base_id: str
    permission: int
    updated_at: str


class Health(BaseModel):
    status: Literal["ok"]
    version: str


class ErrorDetail(BaseModel):
    message: str
    code: int
    type: str


class ErrorAnswer(BaseModel):
    """Every error."""

    message: str
    error: ErrorDetail
    request_id: str


def add_body_schemas(app: FastAPI) -> None:
    """Put the bodies that routes read by themselves (`takes`) into the OpenAPI document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            bodies = list(Body.__subclasses__())
            bodies += [inner for body in bodies for inner in body.__subclasses__()]
            _, schemas = models_json_schema(
                [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
            )
            document["components"]["schemas"].update(schemas["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
