"""Which differences matter: the margin of a metric."""

from __future__ import annotations

from optim_core.spec.metrics import NUMBER_ERRORS
from optim_core.spec.problem import BOUNDS, PERFECT, StudySpec

# Of the metric's value, and of what is missing to a perfect score: near perfection one percent of the metric means nothing.
OF_VALUE, OF_DISTANCE = 0.01, 0.2
# Of the error of always answering the mean: where a model is nearly exact, one percent of its error means nothing either.
OF_TRIVIAL = 1e-3
# A loop's metric may have any zero: near a million, one percent of it says nothing. There no more than this share of what the
# middle half of the search's trials differ by.
OF_SPREAD = 0.1


def margin_of(
    metric: str, value: float, spec: StudySpec, trivial: float | None = None, spread: float | None = None
) -> float:
    """Differences up to this matter to nobody, in the metric's own unit. ``value``: the score of tuned AdamW; ``trivial``: that
    of always answering the mean; ``spread``: what the middle half of the search's trials of a person's own loop differ by.

    As the person set it, relative or absolute; else the smaller of 1 % of the metric and, for metrics with a perfect score
    that is not 0, 20 % of the distance to it; for errors at least a thousandth of the trivial one; of a person's own loop at
    most a tenth of ``spread``. Never widened to what the rows resolve.
    """
    if spec.absolute_margin is not None:
        return spec.absolute_margin
    if spec.equivalence_margin is not None:
        return spec.equivalence_margin * abs(value)
    usual = OF_VALUE * abs(value)
    if metric in NUMBER_ERRORS and trivial is not None:
        return max(usual, OF_TRIVIAL * trivial)
    name = str(spec.metric) if spec.external else metric
    low, high = BOUNDS.get(name, (value, value))
    # A loop may tell its accuracy in percent.
    if name in PERFECT and low <= value <= high:
        usual = min(usual, OF_DISTANCE * abs(PERFECT[name] - value))
    return min(usual, OF_SPREAD * spread) if spread else usual
