"""What all drawings share: the window, the relief of the surface in it, and paths cut to what can be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from optim_core.tracing.path import Array, Path
from optim_core.tracing.surfaces import Surface, Window

LEVELS = 12
# Points further away than this many windows are moved there: they are not seen, but drawing libraries choke on 1e200.
FAR = 50.0


@dataclass(frozen=True)
class Relief:
    """The surface on a grid: ``x1`` (nx,), ``x2`` (ny,), ``values`` and ``shade`` (ny, nx), x2 rising.

    ``shade`` runs from 0 at the minimum to 1 at the highest value, with the logarithm of the height above the minimum.
    ``scale``: the height below which the logarithm turns into a straight line.
    """

    x1: Array
    x2: Array
    values: Array
    shade: Array
    lowest: float
    scale: float

    def value_at(self, shade: float) -> float:
        """The value that has this shade."""
        top = np.log1p((self.values.max() - self.lowest) / self.scale)
        return float(self.lowest + self.scale * np.expm1(shade * top))


def window_of(surface: Surface, paths: Sequence[Path]) -> Window:
    """The surface's window, wide enough for the start and for excursions up to half of it beyond its edges."""
    usual = surface.window
    low, high = np.array([usual.left, usual.bottom]), np.array([usual.right, usual.top])
    size = high - low
    points = np.concatenate([path.points for path in paths])
    with np.errstate(invalid="ignore"):
        near = points[((points >= low - size / 2) & (points <= high + size / 2)).all(1)]
    shown = np.concatenate([near, [path.points[0] for path in paths]])
    margin = 0.04 * size
    left, bottom = (float(x) for x in np.minimum(low, (shown - margin).min(0)))
    right, top = (float(x) for x in np.maximum(high, (shown + margin).max(0)))
    return Window(left, right, bottom, top)


def relief(surface: Surface, window: Window, nx: int, ny: int) -> Relief:
    """The surface at nx × ny points that reach from edge to edge."""
    x1 = np.linspace(window.left, window.right, nx)
    x2 = np.linspace(window.bottom, window.top, ny)
    grid = np.stack(np.meshgrid(x1, x2), axis=-1)
    values = surface(torch.from_numpy(grid)).numpy()
    height = np.maximum(values - surface.lowest, 0)
    # A small part of the window lies lower than this, so narrow valleys and wide bowls both show several levels.
    scale = max(float(np.quantile(height, 0.03)), 1e-12)
    return Relief(x1, x2, values, np.log1p(height / scale) / np.log1p(height.max() / scale), surface.lowest, scale)


def drawable(points: Array, window: Window) -> Array:
    """(n, 2): the finite points of a path, those far away moved nearer."""
    finite = points[np.isfinite(points).all(1)]
    size = np.array([window.width, window.height])
    centre = np.array([window.left, window.bottom]) + size / 2
    return centre + np.clip(finite - centre, -FAR * size, FAR * size)


def inside(point: Array, window: Window) -> bool:
    """Whether a point is finite and lies in the window."""
    return bool(window.left <= point[0] <= window.right and window.bottom <= point[1] <= window.top)


def table_of(panels: int, most_columns: int) -> tuple[int, int]:
    """(rows, columns): as few rows as possible, and none nearly empty."""
    rows = math.ceil(panels / most_columns)
    return rows, math.ceil(panels / rows)


def number(value: float) -> str:
    """Six decimals, or six digits and an exponent where that would be long; a dash for nothing."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return f"{value:.6f}" if abs(value) < 1e7 else f"{value:.6e}"


def ending(path: Path) -> str:
    """``ends at (-0.943467, -0.000073), value 0.089013``."""
    x1, x2 = (number(x) for x in path.points[-1])
    return f"ends at ({x1}, {x2}), value {number(path.values[-1])}" + (", diverged" if path.diverged else "")
