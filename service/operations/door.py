"""The door of one running server: who is let in with what, how often somebody may try, and the link that is printed once."""

from __future__ import annotations

import hmac
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from service.db import Database
from service.operations import access
from service.operations.access import OWNER, Caller
from service.operations.errors import ServiceError
from service.operations.rates import Rates
from service.settings import Settings

log = logging.getLogger("whichopt.access")

Counted = Literal["reads", "submissions", "reports"]
Held = Literal["streams", "uploads"]
# Who holds as many as there may be hears that it may try again so soon.
HELD_RETRY_S = 10
# Wrong keys from one address in a minute.
WRONG_PER_MINUTE = 10
SEND_A_KEY = "send a key as `Authorization: Bearer …`; `whichopt keys create` makes one"
NOT_VALID = "this key opens nothing: it is unknown, was revoked, or has expired"


class Door:
    """``own_key``: of the account that runs the server; lives in no table, and has no limits."""

    def __init__(self, database: Database, settings: Settings, own_key: str | None = None) -> None:
        self._database, self._lock = database, threading.Lock()
        self._own = None if own_key is None else access.digest(own_key)
        self._tickets: set[str] = set()
        self._held: Counter[tuple[str, Held]] = Counter()
        self._most: dict[Held, int] = {"streams": settings.streams_per_key, "uploads": settings.uploads_per_key}
        self._rates = Rates(
            {
                "reads": settings.reads_per_minute,
                "submissions": settings.submissions_per_minute,
                "reports": settings.reports_per_minute,
                "wrong keys": WRONG_PER_MINUTE,
            }
        )

    def let_in(self, presented: str | None, address: str, kind: Literal["key", "session"] = "key") -> Caller:
        """Whom a key, or what a browser sends, lets in. ServiceError 401 ``unauthorized``, 429 for wrong ones by the dozen."""
        if not presented:
            raise ServiceError(401, "unauthorized", SEND_A_KEY)
        caller = OWNER if self.is_own(presented) else access.caller_of(self._database, presented, kind)
        if caller is None:
            self._rates.take(address, "wrong keys")
            log.warning("refused from %s: %s %s", address, kind, access.named(presented) or "of no known form")
            raise ServiceError(401, "unauthorized", NOT_VALID)
        return caller

    def is_own(self, presented: str) -> bool:
        """Whether this is the key of the account that runs the server. Asks no database."""
        return self._own is not None and hmac.compare_digest(access.digest(presented), self._own)

    def count(self, caller: Caller, what: Counted) -> None:
        """One request of a caller. ServiceError 429 ``rate_limited``."""
        if caller.key_id is not None:
            self._rates.take(caller.key_id, what)

    @contextmanager
    def holding(self, caller: Caller, what: Held) -> Iterator[None]:
        """What lasts, of which a key, together with the browsers that it let in, has only so many at once.

        ServiceError 429 ``rate_limited``.
        """
        holder = (caller.parent_id or caller.key_id or "", what)
        with self._lock:
            if holder[0] and self._held[holder] >= self._most[what]:
                detail = f"this key has {self._most[what]} {what} at once, which is all that it may have"
                raise ServiceError(429, "rate_limited", detail, retry_after_s=HELD_RETRY_S)
            self._held[holder] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[holder] -= 1
                if not self._held[holder]:
                    del self._held[holder]

    def new_ticket(self) -> str:
        """What lets one browser of the account that runs the server in, once."""
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._tickets.add(access.digest(ticket))
        return ticket

    def use_ticket(self, ticket: str) -> Caller | None:
        """Whom the ticket lets in; None when it was used before, or never given out."""
        with self._lock:
            given = access.digest(ticket) in self._tickets
            self._tickets.discard(access.digest(ticket))
        return OWNER if given else None
