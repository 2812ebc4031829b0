"""What a person asks: model, data set, training, search and budget. One schema for API, CLI and workers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from optim_core.spec.base import Value
from optim_core.spec.errors import SpecError
from optim_core.spec.layers import Layer
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.techniques import TECHNIQUES, complete_techniques

Task = Literal["classification", "regression"]
Metric = Literal["accuracy", "loss", "f1", "auroc", "rmse", "mae", "r2"]
MAXIMISED: frozenset[str] = frozenset({"accuracy", "f1", "auroc", "r2"})
METRICS_OF_TASK: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "loss", "f1", "auroc"),
    "regression": ("rmse", "loss", "mae", "r2"),
}
BUILTIN_TASKS: dict[str, Task] = {
    "digits": "classification",
    "breast_cancer": "classification",
    "wine": "classification",
    "iris": "classification",
    "diabetes": "regression",
    "synthetic_classification": "classification",
    "synthetic_regression": "regression",
    "sparse_classification": "classification",
    "noisy_labels": "classification",
    "teacher_student": "regression",
}

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
_UNSAFE_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def clean_text(text: str) -> str:
    """The text unchanged, or ValueError when it holds control characters or half a surrogate pair."""
    if _UNSAFE_TEXT.search(text):
        raise ValueError("invalid_text: contains control characters")
    return text


class CatalogueModel(Value):
    """A ready-made network. Options left out take the defaults of ``optim_core.tasks.models``.

    ``gru`` and ``lstm`` read images row by row and tables feature by feature. ``tabular`` gives each category column of a
    table an embedding of ``width`` numbers, where the other models see one-hot columns.
    """

    kind: Literal["catalogue"] = "catalogue"
    name: Literal["linear", "mlp", "cnn", "resnet", "gru", "lstm", "transformer", "tabular"]
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=8192)]], Field(max_length=16)] | None = None
    activation: Literal["relu", "gelu", "tanh", "silu"] = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    width: Annotated[int, Field(ge=1, le=1024)] | None = None
    depth: Annotated[int, Field(ge=1, le=32)] | None = None
    heads: Annotated[int, Field(ge=1, le=64)] | None = None
    stages: Annotated[int, Field(ge=1, le=5)] | None = None


class LayersModel(Value):
    """A network written as a list of allow-listed layers; input width and output width are checked at the probe."""

    kind: Literal["layers"]
    layers: Annotated[list[Layer], Field(min_length=1, max_length=200)]


Model = Annotated[CatalogueModel | LayersModel, Field(discriminator="kind")]


class BuiltinDataset(Value):
    """A bundled or synthetic data set. ``samples``, ``features``, ``classes`` and ``noise`` only fit the synthetic ones."""

    kind: Literal["builtin"] = "builtin"
    name: Literal[
        "digits",
        "breast_cancer",
        "wine",
        "iris",
        "diabetes",
        "synthetic_classification",
        "synthetic_regression",
        "sparse_classification",
        "noisy_labels",
        "teacher_student",
    ]
    samples: Annotated[int, Field(ge=50, le=1_000_000)] | None = None
    features: Annotated[int, Field(ge=1, le=10_000)] | None = None
    classes: Annotated[int, Field(ge=2, le=1000)] | None = None
    noise: Annotated[float, Field(ge=0, le=100)] | None = None

    @model_validator(mode="after")
    def _shape_only_for_synthetic(self) -> BuiltinDataset:
        given = [k for k in ("samples", "features", "classes", "noise") if getattr(self, k) is not None]
        if given and self.name in {"digits", "breast_cancer", "wine", "iris", "diabetes"}:
            raise ValueError(f"{given[0]} does not fit the fixed data set {self.name}")
        return self


class FileDataset(Value):
    """A table on disk. ``format`` is taken from the file name when left out; ``features`` from the other columns."""

    kind: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    format: Literal["csv", "parquet", "npz"] | None = None
    target: Annotated[str, Field(min_length=1, max_length=1024)]
    features: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(min_length=1)] | None = None

    _clean = field_validator("path", "target")(clean_text)


Dataset = Annotated[BuiltinDataset | FileDataset, Field(discriminator="kind")]


class Curriculum(Value):
    """Batches from a growing share of the training rows, easiest first by the loss of a linear teacher.

    Share at step t of T: min(1, (f0^q + (1 − f0^q)·t/(full_at·T))^(1/q)), f0 = ``start_fraction``, q = ``power``
    (Wu et al. 2021, arXiv 2012.03107). ``order`` ``hardest`` and ``random`` are the controls that show whether order matters.
    """

    start_fraction: Annotated[float, Field(ge=0.01, le=1)] = 0.3
    full_at: Annotated[float, Field(gt=0, le=1)] = 0.5
    power: Annotated[float, Field(ge=0.5, le=4)] = 1.0
    order: Literal["easiest", "hardest", "random"] = "easiest"


class FineTune(Value):
    """Start from trained weights: a ``state_dict`` saved by ``torch.save``. Weights whose shape differs start afresh.

    ``freeze``: so many of the first layers with weights stay as they are.
    """

    weights: Annotated[str, Field(min_length=1, max_length=4096)]
    freeze: Annotated[int, Field(ge=0, le=1000)] = 0

    _clean = field_validator("weights")(clean_text)


class Training(Value):
    """How long and with which batches one full-horizon run trains."""

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    label_smoothing: Fraction = 0.0
    shuffle: Literal["every_epoch", "once", "never", "replacement"] = "every_epoch"
    curriculum: Curriculum | None = None
    fine_tune: FineTune | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.2

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.curriculum is not None and self.shuffle != "every_epoch":
            raise ValueError("a curriculum draws batches by itself: leave shuffle out")
        return self


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
        known, what = (SCHEDULES, "schedule") if info.field_name == "schedules" else (OPTIMIZERS, "optimizer")
        for name in names or []:
            if name not in known:
                raise ValueError(unknown_name(what, name, known))
        if names is not None and len(set(names)) != len(names):
            raise ValueError("a name is listed twice")
        return names

    @model_validator(mode="after")
    def _consistent(self) -> Search:
        if not self.included():
            raise ValueError("empty_search_space: every optimizer is excluded")
        for optimizer, ranges in self.ranges.items():
            if optimizer not in OPTIMIZERS:
                raise ValueError(unknown_name("optimizer", optimizer, OPTIMIZERS))
            rows = {h.name: h for h in OPTIMIZERS[optimizer].hyperparameters}
            for name, (low, high) in ranges.items():
                if name not in rows:
                    raise ValueError(f"{optimizer}: {unknown_name('hyperparameter', name, rows)}")
                if low > high:
                    raise ValueError(f"invalid_range: {optimizer}.{name} has low {low:g} > high {high:g}")
                rows[name].check_range(low, high)
        for technique, values in self.techniques.items():
            if technique not in TECHNIQUES:
                raise ValueError(unknown_name("technique", technique, TECHNIQUES))
            for value in values:
                try:
                    complete_techniques({technique: value})
                except SpecError as error:
                    raise ValueError(f"{error.code}: {error}") from None
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


class Budget(Value):
    """What may be spent on search; any one limit that is reached ends it. Confirmation is always completed.

    ``seconds``: wall clock in which units ran. ``device_seconds``: the same summed over workers. ``seeds``: fresh seeds per
    confirmed configuration in the first look; a second look adds as many when the first does not decide.
    """

    trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    seconds: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    train_steps: Count | None = None
    device_seconds: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    seeds: Annotated[int, Field(ge=2, le=100)] = 5

    @model_validator(mode="after")
    def _some_limit(self) -> Budget:
        if self.trials is None and self.seconds is None and self.train_steps is None and self.device_seconds is None:
            raise ValueError("budget_required: give trials, seconds, train_steps or device_seconds")
        return self


class StudySpec(Value):
    """Everything a study needs. Equal specs have equal ``keys.content_hash``."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    model: Model
    dataset: Dataset
    task: Task | None = None
    metric: Metric | None = None
    training: Training = Training()
    search: Search = Search()
    budget: Budget = Budget(seconds=60.0)
    equivalence_margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @field_validator("name")
    @classmethod
    def _clean_name(cls, name: str | None) -> str | None:
        return None if name is None else clean_text(name)

    @model_validator(mode="after")
    def _task_and_metric(self) -> StudySpec:
        if isinstance(self.dataset, BuiltinDataset):
            own = BUILTIN_TASKS[self.dataset.name]
            if self.task is not None and self.task != own:
                raise ValueError(f"task: {self.dataset.name} is a {own} data set")
            check_metric(own, self.metric)
        elif self.task is not None:
            check_metric(self.task, self.metric)
        return self


def check_metric(task: Task, metric: Metric | None) -> Metric:
    """The metric to use for ``task``: the given one, or the default. ValueError when it does not apply."""
    fitting = METRICS_OF_TASK[task]
    if metric is not None and metric not in fitting:
        raise ValueError(f"metric_not_applicable: {metric} does not fit {task}; choose one of {', '.join(fitting)}")
    return metric or fitting[0]  # type: ignore[return-value]


def unknown_name(what: str, name: str, known: Any) -> str:
    """One line for a name that does not exist: why it cannot, or the nearest one that does."""
    import difflib

    code = "unknown_optimizer: " if what == "optimizer" else ""
    if known is OPTIMIZERS and (reason := OPTIMIZERS.why_not(name)):
        return code + reason
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"{code}unknown {what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
