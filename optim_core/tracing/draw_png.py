"""Paths as a PNG image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as File
from textwrap import fill
from typing import Any

import numpy as np

from optim_core.tracing.path import Path
from optim_core.tracing.surfaces import Surface, Window
from optim_core.tracing.view import LEVELS, Relief, drawable, ending, inside, relief, table_of, window_of

MOST_COLUMNS = 4
GRID = 240
LABEL_WIDTH = 40
# Pale, so that paths stand out; dark is low. Colours of paths: Okabe & Ito's, without the blues of the surface.
LOW, HIGH = "#7fa8cf", "#fbfaf5"
PATHS = ("#c0392b", "#111111", "#00664f", "#8e2a8b", "#a65200", "#26418f")
STAR = "#ffd400"


def draw_png(file: File, surface: Surface, paths: Sequence[Path], heading: str) -> None:
    """Write the picture: a panel for each path, side by side. Raises OSError, and ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = table_of(len(paths), MOST_COLUMNS)
    window = window_of(surface, paths)
    ground = relief(surface, window, GRID, GRID)
    figure = Figure(figsize=(max(6.4, 4.2 * columns + 0.9), 4.3 * rows + 1.1), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, fontsize=12)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    filled: Any = None
    for i, cell in enumerate(axes.flat):
        if i < len(paths):
            filled = _panel(cell, ground, window, surface, paths[i], PATHS[i % len(PATHS)])
        else:
            cell.set_visible(False)
    bar = figure.colorbar(filled, ax=axes, shrink=0.9, aspect=30 * rows, pad=0.015, label="value")
    shades = np.linspace(0, 1, LEVELS // 2 + 1)
    bar.set_ticks(list(shades), labels=[f"{ground.value_at(float(shade)):.3g}" for shade in shades])
    handles, labels = _legend()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(file, format="png")


def _panel(cell: Any, ground: Relief, window: Window, surface: Surface, path: Path, colour: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patheffects import withStroke

    levels = np.linspace(0, 1, LEVELS + 1)
    colours = LinearSegmentedColormap.from_list("relief", [LOW, HIGH])
    filled = cell.contourf(ground.x1, ground.x2, ground.shade, levels=levels, cmap=colours)
    cell.contour(ground.x1, ground.x2, ground.shade, levels=levels, colors="#5f7f9f", linewidths=0.4)
    points = drawable(path.points, window)
    halo = [withStroke(linewidth=3.0, foreground="white")]
    size = 3.5 if path.steps <= 60 else 1.5
    cell.plot(points[:, 0], points[:, 1], color=colour, linewidth=1.4, path_effects=halo)
    cell.plot(points[:, 0], points[:, 1], color=colour, linestyle="none", marker="o", markersize=size)
    for minimum in surface.minima:
        cell.plot(*minimum, **_STYLES["minimum"])
    cell.plot(*points[0], **_STYLES["start"])
    if inside(path.points[-1], window):
        cell.plot(*points[-1], **_STYLES["end"])
    cell.set_xlim(window.left, window.right)
    cell.set_ylim(window.bottom, window.top)
    cell.set_title(fill(path.label, LABEL_WIDTH), fontsize=10, color=colour, fontweight="bold")
    cell.set_xlabel(f"x₁\n{ending(path)}", fontsize=8)
    cell.set_ylabel("x₂", fontsize=8)
    cell.tick_params(labelsize=8, labelbottom=True, labelleft=True)
    return filled


_EDGE = {"linestyle": "none", "markeredgecolor": "black", "markeredgewidth": 1.0, "zorder": 5}
_STYLES: dict[str, dict[str, Any]] = {
    "start": {"marker": "o", "markersize": 9, "markerfacecolor": "white", **_EDGE},
    "end": {"marker": "s", "markersize": 6.5, "markerfacecolor": "#ff7f0e", **_EDGE},
    "minimum": {"marker": "*", "markersize": 13, "markerfacecolor": STAR, **_EDGE, "zorder": 4},
}


def _legend() -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    step = Line2D([], [], color="#444444", linewidth=1.4, marker="o", markersize=3.5)
    return [step, *(Line2D([], [], **style) for style in _STYLES.values())], ["step", *_STYLES]
