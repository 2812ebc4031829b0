"""The verdict in one sentence for a person."""

from __future__ import annotations

from optim_core.recommend.verdict import Judgement
from optim_core.spec.optimizers import OPTIMIZERS


def summary(judgement: Judgement, metric: str, seeds: int) -> str:
    """What was found, how big it is, and what to do."""
    title = OPTIMIZERS[judgement.recommended.configuration.optimizer].title
    winner = OPTIMIZERS[judgement.winner.configuration.optimizer].title
    low, high = judgement.gain_interval
    if judgement.verdict == "better":
        return (
            f"Use {title}: {metric} better than tuned AdamW by {judgement.gain_mean:.4g} "
            f"(95 % interval {low:.4g} to {high:.4g}, {seeds} fresh paired seeds)."
        )
    if judgement.verdict == "no_difference":
        if judgement.recommended.configuration.optimizer == "adamw":
            return f"Keep AdamW: nothing beats it on {seeds} fresh paired seeds."
        return (
            f"No difference worth having to tuned AdamW on {seeds} fresh paired seeds; "
            f"{title} is the cheapest that cannot be told apart."
        )
    more = judgement.further_seeds
    hint = f"; about {more} more seeds would decide it" if more and more < 1000 else ""
    if judgement.recommended is judgement.winner and low > 0:
        return (
            f"{winner} is ahead of tuned AdamW by {judgement.gain_mean:.3g} on {seeds} fresh paired seeds, but that it matters "
            f"(more than {judgement.margin:.3g}) is not shown{hint}."
        )
    if judgement.recommended is judgement.winner:
        return f"Undecided on {seeds} fresh paired seeds: {winner} leads tuned AdamW, not beyond doubt{hint}."
    return (
        f"Undecided on {seeds} fresh paired seeds: {winner} leads on average, not beyond doubt{hint}. Keep tuned AdamW."
    )
