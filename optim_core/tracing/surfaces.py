"""Test surfaces: functions of two variables whose minima are known.

Every function takes a (…, 2) tensor and gives (…,) of the same dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from optim_core.spec.errors import SpecError
from optim_core.spec.names import unknown_name

Point = tuple[float, float]


@dataclass(frozen=True)
class Window:
    """A rectangle: what of the plane is drawn."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.top - self.bottom


@dataclass(frozen=True)
class Surface:
    """One row: ``minima`` are all global minima, ``lowest`` the value there, ``start`` the usual first point."""

    name: str
    title: str
    formula: str
    function: Callable[[Tensor], Tensor]
    minima: tuple[Point, ...]
    lowest: float
    window: Window
    start: Point
    reference: str

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def tilted(self, x: Tensor, slope: Tensor) -> Tensor:
        """f(x) + slope·(x − x*): the gradient gains exactly ``slope`` everywhere, and the value what belongs to it.

        With a fresh normal slope at each evaluation this is Gaussian gradient noise that methods without gradients feel
        as well. x* is the first minimum, whose value stays.
        """
        centre = torch.tensor(self.minima[0], dtype=x.dtype)
        return self(x) + (slope * (x - centre)).sum(-1)


def _quadratic(x: Tensor) -> Tensor:
    return 0.1 * x[..., 0] ** 2 + 2 * x[..., 1] ** 2


def _rosenbrock(x: Tensor) -> Tensor:
    a, b = x[..., 0], x[..., 1]
    return (1 - a) ** 2 + 100 * (b - a**2) ** 2


def _rastrigin(x: Tensor) -> Tensor:
    return 20 + (x**2 - 10 * torch.cos(2 * math.pi * x)).sum(-1)


def _beale(x: Tensor) -> Tensor:
    a, b = x[..., 0], x[..., 1]
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def _himmelblau(x: Tensor) -> Tensor:
    a, b = x[..., 0], x[..., 1]
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


def _saddle(x: Tensor) -> Tensor:
    a, b = x[..., 0], x[..., 1]
    return a**2 - b**2 + b**4 / 4


_ROWS = (
    Surface(
        "quadratic",
        "Stretched bowl",
        "0.1·x₁² + 2·x₂²",
        _quadratic,
        ((0.0, 0.0),),
        0.0,
        Window(-6.0, 3.0, -3.5, 3.5),
        (-5.0, -2.0),
        "Zhang et al., Dive into Deep Learning, section Momentum",
    ),
    Surface(
        "rosenbrock",
        "Rosenbrock's valley",
        "(1 − x₁)² + 100·(x₂ − x₁²)²",
        _rosenbrock,
        ((1.0, 1.0),),
        0.0,
        Window(-2.0, 2.0, -1.0, 3.0),
        (-1.2, 1.0),
        "Rosenbrock 1960, An automatic method for finding the greatest or least value of a function",
    ),
    Surface(
        "rastrigin",
        "Rastrigin's egg box",
        "20 + Σ (xᵢ² − 10·cos 2πxᵢ)",
        _rastrigin,
        ((0.0, 0.0),),
        0.0,
        Window(-5.12, 5.12, -5.12, 5.12),
        (-3.4, 2.6),
        "Rastrigin 1974, Systems of extremal control",
    ),
    Surface(
        "beale",
        "Beale's plateaus",
        "(1.5 − x₁ + x₁x₂)² + (2.25 − x₁ + x₁x₂²)² + (2.625 − x₁ + x₁x₂³)²",
        _beale,
        ((3.0, 0.5),),
        0.0,
        Window(-1.0, 4.5, -2.0, 2.0),
        (1.0, 1.0),
        "Beale 1958, On an iterative method for finding a local minimum of a function of more than one variable; "
        "start of Moré, Garbow & Hillstrom 1981",
    ),
    Surface(
        "himmelblau",
        "Himmelblau's four minima",
        "(x₁² + x₂ − 11)² + (x₁ + x₂² − 7)²",
        _himmelblau,
        # All four are roots of x₁² + x₂ = 11, x₁ + x₂² = 7.
        (
            (3.0, 2.0),
            (-2.805118086952745, 3.131312518250573),
            (-3.779310253377747, -3.283185991286170),
            (3.584428340330492, -1.848126526964404),
        ),
        0.0,
        Window(-5.0, 5.0, -5.0, 5.0),
        (-0.5, -1.0),
        "Himmelblau 1972, Applied Nonlinear Programming",
    ),
    Surface(
        "saddle",
        "Saddle between two basins",
        "x₁² − x₂² + x₂⁴/4",
        _saddle,
        # x₁² − x₂² alone has no minimum; the quartic term bounds it: −2·x₂ + x₂³ = 0.
        ((0.0, math.sqrt(2)), (0.0, -math.sqrt(2))),
        -1.0,
        Window(-2.5, 2.5, -2.5, 2.5),
        (-2.0, 0.01),
        "the saddle x₁² − x₂² at the origin, bounded by a quartic term",
    ),
)

SURFACES: dict[str, Surface] = {row.name: row for row in _ROWS}


def find_surface(name: str) -> Surface:
    """The row ``name``. Raises SpecError naming the nearest one and all others."""
    if name not in SURFACES:
        text = f"{unknown_name('surface', name, SURFACES)} (there are {', '.join(SURFACES)})"
        raise SpecError(text, code="unknown_surface")
    return SURFACES[name]
