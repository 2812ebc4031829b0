"""What a budget buys. Confirmation is reserved first; the search gets the rest.

Costs are counted in trial-steps: optimizer steps of one trial, a step with two gradients counted twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optim_core.search.confirm import MOST_SECOND_SEEDS, folds_of, looks_runs, shortest_claim
from optim_core.search.reference import owed_seconds
from optim_core.spec.price import LOOKS, RIVALS, YARDSTICKS, screening_sizes
from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import ProbeReport, StudyView, UnitView

# Screening and confirmation may take this share of a budget in time, and where even one rival could not be confirmed with it
# the second one; the rest is search.
MOST_RESERVED, LEAST_SEARCHED = 0.4, 0.4
# At least this share is kept for them, as far as they can use it: thousands of trials with two seeds each decide nothing.
LEAST_RESERVED = 0.15
# A trial-step of screening and confirmation costs so much more than one of the search: packs are narrower, each seed has
# mini-batches of its own, and rows are scored one by one. Measured: 1.1 where runs are long or dear, 2.5 where they are short
# and cheap. What is kept back is rather too much; what is left may be spent until there is a measurement.
NARROW, LIKELY_NARROW = 2.0, 1.5
# Speed is that of the latest generations: a machine that has become busy stays so for a while.
LATEST = 2
# Of a budget in steps the search may use this share: confirmation costs steps too.
SEARCH_SHARE = 0.6
# Where a budget names no number of trials: so many, for each of a cluster's groups of workers. A group is counted on as if it
# were one: workers leave, and wait for each other.
MOST_TRIALS, WORKERS_A_GROUP = 5_000, 4
# A count of trials does not say what one costs, and those of a person's own loop are dear: they count as paying for so many of
# each optimizer at most, so that a shorter rung comes before the whole run.
DEAR = 6


@dataclass(frozen=True)
class Purse:
    """What the search may still ask for: new trials, and trial-steps of new trials and promotions together."""

    trials: int
    steps: float


def purse(view: StudyView, probe: ProbeReport, open_steps: float) -> Purse:
    """What is left for the search now.

    ``open_steps``: trial-steps of units that wait or run. Trials and steps are counted, so they repeat exactly; time is
    what it is, and its share is worked out anew from the speed measured so far.
    """
    budget = view.spec.budget
    searched = {t.number for u in view.units if u.spec.kind == "train" for t in u.spec.trials}
    used = sum(u.result.train_steps for u in view.units if u.result is not None and u.spec.kind == "train")
    steps = math.inf
    if budget.train_steps is not None:
        steps = budget.train_steps * SEARCH_SHARE - used - open_steps
    for allowed, spent, side_by_side in time_limits(view):
        left = allowed - reserve_s(view, probe, side_by_side) - spent
        steps = min(steps, left / step_seconds(view, probe, side_by_side) - open_steps)
    most = MOST_TRIALS * max(1, view.workers // WORKERS_A_GROUP) if budget.trials is None else budget.trials
    return Purse(most - len(searched), steps)


def time_limits(view: StudyView) -> list[tuple[float, float, float]]:
    """(allowed seconds, spent seconds, packs that run side by side) of each limit in time."""
    budget = view.spec.budget
    limits = ((budget.seconds, view.elapsed_s, lanes(view)), (budget.device_seconds, view.device_s, 1.0))
    return [(allowed, spent, side_by_side) for allowed, spent, side_by_side in limits if allowed is not None]


def lanes(view: StudyView) -> float:
    """How many packs run side by side: as many of those that could as did so far, on average; before there are any, all."""
    probing = sum(u.result.seconds for u in view.units if u.result is not None and u.spec.kind == "probe")
    running, device = view.elapsed_s - probing, view.device_s - probing
    trained = [u for u in view.units if u.result is not None and u.spec.kind == "train"]
    if running <= 0 or not trained or view.workers == 1:
        return float(view.workers)
    # Two generations are there at a time. The first ones are too small for many workers, which says nothing of later ones.
    packs = Counter(u.spec.generation for u in view.units if u.spec.kind == "train")
    could = sum(u.result.seconds * min(view.workers, 2 * packs[u.spec.generation]) for u in trained if u.result)
    alone = sum(u.result.seconds for u in trained if u.result)
    share = device / running * alone / could if could > 0 else 1.0
    return min(max(share * view.workers, 1.0), float(view.workers))


def timed(spec: StudySpec) -> bool:
    """Whether the budget is (also) one in time."""
    return math.isfinite(spec.budget.shortest_s)


def step_seconds(view: StudyView, probe: ProbeReport, side_by_side: float = 1.0) -> float:
    """Wall-clock seconds of one trial-step of the search with so many packs side by side: measured in the latest generations
    of this study, at first as probed.
    """
    ended = [u for u in view.units if u.result is not None and u.spec.kind == "train"]
    latest = sorted({u.spec.generation for u in ended})[-LATEST:]
    measured = _seconds_per_step([u for u in ended if u.spec.generation in latest])
    return (measured or probe.pack_step_s / probe.probe_pack_size) / side_by_side


def _seconds_per_step(units: Sequence[UnitView]) -> float | None:
    """Of one trial-step of these units; None where nothing was measured."""
    done = [u.result for u in units if u.result is not None]
    steps, seconds = sum(r.train_steps for r in done), sum(r.seconds for r in done)
    return seconds / steps if steps and seconds > 0 else None


def surely_beside(view: StudyView) -> int:
    """Packs that will run side by side whoever of a cluster leaves, as when its search was first planned: what is settled once
    for the whole study, as which optimizers compete, must not follow the workers of the moment.
    """
    first = next((u.spec for u in view.units if u.spec.kind == "train" and not u.spec.generation), None)
    return max(1, (view.workers if first is None else first.workers) // WORKERS_A_GROUP)


def competing(spec: StudySpec, probe: ProbeReport, beside: int = 1) -> list[str]:
    """The optimizers that the study can compare, AdamW first: all of them, or AdamW alone where the budget cannot confirm one
    rival. What cannot be recommended is not searched: the trials are worth more to AdamW. Never changes in a study.
    ``beside``: see ``surely_beside``.
    """
    enough = all(seconds >= comparing_s(spec, probe, packs) for seconds, packs in _clocks(spec, beside))
    return spec.search.included() if enough else ["adamw"]


def comparing_s(spec: StudySpec, probe: ProbeReport, beside: int = 1) -> float:
    """The smallest budget in seconds that can confirm a rival, as probed, with so many packs side by side."""
    needed = _claim_steps(spec, probe) * probe.pack_step_s / probe.probe_pack_size / beside
    # However many there are, a confirmation is one training at least.
    return max(needed, probe.full_horizon * probe.pack_step_s if beside > 1 else 0.0) / (1 - LEAST_SEARCHED)


def _clocks(spec: StudySpec, beside: int) -> list[tuple[float, int]]:
    """(seconds, packs that run side by side in them) of the budget's limits in time."""
    limits = ((spec.budget.seconds, beside), (spec.budget.device_seconds, 1))
    return [(seconds, packs) for seconds, packs in limits if seconds is not None]


