"""Where a running study stands: what tuning has gained over default AdamW so far, on rungs of equal length."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from optim_core.recommend import wording
from optim_core.recommend.history import known_probe, outcomes
from optim_core.spec.trial import StudyView


@dataclass(frozen=True)
class Standing:
    """Validation values of default AdamW and of the best trial at the longest horizon that both have; ``gain`` positive is
    better, in the metric's unit."""

    default: float
    best: float
    optimizer: str
    gain: float
    steps: int
    sentence: str

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def standing(view: StudyView) -> Standing | None:
    """None until default AdamW has been trained once without diverging."""
    probe = known_probe(view)
    found = outcomes(view, "train")
    defaults = [o for o in found if o.optimizer == "adamw" and o.trial.origin == "default" and o.alive]
    if not defaults or probe is None:
        return None
    reference, metric = max(defaults, key=lambda o: o.rung), probe.metric
    best = min((o for o in found if o.rung == reference.rung and o.alive), key=lambda o: o.rank)
    before, now = reference.result.metric or 0.0, best.result.metric or 0.0
    called = view.spec.external_metric[0] if view.spec.external else metric
    gain = now - before if probe.direction == "maximize" else before - now
    sentence = wording.standing_sentence(metric, called, before, now, best.optimizer)
    return Standing(before, now, best.optimizer, gain, reference.horizon, sentence)
