"""What a search strategy is asked, and what it answers. A strategy proposes; the planner makes units of it.

Strategies are pure: the same state gives the same answer, in any process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from optim_core.recommend.history import Outcome
from optim_core.search.budget import Purse
from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import Configuration, TrialParams

# Generations that are planned before anything is known: results are two generations old.
BLIND = 2


@dataclass(frozen=True)
class State:
    """What is known when generation ``generation`` is planned.

    ``names``: the optimizers that compete, AdamW first. ``found``: outcomes of generations that lie two or more back;
    ``pending``: (trial, rung) of runs asked for whose results are not in ``found``. ``horizons``: steps of each rung.
    ``size``: new trials that a generation should have; ``at_once``: those that all workers train side by side; ``workers``: how
    many these are; ``purse``: what may be spent.
    """

    spec: StudySpec
    names: Sequence[str]
    horizons: Sequence[int]
    generation: int
    found: Sequence[Outcome]
    pending: Sequence[tuple[TrialParams, int]]
    size: int
    at_once: int
    workers: int
    purse: Purse

    @property
    def top(self) -> int:
        """The rung of the full horizon."""
        return len(self.horizons) - 1

    @cached_property
    def asked(self) -> list[TrialParams]:
        """Every trial asked for so far, once, by number."""
        trials = {o.trial.number: o.trial for o in self.found} | {trial.number: trial for trial, _ in self.pending}
        return [trials[number] for number in sorted(trials)]


@dataclass(frozen=True)
class Ask:
    """One run to do: a configuration to the horizon of ``rung``. ``trial``: the one that is promoted, None for a new one."""

    configuration: Configuration
    origin: str
    rung: int
    trial: TrialParams | None = None


class Strategy(Protocol):
    """Decides what a search tries."""

    def rungs(self, full: int, affordable: float, optimizers: int) -> list[int]:
        """Steps of each rung, ascending, the last one ``full``. ``affordable``: full trainings that the budget pays for."""
        ...

    def generation(self, state: State) -> list[Ask]:
        """What to run next; nothing when it has to wait for results, or is done."""
        ...
