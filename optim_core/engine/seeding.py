"""What a seed fixes: the order of the samples. Trials that share a seed see the same mini-batches (common random numbers)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache

import torch
from torch import Tensor

from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import Curriculum
from optim_core.tasks.task import Task


class Order(ABC):
    """Which rows each step trains on. Steps count from 0."""

    @abstractmethod
    def chunk(self, step: int) -> tuple[int, Tensor]:
        """A run of steps around ``step``: the first of them, and their rows, (n, batch_size) int64."""

    def rows(self, step: int) -> Tensor:
        """(batch_size,) int64 row numbers of ``step``."""
        first, rows = self.chunk(step)
        return rows[step - first]


class BatchOrder(Order):
    """Whole epochs for one seed, the incomplete last batch left out. ``shuffle``: a new order ``every_epoch``, the same in
    each (``once``), or the table's own (``never``).
    """

    def __init__(self, rows: int, batch_size: int, seed: int, shuffle: str = "every_epoch") -> None:
        self._rows, self._batch, self._seed, self._shuffle = rows, batch_size, seed, shuffle
        self._per_epoch = rows // batch_size

    def chunk(self, step: int) -> tuple[int, Tensor]:
        """See ``Order``."""
        epoch = step // self._per_epoch
        drawn = {"every_epoch": epoch, "once": 0, "never": -1}[self._shuffle]
        order = torch.arange(self._rows) if drawn < 0 else _permutation(self._rows, self._seed, drawn)
        return epoch * self._per_epoch, order[: self._per_epoch * self._batch].view(self._per_epoch, self._batch)


# The parts of a pack go through the same epochs one after the other.
@lru_cache(maxsize=16)
def _permutation(rows: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(rows, generator=torch.Generator().manual_seed(derive_seed("order", seed, epoch)))


class WithReplacement(Order):
    """Every batch drawn from all rows, independently of the others."""

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self._rows, self._batch, self._seed = rows, batch_size, seed

    def chunk(self, step: int) -> tuple[int, Tensor]:
        """See ``Order``."""
        generator = torch.Generator().manual_seed(derive_seed("replacement", self._seed, step))
        return step, torch.randint(self._rows, (1, self._batch), generator=generator)


class CurriculumOrder(Order):
    """Batches without repetition from the first rows of a ranking, whose share grows with t/T."""

    def __init__(self, ranking: Tensor, batch_size: int, seed: int, plan: Curriculum, horizon: int) -> None:
        self._ranking, self._batch, self._seed = ranking, batch_size, seed
        self._plan, self._horizon = plan, horizon

    def share(self, step: int) -> float:
        """The share of rows that is open at ``step``: min(1, (f0^q + (1 − f0^q)·t/(full_at·T))^(1/q))."""
        plan = self._plan
        base = plan.start_fraction**plan.power
        grown = base + (1 - base) * step / (plan.full_at * self._horizon)
        return min(1.0, grown ** (1 / plan.power))

    def chunk(self, step: int) -> tuple[int, Tensor]:
        """See ``Order``."""
        pool = min(len(self._ranking), max(self._batch, math.ceil(self.share(step) * len(self._ranking))))
        generator = torch.Generator().manual_seed(derive_seed("curriculum", self._seed, step))
        return step, self._ranking[torch.randperm(pool, generator=generator)[: self._batch]].unsqueeze(0)


class Batches:
    """The mini-batches of K trials, given each one's seed. Rows are put on the device a run of steps at a time. ``shared``: all
    trials see the same, and get them once.
    """

    def __init__(self, problem: Task, seeds: list[int], horizon: int, *, shared: bool) -> None:
        self.shared = shared
        unique = sorted(set(seeds))
        self._orders = [batch_order(problem, seed, horizon) for seed in unique]
        self._of_trial = torch.tensor([unique.index(seed) for seed in seeds])
        self._device = problem.device
        self._first, self._held = 0, ()

    def rows(self, step: int) -> Tensor:
        """(1, batch) row numbers for all, or (K, batch)."""
        if not self._first <= step < self._first + len(self._held):
            self._load(step)
        return self._held[step - self._first]

    def _load(self, step: int) -> None:
        chunks = [order.chunk(step) for order in self._orders]
        first = max(start for start, _ in chunks)
        last = min(start + len(rows) for start, rows in chunks)
        stacked = torch.stack([rows[first - start : last - start] for start, rows in chunks], dim=1)
        if not self.shared:
            stacked = stacked[:, self._of_trial]
        self._first, self._held = first, stacked.to(self._device).unbind()


def batch_order(problem: Task, seed: int, horizon: int) -> Order:
    """The order that the spec asks for."""
    training, rows = problem.spec.training, problem.rows["train"]
    if training.curriculum is not None:
        ranking = problem.ranking(training.curriculum.order, seed)
        return CurriculumOrder(ranking, problem.batch_size, seed, training.curriculum, horizon)
    if training.shuffle == "replacement":
        return WithReplacement(rows, problem.batch_size, seed)
    return BatchOrder(rows, problem.batch_size, seed, training.shuffle)
