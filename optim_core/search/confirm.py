"""Screening and confirmation: from the best that the search found to runs that nobody chose by their luck.

Screening trains the best few of the best optimizers, AdamW treated like every other, on fresh seeds and the validation
split; one configuration of each goes on. Confirmation trains those, and default AdamW, on fresh seeds and on every fold.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optim_core.recommend.history import Outcome, highest, outcomes
from optim_core.spec.keys import derive_seed
from optim_core.spec.price import LOOKS, OWN_SPLIT_SEEDS, RIVALS, SCREENING, YARDSTICKS
from optim_core.spec.problem import FOLDS, StudySpec
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import (
    WORST_VALUE,
    Configuration,
    ProbeReport,
    Role,
    StudyView,
    TrialParams,
    UnitSpec,
)

# The rates of AdamW's yardsticks are so many decades apart.
APART = 0.49
# Fresh seeds that a second look of a budget in time may add. A number that what the first look found must not change: an
# interval over both would not hold.
MOST_SECOND_SEEDS = 10
# A confirmation of fewer runs than a look needs proves nothing; it only tells better from worse.
SHORT_FOLDS = 3
# From so many rows on, one fold of them resolves differences as well as more seeds do: where five are too dear, one will do.
LARGE_TABLE = 5_000

Chosen = tuple[Configuration, tuple[Role, ...]]


def folds_of(spec: StudySpec, probe: ProbeReport) -> list[int | None]:
    """The folds that are test splits in turn; ``[None]`` for one split, of which only the data may know."""
    turns = probe.folds or (FOLDS if spec.in_folds else 1)
    return list(range(turns)) if turns > 1 else [None]


def looks_runs(spec: StudySpec, probe: ProbeReport) -> list[int]:
    """Trainings of one configuration in each look."""
    return [len(folds_of(spec, probe)) * seeds_per_look(spec, probe)] * LOOKS


def seeds_per_look(spec: StudySpec, probe: ProbeReport) -> int:
    """Fresh seeds of a look on each fold."""
    in_folds = len(folds_of(spec, probe)) > 1
    return spec.budget.seeds if in_folds else max(spec.budget.seeds, OWN_SPLIT_SEEDS)


def shortest_claim(spec: StudySpec, probe: ProbeReport) -> int:
    """Trainings of the shortest look from which something may be claimed: of one rival, AdamW's yardsticks and its default."""
    runs = [looks_runs(spec, probe)[0], *([OWN_SPLIT_SEEDS] if _large(probe) else [])]
    return (1 + YARDSTICKS + 1) * min(runs)


def _large(probe: ProbeReport) -> bool:
    return probe.train_rows + probe.validation_rows + probe.test_rows >= LARGE_TABLE


def fresh_seeds(spec: StudySpec, purpose: str, first: int, count: int) -> list[int]:
    """Seeds ``first`` … of a purpose: never the search's, never another purpose's."""
    return [derive_seed(purpose, spec.seed, i) for i in range(first, first + count)]


def entrants(found: Sequence[Outcome], spec: StudySpec, count: int) -> dict[str, list[Configuration]]:
    """Optimizer → its ``count`` best configurations, AdamW first, then the best rivals, best first. Empty when everything
    diverged.

    AdamW's default is always among its own, and one of another rate than its best: the yardstick is AdamW at its best.
    """
    alive = [o for o in found if o.alive]
    if not alive:
        return {}
    top = max(o.rung for o in alive)
    ordered = sorted((o for o in highest(alive).values()), key=lambda o: (-o.rung, *o.rank))
    rivals = list(dict.fromkeys(o.optimizer for o in ordered if o.optimizer != "adamw" and o.rung == top))[:RIVALS]
    chosen = {
        name: [o.trial.configuration for o in ordered if o.optimizer == name][:count] for name in ["adamw", *rivals]
    }
    baseline, default = chosen["adamw"], default_configuration("adamw", spec.search)
    tuned = [o.trial.configuration for o in ordered if o.optimizer == "adamw" and o.trial.configuration != default]
    for one in (_apart(baseline[0], tuned, APART) if baseline else None, default):
        if one is not None and one not in baseline:
            baseline.append(one)
    return chosen


def _apart(best: Configuration, others: Sequence[Configuration], decades: float) -> Configuration | None:
    """The first of ``others`` whose learning rate is that far away from the best one's."""
    return next((one for one in others if _decades(one, best) >= decades), None)


