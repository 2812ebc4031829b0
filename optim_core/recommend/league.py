"""One row per optimizer: how good, how robust, how dear, and whether it was tried enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from optim_core.recommend.enough import Tried
from optim_core.recommend.evidence import Evidence
from optim_core.recommend.history import Outcome, best_of, outcomes, probe_report
from optim_core.recommend.sensitivity import lr_width, rate_cost
from optim_core.recommend.tuning import best_band, expected_best
from optim_core.recommend.verdict import score_of
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import sign_of
from optim_core.spec.recommendation import Confirmed, CurveBand, LeagueRow
from optim_core.spec.trial import StudyView


def league(view: StudyView, found: Evidence, tried: Mapping[str, Tried]) -> list[LeagueRow]:
    """Rows of every included optimizer, by what the search saw: longer runs before shorter, then better before worse."""
    searched, probe = outcomes(view, "train"), probe_report(view)
    rows = []
    for name in view.spec.search.included():
        mine = [o for o in searched if o.optimizer == name]
        best = best_of(mine)
        rows.append((best, _row(name, mine, best, found, tried[name], probe.optimizer_step_s.get(name))))
    rows.sort(key=lambda pair: (-pair[0].rung, *pair[0].rank) if pair[0] and pair[0].alive else (1, math.inf, 0))
    return [row for _, row in rows]


def _row(
    name: str, mine: Sequence[Outcome], best: Outcome | None, found: Evidence, tried: Tried, step_s: float | None
) -> LeagueRow:
    sign = sign_of(found.metric)
    alive = best is not None and best.alive
    first = [o for o in mine if o.rung == min(o.rung for o in mine)]
    return LeagueRow(
        optimizer=name,
        searched=best.result.metric if best is not None and alive else None,
        searched_steps=best.horizon if best is not None and alive else None,
        confirmed=_confirmed(name, found, sign),
        trials=tried.trials,
        full_trials=tried.full,
        lacks=tried.lacks,
        tuning_curve=_tuning_curve(first, sign),
        divergence_rate=_share_diverged(mine),
        lr_width_decades=lr_width(mine, sign),
        lr_wrong_by_3=rate_cost(mine, sign),
        step_s=step_s,
        state_bytes_per_parameter=OPTIMIZERS[name].state_bytes_per_parameter,
        configuration=best.trial.configuration if best is not None and alive else None,
    )


def _confirmed(name: str, found: Evidence, sign: int) -> Confirmed | None:
    """The best of the optimizer's confirmed configurations."""
    scores = [(score_of(found, c), c) for c in found.confirmed if c.optimizer == name]
    if not scores:
        return None
    score, chosen = max(scores, key=lambda pair: sign * pair[0].value)
    return Confirmed(
        mean=score.value, ci95=(score.low, score.high), seeds=len(found.seeds), runs=found.runs, rows=found.rows,
        roles=sorted(chosen.roles), diverged=chosen.diverged_n,
    )  # fmt: skip


def _share_diverged(mine: Sequence[Outcome]) -> float:
    numbers = {o.trial.number for o in mine}
    return len({o.trial.number for o in mine if not o.alive}) / len(numbers) if numbers else 0.0


def _gains(first: Sequence[Outcome], sign: int) -> NDArray[np.float64]:
    """Metrics turned so that larger is better; a diverged trial counts as the worst one seen."""
    alive = [sign * o.result.metric for o in first if o.result.metric is not None]
    worst = min(alive, default=0.0)
    return np.array([worst if o.result.metric is None else sign * o.result.metric for o in first])


def _tuning_curve(first: Sequence[Outcome], sign: int) -> list[CurveBand]:
    """Expected best metric after n trials on the optimizer's first rung, at n = 1, 2, 4, … and all."""
    if not first or all(o.result.metric is None for o in first):
        return []
    gains, total = _gains(first, sign), len(first)
    counts = sorted({min(2**i, total) for i in range(total.bit_length() + 1)})
    curve = []
    for n in counts:
        ends = sorted(sign * end for end in best_band(gains, n))
        curve.append(CurveBand(n=n, expected=sign * expected_best(gains, n), low=ends[0], high=ends[1]))
    return curve
