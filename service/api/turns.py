"""Requests that change the same study take turns before they take a thread."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """One at a time for each study. They would wait for each other in the database anyhow, all before whoever comes next: when
    thirty clients ask at once, a report now waits for one of them.
    """

    def __init__(self) -> None:
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    def of(self, study_id: str) -> asyncio.Lock:
        """To be held while the study is changed."""
        return self._locks.setdefault(study_id, asyncio.Lock())
