"""The four runs on 0.1·x₁² + 2·x₂² that Dive into Deep Learning prints in its section on momentum.

    python examples/trace_2d.py [PICTURE.png]

From (−5, −2), 20 steps each: plain gradient descent and momentum v = γ·v + lr·g, p −= v.
"""

from __future__ import annotations

import sys
from pathlib import Path

from optim_core import trace
from optim_core.tracing.surfaces import SURFACES

# (optimizer, hyperparameters, published x1, published x2)
RUNS = (
    ("sgd", {"lr": 0.4}, -0.943467, -0.000073),
    ("sgd", {"lr": 0.6}, -0.387814, -1673.365109),
    ("heavy_ball", {"lr": 0.4, "momentum": 0.5}, -0.062843, 0.001202),
    ("heavy_ball", {"lr": 0.6, "momentum": 0.5}, 0.007188, 0.002553),
)


def main(arguments: list[str]) -> int:
    """Print the last points beside the published ones; draw the paths where a file is named."""
    if len(arguments) > 1 or any(not name.endswith(".png") for name in arguments):
        print("usage: python examples/trace_2d.py [PICTURE.png]", file=sys.stderr)
        return 2
    paths = []
    print(f"{'':<34}{'x1':>12}{'x2':>16}   published")
    for name, hyper, x1, x2 in RUNS:
        path = trace(name, "quadratic", start=(-5, -2), steps=20, hyperparameters=hyper)
        print(f"{path.label:<34}{path.points[-1, 0]:>12.6f}{path.points[-1, 1]:>16.6f}   {x1:.6f}, {x2:.6f}")
        paths.append(path)
    if arguments:
        from optim_core.tracing.draw_png import draw_png

        surface = SURFACES["quadratic"]
        draw_png(Path(arguments[0]), surface, paths, f"{surface.formula}, 20 steps from (−5, −2)")
        print(f"wrote {arguments[0]}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
