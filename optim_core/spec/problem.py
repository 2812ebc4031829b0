"""What a person asks: model, data set, training, search and budget. One schema for API, CLI and workers."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from optim_core.spec.base import Value
from optim_core.spec.errors import SpecError
from optim_core.spec.layers import Layer
from optim_core.spec.names import find_row, unknown_name
from optim_core.spec.optimizers import OPTIMIZERS, find_optimizer
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.techniques import TECHNIQUES, complete_techniques
from optim_core.spec.text import TEXT_METRICS, check_dataset, check_text

TableTask = Literal["classification", "regression"]
# ``own``: neither of the others, as the learning of a text.
Task = Literal[TableTask, "own"]
# ``score`` and ``error``: a function of the person's own, of which more or less is better.
Metric = Literal["accuracy", "loss", "f1", "auroc", "rmse", "mae", "r2", "perplexity", "score", "error"]
MAXIMISED: frozenset[str] = frozenset({"accuracy", "f1", "auroc", "r2", "score"})
# Metrics with a perfect score that is not 0. What would be perfect for a function of the person's own, nobody knows.
PERFECT: dict[str, float] = {"accuracy": 1.0, "f1": 1.0, "auroc": 1.0, "r2": 1.0, "perplexity": 1.0}
# The least and the greatest value that a metric can have; infinite where it has none.
BOUNDS: dict[str, tuple[float, float]] = {
    "accuracy": (0.0, 1.0), "f1": (0.0, 1.0), "auroc": (0.0, 1.0), "r2": (-math.inf, 1.0),
    "rmse": (0.0, math.inf), "mae": (0.0, math.inf), "loss": (0.0, math.inf), "perplexity": (1.0, math.inf),
    "score": (-math.inf, math.inf), "error": (-math.inf, math.inf),
}  # fmt: skip
FOLDS = 5
METRICS_OF_TASK: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "loss", "f1", "auroc"),
    "regression": ("rmse", "loss", "mae", "r2"),
    "own": ("loss", "perplexity", "score", "error"),
}
# Those of tables.
TABLE_TASKS: tuple[TableTask, ...] = ("classification", "regression")
TABLE_METRICS = frozenset(name for task in TABLE_TASKS for name in METRICS_OF_TASK[task])
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
    "python_docs": "own",
}
# The bundled texts, which are no tables.
BUILTIN_TEXTS = frozenset({"python_docs"})

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
_UNSAFE_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def clean_text(text: str) -> str:
    """The text unchanged, or SpecError ``invalid_text`` when it holds control characters or half a surrogate pair."""
    if _UNSAFE_TEXT.search(text):
        raise SpecError("contains control characters", code="invalid_text")
    return text


def sign_of(metric: str) -> int:
    """1 where a higher metric is better, else −1."""
    return 1 if metric in MAXIMISED else -1


class CatalogueModel(Value):
    """A ready-made network. Options left out take the defaults of ``optim_core.tasks.models``.

    Of a text, ``transformer`` is a causal decoder (``optim_core.nn.decoder``).

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


# How many tokens a network sees at once.
Block = Annotated[int, Field(ge=4, le=1024)]
Unit = Literal["bytes", "characters"]


