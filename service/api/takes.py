"""What a request's body or an answer is, where a handler reads or streams it itself and so FastAPI does not know."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

REFERENCE = "#/components/schemas/{model}"
BINARY = {"type": "string", "format": "binary"}
TEXT = {"type": "string"}
# Schemas of all bodies and of what is in them, by name.
SCHEMAS: dict[str, dict[str, Any]] = {}


def takes(name: str, schema: dict[str, Any], **examples: Any) -> dict[str, Any]:
    """``openapi_extra`` of an operation with a JSON body. ``examples``: bodies by name."""
    SCHEMAS.update(schema.pop("$defs", {}))
    SCHEMAS[name] = schema
    shown = {key: {"value": value} for key, value in examples.items()}
    content = {"application/json": {"schema": {"$ref": REFERENCE.format(model=name)}, "examples": shown}}
    return {"requestBody": {"required": True, "content": content}}


def takes_model(model: type[BaseModel], **examples: Any) -> dict[str, Any]:
    """The same for a body that is one of our models."""
    return takes(model.__name__, model.model_json_schema(ref_template=REFERENCE), **examples)


def takes_bytes(**examples: str) -> dict[str, Any]:
    """The same for a body that is a file as it is."""
    shown = {key: {"value": value} for key, value in examples.items()}
    content = {"application/octet-stream": {"schema": BINARY, "examples": shown}}
    return {"requestBody": {"required": True, "content": content}}


def gives(media: dict[str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """``responses`` of an operation that answers 200 with something other than one JSON document: schemas by media type."""
    return {200: {"content": {name: {"schema": schema} for name, schema in media.items()}}}
