"""``whichopt init``: a task file to start from."""

from __future__ import annotations

from pathlib import Path

from service.cli.errors import CommandError

TEMPLATE = '''\
"""Which optimizer trains this best?   whichopt recommend {file} --budget 1m"""

import torch
from torch import nn
from torch.utils.data import Dataset


class Spirals(Dataset):
    """Your data: anything with a length and samples (input, target)."""

    def __init__(self, rows: int = 1500) -> None:
        draw = torch.Generator().manual_seed(0)  # with a seed: every process must make the same data
        self.y = torch.arange(rows) % 3
        turn = torch.rand(rows, generator=draw)
        angle = 4 * turn + self.y * 2.1 + 0.2 * torch.randn(rows, generator=draw)
        self.x = turn[:, None] * torch.stack([angle.sin(), angle.cos()], 1)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[i], self.y[i]


class Net(nn.Module):
    """Your model: the forward pass gets the input of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


model = Net  # a class or function: every run gets fresh weights
data = Spirals()  # or (train, validation, test)
loss = "cross_entropy"  # or a function of (outputs, targets); left out: the output's own .loss
training = {{"batch_size": 32, "epochs": 20}}  # plain values; also: metric = (function, "max"), search = {{...}}
'''


def write_template(path: Path) -> None:
    """Write the template. Raises CommandError where something is already, and for what is no Python file."""
    if path.suffix != ".py":
        raise CommandError(f"{path}: a task file is Python; call it {path.with_suffix('.py')}")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(file=path))
    except FileExistsError:
        raise CommandError(f"{path} exists already and is left as it is; name another file") from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
