"""An oracle in place of the engine: losses by a law, so that whole studies take no training and the truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from optim_core.schedules.shapes import multipliers
from optim_core.spec.keys import derive_seed
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import FOLDS, StudySpec
from optim_core.spec.rowscores import pack
from optim_core.spec.trial import (
    WORST_VALUE,
    Configuration,
    ProbeReport,
    TrialParams,
    TrialResult,
    UnitResult,
    UnitSpec,
)

FULL, ROWS_PER_FOLD = 1600, 60
RIVALS = ("nesterov", "rmsprop", "lion", "muon")
# The loss of AdamW at its best. One percent of it is the margin.
FLOOR = 1.0
MARGIN = 0.01 * FLOOR
# So many decades above its best rate an optimizer diverges.
_DIVERGES = 1.3
# Loss per squared decade of the rate, per squared unit of any other setting, and for a schedule that never decays.
_RATE, _OTHER, _FLAT = (0.02, 0.08), 0.01, 0.02
# A shorter run ends higher, by an amount of the optimizer's own; its best rate is higher by this power of the length.
_SLOW, _SHIFT = (0.03, 0.15), 0.3
# Texture: what a short run says wrongly of one configuration, whatever its seed.
_TEXTURE = 0.02
# In the middle of a run the rate has not yet decayed and its noise is still in the loss, in proportion to the rate.
_UNDECAYED = 0.1


@dataclass(frozen=True)
class Noise:
    """Standard deviations: of a run, of a training set, and of a configuration's loss on one row around what rows share."""

    run: float
    fold: float
    row: float

    def times(self, factor: float) -> Noise:
        return Noise(self.run * factor, self.fold * factor, self.row * factor)


# A difference between two configurations has an interval of about one margin either way after one look.
USUAL = Noise(0.006, 0.004, 0.03)


@dataclass(frozen=True)
class World:
    """One synthetic task. ``floors``: optimizer → its loss at its best settings; its ``best`` rate, the ``width`` of its bowl
    and how ``slow`` it is are drawn by ``seed``.
    """

    floors: dict[str, float]
    best: dict[str, float]
    width: dict[str, float]
    slow: dict[str, float]
    noise: Noise
    seed: int

    def loss(self, configuration: Configuration, share: float = 1.0) -> float:
        """Expected loss of a run of this share of the full length, its whole schedule rescaled; NaN where it diverges."""
        name = configuration.optimizer
        off = math.log10(float(configuration.hyperparameters["lr"]) / self.best[name]) + _SHIFT * math.log10(share)
        if off > _DIVERGES:
            return math.nan
        loss = self.floors[name] + self.width[name] * off**2 + _OTHER * _distance(configuration)
        loss += _FLAT * (configuration.schedule["name"] == "constant")
        if share < 1:
            loss += self.slow[name] * (share**-0.5 - 1)
            loss += _TEXTURE * (1 - share) * self._drawn("texture", configuration, int(1 / share))
        return loss

    def midway(self, configuration: Configuration, share: float) -> float:
        """Expected loss of a full run after this share of it; NaN where it diverges."""
        if share == 1:
            return self.loss(configuration)
        rate = float(configuration.hyperparameters["lr"]) / self.best[configuration.optimizer]
        left = _multiplier(json.dumps(configuration.schedule, sort_keys=True), share)
        # The start of the schedule is all that the run has seen: the shorter run's loss, without its decay.
        return self.loss(configuration, share) + _UNDECAYED * left * min(rate, 10.0)

    def _drawn(self, *parts: Any) -> float:
        """A standard normal number of these parts."""
        return float(_stream(self.seed, *parts).standard_normal())

    def run(self, trial: TrialParams, unit: UnitSpec, midway: bool = False) -> TrialResult:
        """One run with its luck: its own, and that of its training set."""
        configuration, share = trial.configuration, unit.horizon / FULL
        loss = self.midway(configuration, share) if midway else self.loss(configuration, share)
        if math.isnan(loss):
            return TrialResult(
                number=trial.number, objective=WORST_VALUE, metric=None, loss=None, diverged_at_step=3, steps=unit.horizon
            )  # fmt: skip
        # The same run seen earlier has the same luck.
        luck = self.noise.run * self._drawn("run", configuration, trial.seed, unit.fold or 0)
        luck += self.noise.fold * self._drawn("fold", configuration, unit.fold or 0)
        rows = {}
        if unit.kind == "confirm":
            for split, fold in (("test", unit.fold or 0), ("validation", ((unit.fold or 0) + 1) % FOLDS)):
                rows[split] = pack((loss + luck + self._rows(configuration, fold)).tolist(), "f")
        return TrialResult(
            number=trial.number, objective=loss + luck, metric=loss + luck, loss=loss + luck, steps=unit.horizon,
            rows=rows,
        )  # fmt: skip

    def _rows(self, configuration: Configuration, fold: int) -> np.ndarray:
        """(n,) what the rows of a fold add: some are hard for all, some for one configuration, with heavy tails."""
        common = _stream(self.seed, "rows", fold).standard_normal(ROWS_PER_FOLD)
        own = _stream(self.seed, "rows", fold, configuration).standard_t(5, ROWS_PER_FOLD)
        return self.noise.row * (common + own)

    def answer(self, unit: UnitSpec) -> UnitResult:
        """All runs of a unit."""
        return result(unit, [self.run(trial, unit) for trial in unit.trials], unit.horizon * len(unit.trials))


