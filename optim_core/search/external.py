"""A loop of the person's own: each client takes one trial at a time, and a budget in time begins with a short one."""

from __future__ import annotations

from optim_core.recommend.external import timed
from optim_core.spec.keys import derive_seed
from optim_core.spec.price import ETA, SHORTEST_RUNG
from optim_core.spec.problem import ExternalModel
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import StudyView, TrialParams, UnitSpec

# A loop whose first trials all fail before they have taken a step will not do better later.
MOST_TIMINGS = 3


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
