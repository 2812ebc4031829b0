"""What an engine reports while it trains, and how it can end early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optim_core.spec.errors import WhichoptError
from optim_core.spec.trial import CurvePoint


@dataclass(frozen=True)
class Chunk:
    """Progress after ``step`` of ``horizon`` steps. ``points``: (trial number, point) of every trial, or nothing when
    the run is between two evaluations.

    ``checkpoint()`` serialises the whole pack; it costs time, so it is called only when wanted.
    """

    step: int
    horizon: int
    points: list[tuple[int, CurvePoint]]
    checkpoint: Callable[[], bytes]


OnChunk = Callable[[Chunk], bool]


def keep_going(chunk: Chunk) -> bool:
    """The callback that never stops a run."""
    del chunk
    return True


class Interrupted(Exception):
    """The callback asked to stop. ``checkpoint`` continues the pack bit for bit."""

    def __init__(self, checkpoint: bytes) -> None:
        super().__init__("stopped on request")
        self.checkpoint = checkpoint


class PackTooLarge(WhichoptError):
    """The pack does not fit into memory; half of it may."""

    code = "out_of_memory"
