"""``whichopt recommend task.py``: a file that defines model and data, and what else of a study it wants."""

from __future__ import annotations

import ast
from typing import Any

from service.cli.errors import CommandError
from service.cli.pyfile import Defined, definitions

MODELS = ("make_model", "model")


def task_document(file: str) -> dict[str, Any]:
    """The spec of a task file. ``model`` (or ``make_model``) and ``data`` must be there; ``loss``, ``metric``, ``training`` and
    ``search`` may. Raises CommandError.

    Names of losses and metrics, and what ``training`` and ``search`` say, are read; all else is named for workers to run.
    """
    found = definitions(file)
    model = next((name for name in MODELS if name in found.names), None)
    if model is None:
        if found.all:
            raise CommandError(f"{file} defines neither 'model' nor 'make_model'{found.listed()}")
        model = "model"
    found.check("data")
    document: dict[str, Any] = {"model": _own(file, model), "dataset": _own(file, "data")}
    for part in ("training", "search"):
        if part in found.names:
            document[part] = found.literal(part)
    if "loss" in found.names:
        document["loss"] = _named(found, "loss", found.names["loss"])
    if "metric" in found.names:
        document |= _metric(found)
    return document


def own(entrypoint: str) -> dict[str, Any]:
    """A model or data of the person's own."""
    return {"kind": "python", "entrypoint": entrypoint}


def direction_of(found: Defined, name: str) -> str | None:
    """``max`` or ``min`` where ``name`` is assigned ``(function, "max")``; else None."""
    match found.names.get(name):
        case ast.Tuple(elts=[_, ast.Constant(value="max" | "min" as direction)]):
            return str(direction)
    return None


def _own(file: str, name: str) -> dict[str, Any]:
    return own(f"{file}:{name}")


def _named(found: Defined, name: str, value: ast.expr | None) -> str | None:
    """What is written as a text, or None; else the entry point of ``name``."""
    if isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, str)):
        return value.value
    return f"{found.file}:{name}"


def _metric(found: Defined) -> dict[str, Any]:
    value = found.names["metric"]
    if isinstance(value, ast.Tuple) and value.elts:
        return {"metric": _named(found, "metric", value.elts[0]), "metric_direction": direction_of(found, "metric")}
    return {"metric": _named(found, "metric", value)}
