"""What a person asks: model, data set, training, search and budget. One schema for API, CLI and workers."""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from optim_core.spec.base import Value, clean_text
from optim_core.spec.entrypoints import EntrypointText, is_entrypoint
from optim_core.spec.errors import SpecError
from optim_core.spec.layers import Layer
from optim_core.spec.names import did_you_mean
from optim_core.spec.own import LOSSES, OWN_BOTH, check_own, check_table, metric_name
from optim_core.spec.search import Budget, Search
from optim_core.spec.text import TEXT_METRICS, check_dataset, check_text
from optim_core.spec.training import FOLDS as FOLDS
from optim_core.spec.training import Curriculum as Curriculum
from optim_core.spec.training import FineTune as FineTune
from optim_core.spec.training import Training as Training

TableTask = Literal["classification", "regression"]
# ``own``: neither of the others, as the learning of a text, or what a person's own model and data are for.
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
METRICS_OF_TASK: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "loss", "f1", "auroc"),
    "regression": ("rmse", "loss", "mae", "r2"),
    "own": ("loss", "perplexity", "score", "error"),
}
# What can be named: a function of the person's own is named by its entry point.
NAMED_METRICS = tuple(name for name in get_args(Metric) if name not in ("score", "error"))
# Those of tables.
TABLE_TASKS: tuple[TableTask, ...] = ("classification", "regression")
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


class PythonModel(Value):
    """A person's own network: what ``entrypoint`` names is a ``torch.nn.Module``, its class, or a function that makes it.

    ``folder``: where a file's name starts and modules are looked for first; null: the current folder, and installed modules.
    Only workers run it.
    """

    kind: Literal["python"]
    entrypoint: EntrypointText
    folder: Annotated[str, Field(min_length=1, max_length=4096)] | None = None

    _clean = field_validator("folder")(clean_text)


TableModel = CatalogueModel | LayersModel
Model = Annotated[CatalogueModel | LayersModel | PythonModel, Field(discriminator="kind")]


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


class PythonDataset(Value):
    """A person's own data: what ``entrypoint`` names is a data set, splits of one, or a function that makes them.

    ``folder``: as of ``PythonModel``.
    """

    kind: Literal["python"]
    entrypoint: EntrypointText
    folder: Annotated[str, Field(min_length=1, max_length=4096)] | None = None

    _clean = field_validator("folder")(clean_text)


Dataset = Annotated[BuiltinDataset | FileDataset | PythonDataset, Field(discriminator="kind")]


class StudySpec(Value):
    """Everything a study needs. Equal specs have equal ``keys.content_hash``.

    ``equivalence_margin``: differences up to this share of the metric do not matter; ``absolute_margin``: the same in the
    metric's own unit. With neither: the smaller of 1 % of the metric and 20 % of what is missing to a perfect score.
    ``loss``: of a model of the person's own, a name of ``LOSSES`` or an entry point; null: the ``.loss`` of its output, or what
    fits the targets. ``metric``: a name of ``Metric``, or an entry point, of which ``metric_direction`` says what is better.
    ``prefer``: what to recommend when nothing is better than a tuned AdamW: that, or the cheapest that is shown to be equal.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    model: Model
    dataset: Dataset
    task: Task | None = None
    loss: str | None = None
    metric: str | None = None
    metric_direction: Literal["max", "min"] | None = None
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
        return clean_text(name)

    @model_validator(mode="after")
    def _one_margin(self) -> StudySpec:
        if self.equivalence_margin is not None and self.absolute_margin is not None:
            raise ValueError("give equivalence_margin or absolute_margin, not both")
        return self

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, loss: str | None) -> str | None:
        if loss is not None and loss not in LOSSES and not is_entrypoint(loss):
            raise SpecError(_unknown("loss", loss, LOSSES), code="unknown_value")
        return loss

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str | None) -> str | None:
        if metric is not None and metric not in NAMED_METRICS and not is_entrypoint(metric):
            raise SpecError(_unknown("metric", metric, NAMED_METRICS), code="unknown_value")
        return metric

    @model_validator(mode="after")
    def _task_and_metric(self) -> StudySpec:
        if self.own:
            check_own(self.dataset.kind, self.metric, self.metric_direction, self.training, self.search)
        elif isinstance(self.dataset, PythonDataset):
            raise SpecError(OWN_BOTH, code="option_not_applicable", pointer="/model")
        elif self.is_text:
            self._check_text()
            return self
        else:
            given = {
                "loss": self.loss,
                "metric_direction": self.metric_direction,
                "task": self.task,
                "metric": self.metric,
            }
            check_table(given, self.training)
        task = self.task
        if isinstance(self.dataset, BuiltinDataset):
            task = BUILTIN_TASKS[self.dataset.name]
            if self.task is not None and self.task != task:
                raise SpecError(f"{self.dataset.name} is a {task} data set", code="invalid_value", pointer="/task")
        if task is not None and (self.metric is None or not is_entrypoint(self.metric)):
            check_metric(task, self.metric)
        elif self.metric == "perplexity" and not self.own:
            raise SpecError("perplexity needs a model of your own", code="metric_not_applicable", pointer="/metric")
        return self

    def _check_text(self) -> None:
        curriculum = self.training.curriculum
        given = {"loss": self.loss, "metric_direction": self.metric_direction}
        check_text(
            self.model.model_dump(), self.task, self.metric, None if curriculum is None else curriculum.order,
            list(self.search.techniques), self.search.optimizers or (), given,
        )  # fmt: skip

    @property
    def own(self) -> bool:
        """Whether model and data are the person's own Python."""
        return isinstance(self.model, PythonModel)

    @property
    def is_text(self) -> bool:
        """Whether the data are a text, which the model learns as a language."""
        return not isinstance(self.dataset, PythonDataset) and self.dataset.is_text

    @property
    def text_metric(self) -> str:
        """The metric of a text: as asked, or the perplexity."""
        return self.metric or TEXT_METRICS[0]

    @property
    def entrypoints(self) -> dict[str, str]:
        """JSON pointer → entry point, for all that this spec has."""
        given = {"/loss": self.loss, "/metric": self.metric}
        for name, part in (("model", self.model), ("dataset", self.dataset)):
            if isinstance(part, PythonModel | PythonDataset):
                given[f"/{name}/entrypoint"] = part.entrypoint
        return {pointer: text for pointer, text in given.items() if text is not None and is_entrypoint(text)}

    @property
    def metric_name(self) -> str | None:
        """See ``own.metric_name``."""
        return metric_name(self.metric, self.metric_direction)


def _unknown(what: str, given: str, known: tuple[str, ...]) -> str:
    hint = did_you_mean(given, known) or f"; choose one of {', '.join(known)}, or FILE.py:NAME"
    return f"unknown {what} {given[:80]!r}{hint}"


def check_metric(task: Task, metric: str | None) -> str:
    """The metric to use for ``task``: the given one, or the default. Raises SpecError ``metric_not_applicable``."""
    fitting = METRICS_OF_TASK[task]
    if metric is not None and metric not in fitting:
        message = f"{metric} does not fit {task}; choose one of {', '.join(m for m in fitting if m in NAMED_METRICS)}"
        raise SpecError(message, code="metric_not_applicable", pointer="/metric")
    return metric or fitting[0]
