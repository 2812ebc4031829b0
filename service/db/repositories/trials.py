"""Trials of a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Select, String, Update, bindparam, func, insert, or_, select, update
from sqlalchemy.orm import Session

from optim_core.spec.errors import IllegalTransition
from optim_core.spec.states import TRIAL_TRANSITIONS, TrialState, allowed_sources
from service.db.models import Trial, Unit

SEARCH_STAGES = ("portfolio", "search")
# Without a result last: as PostgreSQL's index has them, so that the best of a hundred thousand need no sorting.
_BEST_FIRST = (Trial.objective.asc().nulls_last(), Trial.number)
RESULT_COLUMNS = ("state", "rung", "objective", "metric", "loss", "diverged_at_step", "steps", "scores")


class Known(NamedTuple):
    """What a trial is before something happens to it. ``has_result``: of some rung."""

    state: TrialState
    has_result: bool


class TrialRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, study_id: str, number: int) -> Trial | None:
        return self.session.get(Trial, (study_id, number))

    def known(self, study_id: str, numbers: Iterable[int]) -> dict[int, Known]:
        """Those of ``numbers`` that exist."""
        rows = self.session.execute(_known(), {"study": study_id, "numbers": list(numbers)})
        return {number: Known(TrialState(state), bool(has)) for number, state, has in rows}

    def add(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            self.session.execute(insert(Trial), rows)

    def must_move(self, study_id: str, numbers: Sequence[int], target: TrialState, **values: Any) -> None:
        """Change the state of all of ``numbers``. IllegalTransition, and so a rollback, when one of them may not."""
        if not numbers:
            return
        asked = {"study": study_id, "numbers": list(numbers), **{f"new_{key}": value for key, value in values.items()}}
        changed = self.session.execute(_moved(target, tuple(values)), asked)
        if changed.rowcount != len(numbers):  # type: ignore[attr-defined]
            raise IllegalTransition(f"not every trial of {list(numbers)} may become {target}")

    def cancel_open(self, study_id: str) -> None:
        """Cancel the trials that wait or run."""
        self.session.execute(
            update(Trial)
            .where(Trial.study_id == study_id, Trial.state.in_([TrialState.WAITING, TrialState.RUNNING]))
            .values(state=TrialState.CANCELLED.value)
            .execution_options(synchronize_session=False)
        )

    def stop_waiting(self, study_id: str, unit_ids: Sequence[int]) -> None:
        """Trials whose units were cancelled: those with a result from a lower rung keep it, the others are cancelled."""
        units = select(Unit.spec).where(Unit.id.in_(unit_ids))
        numbers = [trial["number"] for spec in self.session.scalars(units) for trial in spec["trials"]]
        for known, target in ((True, TrialState.COMPLETED), (False, TrialState.CANCELLED)):
            self.session.execute(
                update(Trial)
                .where(
                    Trial.study_id == study_id,
                    Trial.number.in_(numbers),
                    Trial.state.in_([TrialState.WAITING, TrialState.RUNNING]),
                    Trial.objective.is_not(None) if known else Trial.objective.is_(None),
                )
                .values(state=target.value)
                .execution_options(synchronize_session=False)
            )

    def set_results(self, study_id: str, rows: list[dict[str, Any]], known: dict[int, Known]) -> None:
        """Store results; each row has ``number`` and RESULT_COLUMNS. ``known``: as ``known`` said since the study was locked.
        IllegalTransition, and so a rollback, where a trial may not change its state so.
        """
        if not rows:
            return
        for row in rows:
            trial, target = known.get(row["number"]), TrialState(row["state"])
            if trial is None or target not in TRIAL_TRANSITIONS[trial.state]:
                raise IllegalTransition(f"trial {row['number']} may not become {target}")
        values = [
            {"study": study_id, **{f"the_{name}": row[name] for name in ("number", *RESULT_COLUMNS)}} for row in rows
        ]
        self.session.connection().execute(_with_result(), values)

    def mark_pruned(self, study_id: str) -> None:
        """Searched trials that ended below the study's highest rung were pruned."""
        searched = (Trial.study_id == study_id, Trial.stage.in_(SEARCH_STAGES), Trial.state == TrialState.COMPLETED)
        top = select(func.max(Trial.rung)).where(*searched).scalar_subquery()
        self.session.execute(
            update(Trial)
            .where(*searched, Trial.rung < top)
            .values(state=TrialState.PRUNED.value)
            .execution_options(synchronize_session=False)
        )

    def page_by_number(
        self, study_id: str, optimizer: str | None, state: str | None, after: int | None, limit: int
    ) -> Sequence[Trial]:
        query = _filtered(study_id, optimizer, state).order_by(Trial.number).limit(limit)
        return self.session.scalars(query if after is None else query.where(Trial.number > after)).all()

    def page_by_objective(
        self,
        study_id: str,
        optimizer: str | None,
        state: str | None,
        after: tuple[float | None, int] | None,
        limit: int,
    ) -> Sequence[Trial]:
        """Best first, trials without a result last; strictly after the position (objective, number)."""
        query = _filtered(study_id, optimizer, state).order_by(*_BEST_FIRST).limit(limit)
        if after is None:
            return self.session.scalars(query).all()
        objective, number = after
        if objective is None:
            behind = Trial.objective.is_(None) & (Trial.number > number)
        else:
            tied = (Trial.objective == objective) & (Trial.number > number)
            behind = or_(Trial.objective.is_(None), Trial.objective > objective, tied)
        return self.session.scalars(query.where(behind)).all()

    def excluded(self, study_id: str) -> frozenset[int]:
        """Numbers of the trials that were left out."""
        query = select(Trial.number).where(Trial.study_id == study_id, Trial.excluded.is_not(None))
        return frozenset(self.session.scalars(query))

    def confirm_seeds(self, study_id: str) -> frozenset[int]:
        """Seeds of the confirmation of which no run was left out."""
        confirmed = (Trial.study_id == study_id, Trial.stage == "confirm")
        left_out = select(Trial.seed).where(*confirmed, Trial.excluded.is_not(None))
        return frozenset(self.session.scalars(select(Trial.seed).where(*confirmed, Trial.seed.not_in(left_out))))

    def best(self, study_id: str, limit: int) -> Sequence[Trial]:
        """Searched trials that have started and were not excluded, best objective first, those without a result last."""
        query = (
            select(Trial)
            .where(
                Trial.study_id == study_id,
                Trial.stage.in_(SEARCH_STAGES),
                Trial.unit_id.is_not(None),
                Trial.excluded.is_(None),
            )
            .order_by(*_BEST_FIRST)
            .limit(limit)
        )
        return self.session.scalars(query).all()


