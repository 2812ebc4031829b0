"""Objects of this process that a study in this very process names by entry points: closures, notebooks' functions, modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

_objects: dict[str, Any] = {}
_numbers = count(1)


@contextmanager
def kept() -> Iterator[Callable[[Any], str]]:
    """Gives a function: object → its entry point, ``package.module:name``, which leads to it until the block ends."""
    names: list[str] = []

    def keep(value: Any) -> str:
        own = getattr(value, "__name__", type(value).__name__)
        names.append(f"{own if own.isidentifier() else 'object'}_{next(_numbers)}")
        _objects[names[-1]] = value
        return f"{__name__}:{names[-1]}"

    try:
        yield keep
    finally:
        for name in names:
            del _objects[name]


def __getattr__(name: str) -> Any:
    """An object that is kept."""
    try:
        return _objects[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
