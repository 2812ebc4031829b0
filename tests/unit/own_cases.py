"""What the tests of people's own models share: a spec, data as people have it, and K modules run as an engine runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from optim_core.own.source import OwnSource
from optim_core.own.task import OwnTask
from optim_core.own.trees import map_tree
from optim_core.spec.problem import StudySpec

CPU, F32, F64 = torch.device("cpu"), torch.float32, torch.float64


def study(seed: int = 0, **training: Any) -> StudySpec:
    """A spec whose model and data set are not looked at."""
    return StudySpec.model_validate(
        {
            "model": {"kind": "catalogue", "name": "linear"},
            "dataset": {"kind": "builtin", "name": "iris"},
            "training": {"batch_size": 8, **training},
            "seed": seed,
        }
    )


def blobs(rows: int = 90, classes: int = 3, width: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(rows, width) float32 and codes that a line nearly tells apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    x = rng.normal(size=(rows, width)) + 1.5 * np.eye(classes, width)[y]
    return x.astype(np.float32), y


def line(in_features: int, classes: int) -> nn.Module:
    return nn.Linear(in_features, classes)


def task_of(model: Any, data: Any, fold: int | None = None, **wishes: Any) -> OwnTask:
    training = wishes.pop("training", {})
    return OwnSource(study(**training), model, data, **wishes).problem(fold)


def looped(task: OwnTask, models: Sequence[nn.Module]) -> Callable[[Any], Any]:
    """One module after the other, as the plainest engine would."""

    @torch.no_grad()
    def run(batch: Any) -> Any:
        found = [task.judge.of(model.eval(), batch) for model in models]
        return {name: map_tree(lambda *t: torch.stack(t), *(each[name] for each in found)) for name in found[0]}

    return run


def vectorised(task: OwnTask, models: Sequence[nn.Module]) -> Callable[[Any], Any]:
    """All at once by torch's own means."""
    skeleton = models[0].eval()
    weights, buffers = torch.func.stack_module_state(list(models))  # type: ignore[arg-type]

    @torch.no_grad()
    def run(batch: Any) -> Any:
        class _Bound(nn.Module):
            def __init__(self, own: Any, state: Any) -> None:
                super().__init__()
                self._own = (own, state)

            def forward(self, *args: Any, **kwargs: Any) -> Any:
                return torch.func.functional_call(skeleton, self._own, args, kwargs)

        return torch.vmap(lambda own, state: task.judge.of(_Bound(own, state), batch))(weights, buffers)

    return run


class Counting(Dataset):
    """Pairs that remember how often each was read."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y, self.reads = torch.as_tensor(x), torch.as_tensor(y), [0] * len(y)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        self.reads[i] += 1
        return self.x[i], self.y[i]


class Augmented(Counting):
    """The same with noise from torch's global stream."""

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(i)
        return x + 0.1 * torch.randn(x.shape), y
