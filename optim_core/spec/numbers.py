"""What people give as a number."""

from __future__ import annotations

from typing import SupportsFloat


def plain_number(value: object) -> float | None:
    """A number, or a tensor or an array of one, as a float; None for anything else, texts among it."""
    if not isinstance(value, SupportsFloat):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
