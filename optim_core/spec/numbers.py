"""What people give as a number, and which numbers are no measurement."""

from __future__ import annotations

from typing import SupportsFloat

# A loss or a metric beyond this comes of a run that blew up. Squares and sums of what is kept stay finite, of single rows in
# single precision too.
LARGEST = 1e30


def measured(value: float) -> bool:
    """Whether a loss, a metric or a row's score is a measurement; False: as if it were not finite, the run diverged."""
    return abs(value) <= LARGEST


def plain_number(value: object) -> float | None:
    """A number, or a tensor or an array of one, as a float; None for anything else, texts among it."""
    if not isinstance(value, SupportsFloat):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
