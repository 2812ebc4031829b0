"""The verdict: does anything beat a tuned AdamW, by more than the margin, on new runs and new rows, after enough search?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from optim_core.recommend.enough import Tried
from optim_core.recommend.evidence import Confirmed, Evidence, Reference
from optim_core.recommend.further import Decider, all_would_decide, metric_degenerate, what_would_decide
from optim_core.recommend.interval import Difference, ScoreInterval, difference, score_interval
from optim_core.recommend.looks import LOOK_ALPHA, holm_divisors
from optim_core.recommend.margin import margin_of
from optim_core.recommend.row_scores import Folds, row_scores
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from optim_core.spec.recommendation import Reason, Verdict

ALPHA = 0.05
# The gain over default AdamW is a claim of its own, made at either look.
GAIN_ALPHA = ALPHA / len(LOOK_ALPHA)

# A search that misjudged AdamW's best by so much may have missed better ones by so many times that.
MISSED = 2.0

# Whether anything confirmed does better than one answer for every row: shown, open, or shown not to by more than the margin.
Learnt = Literal["shown", "open", "no"]


@dataclass(frozen=True)
class Judgement:
    """``against_tuned``: each rival over tuned AdamW, positive is better, best first. ``gain``: the recommended one over
    default AdamW, ``effect``: over tuned AdamW, which is the default where that did better. ``equivalent``: others that
    differ from tuned AdamW by no more than the margin. ``trivial``: the score of one answer for every row, on the same rows.
    ``misjudged``: by how much all that the search chose for AdamW did worse than its default, where that is more than the
    margin, else 0. ``stuck``: whether AdamW, as it was searched, is not shown to beat one answer for every row: its search may
    have missed where it works. ``unclaimed``: optimizers that were not tried enough for a claim about them. ``each``: as in
    ``Evidence``. ``lost``: whether every confirmed run of AdamW diverged: then there is nothing to compare with, and what ran
    is recommended.
    """

    verdict: Verdict
    reason: Reason | None
    recommended: Confirmed
    tuned: Confirmed
    default: Confirmed
    margin: float
    against_tuned: list[tuple[Confirmed, Difference]]
    gain: Difference
    effect: Difference
    equivalent: list[tuple[Confirmed, Difference]]
    decider: Decider | None
    trivial: float | None = None
    learnt: Learnt = "shown"
    misjudged: float = 0.0
    stuck: bool = False
    unclaimed: tuple[str, ...] = ()
    each: str = "row"
    lost: bool = False

    @property
    def leader(self) -> tuple[Confirmed, Difference] | None:
        """The rival with the best mean."""
        return self.against_tuned[0] if self.against_tuned else None


def judge(found: Evidence, tried: Mapping[str, Tried], spec: StudySpec) -> Judgement:
    """Compare all rivals with tuned AdamW at the look's share of the error, by Holm's procedure.

    ``tried``: what the search tried of each optimizer. A claim against AdamW needs AdamW to be tuned, with at least as many
    full-length trials as the winner; a claim for AdamW names only rivals that were tried enough.
    """
    default = tuned = found.role("adamw_default")
    # The yardstick is AdamW at its best, and nobody is told to leave the default for something that was no better here.
    for one in reversed(found.confirmed):
        if "adamw_tuned" in one.roles and compare(found, one, tuned, GAIN_ALPHA).mean >= 0:
            tuned = one
    trivial = (
        None if found.trivial is None else row_scores(found.trivial, found.metric, found.targets, found.weights).value
    )
    margin = margin_of(found.metric, score_of(found, tuned).value, spec, trivial, found.spread)
    pairs = _against(found, tuned)
    better = [(rival, d) for rival, d in pairs if d.excludes_zero and d.mean > margin]
    misjudged = _misjudged(found, default, margin)
    stuck = found.trivial is not None and _over_trivial(found, tuned, ALPHA).low <= 0
    untuned = bool(better) and (stuck or not outlasts(better[0][1], misjudged))
    verdict, reason = _verdict(found, tried, pairs, better, margin, untuned)
    equivalent = [
        (one, d)
        for one, d in _equivalent(found, tuned, default, pairs, margin)
        if one is default or tried[one.optimizer].enough
    ]
    recommended = tuned
    lost = all(one.diverged_n == found.runs for one in found.confirmed if one.optimizer == "adamw")
    if lost:
        verdict, reason = "inconclusive", "not_enough_search"
        recommended = min((one for one, _ in pairs), key=lambda one: one.diverged_n, default=tuned)
    elif verdict == "better":
        recommended = better[0][0]
    elif verdict == "no_difference" and spec.prefer == "cheapest":
        recommended = min([tuned, *(one for one, _ in equivalent)], key=cost_of)
    return Judgement(
        verdict=verdict,
        reason=reason,
        recommended=recommended,
        tuned=tuned,
        default=default,
        margin=margin,
        against_tuned=pairs,
        gain=compare(found, recommended, default, GAIN_ALPHA),
        effect=next((d for one, d in pairs if one is recommended), None)
        or compare(found, recommended, tuned, LOOK_ALPHA[found.look]),
        equivalent=[(one, d) for one, d in equivalent if one is not recommended],
        decider=all_would_decide([d for _, d in pairs], margin, found.rows) if reason == "noise" else None,
        trivial=trivial,
        learnt=_learnt(found, recommended, margin),
        misjudged=misjudged,
        stuck=stuck,
        each=found.each,
        lost=lost,
        # More search can only add to what already wins.
        unclaimed=tuple(
            name
            for name, row in tried.items()
            if not row.enough and not (verdict == "better" and name == recommended.optimizer)
        ),
    )


def compare(found: Evidence, one: Confirmed, other: Confirmed, alpha: float) -> Difference:
    """``one`` − ``other``, positive where ``one`` is better."""
    return compare_rows(found, one.folds, other.folds, alpha)


def compare_rows(found: Evidence, one: Folds, other: Folds, alpha: float) -> Difference:
    """The same of anything that has row scores."""
    return difference(
        one, other, found.metric, alpha=alpha, targets=found.targets, weights=found.weights, train_rows=found.train_rows,
        groups=found.groups,
    )  # fmt: skip


def score_of(found: Evidence, one: Confirmed | Reference) -> ScoreInterval:
    """The score of a configuration, or of a model of another kind, with its 95 % interval."""
    return score_interval(
        one.folds, found.metric, alpha=ALPHA, targets=found.targets, weights=found.weights, train_rows=found.train_rows,
        groups=found.groups,
    )  # fmt: skip


def _learnt(found: Evidence, recommended: Confirmed, margin: float) -> Learnt:
    """Row by row against one answer for all. The recommended configuration is one question, that any other one learns
    something a second, which shares its error among all of them.
    """
    if found.trivial is None:
        return "shown"
    shared = [_over_trivial(found, one, ALPHA / len(found.confirmed)) for one in found.confirmed]
    if _over_trivial(found, recommended, ALPHA).low > 0 or any(d.low > 0 for d in shared):
        return "shown"
    return "no" if found.whole and all(d.claimable and d.high <= margin for d in shared) else "open"


def _over_trivial(found: Evidence, one: Confirmed, alpha: float) -> Difference:
    """A configuration over one answer for every row, row by row."""
    assert found.trivial is not None
    return compare_rows(found, one.folds, found.trivial, alpha)


def more_runs_may_decide(judgement: Judgement) -> bool:
    """Whether another look could change an undecided comparison."""
    if judgement.verdict != "inconclusive" or judgement.reason != "noise":
        return False
    last = [(one, replace(d, alpha=LOOK_ALPHA[-1] / _divisor(d))) for one, d in judgement.against_tuned]
    return any(what_would_decide(d, judgement.margin).seeds is not None for _, d in last)


def _divisor(found: Difference) -> float:
    return LOOK_ALPHA[0] / found.alpha


def _against(found: Evidence, tuned: Confirmed) -> list[tuple[Confirmed, Difference]]:
    """Each rival over tuned AdamW at its own share of the error, best mean first."""
    alpha, rivals = LOOK_ALPHA[found.look], found.rivals
    divisors = holm_divisors([compare(found, rival, tuned, alpha).p_value for rival in rivals], alpha)
    pairs = [(rival, compare(found, rival, tuned, alpha / m)) for rival, m in zip(rivals, divisors, strict=True)]
    return sorted(pairs, key=lambda pair: (-pair[1].mean, cost_of(pair[0])))


def _verdict(
    found: Evidence,
    tried: Mapping[str, Tried],
    pairs: Sequence[tuple[Confirmed, Difference]],
    better: Sequence[tuple[Confirmed, Difference]],
    margin: float,
    untuned: bool,
) -> tuple[Verdict, Reason | None]:
    baseline = tried["adamw"]
    claimable = found.whole and all(d.claimable for _, d in pairs) and (len(pairs) > 0 or len(tried) == 1)
    if not baseline.enough or not claimable:
        return "inconclusive", "not_enough_search"
    if better and (
        untuned or baseline.full < tried[better[0][0].optimizer].full or may_catch_up(better[0][1], baseline)
    ):
        return "inconclusive", "not_enough_search"
    if metric_degenerate([c.folds for c in found.confirmed], found.metric, found.targets):
        return "inconclusive", "metric_degenerate"
    if better:
        return "better", None
    bracketed = [(rival, d) for rival, d in pairs if tried[rival.optimizer].enough]
    if pairs and not bracketed:
        return "inconclusive", "not_enough_search"
    if all(d.high <= margin for _, d in bracketed):
        return "no_difference", None
    return "inconclusive", "noise"


def _misjudged(found: Evidence, default: Confirmed, margin: float) -> float:
    """See ``Judgement``. Then the default stands in for what did not last, and is hardly AdamW at its best."""
    tuned = [one for one in found.confirmed if "adamw_tuned" in one.roles]
    lost = min((compare(found, default, one, GAIN_ALPHA).mean for one in tuned), default=math.inf)
    return lost if lost > margin else 0.0


def outlasts(lead: Difference, misjudged: float) -> bool:
    """Whether a lead is surely beyond what a search that errs by ``misjudged`` may have missed: twice as much."""
    return misjudged == 0 or lead.low > MISSED * misjudged


def may_catch_up(lead: Difference, baseline: Tried) -> bool:
    """Whether AdamW's search has not come to rest: twice as much of it may bring what the lead surely is."""
    return baseline.growth >= lead.low


def _equivalent(
    found: Evidence,
    tuned: Confirmed,
    default: Confirmed,
    pairs: Sequence[tuple[Confirmed, Difference]],
    margin: float,
) -> list[tuple[Confirmed, Difference]]:
    """Confirmed configurations whose interval against tuned AdamW lies inside the margin, cheapest first."""
    others = list(pairs)
    if default is not tuned:
        others.append((default, compare(found, default, tuned, LOOK_ALPHA[found.look])))
    inside = [(one, d) for one, d in others if d.claimable and found.whole and -margin <= d.low and d.high <= margin]
    return sorted(inside, key=lambda pair: cost_of(pair[0]))


def cost_of(confirmed: Confirmed) -> tuple[float, float, int, int, int, str]:
    """Cheapest first: state bytes, arithmetic of a step, simplicity, then fewer decisions. Never a measured time, which
    would make the answer depend on the machine's speed."""
    row = OPTIMIZERS[confirmed.optimizer]
    return (
        row.state_bytes_per_parameter,
        row.step_cost,
        row.simplicity,
        0 if "adamw_default" in confirmed.roles else 1,
        len(confirmed.configuration.techniques),
        confirmed.configuration.model_dump_json(),
    )