def _claim_steps(spec: StudySpec, probe: ProbeReport) -> float:
    """Trial-steps of the shortest confirmation that can claim anything about a rival, at the search's price."""
    return NARROW * shortest_claim(spec, probe) * probe.full_horizon


def reserve_steps(spec: StudySpec, probe: ProbeReport, rivals: int, trials: float, second_seeds: int = 0) -> int:
    """Trial-steps of screening and of both looks of a confirmation with the best of so many rivals, at the search's price.

    ``trials``: how many the search will have tried. ``second_seeds``: of the second look, if more than of the first.
    """
    rivals = min(RIVALS, rivals)
    entering, seeds = screening_sizes(int(min(trials, MOST_TRIALS)))[0]
    screened = (entering * (rivals + 1) + YARDSTICKS) * seeds
    first, second = looks_runs(spec, probe)
    second = max(second, len(folds_of(spec, probe)) * second_seeds)
    confirmed = (rivals + YARDSTICKS + 1) * (first + second)
    return round(NARROW * (screened + confirmed) * probe.full_horizon)


def reserve_s(view: StudyView, probe: ProbeReport, side_by_side: float = 1.0) -> float:
    """Seconds kept back for screening and confirmation: what both looks cost, at least ``LEAST_RESERVED`` where they can use
    it, at most ``MOST_RESERVED`` of the budget, or what a claim needs; and for models of another kind.
    """
    allowed = min((limit for limit, _, _ in time_limits(view)), default=math.inf)
    trials = min((full_trainings(limit, probe) for limit, _, _ in time_limits(view)), default=0.0)
    each, most = step_seconds(view, probe, side_by_side), MOST_RESERVED * allowed
    rivals = len(competing(view.spec, probe, surely_beside(view))) - 1
    if rivals:
        most = max(most, min(_claim_steps(view.spec, probe) * each, (1 - LEAST_SEARCHED) * allowed))
    wanted = reserve_steps(view.spec, probe, rivals, trials)
    usable = reserve_steps(view.spec, probe, rivals, trials, second_seeds=MOST_SECOND_SEEDS)
    kept = max(wanted * each, min(usable * each, LEAST_RESERVED * allowed))
    if side_by_side > 1:
        # Screening and both looks wait for each other, however many workers there are.
        kept = max(kept, (1 + LOOKS) * probe.full_horizon * probe.pack_step_s)
    kept = min(kept, most)
    return kept + owed_seconds(view, probe)


def left_steps(view: StudyView, probe: ProbeReport) -> float:
    """Trial-steps of screening or confirmation that are left of the whole budget; infinite without a limit in time."""
    owed = owed_seconds(view, probe)
    limits = [(allowed - owed - spent) / _fresh_step_seconds(view, probe, n) for allowed, spent, n in time_limits(view)]
    return max(0.0, min(limits, default=math.inf))


def _fresh_step_seconds(view: StudyView, probe: ProbeReport, side_by_side: float) -> float:
    """Wall-clock seconds of one trial-step of screening or confirmation: as in this study so far."""
    measured = _seconds_per_step([u for u in view.units if u.spec.kind in ("screen", "confirm")])
    return LIKELY_NARROW * step_seconds(view, probe, side_by_side) if measured is None else measured / side_by_side


def affordable(spec: StudySpec, probe: ProbeReport, beside: int = 1) -> float:
    """Full trainings that the search could pay for, as probed: a number of the study that never changes."""
    limits = [math.inf, *(full_trainings(seconds, probe) * packs for seconds, packs in _clocks(spec, beside))]
    if spec.budget.trials is not None:
        limits.append(float(spec.budget.trials))
        if spec.external:
            limits.append(float(DEAR * len(spec.search.included())))
    if spec.budget.train_steps is not None:
        limits.append(spec.budget.train_steps * SEARCH_SHARE / probe.full_horizon)
    return min(limits)


def full_trainings(seconds: float, probe: ProbeReport) -> float:
    """Full trainings that the search could do in a budget of so many seconds, as probed."""
    each = probe.full_horizon * probe.pack_step_s / probe.probe_pack_size
    return (1 - MOST_RESERVED) * seconds / each
