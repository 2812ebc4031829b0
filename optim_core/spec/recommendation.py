"""The answer: one JSON document, the same from CLI, REST, SDK and dashboard (schema ``whichopt.recommendation/1``)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optim_core.spec.base import Value
from optim_core.spec.trial import Configuration, ReferenceName, Role

Interval = tuple[float, float]
Verdict = Literal["better", "no_difference", "inconclusive"]
Reason = Literal["not_enough_search", "noise", "metric_degenerate"]


class Recommended(Configuration):
    """The configuration to use. ``parameter_groups`` says which weights get which settings, by rule."""

    parameter_groups: list[dict[str, str | float]]


class MetricInfo(Value):
    name: str
    direction: Literal["minimize", "maximize"]
    split: Literal["test"] = "test"


class Score(Value):
    """A configuration's metric on rows that its runs were not trained on, pooled over fresh runs.

    ``ci95``: speaks of new runs and new rows from the same source. ``seeds``: fresh seeds; ``runs``: trainings, seeds times
    folds; ``rows``: rows scored, 0 where a person's own loop told one score a run, and then it speaks of new runs alone.
    ``diverged``: of the runs, which count as the worst; where it is all of them nothing was measured.
    """

    mean: float
    ci95: Interval
    seeds: int
    runs: int
    rows: int
    diverged: int = 0


class Baseline(Score):
    hyperparameters: dict[str, float | bool]
    schedule: dict[str, str | float]


class Effect(Value):
    """``difference`` = recommended − ``versus``, in the metric's own unit; folds, seeds and rows are the same for both.

    ``ci95``: the interval that the verdict used, 95 % over all rivals and looks together, for new runs and new rows.
    ``probability_better``: from the same distribution; null where too few seeds were run to say. ``margin``: differences up to
    it do not matter.
    """

    versus: Literal["adamw_tuned", "adamw_default"] = "adamw_tuned"
    difference: float
    ci95: Interval
    probability_better: float | None
    margin: float


class Decide(Value):
    """What would decide an inconclusive verdict, each null where it would not: a budget on this machine (rounded up to what
    one would type) or, where it was given so, in trials; fresh seeds of each configuration in all, rows of the table in all.
    """

    seconds: float | None = None
    trials: int | None = None
    seeds: int | None = None
    rows: int | None = None


class Trained(Value):
    """What one run trains, for which the settings hold: optimizer steps, rows of a batch, passes over the training rows,
    training rows, weights, and all of it in a sentence with the layers. Of a person's own loop null what only it knows.
    ``accumulated``: backward passes of a batch; ``precision``: of forward and loss.
    """

    steps: int
    batch_size: int | None
    epochs: float | None
    rows: int | None
    parameters: int | None
    sentence: str
    accumulated: int = 1
    precision: str = "fp32"


class Trivial(Value):
    """``score``: the metric of always answering the most frequent class of the training rows, or their mean, on the rows that
    the other scores are of. ``beaten``: whether something confirmed is shown to be better, row by row.
    """

    score: float
    beaten: bool


class ReferenceModel(Value):
    """A model of another kind, of scikit-learn at its defaults. ``mean``: its score on the rows that the other scores are
    of, fitted to ``train_rows`` rows of the same folds. ``difference`` = it − the recommended, in the metric's own unit.
    ``than_network``: whether it is shown to be better or worse than the recommended by more than the margin, or within it;
    ``than_any_network``: better than everything that was confirmed.
    """

    name: ReferenceName
    title: str
    mean: float
    ci95: Interval
    difference: float
    difference_ci95: Interval
    than_network: Literal["better", "worse", "same", "not_told_apart"]
    than_any_network: bool
    train_rows: int


class Reference(Value):
    """Whether a network is the right tool here: the best first, and all of it in a sentence. No ``models`` where the budget was
    too small for them.
    """

    models: list[ReferenceModel]
    sentence: str


class Equivalent(Value):
    """A confirmed configuration that differs from AdamW at its best by no more than the margin, and what it saves, in words."""

    configuration: Configuration
    score: Score
    effect: Effect
    state_bytes_per_parameter: float
    saves: str


class Confirmed(Score):
    """A league entry's score in the confirmation."""

    roles: list[Role]