class BuiltinDataset(Value):
    """A bundled or synthetic data set. ``samples``, ``features``, ``classes`` and ``noise`` only fit the synthetic ones,
    ``unit`` and ``block`` the text ``python_docs``; see ``FileDataset``.
    """

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
        "python_docs",
    ]
    samples: Annotated[int, Field(ge=50, le=1_000_000)] | None = None
    features: Annotated[int, Field(ge=1, le=10_000)] | None = None
    classes: Annotated[int, Field(ge=2, le=1000)] | None = None
    noise: Annotated[float, Field(ge=0, le=100)] | None = None
    unit: Unit | None = None
    block: Block | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is learned as a language."""
        return self.name in BUILTIN_TEXTS

    @model_validator(mode="after")
    def _shape_only_for_synthetic(self) -> BuiltinDataset:
        given = [k for k in ("samples", "features", "classes", "noise") if getattr(self, k) is not None]
        if given and self.name in {"digits", "breast_cancer", "wine", "iris", "diabetes", "python_docs"}:
            raise ValueError(f"{given[0]} does not fit the fixed data set {self.name}")
        check_dataset(self.is_text, {"unit": self.unit, "block": self.block}, file=False)
        return self


class FileDataset(Value):
    """A table on disk, or with ``format: text`` a text.

    Of a table ``format`` is taken from the file name when left out; ``features`` from the columns other than ``target``. A text
    is learned token by token, a token being a byte (default) or a character (``unit``), from blocks of ``block`` tokens
    (default 64); it has no ``target``.
    """

    kind: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    format: Literal["csv", "parquet", "npz", "text"] | None = None
    target: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    features: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(min_length=1)] | None = None
    unit: Unit | None = None
    block: Block | None = None

    @field_validator("path", "target")
    @classmethod
    def _clean(cls, text: str | None) -> str | None:
        return None if text is None else clean_text(text)

    @property
    def is_text(self) -> bool:
        """Whether it is learned as a language."""
        return self.format == "text"

    @property
    def column(self) -> str:
        """The target of a table."""
        assert self.target is not None
        return self.target

    @model_validator(mode="after")
    def _table_or_text(self) -> FileDataset:
        given = {"target": self.target, "features": self.features, "unit": self.unit, "block": self.block}
        check_dataset(self.is_text, given, file=True)
        return self


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
    """How long and with which batches one full-horizon run trains.

    With the usual fractions the rows are cut into five folds: the search trains on three, looks at one and leaves one; the
    confirmation lets each fold be the test split in turn. Other fractions make one split of their own, which is kept.
    """

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    label_smoothing: Fraction = 0.0
    shuffle: Literal["every_epoch", "once", "never", "replacement"] = "every_epoch"
    curriculum: Curriculum | None = None
    fine_tune: FineTune | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 1 / FOLDS
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 1 / FOLDS

    @property
    def in_folds(self) -> bool:
        """Whether the rows are cut into five folds rather than into one split of its own."""
        return self.validation_fraction == self.test_fraction == 1 / FOLDS

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
        for name in names or []:
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
            rows = {h.name: h for h in find_optimizer(optimizer).hyperparameters}
            for name, (low, high) in ranges.items():
                if name not in rows:
                    raise SpecError(f"{optimizer}: {unknown_name('hyperparameter', name, rows)}", code="unknown_field")
                if low > high:
                    message = f"{optimizer}.{name} has low {low:g} > high {high:g}"
                    raise SpecError(message, code="invalid_range")
                rows[name].check_range(low, high)
        for technique, values in self.techniques.items():
            find_row("technique", technique, TECHNIQUES)
            for value in values:
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


class Budget(Value):
    """What may be spent; any one limit that is reached ends the search.

    ``seconds``: wall clock in which it is worked on, confirmation included. ``device_seconds``: the same summed over workers.
    ``trials`` and ``train_steps`` limit the search alone. ``seeds``: fresh seeds of a confirmed configuration in the first
    look, each of them on all five folds; a second look adds as many when the first does not decide, and up to ten where a
    budget in time has room. ``workers``: at most so many work on the study at a time.
    """

    trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    seconds: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    train_steps: Count | None = None
    device_seconds: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    seeds: Annotated[int, Field(ge=2, le=100)] = 2
    workers: Annotated[int, Field(ge=1, le=10_000)] | None = None

    @property
    def shortest_s(self) -> float:
        """The smaller of the limits in time, in seconds; infinite without one."""
        return min((s for s in (self.seconds, self.device_seconds) if s is not None), default=math.inf)

    @model_validator(mode="after")
    def _some_limit(self) -> Budget:
        if self.trials is None and self.seconds is None and self.train_steps is None and self.device_seconds is None:
            raise SpecError("give trials, seconds, train_steps or device_seconds", code="budget_required")
        return self


class StudySpec(Value):
    """Everything a study needs. Equal specs have equal ``keys.content_hash``.

    ``equivalence_margin``: differences up to this share of the metric do not matter; ``absolute_margin``: the same in the
    metric's own unit. With neither: the smaller of 1 % of the metric and 20 % of what is missing to a perfect score.
    ``prefer``: what to recommend when nothing is better than a tuned AdamW: that, or the cheapest that is shown to be equal.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    model: Model
    dataset: Dataset
    task: Task | None = None
    metric: Metric | None = None
    training: Training = Training()
    search: Search = Search()
    budget: Budget = Budget(seconds=60.0)
    equivalence_margin: Annotated[float, Field(gt=0, lt=1)] | None = None
    absolute_margin: Annotated[float, Field(gt=0, le=1e12)] | None = None
    prefer: Literal["adamw", "cheapest"] = "adamw"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @field_validator("name")
    @classmethod
    def _clean_name(cls, name: str | None) -> str | None:
        return None if name is None else clean_text(name)

    @model_validator(mode="after")
    def _one_margin(self) -> StudySpec:
        if self.equivalence_margin is not None and self.absolute_margin is not None:
            raise ValueError("give equivalence_margin or absolute_margin, not both")
        return self

    @model_validator(mode="after")
    def _task_and_metric(self) -> StudySpec:
        if self.is_text:
            curriculum = self.training.curriculum
            check_text(
                self.model.model_dump(), self.task, self.metric, None if curriculum is None else curriculum.order,
                list(self.search.techniques), self.search.optimizers or (),
            )  # fmt: skip
            return self
        if self.metric is not None and self.metric not in TABLE_METRICS:
            raise SpecError(f"{self.metric} does not fit a table", code="metric_not_applicable", pointer="/metric")
        if self.task == "own":
            raise SpecError("a table is for classification or regression", code="invalid_value", pointer="/task")
        if isinstance(self.dataset, BuiltinDataset):
            own = BUILTIN_TASKS[self.dataset.name]
            if self.task is not None and self.task != own:
                raise SpecError(f"{self.dataset.name} is a {own} data set", code="invalid_value", pointer="/task")
            check_metric(own, self.metric)
        elif self.task is not None:
            check_metric(self.task, self.metric)
        return self

    @property
    def is_text(self) -> bool:
        """Whether the data are a text, which the model learns as a language."""
        return self.dataset.is_text

    @property
    def text_metric(self) -> str:
        """The metric of a text: as asked, or the perplexity."""
        return self.metric or TEXT_METRICS[0]


def check_metric(task: Task, metric: Metric | None) -> Metric:
    """The metric to use for ``task``: the given one, or the default. Raises SpecError ``metric_not_applicable``."""
    fitting = METRICS_OF_TASK[task]
    if metric is not None and metric not in fitting:
        message = f"{metric} does not fit {task}; choose one of {', '.join(fitting)}"
        raise SpecError(message, code="metric_not_applicable", pointer="/metric")
    return metric or fitting[0]  # type: ignore[return-value]
