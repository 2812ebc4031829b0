"""What to train next: a pure function of the study's view.

A search is planned by generations. Generation g is planned from results of generations up to g − 2, so it waits in the queue
while g − 1 trains: no worker waits for a plan, and the plan does not depend on who was faster. A lost worker changes
nothing, and with a budget in trials the whole study repeats exactly, unless a cluster has more workers than two full packs
keep busy: its generations are larger.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from optim_core.recommend.history import ended, excluded_seeds, known_probe, outcomes
from optim_core.recommend.recommender import undecided
from optim_core.search.budget import (
    NARROW,
    affordable,
    competing,
    left_steps,
    purse,
    step_seconds,
    surely_beside,
    time_limits,
    timed,
)
from optim_core.search.confirm import (
    confirmation_units,
    entrants,
    finalists,
    first_look,
    later_look,
    screening_units,
)
from optim_core.search.external import MOST_TIMINGS, first_failure, loop_cannot_go_on, timing_unit
from optim_core.search.halving import PortfolioHalving
from optim_core.search.reference import reference_units
from optim_core.search.strategy import BLIND, Ask, State, Strategy
from optim_core.spec.keys import derive_seed
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.price import LOOKS, screening_sizes
from optim_core.spec.states import UNIT_ENDED, UnitState
from optim_core.spec.trial import ProbeReport, Stage, StudyView, TrialParams, UnitKind, UnitSpec, UnitView

# A pack below this size is not worth a second worker.
SMALLEST_PACK = 4
# A search in time has about so many generations; a pack trains at least so many seconds, so that the time between packs
# stays small beside it.
GENERATIONS, PACK_S = 12, 1.0
# However cheap a trial is, results are looked at after so many full packs of each worker.
MOST_PACKS = 4
# Beyond some thousand trials a generation has one new trial for so many that were asked for before.
SEEN_A_NEW = 50
# Screening may take this share of what is left; else the search's own best goes on.
SCREEN_SHARE = 0.5
TIMINGS_FAILED = f"{MOST_TIMINGS} runs of your loop ended before they had taken a step"
DIVERGED = "every {what} diverged; widen the ranges or check the data"
# What an early answer may cost, as a share of the search before it.
FINISH_SHARE = 0.5


@dataclass(frozen=True)
class Plan:
    """Units to queue now; units that exist already (by key) are not made twice."""

    units: list[UnitSpec]
    note: str


@dataclass(frozen=True)
class Wait:
    """Open units have to end first."""


@dataclass(frozen=True)
class Finish:
    """The evidence is in. ``failure`` is a (code, message) when there is nothing to recommend."""

    failure: tuple[str, str] | None = field(default=None)


def plan(view: StudyView, strategy: Strategy | None = None) -> Plan | Wait | Finish:
    """The next step of a study. Deterministic, independent of the order of ``view.units``.

    ``strategy``: who proposes; the product's own by default.
    """
    if any(unit.state == UnitState.FAILED for unit in view.units):
        return Finish(("unit_failed", "a unit of work failed for good"))
    probe = known_probe(view)
    if view.spec.external and (why := loop_cannot_go_on(view, probe)) is not None:
        return Finish(why)
    if probe is not None:
        return _Planner(view, probe, strategy or PortfolioHalving()).next()
    if not ended(view, ("probe", "train", "screen", "confirm")):
        return Wait()
    if view.spec.external:
        timing = timing_unit(view)
        if timing is None:
            return Finish(("loop_failed", f"{TIMINGS_FAILED}{first_failure(view, 'probe', '; the first: ')}"))
        return Plan([timing], "probe")
    first = UnitSpec(key="probe", kind="probe", rung=0, horizon=1, split="validation", trials=[])
    return Plan([first], "probe")


class _Planner:
    def __init__(self, view: StudyView, probe: ProbeReport, strategy: Strategy) -> None:
        self.view, self.spec, self.probe, self.strategy = view, view.spec, probe, strategy
        beside = surely_beside(view)
        self.names = competing(self.spec, probe, beside)
        self.horizons = strategy.rungs(probe.full_horizon, affordable(self.spec, probe, beside), len(self.names))

    def next(self) -> Plan | Wait | Finish:
        kinds = {unit.spec.kind for unit in self.view.units}
        if "confirm" in kinds:
            return self._next_look()
        if "screen" not in kinds:
            searching = self._search()
            if searching is not None:
                return searching
        if not ended(self.view, ("train", "screen")):
            return Wait()
        return self._after_search(screened="screen" in kinds)

    # -- search ------------------------------------------------------------------------------------------------------

    def _search(self) -> Plan | Wait | None:
        """Units of the generations that can be planned now; None when the search is over."""
        view, made, stage = self.view, [], ""
        while not view.finishing:
            generation = max((u.spec.generation for u in view.units if u.spec.kind == "train"), default=-1) + 1
            if not ended(view, ("train",), before=generation - 1):
                break
            state = self._state(view, generation, generation - 1)
            asks = self.strategy.generation(state)
            if not asks and generation > 0:
                if not ended(view, ("train",)):
                    break
                # Nothing more will come in: what has just ended may still be promoted.
                asks = self.strategy.generation(self._state(view, generation, generation))
            units = self._units(view, asks, generation)
            if not units:
                return None if not made else Plan(made, stage)
            stage = _stage(generation)
            made += units
            queued = [UnitView(spec=unit, state=UnitState.QUEUED) for unit in units]
            view = view.model_copy(update={"units": [*view.units, *queued]})
        if made:
            return Plan(made, stage)
        return None if ended(view, ("train",)) and view.finishing else Wait()

    def _state(self, view: StudyView, generation: int, before: int) -> State:
        """What the strategy may know: results of generations below ``before``."""
        found = outcomes(view, "train", before)
        known = {(o.trial.number, o.rung) for o in found}
        pending, open_steps = [], 0.0
        for unit in view.units:
            if unit.spec.kind == "train":
                known |= {(number, unit.spec.rung) for number in view.excluded}
                pending += [(t, unit.spec.rung) for t in unit.spec.trials if (t.number, unit.spec.rung) not in known]
                if unit.state not in UNIT_ENDED:
                    open_steps += unit.spec.horizon * sum(
                        OPTIMIZERS[t.configuration.optimizer].gradients for t in unit.spec.trials
                    )
        left = purse(view, self.probe, open_steps)
        return State(
            spec=self.spec,
            names=self.names,
            horizons=self.horizons,
            generation=generation,
            found=found,
            pending=sorted(pending, key=lambda pair: (pair[0].number, pair[1])),
            size=self._size(view),
            at_once=view.workers * min(self.probe.best_width, self.probe.max_pack_size),
            workers=view.workers,
            purse=left,
        )

    def _size(self, view: StudyView) -> int:
        """New trials of a generation.

        In a budget of trials a number that no machine changes, only a large cluster. In time: what makes about
        ``GENERATIONS`` of them, in packs as wide as pays, one for every worker. Clients of a person's own loop train one each,
        and none of them shall wait.
        """
        largest = self.probe.max_pack_size
        # Planning reads every trial so far, so the longer a search the larger its generations: each trial costs the same.
        grown = sum(len(u.spec.trials) for u in view.units if u.spec.kind == "train" and not u.spec.rung) // SEEN_A_NEW
        if not timed(self.spec):
            share = math.ceil((self.spec.budget.trials or GENERATIONS * len(self.names)) / GENERATIONS)
            if self.spec.external:
                return max(SMALLEST_PACK, share, view.workers)
            # Two full packs whoever trains them; only a cluster that they would leave idle is given more.
            return max(SMALLEST_PACK, min(share, max(2 * largest, view.workers * self.probe.best_width, grown)))
        first = self.horizons[0]
        whole = max((allowed for allowed, _, _ in time_limits(view)), default=0.0)
        wanted_s = max(PACK_S, whole / GENERATIONS)
        each_s = first * step_seconds(view, self.probe)
        per_worker = max(
            min(largest, self.probe.best_width),
            min(int(wanted_s / each_s), max(MOST_PACKS * largest, grown // view.workers)),
        )
        return view.workers * per_worker

    def _units(self, view: StudyView, asks: Sequence[Ask], generation: int) -> list[UnitSpec]:
        seed = derive_seed("search", self.spec.seed)
        number = max((t.number for u in view.units for t in u.spec.trials), default=-1) + 1
        by_rung: dict[int, list[TrialParams]] = {}
        for ask in asks:
            trial = ask.trial
            if trial is None:
                trial = TrialParams(
                    number=number,
                    configuration=ask.configuration,
                    seed=seed,
                    stage=_stage(generation),
                    origin=ask.origin,
                )
                number += 1
            by_rung.setdefault(ask.rung, []).append(trial)
        # Half as wide a pack as pays takes about as long: cut finer, work is not done sooner, only by more.
        smallest = max(SMALLEST_PACK, self.probe.best_width // 2)
        return [
            UnitSpec(
                key=f"g{generation}-{rung}-{i}", kind="train", generation=generation, rung=rung,
                horizon=self.horizons[rung], split="validation", trials=pack, form=self.probe.form,
                data_hash=self.probe.data_hash, workers=view.workers,
            )
            # The long ones first.
            for rung in sorted(by_rung, reverse=True)
            for i, pack in enumerate(packs(by_rung[rung], self.probe.max_pack_size, view.workers, smallest))
        ]  # fmt: skip

    # -- what follows the search -------------------------------------------------------------------------------------

    def _after_search(self, screened: bool) -> Plan | Finish:
        found = outcomes(self.view, "train")
        chosen = finalists(self.view, found)
        if not found:
            return Finish(("nothing_tried", "the study was finished before any trial had ended"))
        if not chosen:
            return Finish(("all_trials_failed", _why_none_survived(self.view, "train", "configuration")))
        left = left_steps(self.view, self.probe)
        if self.view.finishing:
            # Soon: a share of what the search has taken.
            left = min(left, FINISH_SHARE * sum(o.horizon for o in found) / NARROW)
        if not screened and not self.view.finishing:
            for entering, seeds in screening_sizes(len({o.trial.number for o in found})):
                entered = entrants(found, self.spec, entering)
                price = sum(map(len, entered.values())) * seeds * self.probe.full_horizon
                if price <= SCREEN_SHARE * left:
                    return Plan(screening_units(self.view, self.probe, entered, seeds), "screen")
        look = first_look(self.spec, self.probe, chosen, left)
        beside = reference_units(self.view, self.probe, look.folds)
        return Plan([*confirmation_units(self.view, self.probe, look), *beside], "confirm")

    def _next_look(self) -> Plan | Wait | Finish:
        if not ended(self.view, ("confirm",)):
            return Wait()
        if _fold_without_survivors(self.view):
            return Finish(("all_runs_diverged", _why_none_survived(self.view, "confirm", "confirmation run")))
        looks = 1 + max(u.spec.rung for u in self.view.units if u.spec.kind == "confirm")
        if looks < LOOKS and not self.view.finishing and undecided(self.view):
            look = later_look(self.view, left_steps(self.view, self.probe))
            if look is not None:
                return Plan(confirmation_units(self.view, self.probe, look), "confirm")
        return Finish() if ended(self.view, ("reference",)) else Wait()


def _why_none_survived(view: StudyView, kind: UnitKind, what: str) -> str:
    """Of runs of a loop that failed the first one's reason: nothing of it is a matter of ranges."""
    ended = [u for u in view.units if u.spec.kind == kind and u.result is not None]
    failed = sum(u.error is not None for u in ended)
    if view.spec.external and failed:
        every = "every run" if failed == len(ended) else f"{failed} of {len(ended)} runs"
        others = "" if failed == len(ended) else ", the others diverged"
        return f"{every} of your loop failed{others}{first_failure(view, kind, '; the first: ')}"
    return DIVERGED.format(what=what)