class CurveBand(Value):
    """Expected best searched value after ``n`` trials, with a distribution-free band."""

    n: int
    expected: float
    low: float
    high: float


class RateCost(Value):
    """What a learning rate about three times too low or too high costs, in the metric's unit, with the other settings chosen
    anew: best searched value − best searched value there, 0 or more; null where no such rate was tried.
    """

    lower: float | None
    higher: float | None


class LeagueRow(Value):
    """One optimizer. ``searched``: its best value on the validation split, after ``searched_steps`` steps; ``confirmed``: its
    score on fresh runs and test rows. Two quantities, never compared with each other.

    ``lr_width_decades``: of the rates within 2 % of the best; ``lr_wrong_by_3``: null with fewer than 3 rates. ``trials``:
    search trials; ``full_trials``: those at the full horizon. ``lacks``: why it was not tried enough for a claim.
    """

    optimizer: str
    searched: float | None
    searched_steps: int | None
    confirmed: Confirmed | None
    trials: int
    full_trials: int
    lacks: str | None
    tuning_curve: list[CurveBand]
    divergence_rate: float
    lr_width_decades: float | None
    lr_wrong_by_3: RateCost | None = None
    step_s: float | None
    state_bytes_per_parameter: float
    configuration: Configuration | None


class GoingOn(Value):
    """``late_gain``: how much better the best full training of the whole search is than that of its first half, in the metric's
    unit on the validation split. ``worth``: more than the margin, so that a longer search may bring more.
    """

    late_gain: float
    worth: bool


class TimeToTarget(Value):
    """The recommended configuration has ``target``, the mean score of AdamW at its defaults after all ``of`` steps, after
    ``steps``; measured in the confirmation's runs on the test split.
    """

    target: float
    steps: int
    of: int


class Cost(Value):
    """``trials``: search trials; ``confirmation_runs``: trainings of screening and confirmation. ``seconds``: wall clock in
    which the study was worked on, planning between units included.
    """

    trials: int
    confirmation_runs: int
    train_steps: int
    seconds: float
    device: str
    packs: int
    mean_pack_size: float


class DatasetNotes(Value):
    """What was done to the data, in sentences, and the hash of the prepared arrays. ``each``: what ``rows`` and the rows of
    scores are called here: row, sample or block.
    """

    report: list[str]
    hash: str
    rows: dict[str, int]
    each: str = "row"


class Replay(Value):
    """``command``: empty where only a person's own loop could. ``folds``: as many as took turns, 1 for one split; each seed ran
    on each. ``wide``: whether the score counts each run's unused validation rows too.
    """

    command: str
    seeds: list[int]
    folds: int
    wide: bool
    data_hash: str
    versions: dict[str, str]


class Recommendation(Value):
    """``headline`` and ``summary`` are the sentences for a person, the gain over default AdamW first; ``notes`` what else they
    should know. ``gain``: recommended against AdamW at its defaults; ``effect``: against AdamW at its best. ``going_on`` is
    null for searches too short to say, ``reference`` where the data are no table, ``time_to_target`` where the default is
    recommended or its score never reached.
    """

    schema_: Literal["whichopt.recommendation/1"] = Field("whichopt.recommendation/1", alias="schema")
    study: str | None
    basis: Literal["study", "knowledge"] = "study"
    verdict: Verdict
    reason: Reason | None = None
    headline: str
    summary: str
    notes: list[str]
    recommended: Recommended
    metric: MetricInfo
    score: Score
    baselines: dict[Literal["adamw_default", "adamw_tuned"], Baseline]
    gain: Effect
    effect: Effect
    decide: Decide | None = None
    going_on: GoingOn | None = None
    time_to_target: TimeToTarget | None = None
    equivalent: list[Equivalent]
    not_tried: list[str]
    trivial: Trivial | None
    reference: Reference | None = None
    trained: Trained | None = None
    league: list[LeagueRow]
    cost: Cost
    dataset: DatasetNotes
    engine: str
    snippet: str
    replay: Replay

    def document(self) -> dict:
        """The JSON document as plain values."""
        return self.model_dump(mode="json", by_alias=True)
