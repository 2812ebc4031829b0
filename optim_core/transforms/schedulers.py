"""Any schedule of the catalogue as an lr scheduler of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from optim_core.schedules import plateau
from optim_core.schedules.shapes import multipliers
from optim_core.spec.errors import SpecError
from optim_core.spec.schedules import SCHEDULES, complete_schedule

# A table of so many multipliers takes seconds and some 400 MB; beyond it a process may be killed for memory.
MOST_STEPS = 10**7


class TableScheduler(LRScheduler):
    """lr = initial lr · table[t], t the steps so far; after the table's end its last value.

    A param group that is added on the way starts from its own lr as the others did from theirs. ``state_dict`` says where
    the scheduler stands and the schedule's name, not its numbers, so it can be loaded into one with more steps.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: str, table: Sequence[float]) -> None:
        self.schedule, self.table = schedule, list(table)
        super().__init__(optimizer)

    def step(self, metrics: float | Tensor | None = None) -> None:  # type: ignore[override]
        """Once per optimizer step. Raises SpecError for a loss, which only ``reduce_on_plateau`` listens to, where another
        scheduler was stepped in between, and where a param group was taken away.
        """
        if metrics is not None and not isinstance(metrics, int):
            raise SpecError(f"{self.schedule} takes no loss: call step() alone", code="option_not_applicable")
        self._check_turn()
        # torch's own deprecated way to say at which step it is.
        super().step(metrics)

    def _check_turn(self) -> None:
        """Raise SpecError where a param group was taken away, and where another scheduler was stepped in between: two in turn
        write over each other; one after the other they may follow.
        """
        if self._is_initial:
            return
        if len(self.optimizer.param_groups) < len(self.base_lrs):
            message = (
                f"the optimizer has {len(self.optimizer.param_groups)} param groups, and the scheduler was made for "
                f"{len(self.base_lrs)}: make a scheduler anew, or keep the group without weights"
            )
            raise SpecError(message, code="shape_mismatch")
        turns = self.optimizer.__dict__.setdefault("_turns_of_schedulers", WeakKeyDictionary())
        last = max(turns.values(), default=0)
        if turns.get(self, last) != last:
            message = (
                f"another scheduler was stepped since {self.schedule} was: both set the same rates, and the last one wins. "
                "Step one of them, or put them one after the other with torch's SequentialLR"
            )
            raise SpecError(message, code="option_not_applicable")
        turns[self] = last if self in turns else last + 1

    def multiplier(self) -> float:
        """Of this step."""
        return self.table[min(self.last_epoch, len(self.table) - 1)]

    def get_lr(self) -> list[float | Tensor]:
        """Learning rates of this step, one a param group."""
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            lr = group["lr"]
            group.setdefault("initial_lr", lr.clone() if isinstance(lr, Tensor) else lr)
            self.base_lrs = [*self.base_lrs, group["initial_lr"]]
        factor = self.multiplier()
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Where the scheduler stands."""
        return {key: value for key, value in super().state_dict().items() if key not in ("table", "numbers")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's. Rates that this scheduler has written are corrected; those of an optimizer loaded since stay.

        Raises SpecError for a state of something else or of another schedule, or of an optimizer with more param groups.
        """
        groups = self.optimizer.param_groups
        if not {"base_lrs", "last_epoch"} <= set(state_dict):
            raise SpecError("this is not the state of a scheduler that build_scheduler made", code="wrong_type")
        # A state of an earlier version does not say.
        saved = state_dict.get("schedule", self.schedule)
        if saved != self.schedule:
            message = f"this state was saved by the schedule {saved}, and the scheduler is {self.schedule}"
            raise SpecError(message, code="other_schedule")
        if len(state_dict["base_lrs"]) > len(groups):
            message = (
                f"the scheduler's state has {len(state_dict['base_lrs'])} param groups, the optimizer {len(groups)}"
            )
            raise SpecError(message, code="shape_mismatch")
        # torch's schedulers write their first rate when they are made, also over one that was loaded before.
        own = [float(group["lr"]) for group in groups] == [float(lr) for lr in self._last_lr]
        super().load_state_dict(state_dict)
        if own and self.last_epoch >= 0:
            self._write()

    def _write(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self._last_lr = list(self.get_lr())


class PlateauScheduler(TableScheduler):
    """lr = initial lr · table[t] · factor. ``step()`` once per optimizer step moves t; ``step(loss)`` after an evaluation
    may shrink the factor (``plateau.observe``). Stepped with losses only, it is torch's ReduceLROnPlateau.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, schedule: str, table: Sequence[float], numbers: Mapping[str, float]
    ) -> None:
        self.numbers = {key: numbers[key] for key in ("gamma", "patience", "cooldown", "threshold")}
        self.state: dict[str, Any] = {key: float(value) for key, value in plateau.init(1).items()}
        super().__init__(optimizer, schedule, table)

    def step(self, metrics: float | Tensor | None = None) -> None:  # type: ignore[override]
        """See the class. ``metrics``: a loss; the name is that of torch's ReduceLROnPlateau."""
        if metrics is None:
            super().step()
            return
        self._check_turn()
        loss = float(metrics.detach() if isinstance(metrics, Tensor) else metrics)
        before = {key: torch.tensor([value], dtype=torch.float64) for key, value in self.state.items()}
        after = plateau.observe(before, torch.tensor([loss], dtype=torch.float64), **self.numbers)
        self.state = {key: float(value) for key, value in after.items()}
        self._write()

    def multiplier(self) -> float:
        """Of this step."""
        return super().multiplier() * self.state["factor"]


def build_scheduler(
    optimizer: torch.optim.Optimizer, schedule: Mapping[str, str | float], total_steps: int
) -> TableScheduler:
    """A scheduler to be stepped once per optimizer step; after ``total_steps`` it stays at the last value.

    ``schedule``: the name and any of its parameters (``find_schedule``), the rest at their defaults.

        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
        >>> scheduler = optim_core.build_scheduler(optimizer, {"name": "linear", "warmup_fraction": 0.2}, total_steps=10)
        >>> for _ in range(10):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> round(optimizer.param_groups[0]["lr"], 3)
        0.01

    ``reduce_on_plateau`` is besides stepped with the validation loss after each evaluation: ``step(loss)``. All can be
    pickled, saved, put into torch's SequentialLR, and loaded before or after the optimizer; two of them stepped in turn are
    refused, as each would undo the other. Raises SpecError for an unknown schedule or parameter, for more than ten million
    steps, and for a method without a learning rate.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise SpecError(
            "the scheduler is of an optimizer: build_scheduler(optimizer, schedule, steps)", code="wrong_type"
        )
    if not isinstance(schedule, Mapping):
        message = f'the schedule is a mapping, as {{"name": "cosine"}}, not {type(schedule).__name__}'
        raise SpecError(message, code="wrong_type")
    if isinstance(total_steps, bool) or not isinstance(total_steps, Integral):
        raise SpecError(f"total_steps is a whole number, not {total_steps!r}", code="wrong_type")
    if total_steps > MOST_STEPS:
        raise SpecError(
            f"total_steps is at most {MOST_STEPS}: step the scheduler less often", code="number_out_of_range"
        )
    complete = complete_schedule(schedule)
    if any("lr" not in group for group in optimizer.param_groups):
        raise SpecError("the optimizer has no learning rate to schedule", code="option_not_applicable")
    table = multipliers(complete, total_steps).tolist()
    name = str(complete["name"])
    if SCHEDULES[name].stateful:
        numbers = {key: float(value) for key, value in complete.items() if key != "name"}
        return PlateauScheduler(optimizer, name, table, numbers)
    return TableScheduler(optimizer, name, table)
