"""Linear regression on NASA's airfoil noise measurements, as in Dive into Deep Learning, section on momentum.

    python examples/airfoil.py airfoil_self_noise.dat

All six columns standardized over all rows, the first 1500 rows, ŷ = X·w + b with w ~ N(0, 0.01²) and b = 0, loss
½·(ŷ − y)², batches of 10, two shuffled epochs. The published losses are single runs; here it is the median of 9 seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from optim_core import build_optimizer

WHERE = (
    "download 'Airfoil Self-Noise' (CC BY 4.0) from the UCI Machine Learning Repository and give the path of its file "
    "airfoil_self_noise.dat"
)
TABLE, ROWS, BATCH, EPOCHS, SEEDS = (1503, 6), 1500, 10, 2, 9
# (lr, momentum, published final loss)
SETTINGS = ((0.02, 0.5, 0.2455), (0.02, 0.9, 0.2520), (0.004, 0.9, 0.2429))


def read_table(path: Path) -> tuple[Tensor, Tensor]:
    """Inputs (1500, 5) and targets (1500,), float64. Raises OSError, and ValueError for another table."""
    table = np.loadtxt(path)
    if table.shape != TABLE:
        raise ValueError(f"{table.shape} numbers instead of {TABLE}")
    table = (table - table.mean(0)) / table.std(0)
    rows = torch.from_numpy(table[:ROWS])
    return rows[:, :-1], rows[:, -1]


def final_losses(x: Tensor, y: Tensor, lr: float, momentum: float) -> Tensor:
    """(9,) losses over all rows. The seeds train side by side: the method treats every number of a weight alike."""
    draws = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
    w = nn.Parameter(torch.stack([0.01 * torch.randn(x.shape[1], generator=g, dtype=torch.float64) for g in draws]))
    b = nn.Parameter(torch.zeros(SEEDS, 1, dtype=torch.float64))
    optimizer = build_optimizer("heavy_ball", [("w", w), ("b", b)], lr=lr, momentum=momentum, weight_decay=0.0)
    for _ in range(EPOCHS):
        order = torch.stack([torch.randperm(ROWS, generator=g) for g in draws])
        for rows in order.split(BATCH, dim=1):
            optimizer.zero_grad()
            # Summed over seeds, so that each one's gradient is that of its own mean over the batch.
            errors = torch.einsum("sbf,sf->sb", x[rows], w) + b - y[rows]
            (errors**2 / 2).mean(1).sum().backward()
            optimizer.step()
    with torch.no_grad():
        return ((w @ x.T + b - y) ** 2 / 2).mean(1)


def main(arguments: list[str]) -> int:
    """Print the median loss of each setting beside the published one."""
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        missing = f"{arguments[0]} is no file" if len(arguments) == 1 else "usage: python examples/airfoil.py PATH"
        print(f"{missing}; {WHERE}", file=sys.stderr)
        return 2
    try:
        x, y = read_table(Path(arguments[0]))
    except (OSError, ValueError) as error:
        print(f"{arguments[0]} is not that table ({error}); {WHERE}", file=sys.stderr)
        return 2
    print(f"{'lr':>6}{'momentum':>10}{'median':>10}{'lowest':>10}{'highest':>10}{'published':>11}")
    for lr, momentum, published in SETTINGS:
        losses = final_losses(x, y, lr, momentum)
        low, middle, high = float(losses.min()), float(losses.median()), float(losses.max())
        print(f"{lr:>6g}{momentum:>10g}{middle:>10.4f}{low:>10.4f}{high:>10.4f}{published:>11.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
