"""Line charts as SVG, written by hand: the same figures give the same bytes, whatever is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 64, 150, 34, 48
COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed", "#dc2626")
Points = Sequence[tuple[float, float]]


def chart(
    title: str, x: str, y: str, lines: Mapping[str, Points], *, goal: float | None = None, logarithmic: bool = False,
    top: float | None = None,
) -> str:  # fmt: skip
    """``lines``: name → points. ``goal``: a dashed line. ``logarithmic``: of x. ``top``: of y."""
    xs = [_scaled(a, logarithmic) for points in lines.values() for a, _ in points]
    ys = [b for points in lines.values() for _, b in points]
    low, high = min(xs), max(xs)
    most = top if top is not None else 1.1 * max([*ys, goal or 0.0])

    def place(a: float, b: float) -> tuple[float, float]:
        across = (_scaled(a, logarithmic) - low) / ((high - low) or 1.0)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - min(1.0, b / most) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{_escaped(title)}</text>',
    ]
    for i in range(5):
        value = most * i / 4
        at = place(10**low if logarithmic else low, value)[1]
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    ticks = sorted({a for points in lines.values() for a, _ in points}) if logarithmic else _even(low, high)
    for tick in ticks:
        across = place(tick, 0.0)[0]
        parts.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:,.5g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{_escaped(x)}</text>')
    half = f"{HEIGHT / 2:.0f}"
    parts.append(f'<text x="16" y="{half}" text-anchor="middle" transform="rotate(-90 16 {half})">{_escaped(y)}</text>')
    if goal is not None:
        at = place(10**low if logarithmic else low, goal)[1]
        parts.append(
            f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#6b7280" stroke-dasharray="5 4"/>'
        )
        parts.append(f'<text x="{WIDTH - RIGHT + 6}" y="{at + 4:.1f}" fill="#6b7280">goal {goal:.3g}</text>')
    for i, (name, points) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        height = TOP + 16 * i + (60 if goal is not None else 10)
        parts.append(f'<text x="{WIDTH - RIGHT + 6}" y="{height}" fill="{colour}">{_escaped(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _scaled(value: float, logarithmic: bool) -> float:
    return math.log10(value) if logarithmic else value


def _even(low: float, high: float) -> list[float]:
    return [low + (high - low) * i / 4 for i in range(5)]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
