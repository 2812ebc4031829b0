"""What may be tried, and what that may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from optim_core.spec.base import Value
from optim_core.spec.errors import SpecError, within
from optim_core.spec.names import find_row, unknown_name
from optim_core.spec.optimizers import OPTIMIZERS, find_optimizer
from optim_core.spec.optimizers.info import Hyperparameter
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.techniques import TECHNIQUES, complete_techniques

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]


class Search(Value):
    """Which optimizers, schedules and techniques are tried. ``ranges`` maps optimizer → hyperparameter → [low, high].

    ``techniques`` maps a technique to the values to choose among, 0 meaning without it; no values: the catalogue's; one
    value: always.
    """

    optimizers: Annotated[list[str], Field(min_length=1)] | None = None
    exclude: list[str] = []
    schedules: Annotated[list[str], Field(min_length=1)] | None = None
    ranges: dict[str, dict[str, Range]] = {}
    techniques: dict[str, list[float]] = {}

    @field_validator("optimizers", "exclude", "schedules")
    @classmethod
    def _known(cls, names: list[str] | None, info: Any) -> list[str] | None:
        for place, name in enumerate(names or []):
            with within(place):
                if info.field_name == "schedules":
                    find_row("schedule", name, SCHEDULES)
                else:
                    find_optimizer(name)
        if names is not None and len(set(names)) != len(names):
            raise ValueError("a name is listed twice")
        return names

    @model_validator(mode="after")
    def _consistent(self) -> Search:
        if not self.included():
            raise SpecError("every optimizer is excluded", code="empty_search_space")
        for optimizer, ranges in self.ranges.items():
            with within("ranges", optimizer):
                rows = {h.name: h for h in find_optimizer(optimizer).hyperparameters}
                for name, (low, high) in ranges.items():
                    with within(name):
                        _check_range(optimizer, name, low, high, rows)
        for technique, values in self.techniques.items():
            with within("techniques", technique):
                find_row("technique", technique, TECHNIQUES)
                for place, value in enumerate(values):
                    with within(place):
                        complete_techniques({technique: value})
        if {"ema", "swa"} <= set(self.techniques):
            raise ValueError("ema and swa both average the weights; choose one")
        return self

    def included(self) -> list[str]:
        """The optimizers that compete, AdamW always first: it is the baseline that every verdict is against."""
        chosen = (
            self.optimizers if self.optimizers is not None else [n for n, row in OPTIMIZERS.items() if row.searched]
        )
        rivals = [name for name in chosen if name not in self.exclude and name != "adamw"]
        if not rivals and "adamw" in self.exclude:
            return []
        return ["adamw", *rivals]


def _check_range(optimizer: str, name: str, low: float, high: float, rows: Mapping[str, Hyperparameter]) -> None:
    if name not in rows:
        raise SpecError(f"{optimizer}: {unknown_name('hyperparameter', name, rows)}", code="unknown_field")
    if low > high:
        raise SpecError(f"{optimizer}.{name} has low {low:g} > high {high:g}", code="invalid_range")
    rows[name].check_range(low, high)


class Budget(Value):
    """What may be spent; any one limit that is reached ends the search.

    ``seconds``: wall clock in which it is worked on, confirmation included. ``device_seconds``: the same summed over workers.
    ``trials`` and ``train_steps`` limit the search alone. ``seeds``: fresh seeds of a confirmed configuration in the first
    look, each of them on all five folds; a second look adds as many when the first does not decide, and up to ten where a
    budget in time has room. ``workers``: at most so many work on the study at a time. ``deadline``: seconds after it was
    asked, waiting included; then it ends with the answer from what there is.
    """

    trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    seconds: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    train_steps: Count | None = None
    device_seconds: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    seeds: Annotated[int, Field(ge=2, le=100)] = 2
    workers: Annotated[int, Field(ge=1, le=10_000)] | None = None
    deadline: Annotated[float, Field(ge=1, le=31_536_000)] | None = None

    @property
    def shortest_s(self) -> float:
        """The smaller of the limits in time, in seconds; infinite without one."""
        return min((s for s in (self.seconds, self.device_seconds) if s is not None), default=math.inf)

    @model_validator(mode="after")
    def _some_limit(self) -> Budget:
        if self.trials is None and self.seconds is None and self.train_steps is None and self.device_seconds is None:
            raise SpecError("give trials, seconds, train_steps or device_seconds", code="budget_required")
        return self
