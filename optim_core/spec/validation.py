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
from optim_core.spec.errors import SpecError, escape
from optim_core.spec.names import did_you_mean, unknown_name
from optim_core.spec.problem import (
    ArtifactDataset,
    Budget,
    BuiltinDataset,
    CatalogueModel,
    ExternalDataset,
    ExternalModel,
    FileDataset,
    LayersModel,
    PythonDataset,
    PythonModel,
    RowSplit,
    Search,
    StudySpec,
    Training,
)
from optim_core.spec.shorthand import long_form

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# Embeddings, overrides and isolates of the direction of writing: a name that has them shows as another one.
TURNING = "\u202a-\u202e\u2066-\u2069"
_TURNING = re.compile(f"[{TURNING}]")
# Parts of a spec whose kind stands in a location right after them, whatever their keys are called.
_UNIONS = ("model", "dataset")
_LAYER_CLASSES = {"GRU": "Recurrent", "LSTM": "Recurrent"} | dict.fromkeys(
    ("ReLU", "GELU", "Tanh", "SiLU", "Sigmoid"), "Activation"
)
# What torch's layers of these names ask for first.
_WORKED_OUT = frozenset(
    ("in_features", "in_channels", "num_features", "num_channels", "normalized_shape", "input_size")
)  # fmt: skip
_MODELS: dict[str, tuple[type, ...]] = {
    "": (StudySpec,),
    "model": (CatalogueModel, LayersModel, PythonModel, ExternalModel),
    "dataset": (BuiltinDataset, FileDataset, ArtifactDataset, PythonDataset, ExternalDataset),
    "split": (RowSplit,),
    "training": (Training,),
    "search": (Search,),
    "budget": (Budget,),
}
MOST_ERRORS = 20
# So many keys are named where one is unlike all of them.
_FEW = 12
# ``model``, ``layers``, and which one: what comes then is a key of a layer.
LAYER_DEPTH = 3
# What a person sees first: names that are none, and last what is missing. The order of the document within each.
_ORDER = {"unknown_field": 0, "unknown_value": 0, "unknown_layer": 0, "field_required": 2}
# How pydantic names the branch of a union that it tried.
_BRANCH = re.compile(r"(literal|dict|list|tuple|set|constrained|function)[-\w]*\[")
# Names of other tools for what has its place here or needs none.
_ELSEWHERE = {
    "folds": (
        "rows split at random or by group take turns in five folds by themselves; a split by time, column or files has one, "
        "which is confirmed with more seeds; folds of your own are groups: split: {by: group, column: FOLD}"
    ),
    "test_size": "its place is training.test_fraction",
    "validation_size": "its place is training.validation_fraction",
    "fractions": "their places are training.validation_fraction and training.test_fraction; what is left trains",
    "shuffle": "rows split at random are shuffled, by seed; a split by time keeps their order",
    "stratify": "each class has its share in every part of a random split",
}
_ELSEWHERE |= dict.fromkeys(("ratio", "ratios", "sizes"), _ELSEWHERE["fractions"])
_ELSEWHERE |= dict.fromkeys(("n_folds", "n_splits", "k", "cv", "kfold", "num_folds"), _ELSEWHERE["folds"])
_ELSEWHERE |= {"test_fraction": _ELSEWHERE["test_size"], "validation_fraction": _ELSEWHERE["validation_size"]}
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
    """Validate a decoded document, short forms included (``shorthand``). Raises SpecErrors, misspelt names first: what they
    were to say is missing because of them. Whole floats (``5.0``) are taken where a count is meant.
    """
    found = list(_hostile(raw, ""))
    if found:
        raise SpecErrors(found[:MOST_ERRORS])
    document, unread = long_form(raw)
    errors = [FieldError(error.pointer, error.code, str(error)) for error in unread]
    try:
        # JSON mode: what arrives over the wire is what is judged, strictly.
        spec = StudySpec.model_validate_json(json.dumps(_whole_floats(document)))
    except ValidationError as error:
        unreadable = {f"/{one.pointer.split('/')[1]}" for one in errors}
        translated = _innermost([_translate(one, document) for one in _of_one_branch(error.errors(include_url=False))])
        if _external(document):
            # Its metric may have any name, which cannot be known where the model is not understood.
            translated = [one for one in translated if (one.pointer, one.code) != ("/metric", "unknown_value")]
        errors += [_as_written(one, raw) for one in translated if one.pointer not in unreadable]
    else:
        return spec
    raise SpecErrors(sorted(errors, key=lambda error: _ORDER.get(error.code, 1))[:MOST_ERRORS])


