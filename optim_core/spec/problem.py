"""What a person asks: model, data set, training, search and budget. One schema for API, CLI and workers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from optim_core.spec.base import Value, clean_text
from optim_core.spec.datasets import BUILTIN_TASKS as BUILTIN_TASKS
from optim_core.spec.datasets import BUILTIN_TEXTS as BUILTIN_TEXTS
from optim_core.spec.datasets import ArtifactDataset as ArtifactDataset
from optim_core.spec.datasets import BuiltinDataset as BuiltinDataset
from optim_core.spec.datasets import Dataset as Dataset
from optim_core.spec.datasets import DatasetInFile as DatasetInFile
from optim_core.spec.datasets import ExternalDataset as ExternalDataset
from optim_core.spec.datasets import FileDataset as FileDataset
from optim_core.spec.datasets import PythonDataset as PythonDataset
from optim_core.spec.entrypoints import is_entrypoint
from optim_core.spec.errors import SpecError
from optim_core.spec.external import EXTERNAL_BOTH, check_external, direction_of, with_dataset
from optim_core.spec.metrics import BOUNDS as BOUNDS
from optim_core.spec.metrics import MAXIMISED as MAXIMISED
from optim_core.spec.metrics import METRICS_OF_TASK as METRICS_OF_TASK
from optim_core.spec.metrics import NAMED_METRICS as NAMED_METRICS
from optim_core.spec.metrics import PERFECT as PERFECT
from optim_core.spec.metrics import TABLE_TASKS as TABLE_TASKS
from optim_core.spec.metrics import Metric as Metric
from optim_core.spec.metrics import Task as Task
from optim_core.spec.metrics import check_metric as check_metric
from optim_core.spec.metrics import sign_of as sign_of
from optim_core.spec.models import CatalogueModel as CatalogueModel
from optim_core.spec.models import ExternalModel as ExternalModel
from optim_core.spec.models import LayersModel as LayersModel
from optim_core.spec.models import Model as Model
from optim_core.spec.models import PythonModel as PythonModel
from optim_core.spec.models import TableModel as TableModel
from optim_core.spec.names import did_you_mean
from optim_core.spec.own import LOSSES, OWN_BOTH, check_own, check_table, metric_name
from optim_core.spec.search import Budget, Search
from optim_core.spec.split import RowSplit as RowSplit
from optim_core.spec.split import check_split
from optim_core.spec.text import TEXT_METRICS, check_text
from optim_core.spec.training import FOLDS as FOLDS
from optim_core.spec.training import Curriculum as Curriculum
from optim_core.spec.training import FineTune as FineTune
from optim_core.spec.training import Training as Training


class StudySpec(Value):
    """Everything a study needs. Equal specs have equal ``keys.content_hash``.

    ``equivalence_margin``: differences up to this share of the metric do not matter; ``absolute_margin``: the same in the
    metric's own unit. With neither: the smaller of 1 % of the metric and 20 % of what is missing to a perfect score.
    ``loss``: of a model of the person's own, a name of ``LOSSES`` or an entry point; null: the ``.loss`` of its output, or what
    fits the targets. ``metric``: a name of ``Metric``, or an entry point, of which ``metric_direction`` says what is better.
    ``prefer``: what to recommend when nothing is better than a tuned AdamW: that, or the cheapest that is shown to be equal.
    ``priority``: of a project's studies, units of those with a higher one are claimed first.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    model: Model
    dataset: Dataset
    task: Task | None = None
    loss: str | None = None
    metric: str | None = None
    metric_direction: Literal["max", "min"] | None = None
    split: RowSplit = RowSplit()
    training: Training = Training()
    search: Search = Search()
    budget: Budget = Budget(seconds=60.0)
    equivalence_margin: Annotated[float, Field(gt=0, lt=1)] | None = None
    absolute_margin: Annotated[float, Field(gt=0, le=1e12)] | None = None
    prefer: Literal["adamw", "cheapest"] = "adamw"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    priority: Annotated[int, Field(ge=-100, le=100)] = 0

    @model_validator(mode="before")
    @classmethod
    def _implied_dataset(cls, raw: Any) -> Any:
        return with_dataset(raw)

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
    def _known_metric(cls, metric: str | None, info: ValidationInfo) -> str | None:
        # What a loop of the person's own reports has whatever name they give it; a model that is in error may be one.
        if isinstance(info.data.get("model"), ExternalModel | None):
            return metric
        if metric is not None and metric not in NAMED_METRICS and not is_entrypoint(metric):
            raise SpecError(_unknown("metric", metric, NAMED_METRICS), code="unknown_value")
        return metric

    @model_validator(mode="after")
    def _task_and_metric(self) -> StudySpec:
        if self.external:
            self._check_external()
            return self
        if isinstance(self.dataset, ExternalDataset):
            raise SpecError("only a loop of your own has such data", code="option_not_applicable", pointer="/dataset")
        if self.own:
            check_own(self.dataset.kind, self.metric, self.metric_direction, self.training, self.search)
        elif isinstance(self.dataset, PythonDataset):
            raise SpecError(OWN_BOTH, code="option_not_applicable", pointer="/model")
        elif self.is_text:
            check_split(self.split, table_file=False)
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
        check_split(self.split, table_file=isinstance(self.dataset, DatasetInFile))
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
        if self.training.class_weights is not None:
            message = "a text has no classes to weigh"
            raise SpecError(message, code="option_not_applicable", pointer="/training/class_weights")
        check_text(
            self.model.model_dump(), self.task, self.metric, None if curriculum is None else curriculum.order,
            list(self.search.techniques), self.search.optimizers or (), given,
        )  # fmt: skip

    def _check_external(self) -> None:
        if not isinstance(self.dataset, ExternalDataset):
            raise SpecError(EXTERNAL_BOTH, code="option_not_applicable", pointer="/dataset")
        given = {name: getattr(self, name) for name in ("loss", "task", "metric", "metric_direction")}
        budgeted = "budget" in self.model_fields_set
        check_external(given, self.training, self.search, self.split, budgeted=budgeted)

    @property
    def external(self) -> bool:
        """Whether a loop of the person's own trains: it asks for configurations and tells what came of them."""
        return isinstance(self.model, ExternalModel)

    @property
    def external_metric(self) -> tuple[str, Literal["minimize", "maximize"]]:
        """(name, direction) of what a person's own loop reports."""
        name = str(self.metric)
        better = direction_of(name, self.metric_direction)
        return name, "maximize" if better == "max" else "minimize"

    @property
    def own(self) -> bool:
        """Whether model and data are the person's own Python."""
        return isinstance(self.model, PythonModel)

    @property
    def each(self) -> str:
        """What one of the things is called that are trained on and scored."""
        return "block" if self.is_text else "sample" if self.own else "row"

    @property
    def in_folds(self) -> bool:
        """Whether the rows are cut into folds that take turns as test rows rather than into one split."""
        return self.training.in_folds and self.split.takes_turns

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
        """See ``own.metric_name``; of a loop of the person's own ``score`` or ``error``, whatever they call it."""
        if self.external:
            return "score" if self.external_metric[1] == "maximize" else "error"
        return metric_name(self.metric, self.metric_direction)


def _unknown(what: str, given: str, known: tuple[str, ...]) -> str:
    hint = did_you_mean(given, known) or f"; choose one of {', '.join(known)}, or FILE.py:NAME"
    return f"unknown {what} {given[:80]!r}{hint}"
