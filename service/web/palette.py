"""One colour per optimizer, the same in charts and tables. Every colour has at least 3:1 contrast on both themes."""

from __future__ import annotations

import colorsys

from optim_core.spec.optimizers import OPTIMIZERS

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
    "muon": "#c13cc4",
}
UNKNOWN = "#7d8590"
# Between the luminances that still stand out from white and from the dark card.
_LUMINANCE = 0.2
_GOLDEN_ANGLE = 0.381966


def _assigned(index: int) -> str:
    """A colour for the ``index``-th optimizer without one of its own: hues as far apart as possible, one brightness."""
    hue, saturation = (0.03 + index * _GOLDEN_ANGLE) % 1.0, 0.45 + 0.15 * (index % 3)
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _luminance(colorsys.hls_to_rgb(hue, middle, saturation)) < _LUMINANCE else (low, middle)
        )
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(hue, low, saturation))


def _luminance(rgb: tuple[float, float, float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


COLOURS |= {name: _assigned(i) for i, name in enumerate(n for n in OPTIMIZERS if n not in COLOURS)}


def family(optimizer: str) -> str:
    """The name whose colour an optimizer has: ``lookahead(sgd)`` has that of ``lookahead``."""
    return optimizer.partition("(")[0]


def colour(optimizer: str) -> str:
    """The colour of ``optimizer`` as ``#rrggbb``; a neutral grey for one that the catalogue does not know."""
    return COLOURS.get(family(optimizer), UNKNOWN)


def stylesheet_rules() -> str:
    """CSS that gives ``.opt-NAME`` its colour: pages may not carry inline styles."""
    return "\n" + "\n".join(f".opt-{name}{{--opt:{value}}}" for name, value in COLOURS.items()) + "\n"