def _innermost(errors: list[FieldError]) -> list[FieldError]:
    """One error a field. A value that may be of several kinds was meant for that in which it is wrong further inside."""
    first = {one.pointer: one for one in reversed(errors)}
    of_the_whole = ("unknown_value", "wrong_type")
    return [
        one
        for one in errors
        if first[one.pointer] is one
        and not (one.code in of_the_whole and any(other.startswith(f"{one.pointer}/") for other in first))
    ]


def _external(document: Any) -> bool:
    model = document.get("model") if isinstance(document, dict) else None
    return isinstance(model, dict) and model.get("kind") == "external"


def _as_written(error: FieldError, raw: Any) -> FieldError:
    """The error with a pointer into the document as it was written, where a part of it is short."""
    part = error.pointer.split("/")[1] if error.pointer else ""
    short = isinstance(raw, dict) and isinstance(raw.get(part), str)
    return FieldError(f"/{part}", error.code, error.detail) if short else error


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
    elif pointer == "/name" and isinstance(value, str) and _TURNING.search(value):
        yield FieldError(pointer, "invalid_text", "contains characters that turn what stands beside it round")
    elif isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not int and (not isinstance(key, str) or _UNSAFE.search(key)):
                # JSON writes a whole number as text: a class may be called 0.
                yield FieldError(pointer, "invalid_text", "a key contains control characters or is no text")
            else:
                yield from _hostile(item, f"{pointer}/{escape(str(key))}", depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _hostile(item, f"{pointer}/{i}", depth + 1)


def _whole_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _whole_floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_whole_floats(v) for v in value]
    # Ranges and the like take floats anyway, and JSON makes no difference between 5 and 5.0.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _of_one_branch(errors: list[Any]) -> list[Any]:
    """Of a union without a tag pydantic says what each branch is missing. What was meant is the branch that got furthest; where
    none did, what any of them would take.
    """
    branches: dict[tuple[int | str, ...], list[Any]] = {}
    for error in errors:
        place = next((i for i, part in enumerate(error["loc"]) if _BRANCH.match(str(part))), None)
        branches.setdefault(("", *error["loc"]) if place is None else error["loc"][:place], []).append(error)
    found = []
    for where, several in branches.items():
        if len(several[0]["loc"]) == len(where) - 1:
            found += several
            continue
        depth = len(where) + 1
        deeper = [error for error in several if len(error["loc"]) > depth]
        if deeper:
            found += [{**error, "loc": (*where, *error["loc"][depth:])} for error in deeper]
            continue
        literal = next((error for error in several if error["type"] == "literal_error"), several[0])
        others = any(error is not literal for error in several)
        found.append({**literal, "loc": where, "type": "branch_error"} if others else {**literal, "loc": where})
    return found


def _translate(error: Any, raw: Any) -> FieldError:
    location = _location(error["loc"], raw, error["type"] == "missing")
    pointer = "".join(f"/{escape(part)}" for part in location)
    kind, message = str(error["type"]), str(error["msg"])
    if kind == "value_error":
        cause = error["ctx"]["error"]
        if isinstance(cause, SpecError):
            return FieldError(pointer + cause.pointer, cause.code, str(cause))
        return FieldError(pointer, "invalid_value", str(cause))
    if kind == "extra_forbidden":
        return FieldError(pointer, "unknown_field", _unknown_key(location, raw))
    if kind == "missing":
        return FieldError(pointer, "field_required", "is required")
    if kind in ("union_tag_invalid", "literal_error"):
        return _unknown_value(pointer, error)
    if kind == "branch_error":
        return _unlike_any(pointer, error)
    if kind == "union_tag_not_found":
        tag = str(error.get("ctx", {}).get("discriminator", "'kind'")).strip("'")
        return FieldError(f"{pointer}/{tag}", "field_required", "is required")
    code = "number_out_of_range" if kind in _RANGE else _CODES.get(kind, "wrong_type")
    message = message.removeprefix("Input ")
    return FieldError(pointer, code, message[:1].lower() + message[1:])


