"""What a simulated cluster is made of: devices, workers, studies, and what things cost that are no training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from benchmarks.scale.devices import Task
from optim_core.spec.trial import UnitView
from service.operations.overtaking import Pack


@dataclass(frozen=True)
class Costs:
    """Seconds that are no training. ``claim_s``: from a free worker to the first step of a unit; ``plan_s``, ``new_trial_s``:
    of a plan, as measured by ``plans``; ``poll_s``: until an idle worker looks again; ``save_s``: of a checkpoint at a quantum.
    """

    claim_s: float = 0.5
    plan_s: float = 0.1
    new_trial_s: float = 0.002
    poll_s: float = 0.5
    save_s: float = 0.1


@dataclass(frozen=True)
class Rules:
    """The product's settings, by default as they are."""

    quantum_s: float = 120.0
    lease_s: float = 60.0
    heartbeat_s: float = 15.0
    sweep_s: float = 10.0
    checkpoint_s: float = 10.0
    max_attempts: int = 3


@dataclass(frozen=True)
class Device:
    """A worker: ``slow`` times as long for everything, there from ``joins`` on; dies at random every ``mtbf_s`` and is back
    ``restart_s`` later.
    """

    slow: float = 1.0
    joins: float = 0.0
    mtbf_s: float = math.inf
    restart_s: float = 60.0


@dataclass
class Study:
    """A study while it is simulated. Times in seconds of the simulated clock."""

    id: str
    task: Task
    created: float
    units: list[UnitView] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)
    news: bool = True
    planning: bool = False
    ended: float | None = None
    failure: tuple[str, str] | None = None
    turn_at: float = 0.0
    elapsed_s: float = 0.0
    device_s: float = 0.0
    covered_until: float | None = None
    left: dict[int, float] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    done: list[Pack] = field(default_factory=list)
    trained_s: float = 0.0

    @property
    def active(self) -> bool:
        return self.ended is None

    @property
    def wants_plan(self) -> bool:
        """Whether a planner would find something new."""
        return self.active and not self.planning and self.news


@dataclass
class Worker:
    """``busy_s``: seconds of training that counted; ``alive_s``: seconds that it was there while a study was."""

    index: int
    device: Device
    alive: bool = False
    since: float = 0.0
    life: int = 0
    busy_s: float = 0.0
    alive_s: float = 0.0
    first_work: float | None = None
    study: Study | None = None
    unit: int | None = None
    segment: float = 0.0
    leased: float = 0.0
    turn_until: float = 0.0
    turn_study: str = ""
    planned: Study | None = None
    overtaken: int = 0
    slow_until: float = 0.0


@dataclass(frozen=True)
class Span:
    """A piece of training that counted."""

    worker: int
    study: str
    project: str
    begin: float
    end: float
