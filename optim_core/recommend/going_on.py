"""Should the search go on? What its second half brought says what more of it may bring."""

from __future__ import annotations

from collections.abc import Sequence

from optim_core.recommend.history import Outcome
from optim_core.spec.recommendation import GoingOn

# Halves of fewer full trainings are luck.
FEWEST = 16


def going_on(searched: Sequence[Outcome], full: int, sign: int, margin: float) -> GoingOn | None:
    """By how much the best of all full trainings is ahead of the best of their first half; None with too few of them.

    The best of a noisy search rises by luck too, so what it says is rather too hopeful than too bleak. ``full``: steps of a
    full training; ``sign``: 1 where a higher metric is better, else −1.
    """
    ended = sorted((o for o in searched if o.horizon == full), key=lambda o: (o.generation, o.trial.number))
    values = [None if o.result.metric is None else sign * o.result.metric for o in ended]
    first = [value for value in values[: len(values) // 2] if value is not None]
    if len(values) < FEWEST or not first:
        return None
    gain = max(value for value in values if value is not None) - max(first)
    return GoingOn(late_gain=gain, worth=gain > margin)
