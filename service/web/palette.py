"""One colour per optimizer, the same in charts and tables. Every colour has at least 3:1 contrast on both themes."""

from __future__ import annotations

# Families share a range of hues: plain SGD warm, adaptive green to teal, the Adam family blue to pink.
COLOURS: dict[str, str] = {
    "sgd": "#95714c",
    "momentum": "#cc6f1f",
    "nesterov": "#a5840a",
    "adagrad": "#6f8f12",
    "rmsprop": "#2b9357",
    "adam": "#0e8f95",
    "adamw": "#3b7ddd",
    "amsgrad": "#6c6be0",
    "nadamw": "#9a5bd6",
    "radam": "#cf4b93",
    "lion": "#da4a3c",
}
UNKNOWN = "#7d8590"


def colour(optimizer: str) -> str:
    """The colour of ``optimizer`` as ``#rrggbb``; a neutral grey for one that the catalogue does not know."""
    return COLOURS.get(optimizer, UNKNOWN)


def stylesheet_rules() -> str:
    """CSS that gives ``.opt-NAME`` its colour: pages may not carry inline styles."""
    return "\n" + "\n".join(f".opt-{name}{{--opt:{value}}}" for name, value in COLOURS.items()) + "\n"