def result(unit: UnitSpec, trials: list[TrialResult], steps: int) -> UnitResult:
    """Of a unit that took so many trial-steps."""
    return UnitResult(trials=trials, seconds=0.1, train_steps=steps, device="oracle", engine="batched")


def draw_world(seed: int, ahead: Sequence[float], noise: Noise) -> World:
    """``ahead``: how many margins each of RIVALS, in an order drawn by ``seed``, is better than AdamW."""
    rng = _stream(seed, "world")
    places = rng.permutation(len(RIVALS))
    names = ("adamw", *RIVALS)
    floors = {"adamw": FLOOR} | {
        RIVALS[int(p)]: FLOOR - MARGIN * margins for p, margins in zip(places, ahead, strict=True)
    }
    base = 10 ** rng.uniform(-0.7, 1.3)
    best = {name: _default_rate(name) * base * 10 ** (0.0 if name == "adamw" else rng.normal(0, 0.4)) for name in names}
    width = {name: float(rng.uniform(*_RATE)) for name in names}
    slow = {name: float(rng.uniform(*_SLOW)) for name in names}
    return World(floors, best, width, slow, noise, seed)


def spec_of(seed: int, **budget: Any) -> StudySpec:
    """AdamW against RIVALS by loss; the data set is only a name."""
    return StudySpec.model_validate(
        {
            "model": {"kind": "catalogue", "name": "mlp"},
            "dataset": {"kind": "builtin", "name": "diabetes"},
            "metric": "loss",
            "search": {"optimizers": list(RIVALS)},
            "budget": budget,
            "seed": seed,
        }
    )


def report() -> ProbeReport:
    """What a probe would have found."""
    return ProbeReport(
        task="regression", metric="loss", direction="minimize", full_horizon=FULL, steps_per_epoch=20, parameter_count=100,
        train_rows=3 * ROWS_PER_FOLD, validation_rows=ROWS_PER_FOLD, test_rows=ROWS_PER_FOLD, data_hash="oracle",
        data_report=[], pack_step_s=0.001, probe_pack_size=16, max_pack_size=64, engine="batched",
        engine_reason="an oracle", device="oracle", versions={},
    )  # fmt: skip


def _stream(*parts: Any) -> np.random.Generator:
    texts = [part.model_dump_json() if isinstance(part, Configuration) else str(part) for part in parts]
    return np.random.default_rng(derive_seed(*texts))


def _default_rate(optimizer: str) -> float:
    return float(next(h for h in OPTIMIZERS[optimizer].hyperparameters if h.name == "lr").default)


def _distance(configuration: Configuration) -> float:
    """Squared distance of all settings but the rate from their defaults, each on the scale on which it is searched."""
    total = 0.0
    for hyper in OPTIMIZERS[configuration.optimizer].hyperparameters:
        value, default = configuration.hyperparameters[hyper.name], hyper.default
        if hyper.name == "lr":
            continue
        if isinstance(value, bool) or isinstance(default, bool):
            total += value != default
        elif hyper.sample_as == "one_minus":
            total += math.log10(max(1 - value, 1e-12) / max(1 - default, 1e-12)) ** 2
        elif hyper.log and value > 0 and default > 0:
            total += 0.1 * math.log10(value / default) ** 2
        else:
            total += (value - default) ** 2
    return total


@lru_cache(maxsize=4096)
def _multiplier(schedule: str, share: float) -> float:
    """Of the learning rate after this share of a full run."""
    return float(multipliers(json.loads(schedule), FULL)[max(0, round(share * FULL) - 1)])
