"""Paths for a terminal: contours in colour or in plain characters, paths of braille dots on top."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from rich.text import Text

from optim_core.tracing.path import Path
from optim_core.tracing.surfaces import Surface, Window
from optim_core.tracing.view import Relief, drawable, number, relief, window_of

SMALLEST, USUAL, LARGEST = 16, 34, 56
GAP = 2
BANDS = 9
# Without colour, fewer lines leave more room for the path.
PLAIN_BANDS = 6
TALLEST = 22
# Both ink and paper are set, so that the picture does not depend on the terminal's own colours.
PAPER = ("#0b1a2e", "#10243d", "#162f4d", "#1d3b5e", "#25486f", "#2e5680", "#386491", "#4372a1", "#5081b0")
INK = ("#ffd75f", "#ff9e80", "#9cff8f", "#ffb3f5", "#8ff0ff", "#ffffff")
MARKS = "#ffffff"
# Bit of each of the 2 × 4 dots of a braille character, [row][column], rows from the top (Unicode 2800).
_DOTS = np.array(((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80)))
LEGEND = "S start   E end   + minimum   • step"

Lines = list[Text]


def draw(surface: Surface, paths: Sequence[Path], heading: str, width: int, colour: bool) -> Text:
    """The picture, no line wider than ``width`` cells (at least 20): as many panels side by side as fit."""
    width = max(width, SMALLEST + 4)
    across = max(1, min(len(paths), (width + GAP) // (USUAL + 2 + GAP)))
    inner = max(SMALLEST, min(LARGEST, (width - GAP * (across - 1)) // across - 2))
    window = window_of(surface, paths)
    # A cell is about twice as high as wide.
    tall = int(np.clip(round(inner * window.height / window.width / 2), 8, TALLEST))
    # The relief is seen at the middle of each cell; its rows go up, the lines of a terminal go down.
    ground = relief(surface, _middles(window, inner, tall), inner, tall)
    out = [Text(line, style="bold") for line in textwrap.wrap(heading, width)]
    bounds = f"x1 from {window.left:.3g} to {window.right:.3g}, x2 from {window.bottom:.3g} to {window.top:.3g}"
    out += [Text(line) for line in textwrap.wrap(f"{bounds}   {LEGEND}", width)]
    for first in range(0, len(paths), across):
        row = [
            _panel(surface, paths[i], ground, window, INK[i % len(INK)], colour)
            for i in range(first, min(first + across, len(paths)))
        ]
        out += [Text(), *_side_by_side(row, inner + 2)]
    return Text("\n").join(out)


def _middles(window: Window, columns: int, rows: int) -> Window:
    dx, dy = window.width / columns / 2, window.height / rows / 2
    return Window(window.left + dx, window.right - dx, window.bottom + dy, window.top - dy)


def _panel(surface: Surface, path: Path, ground: Relief, window: Window, ink: str, colour: bool) -> Lines:
    rows, columns = ground.shade.shape
    count = BANDS if colour else PLAIN_BANDS
    bands = np.minimum((ground.shade[::-1] * count).astype(int), count - 1)
    characters = [[" "] * columns for _ in range(rows)] if colour else _contour_lines(bands)
    inked = _draw_path(characters, path, window)
    marks = [(point, "+") for point in surface.minima] + [(path.points[0], "S"), (path.points[-1], "E")]
    for point, mark in marks:
        where = _cell(np.asarray(point), window, rows, columns)
        if where is not None:
            characters[where[0]][where[1]] = mark
            inked[where] = 2
    lines: Lines = [Text("╭" + "─" * columns + "╮")]
    for i in range(rows):
        line = Text("│")
        for j in range(columns):
            pen = ("", ink, f"bold {MARKS}")[inked[i, j]]
            line.append(characters[i][j], f"{pen} on {PAPER[bands[i, j]]}".strip() if colour else "")
        lines.append(line.append("│"))
    lines.append(Text("╰" + "─" * columns + "╯"))
    return lines + _caption(path, columns + 2, colour)


def _contour_lines(bands: np.ndarray) -> list[list[str]]:
    """A dot where the band changes to the right or below."""
    edge = np.zeros(bands.shape, dtype=bool)
    edge[:, :-1] |= bands[:, :-1] != bands[:, 1:]
    edge[:-1] |= bands[:-1] != bands[1:]
    return [["·" if cell else " " for cell in row] for row in edge]


def _draw_path(characters: list[list[str]], path: Path, window: Window) -> np.ndarray:
    """Put the path into ``characters``; returns (rows, columns) with 1 where it did."""
    rows, columns = len(characters), len(characters[0])
    points = drawable(path.points, window)
    corner, size = np.array([window.left, window.top]), np.array([window.width, -window.height])
    dots = (points - corner) / size * (2 * columns, 4 * rows)
    braille = np.zeros((rows, columns), dtype=int)
    for a, b in pairwise(dots):
        x, y = np.floor(np.linspace(a, b, int(np.abs(b - a).max()) + 2)).astype(int).T
        seen = (x >= 0) & (x < 2 * columns) & (y >= 0) & (y < 4 * rows)
        x, y = x[seen], y[seen]
        np.bitwise_or.at(braille, (y // 4, x // 2), _DOTS[y % 4, x % 2])
    inked = (braille > 0).astype(int)
    for i, j in zip(*braille.nonzero(), strict=True):
        characters[i][j] = chr(0x2800 + braille[i, j])
    for point in points:
        where = _cell(point, window, rows, columns)
        if where is not None:
            characters[where[0]][where[1]], inked[where] = "•", 1
    return inked


def _cell(point: np.ndarray, window: Window, rows: int, columns: int) -> tuple[int, int] | None:
    """(row from the top, column) of a point; None outside the window."""
    across = (point[0] - window.left) / window.width * columns
    down = (window.top - point[1]) / window.height * rows
    if not (0 <= across <= columns and 0 <= down <= rows):
        return None
    return min(int(down), rows - 1), min(int(across), columns - 1)


def _caption(path: Path, width: int, colour: bool) -> Lines:
    lines = [Text(part, style="bold") for part in textwrap.wrap(path.label, width)]
    (x1, x2), value = path.points[-1], path.values[-1]
    for name, found in (("x1", x1), ("x2", x2), ("value", value)):
        lines.append(Text(f"{name:<5} {number(float(found)):>{min(width - 6, 16)}}"))
    if path.diverged:
        lines.append(Text("diverged", style="bold red" if colour else ""))
    return lines


def _side_by_side(panels: Sequence[Lines], width: int) -> Lines:
    """Rows of several panels, each padded to ``width`` cells."""
    height = max(len(panel) for panel in panels)
    out: Lines = []
    for i in range(height):
        line = Text()
        for k, panel in enumerate(panels):
            part = panel[i].copy() if i < len(panel) else Text()
            last = k == len(panels) - 1
            part.truncate(width, overflow="ellipsis", pad=not last)
            line.append_text(part)
            if not last:
                line.append(" " * GAP)
        out.append(line)
    return out
