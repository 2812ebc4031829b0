"""From a file to the JSON of a spec, and back. YAML 1.2, read safely."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node
from ruamel.yaml.tag import Tag

from service.cli.errors import CommandError, one_line

MAX_BYTES = 1 << 20
# What aliases may blow a document up to, in values.
MAX_VALUES = 100_000


_PLAIN = ("str", "int", "float", "bool", "null", "seq", "map")
_TEXTS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Constructor(SafeConstructor):
    """What JSON has, and nothing else: what looks like a date is the text that it is."""

    yaml_constructors = {
        tag: make
        for tag, make in SafeConstructor.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _PLAIN
    }


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_scalar)


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
    except (YAMLError, ValueError, RecursionError) as error:
        raise CommandError(f"{path}: {_problem(error)}") from None
    if not isinstance(document, dict):
        raise CommandError(f"{path}: a spec is a mapping with model, dataset and budget")
    return document


def _load(text: str) -> Any:
    yaml = YAML(typ="safe", pure=True)  # YAML 1.2: 1e-3 is a number, ``no`` a text
    yaml.Constructor = _Constructor
    node = yaml.compose(text)
    if node is None:
        raise CommandError("the file is empty")
    _check(node, {})
    return yaml.constructor.construct_document(node)


def _check(node: Node, sizes: dict[int, int]) -> int:
    """Values that ``node`` stands for with its aliases written out; a few aliases can stand for billions. Keys are texts,
    and occur once.
    """
    known = sizes.get(id(node))
    if known is not None:
        if known < 0:
            raise CommandError(f"{_at(node)}: an alias contains itself")
        return known
    sizes[id(node)] = -1
    if isinstance(node, MappingNode):
        _check_keys([key for key, _ in node.value])
    children = node.value if isinstance(node, CollectionNode) else []
    flat = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
    size = 1 + sum(_check(child, sizes) for child in flat)
    if size > MAX_VALUES:
        raise CommandError(f"{_at(node)}: the aliases stand for too many values")
    sizes[id(node)] = size
    return size


def _check_keys(keys: list[Node]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key.tag in _NUMBERS:
            # A class may be called 0.
            key.ctag = Tag(suffix=_TEXTS[0])
        if key.tag not in _TEXTS:
            raise CommandError(f"{_at(key)}: keys must be text, not {str(key.value)[:80]!r}")
        if key.value in seen:
            raise CommandError(f"{_at(key)}: the key {key.value!r} occurs twice")
        seen.add(key.value)


def _at(node: Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return where + one_line(str(getattr(error, "problem", None) or error))


def written(document: dict[str, Any], *, ascii_only: bool = False) -> str:
    """The YAML of a spec, its keys in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.allow_unicode = not ascii_only
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()
