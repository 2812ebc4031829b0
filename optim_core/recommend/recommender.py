"""From the evidence of a finished study to the one document that everything is built around."""

from __future__ import annotations

from optim_core.recommend.evidence import Confirmed, Scores, confirmed_scores
from optim_core.recommend.explain import summary
from optim_core.recommend.league import league
from optim_core.recommend.snippet import make_snippet
from optim_core.recommend.stats import mean_interval
from optim_core.recommend.verdict import ALPHA, Judgement, judge
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.recommendation import (
    Baseline,
    Cost,
    DatasetNotes,
    Effect,
    Equivalent,
    MetricInfo,
    Recommendation,
    Recommended,
    Replay,
    Score,
)
from optim_core.spec.trial import Configuration, ProbeReport, StudyView


def recommend(view: StudyView) -> Recommendation:
    """The answer of a study whose confirmation is done. A pure function of the view."""
    probe = next(u.result.probe for u in view.units if u.result is not None and u.result.probe is not None)
    scores = confirmed_scores(view)
    judgement = judge(scores, view.spec.equivalence_margin)
    configuration = judgement.recommended.configuration
    batchable = f"{probe.engine}: {probe.engine_reason}"
    return Recommendation(
        schema="whichopt.recommendation/1",
        study=view.study_id,
        verdict=judgement.verdict,
        summary=summary(judgement, probe.metric, len(scores.seeds)),
        recommended=Recommended(**configuration.model_dump(), parameter_groups=_groups(configuration)),
        metric=MetricInfo(name=probe.metric, direction=probe.direction),
        score=_score(judgement.recommended),
        baselines={
            "adamw_default": _baseline(scores.role("adamw_default")),
            "adamw_tuned": _baseline(scores.role("adamw_tuned")),
        },
        effect=_effect(judgement, scores),
        equivalent=[_equivalent(one) for one in judgement.equivalent],
        league=league(view, scores, probe.optimizer_step_s),
        cost=_cost(view, probe),
        dataset=DatasetNotes(
            report=probe.data_report,
            hash=probe.data_hash,
            rows={"train": probe.train_rows, "validation": probe.validation_rows, "test": probe.test_rows},
        ),
        engine=batchable,
        snippet=make_snippet(configuration),
        replay=Replay(
            command=f"whichopt replay {view.study_id}",
            seeds=scores.seeds,
            data_hash=probe.data_hash,
            versions=probe.versions,
        ),
    )


def _groups(configuration: Configuration) -> list[dict[str, str | float]]:
    decay = float(configuration.hyperparameters["weight_decay"])
    if decay == 0:
        return [{"match": "all", "weight_decay": 0.0}]
    return [{"match": "ndim >= 2", "weight_decay": decay}, {"match": "ndim < 2", "weight_decay": 0.0}]


def _score(confirmed: Confirmed) -> Score:
    values = confirmed.values
    return Score(mean=float(values.mean()), ci95=mean_interval(values, ALPHA), seeds=len(values))


def _baseline(confirmed: Confirmed) -> Baseline:
    configuration = confirmed.configuration
    return Baseline(
        **_score(confirmed).model_dump(),
        hyperparameters=configuration.hyperparameters,
        schedule=configuration.schedule,
    )


def _effect(judgement: Judgement, scores: Scores) -> Effect:
    """In the metric's own unit and direction: recommended − tuned AdamW."""
    ends = sorted(scores.sign * end for end in judgement.gain_interval)
    return Effect(
        difference=scores.sign * judgement.gain_mean,
        ci95=(ends[0], ends[1]),
        probability_better=judgement.probability_better,
        margin=judgement.margin,
        further_seeds=judgement.further_seeds,
    )


def _equivalent(confirmed: Confirmed) -> Equivalent:
    row = OPTIMIZERS[confirmed.configuration.optimizer]
    return Equivalent(
        configuration=confirmed.configuration,
        score=_score(confirmed),
        state_bytes_per_parameter=row.state_bytes_per_parameter,
    )


def _cost(view: StudyView, probe: ProbeReport) -> Cost:
    done = [u for u in view.units if u.result is not None]
    packs = [u for u in done if u.spec.kind != "probe"]
    trials = {t.number for u in packs for t in u.spec.trials}
    return Cost(
        trials=len(trials),
        train_steps=sum(u.result.train_steps for u in done if u.result is not None),
        seconds=view.elapsed_s,
        device=probe.device,
        packs=len(packs),
        mean_pack_size=sum(len(u.spec.trials) for u in packs) / max(1, len(packs)),
    )
