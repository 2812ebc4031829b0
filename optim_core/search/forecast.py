"""What a budget will buy and what a verdict needs, said before the budget is spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from optim_core.recommend import wording
from optim_core.recommend.history import probe_unit
from optim_core.search import rungs
from optim_core.search.budget import MOST_RESERVED, comparing_s, lanes, reserve_steps, step_seconds
from optim_core.search.confirm import looks_runs
from optim_core.search.portfolio import AROUND, GRID
from optim_core.spec.trial import ProbeReport, StudyView

# Full-length trials of AdamW and of each of the better rivals that a verdict rests on.
FULL_TRIALS = 3
# What was counted is the least; edges, divergence and waiting cost more.
SLACK = 1.25


@dataclass(frozen=True)
class Forecast:
    """``trainings``: full trainings that the budget pays for, search and confirmation together. ``needed_s``: a budget in
    seconds that should be enough for a verdict on this machine. ``enough``: whether this one is."""

    trainings: float
    needed_s: float
    enough: bool
    sentence: str

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def forecast(view: StudyView) -> Forecast | None:
    """None before the probe."""
    done = probe_unit(view)
    if done is None or done.result is None or done.result.probe is None:
        return None
    probe = done.result.probe
    budget, each_s = view.spec.budget, probe.full_horizon * step_seconds(view, probe, lanes(view))
    needed = needed_steps(view, probe) * step_seconds(view, probe, lanes(view)) * SLACK + done.result.seconds
    # Which optimizers compete is settled by what was probed.
    needed = max(needed, comparing_s(view.spec, probe))
    trainings = []
    for allowed, rate in ((budget.seconds, each_s), (budget.device_seconds, each_s * lanes(view))):
        if allowed is not None:
            trainings.append(allowed / rate)
    if budget.train_steps is not None:
        trainings.append(budget.train_steps / probe.full_horizon)
    if budget.trials is not None:
        trainings.append(float(budget.trials))
    enough = all(
        (
            budget.seconds is None or budget.seconds >= needed,
            budget.device_seconds is None or budget.device_seconds >= needed * lanes(view),
            budget.train_steps is None or budget.train_steps >= needed_steps(view, probe),
            budget.trials is None or budget.trials >= needed_trials(view),
        )
    )
    bought = min(trainings)
    return Forecast(bought, needed, enough, wording.forecast_sentence(bought, needed, enough=enough))


def needed_trials(view: StudyView) -> int:
    """Search trials that bracket every optimizer's learning rate."""
    rivals = len(view.spec.search.included()) - 1
    return len(GRID) + (len(AROUND) + 1) * rivals


def needed_steps(view: StudyView, probe: ProbeReport) -> float:
    """Trial-steps of a search that brackets every rate, of screening, and of the first look of a confirmation."""
    full = probe.full_horizon
    rivals = len(view.spec.search.included()) - 1
    # The shortest ladder that still lets rates be bracketed one rung below the full horizon.
    ladder = rungs.horizons(full, 1.0, rivals + 1)
    low = ladder[-2] if len(ladder) > 1 else full
    search = needed_trials(view) * low + (FULL_TRIALS * min(rivals + 1, 4) * full if len(ladder) > 1 else 0)
    # The reserve holds two looks; one is enough to decide most.
    runs = looks_runs(view.spec, probe)
    kept = reserve_steps(view.spec, probe, rivals, 0) * runs[0] / sum(runs)
    return max(search + kept, kept / MOST_RESERVED)
