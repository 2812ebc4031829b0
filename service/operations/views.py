"""What operations return: plain values, ready to become JSON. Times are epoch seconds by the database's clock."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from optim_core.spec.states import StudyState, TrialState
from optim_core.spec.trial import CurvePoint

Item = TypeVar("Item")


class View(BaseModel):
    """Base of all views: immutable, nothing beyond the named fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Best(View):
    """The best searched value so far, on the validation split."""

    optimizer: str
    value: float


class Progress(View):
    """``stage``: queued, probe, portfolio, search, confirm or done. ``fraction``: 0 to 1. ``eta_s``: None = unknown."""

    stage: str
    note: str | None
    trials_done: int
    trials_planned: int
    fraction: float
    elapsed_s: float
    eta_s: float | None
    trials_per_s: float
    best: Best | None


class StudyFailure(View):
    """Why a study failed."""

    code: str
    message: str


class StudySummary(View):
    """A study as lists show it. ``model`` and ``dataset`` are short labels; ``winner`` is the recommended optimizer."""

    id: str
    name: str | None
    status: StudyState
    model: str
    dataset: str
    metric: str | None
    direction: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    progress: Progress
    error: StudyFailure | None
    verdict: str | None
    winner: str | None


class StudyDetail(StudySummary):
    """A study with the spec that was asked."""

    spec: dict[str, Any]


class TrialView(View):
    """A trial with the result of its highest rung so far (None before the first)."""

    number: int
    optimizer: str
    configuration: dict[str, Any]
    stage: str
    origin: str
    state: TrialState
    rung: int
    metric: float | None
    loss: float | None
    objective: float | None
    diverged_at_step: int | None
    seed: int
    steps: int


class TrialDetail(TrialView):
    """A trial with its learning curve, at most 500 points."""

    curve: list[CurvePoint]


class Curve(View):
    """A learning curve in a study's overview."""

    number: int
    optimizer: str
    stage: str
    state: TrialState
    points: list[CurvePoint]


class Event(View):
    """``id`` counts 1, 2, 3 … within the study."""

    id: int
    type: str
    data: dict[str, Any]
    at: float


class WorkerView(View):
    """A worker and how long ago it was heard of."""

    id: str
    device: str | None
    first_seen: float
    last_seen: float
    age_s: float


class QueueStats(View):
    """What waits and what runs, for health checks. ``workers``: heard of in the last two minutes."""

    queued: int
    leased: int
    oldest_queued_s: float | None
    workers: int


class Page(View, Generic[Item]):
    """``next_cursor`` is None on the last page."""

    items: list[Item]
    next_cursor: str | None
