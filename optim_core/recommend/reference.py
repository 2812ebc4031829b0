"""What models of another kind score on the rows of the answer, and whether that is more than a network does."""

from __future__ import annotations

from optim_core.recommend import wording
from optim_core.recommend.evidence import Evidence
from optim_core.recommend.evidence import Reference as Fitted
from optim_core.recommend.verdict import ALPHA, Judgement, compare_rows, score_of
from optim_core.spec.metrics import sign_of
from optim_core.spec.recommendation import Reference, ReferenceModel
from optim_core.spec.trial import ProbeReport, ReferenceName

TOO_DEAR = "Not compared with a linear model and trees: it would take more than a tenth of this budget, or a minute."


def reference(found: Evidence, judged: Judgement, probe: ProbeReport) -> Reference | None:
    """The models that were fitted, best first, each compared row by row with the recommended configuration; None where the data
    are no table. Their number shares the error, and that all of the confirmed networks are worse is a claim about each of them.
    """
    if probe.reference_s is None:
        return None
    sign, alpha = sign_of(found.metric), ALPHA / max(1, len(found.references))
    models = []
    for name, fitted in found.references.items():
        ahead = compare_rows(found, fitted.folds, judged.recommended.folds, alpha)
        score = score_of(found, fitted)
        low, high = sorted((sign * ahead.low + 0.0, sign * ahead.high + 0.0))
        than = "better" if ahead.excludes_zero and ahead.mean > judged.margin else "not_told_apart"
        if ahead.claimable and ahead.high < 0 and -ahead.mean > judged.margin:
            than = "worse"
        if ahead.claimable and -judged.margin <= ahead.low and ahead.high <= judged.margin:
            than = "same"
        models.append(
            ReferenceModel(
                name=name, title=_title(name, probe.minority is not None), mean=score.value, ci95=(score.low, score.high),
                difference=sign * ahead.mean + 0.0, difference_ci95=(low, high), than_network=than,
                than_any_network=than == "better" and _beats_all(found, fitted, judged, alpha), train_rows=fitted.train_rows,
            )
        )  # fmt: skip
    models.sort(key=lambda one: -sign * one.mean)
    said = wording.reference(models, found.metric, score_of(found, judged.recommended).value, probe.train_rows)
    return Reference(models=models, sentence=said if models else TOO_DEAR)


def _beats_all(found: Evidence, fitted: Fitted, judged: Judgement, alpha: float) -> bool:
    """By more than the margin, each at its share of the error."""
    each = alpha / len(found.confirmed)
    ahead = [compare_rows(found, fitted.folds, one.folds, each) for one in found.confirmed]
    return all(d.excludes_zero and d.mean > judged.margin for d in ahead)


def _title(name: ReferenceName, classes: bool) -> str:
    if name == "trees":
        return "gradient-boosted trees"
    return "logistic regression" if classes else "ridge regression"
