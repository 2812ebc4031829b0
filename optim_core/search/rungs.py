"""Rungs: growing horizons. A configuration runs its whole schedule rescaled to each horizon and starts anew at the next,
so only like is compared with like (Wen et al. 2025, arXiv 2509.02046: rankings flip while the learning rate decays)."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import spearmanr

from optim_core.search.history import Outcome

# The first rung must still show a whole schedule.
SHORTEST_RUNG = 60
ETA = 4
KEEP_FRACTION = 0.25
# Below this rank correlation between two rungs the lower one says little: promotion keeps twice as many.
TRUSTED_CORRELATION = 0.5


def horizons(full: int) -> list[int]:
    """Steps of each rung, the last one the full horizon: [T/4, T], or [T] when T/4 is too short to mean anything."""
    first = full // ETA
    return [first, full] if first >= SHORTEST_RUNG else [full]


def rung_correlation(found: Sequence[Outcome]) -> float | None:
    """Spearman correlation of the objectives of trials seen on rung 0 and rung 1; None with fewer than 5 of them."""
    low = {o.trial.number: o.result.objective for o in found if o.rung == 0}
    both = [(low[o.trial.number], o.result.objective) for o in found if o.rung == 1 and o.trial.number in low]
    if len(both) < 5 or len({a for a, _ in both}) < 2 or len({b for _, b in both}) < 2:
        return None
    lower, upper = zip(*both, strict=True)
    return float(spearmanr(lower, upper)[0])  # pyright: ignore[reportArgumentType]


def keep_fraction(found: Sequence[Outcome]) -> float:
    """Share of a generation that is promoted, from how well the lower rung has predicted the upper one so far."""
    correlation = rung_correlation(found)
    return KEEP_FRACTION if correlation is None or correlation >= TRUSTED_CORRELATION else 2 * KEEP_FRACTION


def promoted(generation: Sequence[Outcome], found: Sequence[Outcome]) -> list[Outcome]:
    """Which trials of a rung-0 generation go to the full horizon: the best overall, and the best of each optimizer.

    Diverged trials never; AdamW's best and its default always, so that the baseline is never starved.
    """
    alive = sorted((o for o in generation if o.result.diverged_at_step is None), key=lambda o: o.rank)
    keep = {o.trial.number for o in alive[: max(1, round(len(generation) * keep_fraction(found)))]}
    best: dict[str, Outcome] = {}
    for outcome in alive:
        best.setdefault(outcome.optimizer, outcome)
    leader = alive[0].result.objective if alive else 0.0
    spread = (alive[len(alive) // 2].result.objective - leader) if alive else 0.0
    keep |= {o.trial.number for o in best.values() if o.result.objective <= leader + spread or o.optimizer == "adamw"}
    keep |= {o.trial.number for o in alive if o.optimizer == "adamw" and o.trial.origin == "default"}
    return [o for o in alive if o.trial.number in keep]