def _filtered(study_id: str, optimizer: str | None, state: str | None) -> Select[Trial]:
    query = select(Trial).where(Trial.study_id == study_id)
    if optimizer is not None:
        query = query.where(Trial.optimizer == optimizer)
    return query if state is None else query.where(Trial.state == state)


# Asked with every unit: built once, since building such a statement takes as long as running it.


@cache
def _known() -> Select[*tuple[Any, ...]]:
    wanted = (
        Trial.study_id == bindparam("study", type_=String),
        Trial.number.in_(bindparam("numbers", expanding=True)),
    )
    return select(Trial.number, Trial.state, Trial.objective.is_not(None)).where(*wanted)


@cache
def _moved(target: TrialState, keys: tuple[str, ...]) -> Update:
    """Change to ``target`` what may become it, and write ``new_KEY`` for each of ``keys``."""
    return (
        update(Trial)
        .where(
            Trial.study_id == bindparam("study", type_=String),
            Trial.number.in_(bindparam("numbers", expanding=True)),
            Trial.state.in_(allowed_sources(TRIAL_TRANSITIONS, target)),
        )
        .values(state=target.value, **{key: bindparam(f"new_{key}") for key in keys})
        .execution_options(synchronize_session=False)
    )


@cache
def _with_result() -> Update:
    table: Any = Trial.__table__
    wanted = (table.c.study_id == bindparam("study", type_=String), table.c.number == bindparam("the_number"))
    return update(table).where(*wanted).values({name: bindparam(f"the_{name}") for name in RESULT_COLUMNS})
