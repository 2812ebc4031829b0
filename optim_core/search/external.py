"""A loop of the person's own: each client takes one trial at a time, and a budget in time begins with a short one."""

from __future__ import annotations

from optim_core.recommend import wording
from optim_core.recommend.external import timed
from optim_core.search.budget import time_limits
from optim_core.spec.keys import derive_seed
from optim_core.spec.price import ETA, SHORTEST_RUNG
from optim_core.spec.problem import ExternalModel
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import ProbeReport, StudyView, TrialParams, UnitKind, UnitSpec

# A loop whose first trials all fail before they have taken a step will not do better later; nor will one of whose first runs
# none has told a value.
MOST_TIMINGS, FIRST_RUNS = 3, 8
# Runs that the smallest answer takes one after the other, one of the search and its confirmation; what a short run says of a
# long one is off by a tenth.
SMALLEST_RUNS = 1.8


def timing_unit(view: StudyView) -> UnitSpec | None:
    """A short run of default AdamW, which shows what a step takes; None where that was tried often enough."""
    spec = view.spec
    assert isinstance(spec.model, ExternalModel)
    assert timed(spec)
    before = [u for u in view.units if u.spec.kind == "probe"]
    if len(before) >= MOST_TIMINGS:
        return None
    full = spec.model.steps
    trial = TrialParams(
        number=len(before), configuration=default_configuration("adamw", spec.search),
        seed=derive_seed("search", spec.seed), stage="portfolio", origin="timing",
    )  # fmt: skip
    horizon = max(min(full, SHORTEST_RUNG), full // ETA**2)
    return UnitSpec(
        key=f"probe-{len(before)}", kind="probe", rung=0, horizon=horizon, split="validation", trials=[trial]
    )


def loop_cannot_go_on(view: StudyView, probe: ProbeReport | None) -> tuple[str, str] | None:
    """(code, message) where more runs would be for nothing: all so far failed, or none fits into the budget."""
    runs = [u for u in view.units if u.spec.kind == "train"]
    ended = [u for u in runs if u.result is not None]
    if len(ended) >= FIRST_RUNS and all(u.error is not None for u in ended):
        return (
            "loop_failed",
            f"the first {len(ended)} runs of your loop failed{first_failure(view, 'train', '; the first: ')}",
        )
    if runs or probe is None or not timed(view.spec):
        return None
    each_s = probe.full_horizon * probe.pack_step_s
    left = min(allowed - spent for allowed, spent, _ in time_limits(view))
    if left >= SMALLEST_RUNS * each_s:
        return None
    each, smallest, had = (wording.duration(seconds) for seconds in (each_s, 2 * each_s, max(0.0, left)))
    return "budget_too_small", (
        f"a run of your loop takes about {each}, and the smallest answer two of them, {smallest}; {had} of the budget are left"
    )


def first_failure(view: StudyView, kind: UnitKind, before: str) -> str:
    """Why the first run of ``kind`` that failed did so; empty without any."""
    reason = next((u.error for u in view.units if u.spec.kind == kind and u.error), None)
    return "" if reason is None or not view.spec.external else f"{before}{reason}"
