"""Learning curves and checkpoints: what running units leave behind."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from optim_core.spec.curves import extended, packed, thinned, unpacked
from optim_core.spec.trial import CurvePoint
from service.db.models import Checkpoint, Curve, Trial
from service.db.repositories.upsert import Upsert

_CURVES = Upsert(Curve, ("unit_id", "number"), lambda stored, new: {"points": new["points"]})


class CurveRepository:
    """Whoever writes a unit's curves has its row locked: each is read, added to and written back whole."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, points: Iterable[tuple[int, int, CurvePoint]]) -> None:
        """Add points by unit and trial; of one trial and step the numbers told last count (an attempt that resumed tells it
        again).
        """
        told: dict[tuple[int, int], list[CurvePoint]] = defaultdict(list)
        for unit_id, number, point in points:
            told[unit_id, number].append(point)
        if not told:
            return
        known = self._stored({unit_id for unit_id, _ in told})
        self._write({key: extended(known.get(key, b""), points) for key, points in told.items()})

    def set(self, unit_id: int, curves: Mapping[int, Sequence[CurvePoint]]) -> None:
        """Put the committed curves, by trial number, in the place of the live ones."""
        self._write({(unit_id, number): packed(thinned(points)) for number, points in curves.items() if points})

    def last_step(self, unit_id: int) -> int:
        """The last step of which the unit has a point; 0 without any."""
        return max((unpacked(data)[-1].step for data in self._stored([unit_id]).values()), default=0)

    def of_unit(self, unit_id: int) -> list[CurvePoint]:
        """Points of a unit of one trial, by step."""
        return [point for data in self._stored([unit_id]).values() for point in unpacked(data)]

    def of_trials(self, trials: Sequence[Trial]) -> dict[int, list[CurvePoint]]:
        """Trial number → points by step, each from the unit that ran the trial last."""
        keys = [(trial.unit_id, trial.number) for trial in trials if trial.unit_id is not None]
        query = select(Curve).where(tuple_(Curve.unit_id, Curve.number).in_(keys))
        found = {row.number: unpacked(row.points) for row in self.session.scalars(query)} if keys else {}
        return {trial.number: found.get(trial.number, []) for trial in trials}

    def _stored(self, unit_ids: Iterable[int]) -> dict[tuple[int, int], bytes]:
        query = select(Curve.unit_id, Curve.number, Curve.points).where(Curve.unit_id.in_(list(unit_ids)))
        return {(unit_id, number): points for unit_id, number, points in self.session.execute(query)}

    def _write(self, curves: Mapping[tuple[int, int], bytes]) -> None:
        # Sorted, so that two writers could never wait for each other.
        rows = [{"unit_id": unit, "number": number, "points": points}
                for (unit, number), points in sorted(curves.items())]  # fmt: skip
        if rows:
            _CURVES.run(self.session, rows)

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
