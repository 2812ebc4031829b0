"""The verdict: does anything beat a tuned AdamW, by more than the margin, on seeds that nobody chose?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from optim_core.recommend.evidence import Confirmed, Scores
from optim_core.recommend.stats import further_seeds, mean_interval, probability_better
from optim_core.spec.optimizers import OPTIMIZERS

ALPHA = 0.05
# Two looks at the data share the error: each is held to half of it (Bonferroni), so coverage stays nominal.
LOOKS = 2

Verdict = Literal["better", "no_difference", "inconclusive"]


@dataclass(frozen=True)
class Judgement:
    """``gain_*`` are of the recommended configuration over tuned AdamW; positive is better, in the metric's unit."""

    verdict: Verdict
    winner: Confirmed
    recommended: Confirmed
    equivalent: list[Confirmed]
    margin: float
    gain_mean: float
    gain_interval: tuple[float, float]
    probability_better: float
    further_seeds: int | None


def judge(scores: Scores, relative_margin: float) -> Judgement:
    """Compare all confirmed configurations.

    The best of m rivals is held to alpha/m (the first step of Holm's procedure, which decides for the best one), with
    ``ALPHA`` shared between the looks.
    """
    tuned = scores.role("adamw_tuned")
    margin = relative_margin * abs(float(tuned.values.mean()))
    rivals = [c for c in scores.confirmed if not is_adamw(c)]
    alpha = ALPHA / LOOKS
    strict = alpha / max(1, len(rivals))
    winner = max(scores.confirmed, key=lambda c: (scores.sign * float(c.values.mean()), *_cheap_first(c)))
    low, high = mean_interval(scores.gain(winner, tuned), strict)
    mean = float(scores.gain(winner, tuned).mean())
    verdict: Verdict = "inconclusive"
    if is_adamw(winner) or (-margin <= low and high <= margin):
        verdict = "no_difference"
    elif low > 0 and mean > margin:
        verdict = "better"
    equivalent = _equivalent(scores, winner, margin, alpha)
    recommended = _recommend(scores, verdict, winner, equivalent, margin, strict, low)
    gains = scores.gain(recommended, tuned)
    interval = mean_interval(gains, strict)
    undecided = further_seeds(scores.gain(winner, tuned), margin, strict) if verdict == "inconclusive" else None
    return Judgement(
        verdict=verdict,
        winner=winner,
        recommended=recommended,
        equivalent=[c for c in equivalent if c is not recommended],
        margin=margin,
        gain_mean=float(gains.mean()),
        gain_interval=interval,
        probability_better=probability_better(gains),
        further_seeds=undecided,
    )


def is_adamw(confirmed: Confirmed) -> bool:
    """Whether it is AdamW, tuned or default."""
    return confirmed.configuration.optimizer == "adamw"


def cost_of(confirmed: Confirmed) -> tuple[float, float, int, int, int, str]:
    """Cheapest first: state bytes, arithmetic of a step, simplicity, then fewer decisions. Never a measured time, which
    would make the answer depend on the machine's mood."""
    row = OPTIMIZERS[confirmed.configuration.optimizer]
    return (
        row.state_bytes_per_parameter,
        row.step_cost,
        row.simplicity,
        0 if "adamw_default" in confirmed.roles else 1,
        len(confirmed.configuration.techniques),
        confirmed.configuration.model_dump_json(),
    )


def _cheap_first(confirmed: Confirmed) -> tuple[float, float, int]:
    state, step, simplicity, *_ = cost_of(confirmed)
    return -state, -step, -simplicity


def _equivalent(scores: Scores, winner: Confirmed, margin: float, alpha: float) -> list[Confirmed]:
    """Configurations whose interval against the winner lies inside the margin, cheapest first; the winner among them."""
    inside = []
    for other in scores.confirmed:
        low, high = mean_interval(scores.gain(other, winner), alpha)
        if other is winner or (-margin <= low and high <= margin):
            inside.append(other)
    return sorted(inside, key=cost_of)


def _recommend(
    scores: Scores,
    verdict: Verdict,
    winner: Confirmed,
    equivalent: list[Confirmed],
    margin: float,
    alpha: float,
    winner_low: float,
) -> Confirmed:
    tuned = scores.role("adamw_tuned")
    if verdict == "no_difference":
        return equivalent[0]
    if verdict == "better":
        # Cheapest among those that are themselves shown to be better; the winner always is.
        for other in equivalent:
            gains = scores.gain(other, tuned)
            if mean_interval(gains, alpha)[0] > 0 and float(np.mean(gains)) > margin:
                return other
        return winner
    # Nothing is shown: leave AdamW only for something that is at least not worse by more than the margin.
    return winner if winner_low > -margin else tuned
