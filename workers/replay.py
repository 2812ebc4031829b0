"""Train the recommended configuration again on its seeds and compare with the stored score."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optim_core.spec.keys import canonical_json
from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import Configuration, TrialParams, UnitSpec

# Another number of threads, library version or device adds up floats in another order.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Replayed:
    """``same``: equal bit for bit. ``close``: equal but for rounding. ``values``: the metric of each seed, None diverged."""

    stored: float
    mean: float | None
    values: list[float | None]
    same: bool
    close: bool
    data_changed: bool

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "stored": self.stored, "replayed": self.mean, "values": self.values, "identical": self.same,
            "reproduced": self.close, "data_changed": self.data_changed,
        }  # fmt: skip


def replay(spec: dict[str, Any], answer: dict[str, Any], progress: Callable[[str], None]) -> Replayed:
    """Run the recommendation's seeds to the full horizon. Raises SpecError or TrainingError as the study would."""
    from optim_core.engine import Chunk, run_pack
    from optim_core.tasks import build_problem

    problem = build_problem(StudySpec.model_validate_json(canonical_json(spec)))
    recommended = {key: answer["recommended"][key] for key in Configuration.model_fields}
    configuration = Configuration.model_validate_json(canonical_json(recommended))
    trials = [
        TrialParams(number=i, configuration=configuration, seed=seed, stage="confirm", origin="replay")
        for i, seed in enumerate(answer["replay"]["seeds"])
    ]
    unit = UnitSpec(key="replay", kind="confirm", rung=0, horizon=problem.full_horizon, split="test", trials=trials)

    def show(chunk: Chunk) -> bool:
        progress(f"step {chunk.step}/{chunk.horizon}")
        return True

    values = [trial.metric for trial in run_pack(problem, unit, on_chunk=show).trials]
    finished = [value for value in values if value is not None]
    mean = statistics.fmean(finished) if len(finished) == len(values) else None
    stored = answer["score"]["mean"]
    off = None if mean is None else abs(mean - stored)
    changed = problem.data_hash != answer["replay"]["data_hash"]
    return Replayed(
        stored=stored,
        mean=mean,
        values=values,
        same=not changed and off is not None and off <= 1e-12 * max(1.0, abs(stored)),
        close=not changed and off is not None and off <= ROUNDING * max(1e-12, abs(stored)),
        data_changed=changed,
    )