def _decades(one: Configuration, other: Configuration) -> float:
    return abs(math.log10(float(one.hyperparameters["lr"]) / float(other.hyperparameters["lr"])))


def screening_units(
    view: StudyView, probe: ProbeReport, entered: Mapping[str, Sequence[Configuration]], seeds: int
) -> list[UnitSpec]:
    """All entrants on fresh seeds, each on the validation split of another fold: what was chosen for luck on the rows of the
    first fold is seen on others.
    """
    chosen = [configuration for own in entered.values() for configuration in own]
    number, units, folds = _next_number(view), [], folds_of(view.spec, probe)
    for i, seed in enumerate(fresh_seeds(view.spec, "screen", 0, seeds)):
        trials = []
        for configuration in chosen:
            trials.append(
                TrialParams(number=number, configuration=configuration, seed=seed, stage="screen", origin="screening")
            )
            number += 1
        fold, lanes = folds[i % len(folds)], -(-view.workers // seeds)
        width = min(probe.max_pack_size, max(probe.best_width, -(-len(trials) // lanes)))
        units += [
            UnitSpec(key=f"screen-{i}-{part}", kind="screen", rung=0, horizon=probe.full_horizon, split="validation",
                     fold=fold, trials=trials[start : start + width], form=probe.form, data_hash=probe.data_hash)
            for part, start in enumerate(range(0, len(trials), width))
        ]  # fmt: skip
    return units


def finalists(view: StudyView, found: Sequence[Outcome]) -> list[Chosen]:
    """(configuration, roles): default AdamW, the best ``YARDSTICKS`` of AdamW, one configuration of each rival. Empty when
    everything diverged.

    Chosen by the mean over the screening's seeds; without a screening by the search.
    """
    spec, scores = view.spec, _screened(view)
    entered = _entered(view) or entrants(found, spec, SCREENING[-1][1])
    if not entered:
        return []
    ranked = {
        name: sorted(own, key=lambda c: (scores.get(c.model_dump_json(), WORST_VALUE), own.index(c)))
        for name, own in entered.items()
    }
    default = default_configuration("adamw", spec.search)
    best, *others = ranked["adamw"]
    others = [one for one in others if one != default]
    # Screening may have put another one first, a little nearer.
    apart = _apart(best, others, APART / 2)
    seconds = [apart] if apart is not None else others[: YARDSTICKS - 1]
    both: tuple[Role, ...] = ("adamw_tuned", "adamw_default")
    chosen: list[Chosen] = [(default, both if best == default else both[1:])]
    chosen += [(one, both[:1]) for one in (best, *seconds) if one != default]
    for name in entered:
        if name != "adamw":
            chosen.append((ranked[name][0], ("rival",)))
    return chosen


def _entered(view: StudyView) -> dict[str, list[Configuration]]:
    """What was screened, as ``entrants`` gave it; empty without a screening."""
    trials = {t.number: t for u in view.units if u.spec.kind == "screen" for t in u.spec.trials}
    entered: dict[str, list[Configuration]] = {}
    for _, trial in sorted(trials.items()):
        own = entered.setdefault(trial.configuration.optimizer, [])
        if trial.configuration not in own:
            own.append(trial.configuration)
    return entered


def _screened(view: StudyView) -> dict[str, float]:
    """Configuration (as JSON) → its mean objective over the screening's seeds on which all of them ended."""
    values: dict[str, list[float]] = {}
    seeds = [t.seed for u in view.units if u.spec.kind == "screen" for t in u.spec.trials]
    found = outcomes(view, "screen")
    ended = [o.trial.seed for o in found]
    for outcome in found:
        if ended.count(outcome.trial.seed) < seeds.count(outcome.trial.seed):
            continue
        values.setdefault(outcome.trial.configuration.model_dump_json(), []).append(outcome.result.objective)
    return {key: statistics.fmean(own) for key, own in values.items()}


@dataclass(frozen=True)
class Look:
    """What a look trains: every configuration on every fold and seed, folds and seeds shared by all."""

    chosen: Sequence[Chosen]
    folds: Sequence[int | None]
    seeds: Sequence[int]

    def price(self, full: int) -> float:
        """Trial-steps, less one of its units, by which a look may exceed what is left. ``full``: the full horizon."""
        return len(self.chosen) * len(self.folds) * len(self.seeds) * full * len(self.folds) / (len(self.folds) + 1)


def first_look(spec: StudySpec, probe: ProbeReport, chosen: Sequence[Chosen], most_steps: float) -> Look:
    """The first look: whole, or what the ``most_steps`` trial-steps that are left allow.

    Then one rival; for large tables one fold with more seeds; at last no rival, fewer folds and one seed, which is enough to
    see that what is recommended is no worse than the default, and proves nothing.
    """
    folds, yardsticks = folds_of(spec, probe), [one for one in chosen if "rival" not in one[1]]
    one_rival = yardsticks + [one for one in chosen if "rival" in one[1]][:1]
    ways: list[tuple[Sequence[Chosen], Sequence[int | None], int]] = [
        (chosen, folds, seeds_per_look(spec, probe)),
        (one_rival, folds, seeds_per_look(spec, probe)),
    ]
    if _large(probe):
        ways += [(chosen, folds[:1], OWN_SPLIT_SEEDS), (one_rival, folds[:1], OWN_SPLIT_SEEDS)]
    ways += [(yardsticks[:2], folds[:SHORT_FOLDS], 1), (yardsticks[:2], folds[:1], 1)]
    looks = [Look(who, where, fresh_seeds(spec, "confirm", 0, count)) for who, where, count in ways]
    return next((look for look in looks if look.price(probe.full_horizon) <= most_steps), looks[-1])


def later_look(view: StudyView, most_steps: float) -> Look | None:
    """As many seeds again, on the same folds, and more of them where a budget in time has room; None when as many are more
    than is left.
    """
    units = [u.spec for u in view.units if u.spec.kind == "confirm"]
    first = [unit for unit in units if unit.rung == 0]
    used = {trial.seed for unit in units for trial in unit.trials}
    count = len({trial.seed for unit in first for trial in unit.trials})
    folds = sorted({unit.fold for unit in first}, key=lambda fold: fold or 0)
    chosen, full = confirmed_before(view), first[0].horizon
    more = range(max(count, MOST_SECOND_SEEDS), count - 1, -1) if math.isfinite(most_steps) else [count]
    looks = (Look(chosen, folds, fresh_seeds(view.spec, "confirm", len(used), seeds)) for seeds in more)
    return next((look for look in looks if look.price(full) <= most_steps), None)


def confirmation_units(view: StudyView, probe: ProbeReport, look: Look) -> list[UnitSpec]:
    """Units of a look, one fold each, cut by whole seeds where more workers than folds are there."""
    units, number = [], _next_number(view)
    rung = 1 + max((u.spec.rung for u in view.units if u.spec.kind == "confirm"), default=-1)
    for fold in look.folds:
        trials = []
        for seed in look.seeds:
            for configuration, roles in look.chosen:
                trials.append(
                    TrialParams(number=number, configuration=configuration, seed=seed, stage="confirm",
                                origin="confirmation", roles=list(roles))
                )  # fmt: skip
                number += 1
        lanes = -(-view.workers // len(look.folds))
        units += [
            UnitSpec(key=f"confirm-{rung}-{fold or 0}-{i}", kind="confirm", rung=rung, horizon=probe.full_horizon,
                     split="test", fold=fold, trials=pack, form=probe.form, data_hash=probe.data_hash)
            for i, pack in enumerate(_whole_seeds(trials, len(look.chosen), probe.max_pack_size, lanes))
        ]  # fmt: skip
    return units


def confirmed_before(view: StudyView) -> list[Chosen]:
    """The configurations of the first look, in its order."""
    first = sorted((t for u in view.units if u.spec.kind == "confirm" for t in u.spec.trials), key=lambda t: t.number)
    found: list[Chosen] = []
    for trial in first:
        one: Chosen = (trial.configuration, tuple(trial.roles))
        if one not in found:
            found.append(one)
    return found


def _next_number(view: StudyView) -> int:
    return max((t.number for u in view.units for t in u.spec.trials), default=-1) + 1


def _whole_seeds(trials: list[TrialParams], per_seed: int, largest: int, lanes: int) -> list[list[TrialParams]]:
    """Packs of whole seeds, so that a comparison is never split between two machines; one for each lane where they suffice."""
    seeds = len(trials) // per_seed
    width = max(1, min(largest // per_seed, -(-seeds // lanes))) * per_seed
    width = min(width, largest)
    return [trials[start : start + width] for start in range(0, len(trials), width)]
