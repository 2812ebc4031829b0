"""What a person's Python file defines, read from its text. Nothing of it runs here: that is for workers."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optim_core.spec.entrypoints import is_entrypoint
from optim_core.spec.names import did_you_mean
from service.cli.errors import CommandError

HOW = "write FILE.py:NAME"
MOST_SHOWN = 8


@dataclass(frozen=True)
class Defined:
    """``names``: what the top level of a file defines, with the expression where it is a plain assignment; ``imported``: those
    that come from elsewhere. ``all``: False where there may be more, as after ``from x import *``. ``file``: as the person
    wrote it.
    """

    file: str
    names: dict[str, ast.expr | None]
    imported: frozenset[str]
    all: bool

    def check(self, name: str) -> None:
        """Raise CommandError when the file cannot define ``name``."""
        if name in self.names or not self.all:
            return
        hint = did_you_mean(name, self.names) or self.listed()
        raise CommandError(f"{self.file} defines no {name!r}{hint}")

    def listed(self) -> str:
        """``; it defines Net, make_net``."""
        shown = [name for name in self.names if not name.startswith("_") and name not in self.imported][:MOST_SHOWN]
        return f"; it defines {', '.join(shown)}" if shown else "; it defines nothing"

    def literal(self, name: str) -> Any:
        """The value of ``name`` where it is written out: numbers, texts, lists, mappings, ``dict(…)``. Raises CommandError."""
        value = self.names[name]
        if value is None:
            raise CommandError(f"{self.file}: {name} must be assigned once, as a dictionary of plain values")
        try:
            return _value(value)
        except (ValueError, TypeError, RecursionError):
            message = f"{name} must be written out, numbers and texts only: it is read without running the file"
            raise CommandError(f"{self.file}, line {value.lineno}: {message}") from None


def definitions(file: str) -> Defined:
    """What ``file``, a path as the person wrote it, defines. Raises CommandError: no such file, a folder, not Python."""
    path = Path(file).expanduser()
    refuse_others(file)
    try:
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, filename=file)
    except FileNotFoundError:
        near = did_you_mean(path.name, [one.name for one in _beside(path)])
        raise CommandError(f"there is no file {file!r}{near}") from None
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from None
    except SyntaxError as error:
        raise CommandError(f"{file}, line {error.lineno}: {type(error).__name__}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise CommandError(f"{file}: cannot be read as Python: {error}") from None
    names: dict[str, ast.expr | None] = {}
    for name, value in _names(tree.body):
        names[name] = None if name in names else value
    imported = frozenset(name for statement in tree.body for name in _imported(statement))
    return Defined(file, names, imported, all=not {"*", "__getattr__"} & set(names))


def refuse_others(text: str) -> None:
    """Raise CommandError for a notebook or a folder, which no model or data can be taken from."""
    if re.search(r"\.ipynb(:|$)", text):
        raise CommandError(f"{text!r} is a notebook; put model and data into a .py file and {HOW}")
    if Path(text).expanduser().is_dir():
        raise CommandError(f"{text!r} is a folder; {HOW}")


def own_entrypoint(text: str, known: Collection[str]) -> str | None:
    """``text``, given for a model, data, a loss or a metric, as an entry point; None for one of ``known`` and other names.

    Raises CommandError for what was surely meant to be one and is not.
    """
    if text in known:
        return None
    refuse_others(text)
    if is_entrypoint(text) and (".py:" in text or not Path(text).exists()):
        return text
    if text.endswith(".py"):
        raise CommandError(f"say what to take from {text}: {text}:NAME{definitions(text).listed()}")
    if ".py:" in text:
        raise CommandError(f"{text!r} names nothing that Python can define; {HOW}")
    if Path(f"{text}.py").is_file():
        raise CommandError(f"say what to take from {text}.py: {text}.py:NAME{definitions(f'{text}.py').listed()}")
    return None


def _beside(path: Path) -> list[Path]:
    try:
        return sorted(path.parent.glob("*.py"))
    except OSError:
        return []


def _names(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr | None]]:
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, None
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case ast.Import() | ast.ImportFrom():
                yield from ((name, None) for name in _imported(statement))
            case _:
                # Whatever else is stored to, also within ``if``, ``try`` and ``with``.
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        yield node.id, None
                for inner in _blocks(statement):
                    yield from ((name, None) for name, _ in _names(inner))


def _imported(statement: ast.stmt) -> list[str]:
    aliases = statement.names if isinstance(statement, ast.Import | ast.ImportFrom) else []
    return [alias.asname or alias.name.partition(".")[0] for alias in aliases]


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        yield getattr(statement, field, [])
    for handler in getattr(statement, "handlers", []):
        yield handler.body
    for case in getattr(statement, "cases", []):
        yield case.body


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return {str(one.arg): _value(one.value) for one in keywords if one.arg is not None or _unpacked()}
        case ast.Dict(keys=keys, values=values):
            named = [key if key is not None else _unpacked() for key in keys]
            return {_value(key): _value(value) for key, value in zip(named, values, strict=True)}
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part) for part in parts]
        case _:
            return ast.literal_eval(node)


def _unpacked() -> Any:
    raise ValueError("** is not written out")
