"""Which differences matter: the margin of a metric."""

from __future__ import annotations

from optim_core.spec.problem import PERFECT, StudySpec

# Of the metric's value, and of what is missing to a perfect score: near perfection one percent of the metric means nothing.
OF_VALUE, OF_DISTANCE = 0.01, 0.2
# Of the error of always answering the mean: where a model is nearly exact, one percent of its error means nothing either.
OF_TRIVIAL = 1e-3


def margin_of(metric: str, value: float, spec: StudySpec, trivial: float | None = None) -> float:
    """Differences up to this matter to nobody, in the metric's own unit. ``value``: the score of tuned AdamW; ``trivial``: that
    of always answering the mean.

    As the person set it, relative or absolute; else the smaller of 1 % of the metric and, for metrics with a perfect score
    that is not 0, 20 % of the distance to it; for errors at least a thousandth of the trivial one. Never widened to what the
    rows resolve.
    """
    if spec.absolute_margin is not None:
        return spec.absolute_margin
    if spec.equivalence_margin is not None:
        return spec.equivalence_margin * abs(value)
    usual = OF_VALUE * abs(value)
    if metric in ("rmse", "mae") and trivial is not None:
        return max(usual, OF_TRIVIAL * trivial)
    return min(usual, OF_DISTANCE * abs(PERFECT[metric] - value)) if metric in PERFECT else usual
