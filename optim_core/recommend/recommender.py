"""From the evidence of a finished study to the one document that everything is built around."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.recommend import wording
from optim_core.recommend.enough import Tried, tried
from optim_core.recommend.evidence import Confirmed, Evidence, evidence
from optim_core.recommend.going_on import going_on
from optim_core.recommend.history import outcomes, probe_report
from optim_core.recommend.interval import Difference
from optim_core.recommend.league import league
from optim_core.recommend.margin import OF_VALUE
from optim_core.recommend.reference import reference
from optim_core.recommend.sensitivity import rate_cost
from optim_core.recommend.snippet import make_snippet
from optim_core.recommend.time_to_target import time_to_target
from optim_core.recommend.verdict import Judgement, judge, more_runs_may_decide, score_of
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import ExternalModel, sign_of
from optim_core.spec.recommendation import (
    Baseline,
    Cost,
    DatasetNotes,
    Decide,
    Effect,
    Equivalent,
    MetricInfo,
    Recommendation,
    Recommended,
    Replay,
    Score,
    Trained,
    Trivial,
)
from optim_core.spec.trial import Configuration, ProbeReport, StudyView


def recommend(view: StudyView, suffices: Decide | None = None) -> Recommendation:
    """The answer of a study whose confirmation is done. A pure function of its arguments.

    ``suffices``: a budget that should be enough for a verdict, None where this one was: then more of it is no remedy. Raises
    ValueError when no look of the confirmation has ended.
    """
    probe, found = probe_report(view), evidence(view)
    if found is None:
        raise ValueError("nothing has been confirmed")
    searched = tried_of(view)
    judged = judge(found, searched, view.spec)
    decide = _decide(judged, searched, suffices)
    configuration = judged.recommended.configuration
    sign = sign_of(found.metric)
    rows = league(view, found, searched)
    trained = _trained(view, probe)
    mine = [o for o in outcomes(view, "train") if o.optimizer == configuration.optimizer]
    lr = configuration.hyperparameters.get("lr")
    cost = None if lr is None else rate_cost(mine, sign, around=float(lr))
    further = going_on(outcomes(view, "train"), probe.full_horizon, sign, judged.margin)
    beside = reference(found, judged, probe)
    sooner = time_to_target(view, configuration, judged.default.configuration, sign)
    return Recommendation(
        schema="whichopt.recommendation/1",
        study=view.study_id,
        verdict=judged.verdict,
        reason=judged.reason,
        headline=wording.headline(judged, searched),
        summary=wording.summary(judged, found, searched, decide, minority=probe.minority, early=view.finishing),
        notes=[
            *_left_out(view),
            *([] if beside is None else [beside.sentence]),
            *wording.notes(judged, found, searched, probe.minority, trained.epochs),
            *_margin_note(judged, found, view),
            *wording.practice(judged, found.called, cost, further, sooner),
        ],
        recommended=Recommended(**configuration.model_dump(), parameter_groups=_groups(configuration)),
        metric=MetricInfo(name=found.called, direction=probe.direction),
        score=_score(found, judged.recommended),
        baselines={
            "adamw_default": _baseline(found, judged.default),
            "adamw_tuned": _baseline(found, judged.tuned),
        },
        gain=_effect(found, judged.gain, judged.margin, "adamw_default"),
        effect=_effect(found, judged.effect, judged.margin, "adamw_tuned"),
        decide=decide,
        going_on=further,
        time_to_target=sooner,
        equivalent=[_equivalent(found, judged, one, d) for one, d in judged.equivalent],
        not_tried=list(judged.unclaimed),
        trivial=None if judged.trivial is None else Trivial(score=judged.trivial, beaten=judged.learnt == "shown"),
        reference=beside,
        trained=trained,
        league=rows,
        cost=_cost(view, probe),
        dataset=DatasetNotes(
            report=probe.data_report,
            hash=probe.data_hash,
            rows={} if view.spec.external else _rows(probe),
            each=view.spec.each,
        ),
        engine=probe.engine_reason if view.spec.external else f"{probe.engine}: {probe.engine_reason}",
        snippet=make_snippet(configuration, trained),
        replay=Replay(
            command="" if view.spec.external else f"whichopt replay {view.study_id}",
            seeds=found.seeds,
            folds=found.fold_n,
            wide=found.wide,
            data_hash=probe.data_hash,
            versions=probe.versions,
        ),
    )


def _left_out(view: StudyView) -> list[str]:
    many = len(view.excluded)
    return [f"{many} trial{'s were' if many > 1 else ' was'} left out by hand."] if many else []


def undecided(view: StudyView) -> bool:
    """Whether the confirmation so far leaves open what another look may decide."""
    found = evidence(view)
    return found is not None and more_runs_may_decide(judge(found, tried_of(view), view.spec))


def tried_of(view: StudyView) -> Mapping[str, Tried]:
    """What was tried of each included optimizer."""
    searched, full = outcomes(view, "train"), probe_report(view).full_horizon
    top = max((o.rung for o in searched if o.horizon == full), default=max((o.rung + 1 for o in searched), default=0))
    return {name: tried(searched, name, top) for name in view.spec.search.included()}


def _decide(judged: Judgement, tried: Mapping[str, Tried], suffices: Decide | None) -> Decide | None:
    if judged.verdict != "inconclusive" or judged.learnt == "no":
        return None
    if judged.reason == "not_enough_search":
        # Where all of AdamW's trials scored alike, or none survived, more of them will not do otherwise.
        return suffices if tried["adamw"].more_may_help else None
    return None if judged.decider is None else Decide(seeds=judged.decider.seeds, rows=judged.decider.rows)


def _margin_note(judged: Judgement, found: Evidence, view: StudyView) -> list[str]:
    """Of a loop's metric, whose unit only the person knows, when they did not say what matters."""
    spec = view.spec
    if not spec.external or spec.absolute_margin is not None or spec.equivalence_margin is not None:
        return []
    return [wording.loop_margin(judged.margin, found.called, OF_VALUE)]


