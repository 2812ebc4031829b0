"""Who gets the next proposals: more for those that may still win, never fewer in all for AdamW than for any rival.

Proposals alone are counted. The trials of a portfolio look for the scale of the rate, and most of AdamW's grid lies far from
it: counted as search, they left AdamW half of a rival's proposals, and a rival looked better for having been searched better.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from optim_core.recommend.history import Outcome, best_of

# Weight of an optimizer relative to the one ranked before it.
FADE = 0.7


def slots(names: Sequence[str], found: Sequence[Outcome], spent: Mapping[str, int], count: int) -> dict[str, int]:
    """``count`` slots by optimizer, AdamW first in ``names``; only those that get any.

    ``spent``: proposals asked for so far. Weights fall with each rank of the optimizers' best objectives; shares follow them
    in the manner of Sainte-Laguë, ties going to the better-ranked.
    """
    best = {name: best_of(found, name) for name in names}
    ranked = sorted(names, key=lambda n: (-best[n].rung, *best[n].rank) if best[n] else (0, math.inf, 0))  # type: ignore[union-attr]
    weights = {name: FADE**position for position, name in enumerate(ranked)}
    given: Counter[str] = Counter()
    for _ in range(count):
        rival = max((spent.get(n, 0) + given[n] for n in names if n != "adamw"), default=0)
        if spent.get("adamw", 0) + given["adamw"] <= rival:
            given["adamw"] += 1
            continue
        chosen = max(ranked, key=lambda n: (weights[n] / (2 * given[n] + 1), -ranked.index(n)))
        given[chosen] += 1
    return {name: given[name] for name in names if given[name]}
