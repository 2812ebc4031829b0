"""Learning curves and checkpoints: what running units leave behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from operator import itemgetter

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from optim_core.spec.trial import CurvePoint
from service.db.models import Checkpoint, Measurement, Trial
from service.db.repositories.upsert import Upsert

_POINTS = Upsert(
    Measurement,
    ("unit_id", "number", "step"),
    # A loop may tell a step's loss and its metric apart.
    lambda stored, new: {name: func.coalesce(new[name], stored[name]) for name in ("train_loss", "loss", "value")},
)


class CurveRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def upsert(self, unit_id: int, points: Iterable[tuple[int, CurvePoint]]) -> None:
        """As ``upsert_all`` of one unit: points by the numbers of their trials."""
        self.upsert_all((unit_id, number, point) for number, point in points)

    def upsert_all(self, points: Iterable[tuple[int, int, CurvePoint]]) -> None:
        """Add points by unit and trial; of one trial and step the numbers told last count (an attempt that resumed tells it
        again).
        """
        found: dict[tuple[int, int, int], CurvePoint] = {}
        for unit_id, number, point in points:
            known = found.get((unit_id, number, point.step))
            told = point if known is None else known.model_copy(update=point.model_dump(exclude_none=True))
            found[unit_id, number, point.step] = told
        # Sorted, so that two writers could never wait for each other.
        rows = [
            {
                "unit_id": unit_id,
                "number": number,
                "step": step,
                "train_loss": p.train_loss,
                "loss": p.loss,
                "value": p.value,
            }
            for (unit_id, number, step), p in sorted(found.items(), key=itemgetter(0))
        ]
        if rows:
            _POINTS.run(self.session, rows)

    def replace(self, unit_id: int, points: Iterable[tuple[int, CurvePoint]]) -> None:
        """Put the committed curves in the place of the live points."""
        self.session.execute(delete(Measurement).where(Measurement.unit_id == unit_id))
        self.upsert(unit_id, points)

    def last_step(self, unit_id: int) -> int:
        """The last step of which the unit has a point; 0 without any."""
        query = select(func.max(Measurement.step)).where(Measurement.unit_id == unit_id)
        return self.session.execute(query).scalar_one() or 0

    def of_unit(self, unit_id: int) -> list[CurvePoint]:
        """Points of a unit of one trial, by step."""
        query = select(Measurement).where(Measurement.unit_id == unit_id).order_by(Measurement.step)
        return [
            CurvePoint(step=row.step, train_loss=row.train_loss, loss=row.loss, value=row.value)
            for row in self.session.scalars(query)
        ]

    def of_trials(self, trials: Sequence[Trial]) -> dict[int, list[CurvePoint]]:
        """Trial number → points by step, each from the unit that ran the trial last."""
        curves: dict[int, list[CurvePoint]] = {trial.number: [] for trial in trials}
        units = {trial.number: trial.unit_id for trial in trials}
        query = (
            select(Measurement)
            .where(
                Measurement.unit_id.in_({unit for unit in units.values() if unit is not None}),
                Measurement.number.in_(list(units)),
            )
            .order_by(Measurement.number, Measurement.step)
        )
        for row in self.session.scalars(query):
            if units[row.number] == row.unit_id:
                curves[row.number].append(
                    CurvePoint(step=row.step, train_loss=row.train_loss, loss=row.loss, value=row.value)
                )
        return curves

    def save_checkpoint(self, unit_id: int, data: bytes, at: float) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self.session.merge(Checkpoint(unit_id=unit_id, data=data, sha256=digest, saved_at=at))

    def checkpoint(self, unit_id: int) -> bytes | None:
        """The saved state; None when there is none or it is not what was written."""
        found = self.session.get(Checkpoint, unit_id)
        if found is None or hashlib.sha256(found.data).hexdigest() != found.sha256:
            return None
        return found.data

    def drop_checkpoint(self, unit_id: int) -> None:
        self.session.execute(
            delete(Checkpoint).where(Checkpoint.unit_id == unit_id).execution_options(synchronize_session=False)
        )
