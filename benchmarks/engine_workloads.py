"""What the engine is timed on: eight training tasks with random data, each as the engine sees it and as plain torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.plain_torch import plain
from optim_core.spec.problem import StudySpec
from optim_core.tasks.build import Problem, Split
from optim_core.tasks.models import outline

ROWS, CLASSES = 4096, 10
CATEGORIES = (50, 50, 20, 20, 10, 10, 5, 5)
NUMBERS = 10

# name → (model, shape of a row, batch)
WORKLOADS: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "mlp 64-128-10, batch 128": ({"name": "mlp", "hidden": [128]}, (64,), 128),
    "mlp 64-128-10, batch 32": ({"name": "mlp", "hidden": [128]}, (64,), 32),
    "cnn 16-32 on 8x8, batch 128": ({"name": "cnn"}, (1, 8, 8), 128),
    "resnet-8 on 8x8, batch 32": ({"name": "resnet", "stages": 3}, (1, 8, 8), 32),
    "gru 64, 32 steps, batch 16": ({"name": "gru", "width": 64}, (1, 32, 64), 16),
    "transformer block 64, 32 tokens, batch 16": (
        {"name": "transformer", "width": 64, "heads": 4, "depth": 1}, (1, 32, 64), 16,
    ),
    "tabular 10 + 8 categories, batch 64": ({"name": "tabular"}, (NUMBERS + len(CATEGORIES),), 64),
    "wide mlp 256-1024-1024-10, batch 256": ({"name": "mlp", "hidden": [1024, 1024]}, (256,), 256),
}  # fmt: skip


def make_problem(name: str, device: str = "cpu") -> Problem:
    """The workload ``name`` as the engine trains it."""
    model, shape, batch = WORKLOADS[name]
    spec = StudySpec.model_validate(
        {
            "model": {"kind": "catalogue", **model},
            "dataset": {"kind": "builtin", "name": "digits"},
            "training": {"batch_size": batch},
        }
    )
    tabular = model["name"] == "tabular"
    cardinalities = CATEGORIES if tabular else ()
    rows = Split(_rows(shape, cardinalities).to(device), torch.randint(0, CLASSES, (ROWS,)).to(device))
    few = Split(rows.x[:256], rows.y[:256])
    network = outline(spec.model, shape, CLASSES, cardinalities=cardinalities)
    return Problem(
        spec=spec, task="classification", metric="accuracy", train=rows, validation=few, test=few,
        classes=[str(i) for i in range(CLASSES)], y_scale=(0.0, 1.0), data_report=[], data_hash=name,
        parameter_count=sum(p.numel() for p in network.parameters()), dtype=torch.float32, device=torch.device(device),
        cardinalities=cardinalities, batch_size=batch,
    )  # fmt: skip


def _rows(shape: tuple[int, ...], cardinalities: tuple[int, ...]) -> Tensor:
    x = torch.randn(ROWS, *shape)
    first = 0
    for i, size in enumerate(cardinalities):
        x[:, NUMBERS + i] = torch.randint(first, first + size, (ROWS,)).float()
        first += size
    return x


def plain_model(problem: Problem) -> nn.Module:
    """The network as a user of plain torch would have it."""
    return plain(problem.make_model(0))
