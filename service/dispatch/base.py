"""The doorbell. The database is the queue; a nudge only says that looking is worthwhile now."""

from __future__ import annotations

from typing import Literal, Protocol

Queue = Literal["control", "device"]


class Dispatcher(Protocol):
    """Rings for workers. A lost nudge costs one sweep, a doubled one costs nothing; so ``nudge`` never raises."""

    def nudge(self, queue: Queue) -> None:
        """``control``: a study wants planning. ``device``: a unit wants training."""
        ...

    def healthy(self) -> bool | None:
        """Whether nudges arrive; None where there is nothing to ring."""
        ...
