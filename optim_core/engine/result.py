"""What an engine reports while it trains, and how it can end early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from optim_core.spec.errors import PortableError, WhichoptError
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


class Interrupted(PortableError):
    """The callback asked to stop. ``checkpoint`` continues the pack bit for bit."""

    def __init__(self, checkpoint: bytes) -> None:
        super().__init__("stopped on request")
        self.checkpoint = checkpoint


class PackTooLarge(WhichoptError):
    """The pack does not fit into memory; half of it may."""

    code = "out_of_memory"


@contextmanager
def too_large(trials: int) -> Iterator[None]:
    """Inside, memory that runs out becomes PackTooLarge."""
    try:
        yield
    except RuntimeError as error:
        words = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and not any(said in words for said in _OUT_OF_MEMORY):
            raise
        raise PackTooLarge(f"{trials} trials do not fit into memory") from error
    except MemoryError as error:
        raise PackTooLarge(f"{trials} trials do not fit into memory") from error


# What torch's allocator for CPUs says.
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory")
