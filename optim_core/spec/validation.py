"""From raw JSON or YAML to a StudySpec, or to errors that say where: (JSON pointer, stable code, sentence)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from optim_core.spec import layers as layer_types
from optim_core.spec.errors import SpecError
from optim_core.spec.names import did_you_mean, unknown_name
from optim_core.spec.problem import (
    Budget,
    BuiltinDataset,
    CatalogueModel,
    FileDataset,
    LayersModel,
    PythonDataset,
    PythonModel,
    Search,
    StudySpec,
    Training,
)

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# Tags of unions that pydantic puts into a location; they are not part of the document.
_TAGS = {"catalogue", "layers", "builtin", "file", "python", *(
    name for name in vars(layer_types) if name[0].isupper()
), "ReLU", "GELU", "Tanh", "SiLU", "Sigmoid"}  # fmt: skip
_MODELS: dict[str, tuple[type, ...]] = {
    "": (StudySpec,),
    "model": (CatalogueModel, LayersModel, PythonModel),
    "dataset": (BuiltinDataset, FileDataset, PythonDataset),
    "training": (Training,),
    "search": (Search,),
    "budget": (Budget,),
}
# What pydantic says → what we promise.
_CODES = {
    "extra_forbidden": "unknown_field",
    "missing": "field_required",
    "finite_number": "number_not_finite",
    "string_too_long": "too_long",
    "string_too_short": "too_short",
    "too_long": "too_long",
    "too_short": "too_short",
    "union_tag_not_found": "field_required",
    "union_tag_invalid": "unknown_value",
    "literal_error": "unknown_value",
    "string_unicode": "invalid_text",
    "int_from_float": "wrong_type",
}
_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "int_parsing_size"}


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong. ``pointer``: RFC 6901, ``""`` for the whole document."""

    pointer: str
    code: str
    detail: str


class SpecErrors(SpecError):
    """Everything that is wrong with a spec, the first error leading."""

    def __init__(self, errors: list[FieldError]) -> None:
        first = errors[0]
        super().__init__(first.detail, code=first.code, pointer=first.pointer)
        self.errors = errors


def parse_spec(raw: Any) -> StudySpec:
    """Validate a decoded document. Raises SpecErrors. Whole floats (``5.0``) are taken where a count is meant."""
    found = list(_hostile(raw, ""))
    if found:
        raise SpecErrors(found[:20])
    try:
        # JSON mode: what arrives over the wire is what is judged, strictly.
        return StudySpec.model_validate_json(json.dumps(_whole_floats(raw)))
    except ValidationError as error:
        raise SpecErrors([_translate(one, raw) for one in error.errors(include_url=False)][:20]) from None


def _hostile(value: Any, pointer: str, depth: int = 0) -> Iterator[FieldError]:
    """Numbers and texts that no database or browser should ever meet."""
    if depth > 40:
        yield FieldError(pointer, "malformed_json", "nested too deeply")
    elif isinstance(value, float) and not math.isfinite(value):
        yield FieldError(pointer, "number_not_finite", "must be a finite number")
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        yield FieldError(pointer, "number_out_of_range", "is too large")
    elif isinstance(value, str) and _UNSAFE.search(value):
        yield FieldError(pointer, "invalid_text", "contains control characters or half a character")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or _UNSAFE.search(key):
                yield FieldError(pointer, "invalid_text", "a key contains control characters or is no text")
            else:
                yield from _hostile(item, f"{pointer}/{_escape(key)}", depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _hostile(item, f"{pointer}/{i}", depth + 1)


def _whole_floats(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _whole_floats(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_whole_floats(v, key) for v in value]
    # Ranges and the like take floats anyway, and JSON makes no difference between 5 and 5.0.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _translate(error: Any, raw: Any) -> FieldError:
    location = _location(error["loc"], raw)
    pointer = "".join(f"/{_escape(str(part))}" for part in location)
    kind, message = str(error["type"]), str(error["msg"])
    if kind == "value_error":
        cause = error["ctx"]["error"]
        if isinstance(cause, SpecError):
            return FieldError(pointer + cause.pointer, cause.code, str(cause))
        return FieldError(pointer, "invalid_value", str(cause))
    if kind == "extra_forbidden":
        return FieldError(pointer, "unknown_field", _unknown_key(location))
    if kind == "missing":
        return FieldError(pointer, "field_required", "is required")
    if kind in ("union_tag_invalid", "literal_error"):
        return _unknown_value(pointer, error)
    if kind == "union_tag_not_found":
        tag = str(error.get("ctx", {}).get("discriminator", "'kind'")).strip("'")
        return FieldError(f"{pointer}/{tag}", "field_required", "is required")
    code = "number_out_of_range" if kind in _RANGE else _CODES.get(kind, "wrong_type")
    return FieldError(pointer, code, message[:1].lower() + message[1:].replace("Input should", "should"))


def _location(parts: tuple[int | str, ...], raw: Any) -> list[int | str]:
    """The path in the document: union tags, which are no keys of it, left out."""
    path: list[int | str] = []
    here: Any = raw
    for i, part in enumerate(parts):
        known = (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int))
        if not known and part in _TAGS and i < len(parts):
            continue
        path.append(part)
        try:
            here = here[part]  # pyright: ignore[reportArgumentType, reportCallIssue]
        except (KeyError, IndexError, TypeError):
            here = None
    return path


def _unknown_key(location: list[int | str]) -> str:
    parent = str(location[0]) if len(location) > 1 else ""
    fields = {name for model in _MODELS.get(parent, ()) for name in model.model_fields}
    return unknown_name("key", location[-1], sorted(fields))


def _unknown_value(pointer: str, error: Any) -> FieldError:
    context = error.get("ctx", {})
    expected = re.findall(r"'([^']+)'", str(context.get("expected") or context.get("expected_tags") or ""))
    given = error.get("input")
    if isinstance(given, dict):
        tag = str(context.get("discriminator", "'kind'")).strip("'")
        pointer, given = f"{pointer}/{tag}", given.get(tag)
    text = str(given)[:80]
    hint = did_you_mean(text, expected) or f"; choose one of {', '.join(expected)}"
    code = "unknown_layer" if "/layers/" in pointer and pointer.endswith("/type") else "unknown_value"
    return FieldError(pointer, code, f"unknown value {text!r}{hint}")


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
