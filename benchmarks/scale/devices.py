"""How long a unit takes, and what comes of it, where nothing is trained."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from benchmarks.evidence_oracle import FULL, USUAL, World, draw_world, report, spec_of
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import CurvePoint, ProbeReport, TrialResult, UnitResult, UnitSpec

# The probe of a study, and whatever has no trials, takes so many full trainings.
PROBE_SHARE = 0.1
CURVE_POINTS = 4


@dataclass(frozen=True)
class Model:
    """A model on a device: ``full_s`` seconds for a full training of a pack of up to ``best_width`` trials, longer in
    proportion where it is wider, up to ``largest``.
    """

    full_s: float = 120.0
    best_width: int = 16
    largest: int = 64

    def seconds(self, unit: UnitSpec) -> float:
        """Device seconds of a unit at speed 1."""
        if not unit.trials:
            return PROBE_SHARE * self.full_s
        return self.full_s * unit.horizon / FULL * max(1.0, len(unit.trials) / self.best_width)

    def report(self) -> ProbeReport:
        """What the probe of a study with this model finds."""
        found = {
            "pack_step_s": self.full_s / FULL, "probe_pack_size": self.best_width, "best_width": self.best_width,
            "max_pack_size": self.largest,
        }  # fmt: skip
        return report().model_copy(update=found)


@dataclass(frozen=True)
class Task:
    """A study to simulate: what is asked, on which model; results follow a law (``evidence_oracle``)."""

    spec: StudySpec
    model: Model
    project: str = "default"
    world: World = field(default_factory=lambda: draw_world(3, (2.0, 0.0, -2.0, -5.0), USUAL))

    def answer(self, unit: UnitSpec, seconds: float) -> UnitResult:
        """What training the unit in so many seconds would have given."""
        if unit.kind == "probe":
            return UnitResult(
                trials=[], seconds=seconds, train_steps=0, device="simulated", engine="batched", probe=self.model.report()
            )  # fmt: skip
        return self.world.answer(unit).model_copy(update={"seconds": seconds, "device": "simulated"})


def task(seed: int = 0, model: Model | None = None, project: str = "default", **budget: Any) -> Task:
    """A study of five optimizers."""
    return Task(spec_of(seed, **budget), model or Model(), project)


def with_curve(result: TrialResult) -> TrialResult:
    """The result with a few points of a curve that ends in it."""
    if result.loss is None:
        return result
    points = [
        CurvePoint(step=result.steps * i // CURVE_POINTS, train_loss=result.loss * CURVE_POINTS / i,
                   loss=result.loss * CURVE_POINTS / i, value=result.metric)
        for i in range(1, CURVE_POINTS + 1)
    ]  # fmt: skip
    return result.model_copy(update={"curve": points})


def stream(*parts: Any) -> random.Random:
    """Random numbers of these parts."""
    return random.Random(derive_seed("scale", *parts))
