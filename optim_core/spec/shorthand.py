"""What may be written shortly, ``model: mlp``, ``dataset: iris``, ``split: time:day``, ``budget: 5m``, in the long form that is
stored.

The same on the command line, in files, over REST and in Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, get_args

from optim_core.spec.budget_text import parse_budget
from optim_core.spec.datasets import BUILTIN_TASKS
from optim_core.spec.entrypoints import is_entrypoint
from optim_core.spec.errors import SpecError
from optim_core.spec.models import CatalogueModel
from optim_core.spec.names import did_you_mean
from optim_core.spec.split import read_split

CATALOGUE: tuple[str, ...] = get_args(CatalogueModel.model_fields["name"].annotation)
# A file of these that comes without a target is a text; with one, .txt is a table.
TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst")
# A key that only one kind of model or data set has → that kind.
_KINDS = {
    "model": {"layers": "layers", "entrypoint": "python", "name": "catalogue", "steps": "external"},
    "dataset": {"path": "file", "entrypoint": "python", "name": "builtin"},
}


def long_form(raw: Any) -> tuple[Any, list[SpecError]]:
    """The document with nothing written shortly, and what is wrong with what was. Parts that are in error stay as they are.

    ``target`` beside ``dataset`` belongs to it, as ``--target`` does to ``--data``. Anything but a mapping is left alone.
    """
    if not isinstance(raw, dict):
        return raw, []
    document, errors = dict(raw), []
    target, dataset = document.get("target"), document.get("dataset")
    if isinstance(target, str) and (
        isinstance(dataset, str) or (isinstance(dataset, dict) and "target" not in dataset)
    ):
        del document["target"]
    else:
        target = None
    rules: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("model", _model), ("dataset", lambda value: _dataset(value, target)), ("budget", _budget),
        ("split", lambda value: read_split(value) if isinstance(value, str) else value),
    )  # fmt: skip
    for name, rule in rules:
        if name in document:
            try:
                document[name] = rule(document[name])
            except SpecError as error:
                errors.append(error)
    return document, errors


def _model(value: Any) -> Any:
    if not isinstance(value, str):
        return _with_kind("model", value)
    if value == "external":
        message = 'how long is a run of your loop? Write {"kind": "external", "steps": 2000}, in optimizer steps'
        raise SpecError(message, code="field_required", pointer="/model")
    if value not in CATALOGUE and is_entrypoint(value):
        return {"kind": "python", "entrypoint": value}
    return {"kind": "catalogue", "name": value}


def _dataset(value: Any, target: str | None) -> Any:
    if not isinstance(value, str):
        value = _with_kind("dataset", value)
        return value if target is None else {**value, "target": target}
    if target is None and value in BUILTIN_TASKS:
        return {"kind": "builtin", "name": value}
    if target is not None:
        return {"kind": "file", "path": value, "target": target}
    if is_entrypoint(value):
        return {"kind": "python", "entrypoint": value}
    path = PurePath(value)
    if path.suffix.lower() in TEXT_SUFFIXES:
        return {"kind": "file", "path": value, "format": "text"}
    if path.suffix or len(path.parts) > 1:
        message = "the target is required: the name of the column to predict"
        raise SpecError(message, code="field_required", pointer="/dataset/target")
    hint = did_you_mean(value, BUILTIN_TASKS) or f"; there are {', '.join(BUILTIN_TASKS)}"
    message = f"{value[:80]!r} is no bundled data set{hint} (a table of your own needs its target)"
    raise SpecError(message, code="unknown_value", pointer="/dataset")


def _with_kind(part: str, value: Any) -> Any:
    """A mapping with the kind that its keys leave no doubt about."""
    if not isinstance(value, dict) or "kind" in value:
        return value
    kinds = {kind for key, kind in _KINDS[part].items() if key in value}
    return {"kind": kinds.pop(), **value} if len(kinds) == 1 else value


def _budget(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = re.sub(r"\.0$", "", str(value))
    return parse_budget(value) if isinstance(value, str) else value
