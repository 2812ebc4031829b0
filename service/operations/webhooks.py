"""Use cases of webhooks: who is told of the ends of studies.

A delivery is written in the transaction that ends a study, and tried by the sweep until its receiver has taken it: at least
once, whoever dies in between. What is sent is signed as Standard Webhooks has it (headers ``webhook-id``,
``webhook-timestamp``, ``webhook-signature``), for which receivers find libraries in most languages.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence

from service.db import Database
from service.db.models import Webhook
from service.db.repositories import HookRepository, StudyRepository
from service.operations import addresses
from service.operations.errors import Conflict, NotFound
from service.operations.views import NewWebhook, WebhookView

MOST_WEBHOOKS = 20


def create(db: Database, url: str, allowed: Sequence[str]) -> NewWebhook:
    """Tell ``url`` of the end of every study from now on. ServiceError ``uri_not_allowed``, Conflict ``too_many_webhooks``.

    ``allowed``: origins that webhooks may go to.
    """
    addresses.check_url(url, allowed)
    with db.write() as session:
        hooks, now = HookRepository(session), StudyRepository(session).now()
        if len(hooks.all()) >= MOST_WEBHOOKS:
            raise Conflict("too_many_webhooks", f"there are {MOST_WEBHOOKS} webhooks already; delete one first")
        secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        webhook = Webhook(id=secrets.token_hex(16), url=url, secret=secret, created_at=now)
        hooks.add(webhook)
        return NewWebhook(id=webhook.id, url=url, secret=secret, created_at=now)


def list_all(db: Database) -> list[WebhookView]:
    """All webhooks, oldest first, and how their deliveries fare."""
    with db.read() as session:
        hooks = HookRepository(session)
        counts, found = hooks.counts(), []
        for one in hooks.all():
            last = hooks.last(one.id)
            found.append(
                WebhookView(
                    id=one.id, url=one.url, created_at=one.created_at, waiting=counts.get((one.id, "waiting"), 0),
                    failed=counts.get((one.id, "failed"), 0), last_status=None if last is None else last.status,
                    last_error=None if last is None else last.error,
                )
            )  # fmt: skip
        return found


def delete(db: Database, webhook_id: str) -> None:
    """Tell it nothing any more, not even what waits. NotFound ``webhook_not_found``."""
    with db.write() as session:
        hooks = HookRepository(session)
        webhook = hooks.get(webhook_id)
        if webhook is None:
            raise NotFound("webhook_not_found", f"there is no webhook {webhook_id!r}")
        hooks.delete(webhook)
