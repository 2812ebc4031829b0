"""From a budget to a number of search trials."""

from __future__ import annotations

from optim_core.spec.trial import ProbeReport, StudyView

# Share of a budget in steps or time that search may use; confirmation, evaluation and planning live on the rest.
SEARCH_SHARE = 0.6
MOST_TRIALS = 5000


def planned_trials(view: StudyView, probe: ProbeReport, trials_n: int, steps_per_trial: float) -> int:
    """Search trials that the budget allows in all, at least 1.

    ``trials_n``: trials searched so far; ``steps_per_trial``: mean cost of one over all rungs. Trials and steps are
    counted, so they repeat exactly. Time is what it is: its share is worked out anew from the speed measured so far.
    """
    budget = view.spec.budget
    limits = [MOST_TRIALS]
    if budget.trials is not None:
        limits.append(budget.trials)
    if budget.train_steps is not None:
        limits.append(int(budget.train_steps * SEARCH_SHARE / steps_per_trial))
    for allowed, spent in ((budget.seconds, view.elapsed_s), (budget.device_seconds, view.device_s)):
        if allowed is not None:
            left = max(0.0, SEARCH_SHARE * allowed - spent)
            limits.append(trials_n + int(left / (steps_per_trial * _step_seconds(view, probe, spent))))
    return max(1, min(limits))


def _step_seconds(view: StudyView, probe: ProbeReport, spent: float) -> float:
    """Seconds of one trial's step: as measured in this study so far, before that as probed."""
    steps = sum(u.result.train_steps for u in view.units if u.result is not None and u.spec.kind == "train")
    return spent / steps if steps and spent > 0 else probe.pack_step_s / probe.probe_pack_size
