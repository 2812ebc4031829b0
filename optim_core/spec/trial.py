"""Configurations, trials, units of work and their results: the vocabulary between planner, queue and engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from optim_core.spec.base import Value
from optim_core.spec.problem import StudySpec, Task
from optim_core.spec.remembered import remembered
from optim_core.spec.states import UnitState

# Divergence is a result: its minimised value is this finite number, so that samplers learn from it.
WORST_VALUE = 1e6

Split = Literal["validation", "test"]
Stage = Literal["portfolio", "search", "screen", "confirm"]
Role = Literal["adamw_default", "adamw_tuned", "rival"]
# ``reference``: models of another kind, fitted to the same rows for comparison.
UnitKind = Literal["probe", "train", "screen", "confirm", "reference"]
ReferenceName = Literal["linear", "trees"]


class Configuration(Value):
    """One fully resolved way to train. ``schedule`` holds ``name`` and its parameters; ``techniques`` those that are on."""

    optimizer: str
    hyperparameters: dict[str, float | bool]
    schedule: dict[str, str | float]
    techniques: dict[str, float] = {}


@remembered
def identity(configuration: Configuration) -> str:
    """A text that two configurations share if and only if they are equal."""
    return configuration.model_dump_json()


class TrialParams(Value):
    """A trial: a configuration with a seed. ``number`` is unique in its study; ``origin`` says who proposed it.

    ``roles``: what a confirmed configuration stands for in the verdict; one may have two.
    """

    number: Annotated[int, Field(ge=0)]
    configuration: Configuration
    seed: Annotated[int, Field(ge=0)]
    stage: Stage
    origin: str
    roles: list[Role] = []


class Form(Value):
    """How a pack is trained: stacked (``batched``) in parts of at most ``width`` trials, or one after the other.

    ``vectorise``: through ``torch.vmap`` rather than by rules for stacked layers. ``recorded``: forward and backward as a CUDA
    graph. ``flat``: forward and backward of a person's module as a flat list of operations, noted once, in place of its Python.
    """

    engine: Literal["batched", "sequential"]
    width: int
    vectorise: bool = False
    recorded: bool = False
    flat: bool = False


class UnitSpec(Value):
    """One pack of trials trained together to one horizon: the thing a worker claims.

    ``key`` is unique in its study and means nothing more: what a planner wants to know again is a field. ``generation``: the
    plan that asked for it. ``rung``: of a search trial its rung, of a confirmation its look. ``fold``: which of the folds
    of the rows is the test split; null: the study's own split. ``form``: the one that the study's probe found fastest;
    null: the engine's own choice. ``data_hash``: the data that the probe saw; whoever trains the unit must find the same.
    ``references``: what to fit, of a unit of that kind, which has no trials. ``workers``: that were there to share the
    study when it was planned.
    """

    key: str
    kind: UnitKind
    generation: Annotated[int, Field(ge=0)] = 0
    rung: int
    horizon: Annotated[int, Field(ge=1, description="optimizer steps")]
    split: Split
    fold: Annotated[int, Field(ge=0, le=4)] | None = None
    trials: list[TrialParams]
    form: Form | None = None
    data_hash: str | None = None
    references: list[ReferenceName] = []
    workers: Annotated[int, Field(ge=1)] = 1


class CurvePoint(Value):
    """One evaluation. Losses are means per sample; ``value`` is the study's metric in its own direction."""

    step: int
    train_loss: float | None
    loss: float | None
    value: float | None


class TrialResult(Value):
    """The end of one trial at one horizon. ``objective`` is minimised and finite; ``metric`` is null when diverged.

    ``steps``: that it took; one that diverged leaves its pack at the next evaluation. ``rows``: of a confirmation, what it
    scored on each row of the ``test`` and the ``validation`` split, packed by ``rowscores.pack``; one that diverged has none.
    """

    number: int
    objective: float
    metric: float | None
    loss: float | None
    diverged_at_step: int | None = None
    steps: int
    curve: list[CurvePoint] = []
    rows: dict[Split, str] = {}


class ProbeReport(Value):
    """What the first steps of a study found out. Everything planning depends on, so that plans are repeatable.

    ``form``: the fastest one measured; ``speedup``: its steps per second over those of the reference engine.
    ``best_width``: trials from which on a wider pack trains no faster. ``network``: its layers in a line. ``minority``: the
    share of the rarest class; null for regression. ``folds``: in how many the samples take turns; null: as the spec says.
    ``batch_size``: rows of a batch that is used, which a small table may limit; null: as the spec says.
    ``reference_s``: seconds that fitting each of them once should take, by size alone; null: the data are no table.
    """

    task: Task
    metric: str
    direction: Literal["minimize", "maximize"]
    full_horizon: int
    steps_per_epoch: int
    parameter_count: int
    train_rows: int
    validation_rows: int
    test_rows: int
    data_hash: str
    data_report: list[str]
    pack_step_s: float
    probe_pack_size: int
    max_pack_size: int
    engine: str
    engine_reason: str
    device: str
    versions: dict[str, str]
    optimizer_step_s: dict[str, float] = {}
    form: Form | None = None
    speedup: float | None = None
    best_width: Annotated[int, Field(ge=1)] = 16
    minority: float | None = None
    folds: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    network: str = ""
    reference_s: dict[ReferenceName, float] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_trivial(cls, raw: Any) -> Any:
        # Stored by studies of earlier versions, where the probe scored it on one split.
        return {key: value for key, value in raw.items() if key != "trivial"} if isinstance(raw, dict) else raw


class ReferenceRows(Value):
    """What a model of another kind scored on each row of the test and the validation split, packed like ``TrialResult.rows``.

    ``train_rows``: how many of the training rows it was fitted to.
    """

    name: ReferenceName
    train_rows: int
    rows: dict[Split, str]


class UnitResult(Value):
    """What a worker commits for a unit, in one transaction, under its lease token.

    ``targets``: of a confirmation scored by a metric that needs them, the true values of each split's rows; ``weights``:
    how much those rows count, where not alike; ``places``: their numbers in the data set, from 1 on, of tables.
    ``trivial``: of a confirmation, what one answer for every row (the most frequent class of the training rows, or their
    mean) scores on each row of the test and the validation split. ``groups``: of a confirmation whose rows are not
    independent of each other, the number of the group of each row of the test split. All packed by ``rowscores.pack``.
    ``references``: of a unit of that kind.
    """

    trials: list[TrialResult]
    targets: dict[Split, str] = {}
    weights: dict[Split, str] = {}
    places: dict[Split, str] = {}
    trivial: dict[Split, str] = {}
    groups: str | None = None
    references: list[ReferenceRows] = []
    seconds: float
    train_steps: int
    device: str
    engine: str
    probe: ProbeReport | None = None


class UnitView(Value):
    """A unit as a planner sees it. ``error``: why a run of a person's own loop failed, which is no divergence."""

    spec: UnitSpec
    state: UnitState
    result: UnitResult | None = None
    error: str | None = None


class StudyView(Value):
    """Everything the planner may look at; planning is a pure function of this. Times in seconds.

    ``workers``: how many may work on the study now. ``finishing``: a person wants the best answer there is, soon.
    ``excluded``: numbers of trials that a person left out; no statistic knows them.
    """

    study_id: str
    spec: StudySpec
    units: list[UnitView]
    elapsed_s: float
    device_s: float
    workers: Annotated[int, Field(ge=1)] = 1
    finishing: bool = False
    excluded: frozenset[int] = frozenset()