def _rows(probe: ProbeReport) -> dict[str, int]:
    return {"train": probe.train_rows, "validation": probe.validation_rows, "test": probe.test_rows}


def _trained(view: StudyView, probe: ProbeReport) -> Trained:
    loop = view.spec.model
    if isinstance(loop, ExternalModel):
        return Trained(
            steps=loop.steps,
            batch_size=loop.batch_size,
            epochs=None,
            rows=None,
            parameters=loop.parameters,
            sentence=wording.loop_trained(loop.steps, loop.batch_size, loop.parameters),
        )
    training = view.spec.training
    batch = probe.batch_size or training.batch_size * training.grad_accumulation
    rows, steps = probe.train_rows, probe.full_horizon
    epochs = steps / probe.steps_per_epoch
    return Trained(
        steps=steps,
        batch_size=batch,
        epochs=epochs,
        rows=rows,
        parameters=probe.parameter_count,
        sentence=wording.trained(steps, batch, epochs, rows, probe.parameter_count, probe.network, view.spec.each),
        accumulated=training.grad_accumulation,
        precision=training.precision,
    )


def _groups(configuration: Configuration) -> list[dict[str, str | float]]:
    decay = float(configuration.hyperparameters["weight_decay"])
    if decay == 0:
        return [{"match": "all", "weight_decay": 0.0}]
    others = "ndim < 2 or of a norm"
    return [{"match": f"not ({others})", "weight_decay": decay}, {"match": others, "weight_decay": 0.0}]


def _score(found: Evidence, confirmed: Confirmed) -> Score:
    score = score_of(found, confirmed)
    return Score(
        mean=score.value, ci95=(score.low, score.high), seeds=len(found.seeds), runs=found.runs, rows=found.rows,
        diverged=confirmed.diverged_n,
    )  # fmt: skip


def _baseline(found: Evidence, confirmed: Confirmed) -> Baseline:
    configuration = confirmed.configuration
    return Baseline(
        **_score(found, confirmed).model_dump(),
        hyperparameters=configuration.hyperparameters,
        schedule=configuration.schedule,
    )


def _effect(found: Evidence, difference: Difference, margin: float, versus: str) -> Effect:
    """In the metric's own unit and direction: recommended − the other."""
    sign = sign_of(found.metric)
    # A zero has no sign.
    ends = sorted((sign * difference.low + 0.0, sign * difference.high + 0.0))
    return Effect(
        versus=versus,  # type: ignore[arg-type]
        difference=sign * difference.mean + 0.0,
        ci95=(ends[0], ends[1]),
        # Without enough seeds the interval lacks what seeds do; no probability can be read from it.
        probability_better=difference.probability if difference.claimable else None,
        margin=margin,
    )


def _equivalent(found: Evidence, judged: Judgement, confirmed: Confirmed, difference: Difference) -> Equivalent:
    row = OPTIMIZERS[confirmed.optimizer]
    return Equivalent(
        configuration=confirmed.configuration,
        score=_score(found, confirmed),
        effect=_effect(found, difference, judged.margin, "adamw_tuned"),
        state_bytes_per_parameter=row.state_bytes_per_parameter,
        saves=wording.saves(confirmed, judged.tuned, difference, found.metric, found.called),
    )


def _cost(view: StudyView, probe: ProbeReport) -> Cost:
    done = [u for u in view.units if u.result is not None]
    packs = [u for u in done if u.spec.trials]
    return Cost(
        trials=len({t.number for u in packs if u.spec.kind == "train" for t in u.spec.trials}),
        confirmation_runs=sum(len(u.spec.trials) for u in packs if u.spec.kind != "train"),
        train_steps=sum(u.result.train_steps for u in done if u.result is not None),
        seconds=view.elapsed_s,
        device=probe.device,
        packs=len(packs),
        mean_pack_size=sum(len(u.spec.trials) for u in packs) / max(1, len(packs)),
    )
