"""What operations return: plain values, ready to become JSON. Times are epoch seconds by the database's clock."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from optim_core.spec.states import StudyState, TrialState
from optim_core.spec.trial import CurvePoint, Role, Split

Item = TypeVar("Item")


class View(BaseModel):
    """Base of all views: immutable, nothing beyond the named fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Best(View):
    """The best searched value so far, on the validation split."""

    optimizer: str
    value: float


class Progress(View):
    """``stage``: queued, probe, portfolio, search, screen, confirm or done. ``fraction``: 0 to 1. ``eta_s``: None = unknown.

    ``standing``: what tuning has gained over default AdamW so far; ``forecast``: what the budget buys and whether that is
    enough for a verdict. Both have a ``sentence``. ``finishing``: the study is on its way to an early answer.
    """

    stage: str
    note: str | None
    trials_done: int
    trials_planned: int
    fraction: float
    elapsed_s: float
    eta_s: float | None
    trials_per_s: float
    best: Best | None
    standing: dict[str, Any] | None = None
    forecast: dict[str, Any] | None = None
    finishing: bool = False


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


class SplitScore(View):
    """A confirmed run's metric over all rows of a split, in float64; null where the metric is no mean of rows."""

    metric: float | None
    rows: int


class TrialView(View):
    """A trial with the result of its highest rung so far (None before the first).

    ``split``: the one that ``metric``, ``loss`` and ``objective`` are of. ``fold``: which fifth of the rows is the test split,
    null for the study's own split; the validation split is the next fifth. ``roles``: what a confirmed configuration stands
    for. ``scores``: of a confirmed run that did not diverge, on its test and its unused validation rows.
    """

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
    split: Split
    fold: int | None
    roles: list[Role]
    scores: dict[Split, SplitScore]


class SplitRows(View):
    """Row by row in the order of the fold, what ``optim_core.recommend.row_scores`` says of each metric: 1 or 0 for accuracy,
    the loss, the absolute error for mae, the squared one for rmse and r2, the predicted class for f1, the row's influence for
    auroc.

    ``fold``: which fifth of the table the rows are, null: the study's own split. ``targets``: for f1, auroc and r2.
    """

    fold: int | None
    values: list[float | None]
    targets: list[float] | None


class RunRows(View):
    """The row scores of a confirmed run."""

    number: int
    splits: dict[Split, SplitRows]


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
