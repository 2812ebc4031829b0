"""No broker: workers poll the database."""

from __future__ import annotations

from service.dispatch.base import Queue


class NullDispatcher:
    """Rings nowhere."""

    def nudge(self, queue: Queue) -> None:
        """Nobody needs to be told: local workers look several times a second."""

    def healthy(self) -> bool | None:
        """There is nothing that could be away."""
        return None
