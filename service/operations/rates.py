"""How often one caller may ask: token buckets. They live in one process's memory, so several API processes let in several times
as much; the broker's database is only a doorbell, and no place for them.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

from service.operations.errors import ServiceError

# Callers that are remembered; of those who asked longest ago it is forgotten that they asked.
MOST_BUCKETS = 10_000


class Rates:
    """``per_minute``: of each kind of request, how many one caller may make at once, and so many more in each minute."""

    def __init__(self, per_minute: Mapping[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock, self._lock = dict(per_minute), clock, threading.Lock()
        # (caller, kind) → (tokens left, when).
        self._buckets: OrderedDict[tuple[Hashable, str], tuple[float, float]] = OrderedDict()

    def take(self, caller: Hashable, kind: str) -> None:
        """One request. ServiceError ``rate_limited`` when it is one too many, with the seconds until the next may come."""
        limit, now = self._per_minute[kind], self._clock()
        with self._lock:
            left, since = self._buckets.pop((caller, kind), (float(limit), now))
            left = min(float(limit), left + (now - since) * limit / 60)
            enough = left >= 1
            self._buckets[caller, kind] = (left - enough, now)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        if not enough:
            wait = max(1, math.ceil((1 - left) * 60 / limit))
            raise ServiceError(429, "rate_limited", f"more than {limit} a minute ({kind})", retry_after_s=wait)