def _stage(generation: int) -> Stage:
    """The first generations know nothing yet: they try a portfolio."""
    return "portfolio" if generation < BLIND else "search"


def _fold_without_survivors(view: StudyView) -> bool:
    """Whether every confirmation run of some fold diverged."""
    alive: dict[int, bool] = {}
    left_out = excluded_seeds(view)
    for unit in view.units:
        if unit.spec.kind == "confirm" and unit.result is not None:
            fold, counted = unit.spec.fold or 0, {t.number for t in unit.spec.trials if t.seed not in left_out}
            runs = (t for t in unit.result.trials if t.number in counted)
            alive[fold] = alive.get(fold, False) or any(t.diverged_at_step is None for t in runs)
    return not all(alive.values())


def packs(
    trials: list[TrialParams], largest: int, workers: int, smallest: int = SMALLEST_PACK
) -> list[list[TrialParams]]:
    """Cut trials into even packs, none larger than ``largest``, as many for each worker where that leaves ``smallest`` trials
    to a pack.

    Neighbours share an optimizer, which updates cheaper. The cut never changes a result.
    """
    ordered = sorted(trials, key=lambda t: (t.configuration.optimizer, t.number))
    count = max(math.ceil(len(ordered) / largest), min(workers, len(ordered) // smallest), 1)
    if count > workers:
        even = math.ceil(count / workers) * workers
        count = even if len(ordered) >= even * smallest else count
    size, extra = divmod(len(ordered), count)
    cuts = [0]
    for i in range(count):
        cuts.append(cuts[-1] + size + (i < extra))
    return [ordered[a:b] for a, b in itertools.pairwise(cuts) if b > a]
