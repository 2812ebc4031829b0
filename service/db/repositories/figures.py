"""Counts over everything, for monitoring."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db.models import Delivery, Study, Unit


class FiguresRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def studies(self) -> dict[str, int]:
        """State → studies."""
        return self._by(Study.state)

    def units(self) -> dict[str, int]:
        """State → units."""
        return self._by(Unit.state)

    def deliveries(self) -> dict[str, int]:
        """State → deliveries of webhooks."""
        return self._by(Delivery.state)

    def work(self) -> dict[str, float]:
        """Sums over the studies that are there: trials, training steps, seconds of devices."""
        columns = (Study.trials_done, Study.train_steps, Study.device_s)
        row = self.session.execute(select(*map(func.sum, columns))).one()
        return {name: float(value or 0) for name, value in zip(("trials", "steps", "device_s"), row, strict=True)}

    def _by(self, column) -> dict[str, int]:
        query = select(column, func.count()).group_by(column)
        return {state: count for state, count in self.session.execute(query)}
