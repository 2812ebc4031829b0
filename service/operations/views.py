"""What operations return: plain values, ready to become JSON. Times are epoch seconds by the database's clock."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

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


class FieldError(View):
    """What is wrong with one field. ``pointer``: JSON pointer into the spec, empty: the whole of it."""

    pointer: str
    code: str
    detail: str = ""


class StudyFailure(View):
    """Why a study failed. ``errors``: what is wrong with its data or with how they are to be used, where the check found it."""

    code: str
    message: str
    errors: list[FieldError] = []


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
    ``excluded``: why a person left it out of the answer.
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
    excluded: str | None


class SplitRows(View):
    """Row by row in the order of the fold, what ``optim_core.recommend.row_scores`` says of each metric: 1 or 0 for accuracy
    and balanced_accuracy, the loss, the absolute error for mae, the relative one for mape, the squared one for rmse and r2, the
    predicted class for f1, the row's influence for auroc and average_precision.

    ``fold``: which fifth of the table the rows are, null: the study's own split. ``targets``: for balanced_accuracy, f1, auroc,
    average_precision and r2. ``weights``: where rows have sample weights that ``values`` do not hold. ``places``: of a
    table, which data row of the file each is, the first being 1; with a split by files, of its own file.
    """

    fold: int | None
    values: list[float | None]
    targets: list[float] | None
    weights: list[float] | None = None
    places: list[int] | None = None


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


class AskedTrial(View):
    """A trial for a client of a person's own loop: train ``configuration`` with ``seed`` for ``steps``, score it on ``split``.

    ``token``: goes with every report and with what is told. ``reported_step``: the last one that was reported, in any attempt.
    ``checkpoint``: a name for what the client saves of this run, the same whoever runs it. Without a sign of life for
    ``lease_s`` seconds the trial is given to another client; ``heartbeat_s``: how often to give one.
    """

    number: int
    token: str
    configuration: dict[str, Any]
    seed: int
    steps: int
    split: Split
    stage: str
    rung: int
    attempt: int
    reported_step: int
    checkpoint: str
    lease_s: float
    heartbeat_s: float


class Asked(View):
    """``trial``, or null: then the study has ``ended``, or it is worth asking again after ``wait`` seconds. ``in_use``: another
    process that lives holds a trial under this ``client_id``.
    """

    trial: AskedTrial | None = None
    in_use: bool = False
    wait: float | None = None
    ended: bool = False
    status: StudyState


class Decision(View):
    """Whether to go on with a trial. ``reason`` to stop: ``lease_lost``, ``cancelled``, ``trial_finished``, ``study_ended``
    or ``diverged``.
    """

    go_on: bool
    reason: str | None


class Released(View):
    """Whether the trial was the client's to give back."""

    released: bool


class Told(View):
    """How a trial ended, and where its study stands."""

    number: int
    state: TrialState
    status: StudyState


class ClientView(View):
    """A client of a person's own loop, when it was last heard of, and the trial that it holds. ``late``: its lease has run out,
    so its trial will go to another client.
    """

    id: str
    age_s: float | None
    trial: int | None
    stage: str | None
    optimizer: str | None
    step: int | None
    steps: int | None
    attempt: int | None
    lease_left_s: float | None
    late: bool


class ArtifactView(View):
    """An uploaded file. ``name``: a label; ``content``: what was found in it; ``size`` in bytes."""

    id: str
    name: str
    format: str
    size: int
    sha256: str
    content: str
    created_at: float
    used_at: float


class WebhookView(View):
    """An address that is told when studies end. ``waiting``, ``failed``: deliveries; ``last_status``: of the last answer there;
    ``last_error``: why it did not count.
    """

    id: str
    url: str
    created_at: float
    waiting: int
    failed: int
    last_status: int | None
    last_error: str | None


class NewWebhook(View):
    """``secret``: verifies signatures; shown this once."""

    id: str
    url: str
    secret: str
    created_at: float


class QueueStats(View):
    """What waits and what runs, for health checks. ``studies``: that engine workers are to train, waiting ones included;
    ``workers``: heard of in the last two minutes.
    """

    studies: int
    queued: int
    leased: int
    oldest_queued_s: float | None
    workers: int


class Page(View, Generic[Item]):
    """``next_cursor`` is None on the last page."""

    items: list[Item]
    next_cursor: str | None


class KeyView(View):
    """A key without its secret. ``shown``: how it begins and ends. ``kind``: ``session`` for a browser that a key let in.
    ``project``: null for one of the whole server.
    """

    id: str
    shown: str
    project: str | None
    kind: Literal["key", "session"]
    name: str | None
    scope: Literal["read", "write", "admin", "metrics"]
    created_at: float
    expires_at: float | None
    state: Literal["valid", "revoked", "expired"]


class NewKeyView(KeyView):
    """``key``: what opens the door, shown this once."""

    key: str = Field(repr=False)


class ProjectView(View):
    """``studies``: that have not ended; ``device_s``: of all its studies; ``stored_bytes``: of its uploads; what they may
    be at most, null: no quota.
    """

    name: str
    studies: int
    max_studies: int | None
    device_s: float
    max_device_s: int | None
    stored_bytes: int
    max_stored_bytes: int | None
