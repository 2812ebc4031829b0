"""Plain torch: how every rival and the judge train. A configuration is source that builds ``optimizer`` and ``scheduler``."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.plain_torch import plain
from benchmarks.race.scores import MAXIMISED, score, trivial
from benchmarks.race.snippet import Pasted, paste
from benchmarks.race.space import DEFAULT
from optim_core.spec.problem import Model
from optim_core.tasks.models import make_networks

# A run is looked at this often, if anybody wants to look.
LOOKS = 10

Look = Callable[[int, float], None]


class OutOfTime(Exception):
    """The time that a tool has is over."""


@dataclass(frozen=True)
class Task:
    """A workload in memory. ``x`` and ``y``: by split ``train``, ``choose`` and ``judge``; ``y`` has class codes or
    standardised numbers.
    """

    model: dict[str, Any]
    metric: str
    outputs: int
    y_scale: tuple[float, float]
    cardinalities: tuple[int, ...]
    batch_size: int
    steps: int
    x: dict[str, Tensor]
    y: dict[str, Tensor]

    @property
    def maximised(self) -> bool:
        return self.metric in MAXIMISED

    @property
    def worst(self) -> float:
        """What a run that diverged counts as: the best constant answer."""
        y = {split: values.numpy() for split, values in self.y.items()}
        return trivial(self.metric, y["train"], y["judge"], self.outputs, self.y_scale)

    def network(self, seed: int) -> nn.Module:
        """The network with the initial weights of ``seed``, in torch's own layers where torch has them."""
        spec = TypeAdapter(Model).validate_python(self.model)
        shape = tuple(self.x["train"].shape[1:])
        networks = make_networks(
            spec, shape, self.outputs, [seed], torch.float32, "cpu", cardinalities=self.cardinalities
        )
        return plain(next(networks))

    @torch.no_grad()
    def score(self, network: nn.Module, split: str) -> float:
        """The metric of ``network`` on ``split``; NaN when an output is not finite."""
        network.eval()
        outputs = torch.cat([network(part) for part in self.x[split].split(2048)])
        network.train()
        return score(self.metric, outputs.numpy(), self.y[split].numpy(), self.y_scale)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, or the mean squared error of standardised numbers."""
        return F.cross_entropy(outputs, y) if self.outputs > 1 else F.mse_loss(outputs[:, 0], y)


def load(folder: Path) -> Task:
    """The workload that ``arrays.write`` put into ``folder``."""
    told = json.loads((folder / "task.json").read_text())
    with np.load(folder / "arrays.npz") as arrays:
        held = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    splits = ("train", "choose", "judge")
    return Task(
        model=told["model"], metric=told["metric"], outputs=told["outputs"], y_scale=tuple(told["y_scale"]),
        cardinalities=tuple(told["cardinalities"]), batch_size=told["batch_size"], steps=told["steps"],
        x={split: held[f"x_{split}"] for split in splits}, y={split: held[f"y_{split}"] for split in splits},
    )  # fmt: skip


def choose_threads(task: Task, cores: int) -> None:
    """Let torch use one thread or ``cores``, whichever trains a few steps sooner: small networks only wait for the second."""
    spent = {}
    for threads in {1, cores} if cores > 1 else ():
        torch.set_num_threads(threads)
        train(task, DEFAULT, 0, steps=2)
        started = time.perf_counter()
        train(task, DEFAULT, 0, steps=8)
        spent[threads] = time.perf_counter() - started
    torch.set_num_threads(min(spent, key=spent.__getitem__, default=1))


def train(
    task: Task,
    source: str,
    seed: int,
    *,
    split: str = "choose",
    steps: int | None = None,
    look: Look | None = None,
    until: float = math.inf,
) -> float:
    """Train one run and score it on ``split``; NaN when it diverged. Raises OutOfTime at ``until``, seconds of the epoch.

    ``source``: see ``snippet.paste``. ``look(step, score)`` is called up to ``LOOKS`` times, the last time at the end, and may
    raise to stop the run.
    """
    total = steps or task.steps
    network = task.network(seed)
    torch.manual_seed(seed)
    pasted = paste(source, network, total)
    optimizer = pasted.optimizer
    looks = {math.ceil(total * (i + 1) / LOOKS) for i in range(LOOKS)}
    value = math.nan
    for step, rows in enumerate(_batches(task, seed, total), 1):
        if time.time() > until:
            raise OutOfTime
        loss = _step(task, network, pasted, rows)
        for scheduler in pasted.schedulers:
            scheduler.step()
        if step == total or (step in looks and (look is not None or pasted.plateau is not None)):
            if not bool(torch.isfinite(loss)):
                return math.nan
            value = _evaluate(task, network, optimizer, split)
            if pasted.plateau is not None:
                pasted.plateau.step(_held_out_loss(task, network))
            if look is not None:
                look(step, value)
    return value


def _batches(task: Task, seed: int, steps: int) -> Iterator[Tensor]:
    """Row numbers of ``steps`` full batches, a new order every epoch."""
    generator = torch.Generator().manual_seed(seed)
    rows, size = len(task.y["train"]), task.batch_size
    per_epoch = rows // size
    for first in range(0, steps, per_epoch):
        order = torch.randperm(rows, generator=generator)
        yield from order[: per_epoch * size].view(per_epoch, size)[: steps - first]


def _step(task: Task, network: nn.Module, pasted: Pasted, rows: Tensor) -> Tensor:
    x, y = task.x["train"][rows], task.y["train"][rows]

    def closure() -> Tensor:
        pasted.optimizer.zero_grad()
        loss = task.loss(network(x), y)
        loss.backward()
        return loss

    if pasted.closure:
        return torch.as_tensor(pasted.optimizer.step(closure))
    loss = closure()
    pasted.optimizer.step()
    return loss.detach()


def _evaluate(task: Task, network: nn.Module, optimizer: Any, split: str) -> float:
    """The score with the weights that the optimizer answers with."""
    elsewhere = callable(getattr(optimizer, "eval", None))
    if elsewhere:
        optimizer.eval()
    value = task.score(network, split)
    if elsewhere:
        optimizer.train()
    return value


@torch.no_grad()
def _held_out_loss(task: Task, network: nn.Module) -> float:
    network.eval()
    loss = float(task.loss(network(task.x["choose"]), task.y["choose"]))
    network.train()
    return loss
