"""Rows become views. The only place that does so."""

from __future__ import annotations

from typing import Any

from optim_core.spec.entrypoints import parse_entrypoint
from optim_core.spec.price import price
from optim_core.spec.problem import (
    BUILTIN_TASKS,
    MAXIMISED,
    ArtifactDataset,
    BuiltinDataset,
    CatalogueModel,
    ExternalDataset,
    ExternalModel,
    FileDataset,
    PythonDataset,
    PythonModel,
    StudySpec,
    check_metric,
)
from optim_core.spec.states import STUDY_ENDED, StudyState, TrialState
from service.db.models import Study, Trial
from service.operations.views import Best, FieldError, Progress, StudyDetail, StudyFailure, StudySummary, TrialView

# Of a budget in trials or steps: confirming the winners afterwards takes the last fifth of the bar.
SEARCH_SHARE = 0.8
# Where the bar stands once the budget is spent and the study has not ended.
SPENT = 0.98


def model_label(spec: StudySpec) -> str:
    """A short name of the model: of the catalogue, ``layers``, or the entry point of the person's own."""
    if isinstance(spec.model, ExternalModel):
        return "own loop"
    if isinstance(spec.model, PythonModel):
        return parse_entrypoint(spec.model.entrypoint).label[-64:]
    return spec.model.name if isinstance(spec.model, CatalogueModel) else "layers"


def dataset_label(spec: StudySpec) -> str:
    """A short name of the data set; of a file its name without the folder, of an upload its id, of the person's own its entry
    point.
    """
    if isinstance(spec.dataset, ExternalDataset):
        return "own data"
    if isinstance(spec.dataset, PythonDataset):
        return parse_entrypoint(spec.dataset.entrypoint).label[-255:]
    if isinstance(spec.dataset, ArtifactDataset):
        return spec.dataset.id
    if isinstance(spec.dataset, FileDataset):
        return spec.dataset.path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1][:255]
    return spec.dataset.name


def metric_of(spec: StudySpec) -> tuple[str | None, str | None]:
    """(metric, direction) as far as they are known before the data set was read."""
    if spec.external:
        return spec.external_metric
    if spec.is_text:
        return spec.text_metric, "minimize"
    task = spec.task or (BUILTIN_TASKS[spec.dataset.name] if isinstance(spec.dataset, BuiltinDataset) else None)
    metric = spec.metric_name or (check_metric(task, None) if task is not None else None)
    return metric, None if metric is None else ("maximize" if metric in MAXIMISED else "minimize")


def price_of(spec: StudySpec) -> dict[str, Any] | None:
    """What a loop's study will ask for, before any planner has seen it; None where that cannot be counted."""
    asked = price(spec)
    if asked is None:
        return None
    return {
        "trainings": float(asked.trials), "needed_s": None, "needed_trials": asked.needed, "enough": asked.enough,
        "sentence": asked.sentence,
    }  # fmt: skip


def study_summary(study: Study, times: tuple[float, float] | None) -> StudySummary:
    """``times``: (elapsed, device) seconds up to now of a study with running units; None = as stored at last commit."""
    return StudySummary(**_summary(study, times))


def study_detail(study: Study, times: tuple[float, float] | None) -> StudyDetail:
    """As ``study_summary``, with the spec."""
    return StudyDetail(**_summary(study, times), spec=study.spec)


def _summary(study: Study, times: tuple[float, float] | None) -> dict[str, Any]:
    elapsed_s, device_s = times or (study.elapsed_s, study.device_s)
    error = None
    if study.error_code is not None:
        errors = [FieldError.model_validate(one) for one in study.error_details or ()]
        error = StudyFailure(code=study.error_code, message=study.error_message or "", errors=errors)
    return {
        "id": study.id,
        "name": study.name,
        "status": StudyState(study.state),
        "model": study.model,
        "dataset": study.dataset,
        "metric": study.metric,
        "direction": study.direction,
        "created_at": study.created_at,
        "started_at": study.started_at,
        "finished_at": study.finished_at,
        "progress": progress(study, elapsed_s, device_s),
        "error": error,
        # While a study is answered anew its older answer is no answer.
        "verdict": study.verdict if study.state in STUDY_ENDED else None,
        "winner": study.winner if study.state in STUDY_ENDED else None,
    }


def progress(study: Study, elapsed_s: float, device_s: float) -> Progress:
    """How far a study is. The fraction follows the limit of the budget that is nearest."""
    fraction = _fraction(study, elapsed_s, device_s)
    active = study.state in (StudyState.QUEUED, StudyState.RUNNING)
    best = None
    if study.best_optimizer is not None and study.best_value is not None:
        best = Best(optimizer=study.best_optimizer, value=study.best_value)
    return Progress(
        stage=study.stage or ("checking" if study.state == StudyState.CHECKING else "queued"),
        note=study.note,
        trials_done=study.trials_done,
        trials_planned=study.trials_planned,
        fraction=fraction,
        elapsed_s=elapsed_s,
        # Nobody knows what is left once the budget is spent: what was begun is ended.
        eta_s=elapsed_s * (1 - fraction) / fraction if active and fraction > 0.02 and fraction != SPENT else None,
        trials_per_s=study.trials_done / elapsed_s if elapsed_s > 0 else 0.0,
        best=best,
        standing=study.standing,
        forecast=study.forecast,
        finishing=bool(study.finishing) and study.state not in STUDY_ENDED,
    )


def _fraction(study: Study, elapsed_s: float, device_s: float) -> float:
    if study.state == StudyState.COMPLETED:
        return 1.0
    confirmed = 0.0
    if study.stage in ("screen", "confirm"):
        confirmed = SEARCH_SHARE + (1 - SEARCH_SHARE) * 0.95 * study.confirm_done / max(study.confirm_planned, 1)
    spent = {
        "trials": study.trials_done - study.confirm_done,
        "seconds": elapsed_s,
        "train_steps": study.train_steps,
        "device_seconds": device_s,
    }
    budget = study.spec["budget"]
    # A limit in time covers the whole study, the others the search.
    shares = {"seconds": 1.0, "device_seconds": 1.0, "trials": SEARCH_SHARE, "train_steps": SEARCH_SHARE}
    parts = [shares[name] * min(spent[name] / budget[name], SPENT) for name in spent if budget.get(name)]
    return max(max(parts, default=0.0), confirmed)


def trial_fields(trial: Trial) -> dict[str, Any]:
    """The fields of a TrialView."""
    plain = {name: getattr(trial, name) for name in TrialView.model_fields if name not in ("state", "split")}
    split = "test" if trial.stage == "confirm" else "validation"
    return {
        **plain,
        "state": TrialState(trial.state),
        "split": split,
        "roles": trial.roles or [],
        "scores": trial.scores or {},
    }
