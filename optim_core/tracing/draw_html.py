"""Paths as one HTML file that needs nothing else: zoom, hover, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path as File
from textwrap import wrap
from typing import Any

import numpy as np

from optim_core.tracing.path import Path
from optim_core.tracing.surfaces import Surface, Window
from optim_core.tracing.view import LEVELS, Relief, drawable, inside, number, relief, table_of, window_of

MOST_COLUMNS = 3
GRID = 120
LABEL_WIDTH = 40
PANEL_PX, NARROWEST_PX, MARGIN_PX = 400, 260, 110
COLOURS = [[0.0, "#7fa8cf"], [1.0, "#fbfaf5"]]
PATHS = ("#c0392b", "#111111", "#00664f", "#8e2a8b", "#a65200", "#26418f")
# name → (symbol, size in pixels, colour)
MARKS = {"start": ("circle", 11, "#ffffff"), "end": ("square", 9, "#ff7f0e"), "minimum": ("star", 14, "#ffd400")}
POINT = "x₁ %{x:.6f}<br>x₂ %{y:.6f}<br>value %{customdata[1]:.6g}"

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%(title)s</title>
<style>
:root { color-scheme: light dark; --ink: #1c2530; --paper: #ffffff; --rule: #d5dbe1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --paper: #12171d; --rule: #39434d; } }
body { margin: 0 auto; padding: 1rem; max-width: 90rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0; }
p { margin: .2rem 0 .6rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--rule); text-align: right; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; }
</style>
</head>
<body>
<h1>%(title)s</h1>
<p>%(heading)s</p>
<div class="scroll"><div style="min-width: %(narrowest)spx">
%(figure)s
</div></div>
<div class="scroll">
<table>
<thead><tr><th>optimizer</th><th>last x₁</th><th>last x₂</th><th>last value</th><th></th></tr></thead>
<tbody>
%(rows)s
</tbody>
</table>
</div>
</body>
</html>
"""

# The page knows whether it is light or dark; the figure has to be told, and told again when that changes.
_FOLLOW_THE_PAGE = """
const dark = matchMedia('(prefers-color-scheme: dark)');
const paint = () => Plotly.relayout('{plot_id}', {'font.color': dark.matches ? '#e4e9ee' : '#1c2530'});
dark.addEventListener('change', paint);
paint();
"""


def draw_html(file: File, surface: Surface, paths: Sequence[Path], heading: str) -> None:
    """Write the page: a panel for each path, all with the same zoom. Raises OSError."""
    file.write_text(html(surface, paths, heading), encoding="utf-8")


def html(surface: Surface, paths: Sequence[Path], heading: str) -> str:
    """The page."""
    figure = _figure(surface, paths)
    drawing = figure.to_html(
        full_html=False, include_plotlyjs=True, div_id="paths", post_script=_FOLLOW_THE_PAGE,
        config={"responsive": True, "displaylogo": False},
    )  # fmt: skip
    parts = {"title": escape(f"Paths on {surface.name}"), "heading": escape(heading), "figure": drawing}
    _, columns = table_of(len(paths), MOST_COLUMNS)
    parts["narrowest"] = str(columns * NARROWEST_PX + MARGIN_PX)
    return _PAGE % {**parts, "rows": "\n".join(_row(path) for path in paths)}


def _row(path: Path) -> str:
    numbers = (*path.points[-1], path.values[-1])
    cells = [path.label, *(number(x) for x in numbers), "diverged" if path.diverged else ""]
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _figure(surface: Surface, paths: Sequence[Path]) -> Any:
    from plotly.subplots import make_subplots

    rows, columns = table_of(len(paths), MOST_COLUMNS)
    window = window_of(surface, paths)
    ground = relief(surface, window, GRID, GRID)
    height = rows * PANEL_PX + MARGIN_PX
    figure = make_subplots(
        rows, columns, subplot_titles=["<br>".join(wrap(path.label, LABEL_WIDTH)) for path in paths],
        horizontal_spacing=0.18 / columns, vertical_spacing=0.22 / rows if rows > 1 else 0,
    )  # fmt: skip
    for i, path in enumerate(paths):
        for item in _panel(ground, window, surface, path, PATHS[i % len(PATHS)], first=i == 0):
            figure.add_trace(item, row=i // columns + 1, col=i % columns + 1)
    # One legend for all panels: marks that stand nowhere, so that it is whole although no run ends in the window.
    nowhere = np.full((1, 2), np.nan)
    for name in MARKS:
        figure.add_trace(_mark(name, nowhere, [["", 0.0]]).update(showlegend=True), row=1, col=1)
    figure.update_xaxes(range=[window.left, window.right], matches="x", zeroline=False, title_text="x₁")
    figure.update_yaxes(range=[window.bottom, window.top], matches="y", zeroline=False, title_text="x₂")
    figure.update_annotations(font_size=13)
    figure.update_layout(
        height=height, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="closest",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#8a949e", "activecolor": "#4372a1"},
        margin={"l": 50, "r": 20, "t": 80, "b": 50},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1 + 45 / height, "yanchor": "bottom"},
    )  # fmt: skip
    return figure


def _panel(ground: Relief, window: Window, surface: Surface, path: Path, colour: str, first: bool) -> list[Any]:
    from plotly import graph_objects as go

    shades = np.linspace(0, 1, LEVELS // 2 + 1)
    relief_trace = go.Contour(
        x=ground.x1, y=ground.x2, z=ground.shade, customdata=ground.values, colorscale=COLOURS,
        contours={"start": 0, "end": 1, "size": 1 / LEVELS}, line={"width": 0.5, "color": "#5f7f9f"},
        zmin=0, zmax=1, showscale=first, name=surface.name,
        hovertemplate="x₁ %{x:.3f}<br>x₂ %{y:.3f}<br>value %{customdata:.6g}<extra></extra>",
        colorbar={
            "title": {"text": "value"}, "thickness": 14, "outlinewidth": 0,
            "tickvals": shades, "ticktext": [f"{ground.value_at(float(shade)):.3g}" for shade in shades],
        },
    )  # fmt: skip
    points = drawable(path.points, window)
    facts = [[step, float(path.values[step])] for step in range(len(points))]
    line = go.Scatter(
        x=points[:, 0], y=points[:, 1], customdata=facts, mode="lines+markers", name=path.label, showlegend=False,
        line={"color": colour, "width": 2}, marker={"size": 5 if path.steps <= 60 else 3},
        hovertemplate="step %{customdata[0]}<br>" + POINT + f"<extra>{path.label}</extra>",
    )  # fmt: skip
    minima = np.array(surface.minima)
    marks = [
        _mark("minimum", minima, [["", surface.lowest]] * len(minima)),
        _mark("start", points[:1], facts[:1]),
    ]
    if inside(path.points[-1], window):
        marks.append(_mark("end", points[-1:], facts[-1:]))
    return [relief_trace, line, *marks]


def _mark(name: str, points: Any, facts: list[Any]) -> Any:
    from plotly import graph_objects as go

    symbol, size, colour = MARKS[name]
    marker = {"symbol": symbol, "size": size, "color": colour, "line": {"color": "#000000", "width": 1}}
    return go.Scatter(
        x=points[:, 0], y=points[:, 1], customdata=facts, mode="markers", name=name, legendgroup=name,
        showlegend=False, marker=marker, hovertemplate=f"{name}<br>" + POINT + "<extra></extra>",
    )  # fmt: skip
