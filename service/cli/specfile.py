"""From what is typed or written in a file to the JSON of a spec. YAML is read safely, with 1e-3 as a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from optim_core.spec.names import did_you_mean
from optim_core.spec.problem import BUILTIN_TASKS
from service.cli.errors import CommandError, one_line

MAX_BYTES = 1 << 20
# What aliases may blow a document up to, in values.
MAX_VALUES = 100_000

# A file of these that comes without a target is a text; with one, .txt is a table.
TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst")

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_TRIALS = re.compile(r"(\d+)\s*trials?")


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2: 1e-3 is a number, ``no`` and 2024-01-01 are text. A key occurs once."""

    yaml_implicit_resolvers: dict[str, list] = {}


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?\d+$"), None)
_FLOAT = r"^[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_FLOAT), None)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    # Leading zeros mean nothing here: 010 is ten, not the eight of YAML 1.1.
    return int(loader.construct_scalar(node))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise CommandError(f"{_at(key_node)}: keys must be text, not {key!r}")
        if key in result:
            raise CommandError(f"{_at(key_node)}: the key {key!r} occurs twice")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_spec(path: Path) -> dict[str, Any]:
    """The JSON of a YAML or JSON file. Raises CommandError with the place of the mistake."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise CommandError(f"{path}: larger than {MAX_BYTES:,} bytes; this is not a spec")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CommandError(f"{path}: not a text file in UTF-8") from None
    try:
        document = _load(text)
    except CommandError as error:
        raise CommandError(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CommandError(f"{path}: {_problem(error)}") from None
    if not isinstance(document, dict):
        raise CommandError(f"{path}: a spec is a mapping with model, dataset and budget")
    return document


def parse_budget(text: str) -> dict[str, float | int]:
    """``40s``, ``5m``, ``200 trials``, or a time and trials separated by a comma."""
    budget: dict[str, float | int] = {}
    for part in text.split(","):
        part = part.strip().lower()
        if match := _TIME.fullmatch(part):
            budget["seconds"] = float(match[1]) * _SECONDS[match[2]]
        elif match := _TRIALS.fullmatch(part):
            budget["trials"] = int(match[1])
        else:
            near = _near_budget(part)
            hint = "" if near is None else f"; did you mean {near}?"
            raise CommandError(
                f"/budget: {part!r} is neither a time such as 40s or 5m nor a count such as '200 trials'{hint}"
            )
    return budget


def _near_budget(part: str) -> str | None:
    """What a number without a unit, or with its name written out, was to mean: ``60`` and ``60 sec`` are ``60s``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)[a-z]*", part)
    return None if match is None else f"{match[1]}{match[2] or 's'}"


def dataset_from(name: str, target: str | None) -> dict[str, Any]:
    """A data set from ``--data`` and ``--target``: a bundled one by name, else a file; one of text has no target."""
    if name in BUILTIN_TASKS and target is None:
        return {"kind": "builtin", "name": name}
    if target is None and Path(name).suffix.lower() in TEXT_SUFFIXES:
        return {"kind": "file", "path": name, "format": "text"}
    if target is None:
        if Path(name).suffix or Path(name).exists():
            raise CommandError("/dataset/target: --target is required: the name of the column to predict")
        hint = did_you_mean(name, BUILTIN_TASKS) or f"; there are {', '.join(BUILTIN_TASKS)}"
        raise CommandError(f"/dataset: {name!r} is no file and no bundled data set{hint}")
    return {"kind": "file", "path": name, "target": target}


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise CommandError("the file is empty")
        _measure(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _measure(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Values that ``node`` stands for with its aliases written out; a few aliases can stand for billions."""
    known = sizes.get(id(node))
    if known is not None:
        if known < 0:
            raise CommandError(f"{_at(node)}: an alias contains itself")
        return known
    sizes[id(node)] = -1
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    flat = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
    size = 1 + sum(_measure(child, sizes) for child in flat)
    if size > MAX_VALUES:
        raise CommandError(f"{_at(node)}: the aliases stand for too many values")
    sizes[id(node)] = size
    return size


def _at(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return where + one_line(str(getattr(error, "problem", None) or error))
