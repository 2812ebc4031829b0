"""The answer: one JSON document, the same from CLI, REST, SDK and dashboard (schema ``whichopt.recommendation/1``)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optim_core.spec.base import Value
from optim_core.spec.trial import Configuration

Interval = tuple[float, float]


class Recommended(Configuration):
    """The configuration to use. ``parameter_groups`` says which weights get which settings, by rule."""

    parameter_groups: list[dict[str, str | float]]


class MetricInfo(Value):
    name: str
    direction: Literal["minimize", "maximize"]
    split: Literal["test"] = "test"


class Score(Value):
    """Mean over fresh seeds of the metric on the test split, with a 95 % interval of that mean."""

    mean: float
    ci95: Interval
    seeds: int


class Baseline(Score):
    hyperparameters: dict[str, float | bool]
    schedule: dict[str, str | float]


class Effect(Value):
    """``difference`` = recommended − tuned AdamW, in the metric's own unit; paired over seeds.

    ``ci95`` is the interval that the verdict used: 95 % over all rivals and looks together, so wider than a plain one.
    ``probability_better`` is not corrected: the share of paired resamples in which the recommended one is better.
    ``margin``: differences within it do not matter. ``further_seeds``: what would decide an inconclusive verdict.
    """

    versus: Literal["adamw_tuned"] = "adamw_tuned"
    difference: float
    ci95: Interval
    probability_better: float
    margin: float
    further_seeds: int | None = None


class Equivalent(Value):
    configuration: Configuration
    score: Score
    state_bytes_per_parameter: float


class CurveBand(Value):
    """Expected best searched value after ``n`` trials, with a distribution-free band."""

    n: int
    expected: float
    low: float
    high: float


class LeagueRow(Value):
    """One optimizer. ``best`` is confirmed on fresh seeds when ``confirmed``, else the best searched validation value."""

    optimizer: str
    best: float | None
    confirmed: bool
    ci95: Interval | None
    trials: int
    tuning_curve: list[CurveBand]
    divergence_rate: float
    lr_width_decades: float | None
    step_s: float | None
    state_bytes_per_parameter: float
    configuration: Configuration | None


class Cost(Value):
    trials: int
    train_steps: int
    seconds: float
    device: str
    packs: int
    mean_pack_size: float


class DatasetNotes(Value):
    """What was done to the data, in sentences, and the hash of the prepared arrays."""

    report: list[str]
    hash: str
    rows: dict[str, int]


class Replay(Value):
    command: str
    seeds: list[int]
    data_hash: str
    versions: dict[str, str]


class Recommendation(Value):
    schema_: Literal["whichopt.recommendation/1"] = Field("whichopt.recommendation/1", alias="schema")
    study: str | None
    basis: Literal["study", "knowledge"] = "study"
    verdict: Literal["better", "no_difference", "inconclusive"]
    summary: str
    recommended: Recommended
    metric: MetricInfo
    score: Score
    baselines: dict[Literal["adamw_default", "adamw_tuned"], Baseline]
    effect: Effect
    equivalent: list[Equivalent]
    league: list[LeagueRow]
    cost: Cost
    dataset: DatasetNotes
    engine: str
    snippet: str
    replay: Replay

    def document(self) -> dict:
        """The JSON document as plain values."""
        return self.model_dump(mode="json", by_alias=True)
