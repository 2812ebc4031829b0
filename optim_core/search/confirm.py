"""Confirmation: the best few and AdamW, tuned and default, on fresh paired seeds and the untouched test split."""

from __future__ import annotations

from collections.abc import Sequence

from optim_core.recommend.evidence import confirmed_scores
from optim_core.recommend.verdict import LOOKS, judge
from optim_core.search.history import Outcome, best_of
from optim_core.spec.keys import derive_seed
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Configuration, ProbeReport, StudyView, TrialParams, UnitSpec

# Optimizers besides AdamW that are confirmed.
RIVALS = 3


def confirmation_units(view: StudyView, probe: ProbeReport, found: Sequence[Outcome]) -> list[UnitSpec]:
    """Units of the next look that do not exist yet; empty when the comparison is decided or the looks are used up."""
    looks = {u.spec.rung for u in view.units if u.spec.kind == "confirm"}
    if not looks:
        chosen = candidates(view, found)
        return _units(view, probe, chosen, 0) if chosen else []
    look = max(looks)
    chosen = _chosen_before(view)
    if look + 1 < LOOKS and judge(confirmed_scores(view), view.spec.equivalence_margin).verdict == "inconclusive":
        return _units(view, probe, chosen, look + 1)
    return []


def candidates(view: StudyView, found: Sequence[Outcome]) -> list[tuple[Configuration, str]]:
    """(configuration, role): best of up to three rivals, AdamW tuned, AdamW default; one configuration may have two roles.

    Empty when every searched trial diverged.
    """
    alive = [o for o in found if o.result.diverged_at_step is None]
    if not alive:
        return []
    top = max(o.rung for o in alive)
    leaders = sorted((o for o in alive if o.rung == top), key=lambda o: o.rank)
    rivals: dict[str, Configuration] = {}
    for outcome in leaders:
        if outcome.optimizer != "adamw" and len(rivals) < RIVALS:
            rivals.setdefault(outcome.optimizer, outcome.trial.configuration)
    default = default_configuration("adamw", view.spec.search)
    tuned = best_of(alive, "adamw")
    tuned_configuration = tuned.trial.configuration if tuned else default
    chosen = [(configuration, "rival") for configuration in rivals.values()]
    if tuned_configuration == default:
        return [*chosen, (default, "adamw_tuned+adamw_default")]
    return [*chosen, (tuned_configuration, "adamw_tuned"), (default, "adamw_default")]


def seeds_of_look(view: StudyView, look: int) -> list[int]:
    """Fresh seeds of a look: never the search's, never another look's."""
    count = view.spec.budget.seeds
    return [derive_seed("confirm", view.spec.seed, look * count + i) for i in range(count)]


def _chosen_before(view: StudyView) -> list[tuple[Configuration, str]]:
    first = sorted((t for u in view.units if u.spec.kind == "confirm" for t in u.spec.trials), key=lambda t: t.number)
    chosen: list[tuple[Configuration, str]] = []
    for trial in first:
        if (trial.configuration, trial.origin) not in chosen:
            chosen.append((trial.configuration, trial.origin))
    return chosen


def _units(view: StudyView, probe: ProbeReport, chosen: list[tuple[Configuration, str]], look: int) -> list[UnitSpec]:
    number = max((t.number for u in view.units for t in u.spec.trials), default=-1) + 1
    trials = []
    for seed in seeds_of_look(view, look):
        for configuration, role in chosen:
            trials.append(
                TrialParams(number=number, configuration=configuration, seed=seed, stage="confirm", origin=role)
            )
            number += 1
    # Whole seeds stay together, so that a comparison is never split between two machines.
    width = max(1, probe.max_pack_size // len(chosen)) * len(chosen)
    if width >= len(trials) and len(trials) >= 2 * len(chosen):
        width = -(-len(trials) // (2 * len(chosen))) * len(chosen)
    width = min(width, probe.max_pack_size)
    return [
        UnitSpec(
            key=f"confirm-{look}-{i}",
            kind="confirm",
            rung=look,
            horizon=probe.full_horizon,
            split="test",
            trials=trials[start : start + width],
            form=probe.form,
        )
        for i, start in enumerate(range(0, len(trials), width))
    ]
