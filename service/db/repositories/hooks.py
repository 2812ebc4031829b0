"""Webhooks and the outbox of what they are still to be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from service.db.models import Delivery, Webhook

WAITING, DELIVERED, FAILED = "waiting", "delivered", "failed"


class HookRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, row: Webhook | Delivery) -> None:
        self.session.add(row)
        self.session.flush()

    def get(self, webhook_id: str) -> Webhook | None:
        return self.session.scalar(select(Webhook).where(Webhook.id == webhook_id))

    def all(self) -> Sequence[Webhook]:
        """Oldest first."""
        return self.session.scalars(select(Webhook).order_by(Webhook.created_at, Webhook.id)).all()

    def of_project(self, project_id: str) -> Sequence[Webhook]:
        return self.session.scalars(select(Webhook).where(Webhook.project_id == project_id)).all()

    def delete(self, webhook: Webhook) -> None:
        """With what it was still to be told."""
        self.session.delete(webhook)
        self.session.flush()

    def drop_waiting(self, study_id: str) -> None:
        """What was still to be told of a study."""
        gone = delete(Delivery).where(Delivery.study_id == study_id, Delivery.state == WAITING)
        self.session.execute(gone.execution_options(synchronize_session=False))

    def counts(self) -> dict[tuple[str, str], int]:
        """(webhook, state) → how many deliveries."""
        query = select(Delivery.webhook_id, Delivery.state, func.count()).group_by(Delivery.webhook_id, Delivery.state)
        return {(webhook, state): count for webhook, state, count in self.session.execute(query)}

    def last(self, webhook_id: str) -> Delivery | None:
        """The delivery that was tried or queued last."""
        query = select(Delivery).where(Delivery.webhook_id == webhook_id).order_by(Delivery.created_at.desc())
        return self.session.scalar(query.limit(1))

    def anything_due(self, now: float) -> bool:
        """Whether ``take`` would find something; takes no lock."""
        query = select(Delivery.id).where(Delivery.state == WAITING, Delivery.next_at <= now).limit(1)
        return self.session.scalar(query) is not None

    def take(self, now: float, lease_s: float, limit: int) -> list[tuple[Delivery, Webhook]]:
        """What is due, put off by ``lease_s`` so that nobody else takes it meanwhile."""
        due = (
            select(Delivery, Webhook)
            .join(Webhook, Webhook.id == Delivery.webhook_id)
            .where(Delivery.state == WAITING, Delivery.next_at <= now)
            .order_by(Delivery.next_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=Delivery)
        )
        found = [(delivery, webhook) for delivery, webhook in self.session.execute(due)]
        for delivery, _ in found:
            delivery.attempts += 1
            delivery.next_at = now + lease_s
        self.session.flush()
        return found

    def settle(self, delivery_id: str, attempt: int, **values: Any) -> bool:
        """Write how an attempt went; False when another one has begun since."""
        done = self.session.execute(
            update(Delivery)
            .where(Delivery.id == delivery_id, Delivery.attempts == attempt, Delivery.state == WAITING)
            .values(**values)
            .execution_options(synchronize_session=False)
        )
        return done.rowcount == 1  # type: ignore[attr-defined]

    def forget_ended(self, before: float, limit: int) -> int:
        """Remove deliveries that ended before then; how many."""
        old = select(Delivery.id).where(Delivery.state != WAITING, Delivery.ended_at < before).limit(limit)
        done = self.session.execute(
            delete(Delivery).where(Delivery.id.in_(old)).execution_options(synchronize_session=False)
        )
        return done.rowcount  # type: ignore[attr-defined]
