"""What a client tells of a trial, as the result of a unit. Inside somebody else's transaction, with the study locked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy.orm import Session

from optim_core.spec.keys import canonical_json
from optim_core.spec.optimizers import find_optimizer
from optim_core.spec.rowscores import pack
from optim_core.spec.states import UnitState
from optim_core.spec.trial import WORST_VALUE, TrialResult, UnitResult, UnitSpec
from service.db.models import Study, Unit
from service.db.repositories import CurveRepository, UnitRepository
from service.operations import results
from service.text import storable

ENGINE = "external"
# Up to this an objective is the metric itself; beyond it grows with the logarithm, so that the greatest float stays below the
# worst value.
_PLAIN, _BEYOND = 1e5, 1e3
# What the loss adds where metrics are equal.
_TIE_BREAK = 1e-9


def objective(metric: str, direction: str, value: float, loss: float | None) -> float:
    """The minimised number of a trial: strictly monotone in the metric, finite, below ``WORST_VALUE``; where metrics are equal
    the loss decides.
    """
    signed = -value if direction == "maximize" else value
    if abs(signed) > _PLAIN:
        signed = math.copysign(_PLAIN + _BEYOND * math.log(abs(signed) / _PLAIN), signed)
    if loss is None or metric == "loss":
        return signed
    above = max(loss, 0.0)
    return signed + _TIE_BREAK * above / (1 + above)


def end_with(
    session: Session,
    study: Study,
    unit: Unit,
    token: int,
    now: float,
    value: float,
    loss: float | None,
    rows: Sequence[float] | None,
) -> bool:
    """Commit what a whole run came to by ``now`` (the database's clock). False, and nothing written, when the lease is lost."""
    spec = _spec_of(unit)
    result = TrialResult(
        number=spec.trials[0].number,
        objective=objective(str(study.metric), str(study.direction), value, loss),
        metric=value,
        loss=loss,
        steps=unit.horizon,
        curve=CurveRepository(session).of_unit(unit.id),
        rows={"test": pack(rows, "f")} if rows is not None and unit.kind == "confirm" else {},
    )
    return _commit(session, study, unit, token, now, spec, result, unit.horizon)


def end_diverged(session: Session, study: Study, unit: Unit, token: int, now: float, step: int) -> bool:
    """Commit that the run's numbers were no longer finite at ``step``. False when the lease is lost."""
    return _commit(session, study, unit, token, now, _spec_of(unit), _broken(session, unit, step), step)


def end_failed(session: Session, study: Study, unit: Unit, token: int, now: float, code: str, message: str) -> bool:
    """Commit that the run broke: its trial counts as the worst, and the study goes on. False when the lease is lost."""
    step = CurveRepository(session).last_step(unit.id)
    told = {"error_code": code, "error_message": storable(message)}
    return _commit(session, study, unit, token, now, _spec_of(unit), _broken(session, unit, step), step, told)


def _spec_of(unit: Unit) -> UnitSpec:
    return UnitSpec.model_validate_json(canonical_json(unit.spec))


def _broken(session: Session, unit: Unit, step: int) -> TrialResult:
    return TrialResult(
        number=results.numbers_of(unit)[0],
        objective=WORST_VALUE,
        metric=None,
        loss=None,
        diverged_at_step=step,
        steps=step,
        curve=CurveRepository(session).of_unit(unit.id),
    )


def _commit(
    session: Session,
    study: Study,
    unit: Unit,
    token: int,
    now: float,
    spec: UnitSpec,
    trial: TrialResult,
    steps: int,
    error: dict[str, str] | None = None,
) -> bool:
    gradients = find_optimizer(spec.trials[0].configuration.optimizer).gradients
    result = UnitResult(
        trials=[trial],
        seconds=max(0.0, now - float(unit.claimed_at or now)),
        train_steps=round(steps * gradients),
        device=ENGINE,
        engine=ENGINE,
    )
    stored = results.document_of(result, unit.kind)
    # What an earlier attempt met is no longer of interest once one has ended well.
    why = error or {"error_code": None, "error_message": None}
    if not UnitRepository(session).end_lease(unit.id, token, UnitState.DONE, result=stored, finished_at=now, **why):
        return False
    results.record(session, study, unit, result, now, failed=error is not None)
    return True
