"""What changes in a study when a unit ends. Inside somebody else's transaction, with the study locked."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from optim_core.spec.states import StudyState, TrialState
from optim_core.spec.trial import TrialResult, UnitResult
from service.db.models import Study, Unit
from service.db.repositories import CurveRepository, StudyRepository, TrialRepository
from service.operations.rowscores import split_scores
from service.text import storable


def numbers_of(unit: Unit | Row[Any]) -> list[int]:
    """The numbers of a unit's trials."""
    return [trial["number"] for trial in unit.spec["trials"]]


def document_of(result: UnitResult, kind: str) -> dict[str, Any]:
    """The result as JSON. Curves are stored by themselves; here only those of a confirmation, which the answer reads."""
    document = result.model_dump(mode="json")
    for trial in document["trials"] if kind != "confirm" else ():
        trial["curve"] = []
    return document


def record(session: Session, study: Study, unit: Unit, result: UnitResult, now: float, *, failed: bool = False) -> None:
    """Store trials and curves, bring the study's counters up to date, tell what happened. ``failed``: the trials did not
    diverge, their run broke.
    """
    trials, curves, studies = TrialRepository(session), CurveRepository(session), StudyRepository(session)
    given = {trial["number"]: trial for trial in unit.spec["trials"]}
    ended = [trial for trial in result.trials if trial.number in given]
    known = trials.known(study.id, given)
    states = {trial.number: TrialState.FAILED if failed else state_of(trial) for trial in ended}
    metric = study.metric if result.probe is None else result.probe.metric
    rows = [_row(trial, unit, metric, result) | {"state": states[trial.number].value} for trial in ended]
    trials.set_results(study.id, rows, known)
    if not study.external:  # a client's curve stands there as it told it, and its checkpoints are its own
        curves.set(unit.id, {trial.number: trial.curve for trial in ended})
        if unit.fence > 1 or unit.spent_s:  # else nobody has kept one
            curves.drop_checkpoint(unit.id)

    fresh = sum(not known[trial.number].has_result for trial in ended)
    study.trials_done += fresh
    study.confirm_done += fresh if unit.kind in ("screen", "confirm") else 0
    study.train_steps += result.train_steps
    studies.add_run(study, unit.claimed_at or now, now)
    study.result_seq += 1
    if result.probe is not None:
        study.metric, study.direction = result.probe.metric, result.probe.direction
    if unit.kind == "train":
        _remember_best(study, ended, given)

    done = {"unit": unit.key, "seconds": result.seconds, "train_steps": result.train_steps, "engine": result.engine}
    told = [
        {"number": trial.number, "optimizer": given[trial.number]["configuration"]["optimizer"],
         "stage": given[trial.number]["stage"], "state": states[trial.number].value, "rung": unit.rung,
         "metric": trial.metric}
        for trial in ended
    ]  # fmt: skip
    studies.add_events(study, [("unit.done", done), *(("trial.done", one) for one in told)], now)


def state_of(trial: TrialResult) -> TrialState:
    """Divergence is a result, not an error."""
    return TrialState.COMPLETED if trial.diverged_at_step is None else TrialState.DIVERGED


def _row(trial: TrialResult, unit: Unit, metric: str | None, result: UnitResult) -> dict[str, Any]:
    return {
        "number": trial.number,
        "rung": unit.rung,
        "objective": trial.objective,
        "metric": trial.metric,
        "loss": trial.loss,
        "diverged_at_step": trial.diverged_at_step,
        "steps": trial.steps,
        "scores": split_scores(metric, trial.rows, result.weights) if unit.kind == "confirm" else None,
    }


def _remember_best(study: Study, ended: list[TrialResult], given: dict[int, dict[str, Any]]) -> None:
    for trial in ended:
        optimizer = given[trial.number]["configuration"]["optimizer"]
        best = study.best_objective
        # Who is no better than AdamW has not beaten it.
        tied = trial.objective == best and optimizer == "adamw"
        if trial.metric is not None and (best is None or trial.objective < best or tied):
            study.best_objective, study.best_value = trial.objective, trial.metric
            study.best_optimizer = optimizer


def fail(session: Session, study: Study, code: str, message: str, now: float) -> bool:
    """End the study as failed; False when it has ended. Its open units stay for a resume; nobody claims them."""
    studies = StudyRepository(session)
    message = storable(message)
    told = {"error_code": code[:64], "error_message": message}
    if not studies.move(study, StudyState.FAILED, finished_at=now, **told):
        return False
    studies.add_event(study, "study.state", {"state": study.state, "code": code, "message": message}, now)
    return True