def _location(parts: tuple[int | str, ...], raw: Any, missing: bool) -> list[int | str]:
    """The path in the document. What pydantic calls the members of a union stands between its keys; ``missing``: the last part
    is a key that should be there.
    """
    path: list[int | str] = []
    here: Any = raw
    for i, part in enumerate(parts):
        known = (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int))
        named = known or (missing and i == len(parts) - 1)
        if not named or (i == 1 and parts[0] in _UNIONS):
            continue
        path.append(part)
        here = here[part] if known else None  # pyright: ignore[reportArgumentType, reportCallIssue]
    return path


def _unknown_key(location: list[int | str], raw: Any) -> str:
    parent = str(location[0]) if len(location) > 1 else ""
    models = _MODELS.get(parent, ())
    if parent == "split" and location[-1] in _ELSEWHERE:
        return f"unknown key {location[-1]!r}: {_ELSEWHERE[str(location[-1])]}"
    if parent == "model" and len(location) > LAYER_DEPTH:
        here: Any = raw
        for part in location[:-1]:
            here = here[part]
        kind = str(here["type"])
        models = (vars(layer_types)[_LAYER_CLASSES.get(kind, kind)],)
        if location[-1] in _WORKED_OUT:
            return f"unknown key {location[-1]!r}: it follows from the data and the layers before; leave it out"
    fields = {name for model in models for name in model.model_fields} | (set() if parent else {"target"})
    unknown = unknown_name("key", location[-1], sorted(fields))
    place = _place_of(str(location[-1]), parent) if len(location) <= 2 else None
    if (
        place is None
        and "did you mean" not in unknown
        and len(location) in (2, LAYER_DEPTH + 1)
        and 0 < len(fields) <= _FEW
    ):
        return f"{unknown}; the keys here are {', '.join(map(repr, sorted(fields)))}"
    return unknown if place is None else f"unknown key {location[-1]!r}; it belongs {place}"


def _place_of(key: str, parent: str) -> str | None:
    """Where a key belongs that is none of ``parent``, which is one of ``_MODELS``; None where it belongs nowhere."""
    parts = [part for part, models in _MODELS.items() if any(key in model.model_fields for model in models)]
    if not parts or parent in parts:
        return None
    # What a loop of the person's own has as well is meant last.
    parts.sort(key=lambda part: part == "model")
    return f"under {parts[0]}" if parts[0] else f"at the top, beside {parent}"


def _unknown_value(pointer: str, error: Any) -> FieldError:
    context = error.get("ctx", {})
    expected = re.findall(r"'([^']+)'", str(context.get("expected") or context.get("expected_tags") or ""))
    given = error.get("input")
    if isinstance(given, dict) and "discriminator" in context:
        tag = str(context.get("discriminator", "'kind'")).strip("'")
        pointer, given = f"{pointer}/{tag}", given.get(tag)
    text = str(given)[:80]
    hint = did_you_mean(text, expected) or f"; choose one of {', '.join(expected)}"
    code = "unknown_layer" if "/layers/" in pointer and pointer.endswith("/type") else "unknown_value"
    return FieldError(pointer, code, f"unknown value {text!r}{hint}")


def _unlike_any(pointer: str, error: Any) -> FieldError:
    """Neither the word that is allowed nor what else may stand there."""
    given = error["input"]
    words = re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))
    wanted = f"should be {' or '.join(words)}, or a mapping of names to numbers"
    if isinstance(given, str):
        hint = did_you_mean(given, words) or f": {wanted}"
        return FieldError(pointer, "unknown_value", f"unknown value {given[:80]!r}{hint}")
    return FieldError(pointer, "wrong_type", wanted)
