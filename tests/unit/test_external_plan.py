"""Studies of a person's own loop without a service: what is asked of it, in what order, and what is concluded."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from optim_core.recommend import recommend, standing
from optim_core.recommend.margin import margin_of
from optim_core.search import Finish, Plan, Wait, forecast, plan
from optim_core.spec.numbers import measured
from optim_core.spec.price import Price, price
from optim_core.spec.problem import StudySpec
from optim_core.spec.rowscores import pack
from optim_core.spec.states import UnitState
from optim_core.spec.trial import WORST_VALUE, StudyView, TrialResult, UnitResult, UnitSpec, UnitView
from optim_core.spec.validation import SpecErrors, parse_spec
from tests.unit.study_simulator import bowl, one

FULL = 400
TRUTH = bowl({"adamw": (0.003, 1.0), "sgd": (0.1, 1.0), "lion": (0.001, 0.5)})


def spec(**changes) -> StudySpec:
    raw = {
        "model": {"kind": "external", "steps": FULL},
        "metric": "val_bpb",
        "metric_direction": "min",
        "search": {"optimizers": ["adamw", "sgd", "lion"]},
        "budget": {"trials": 40},
        **changes,
    }
    return parse_spec(raw)


def told(unit: UnitSpec, rows: int = 0, sign: int = 1, step_s: float = 1e-3) -> UnitResult:
    [trial] = unit.trials
    result = one(trial, unit, TRUTH, 0.01, FULL)
    if result.metric is not None:
        value = sign * result.metric
        # What the loop scored row by row has the metric as its mean.
        spread = [0.02 * math.sin(3 * i) for i in range(rows)]
        scores = [value + s - sum(spread) / rows for s in spread]
        result = result.model_copy(update={"metric": value, "rows": {"test": pack(scores, "f")} if rows else {}})
    steps = unit.horizon
    return UnitResult(trials=[result], seconds=step_s * steps, train_steps=steps, device="external", engine="external")


def run(study: StudySpec, workers: int = 4, answer=told, **options) -> tuple[StudyView, Finish]:
    units: list[UnitView] = []
    for _ in range(5000):
        seconds = math.fsum(u.result.seconds for u in units if u.result is not None)
        view = StudyView(
            study_id="s", spec=study, units=units, elapsed_s=seconds / workers, device_s=seconds, workers=workers
        )
        step = plan(view)
        if isinstance(step, Finish):
            return view, step
        if isinstance(step, Plan):
            assert all(len(u.trials) == 1 for u in step.units), "a client trains one trial at a time"
            known = {u.spec.key for u in units}
            units += [UnitView(spec=u, state=UnitState.QUEUED) for u in step.units if u.key not in known]
        i = next(i for i, u in enumerate(units) if u.state == UnitState.QUEUED)
        units[i] = UnitView(spec=units[i].spec, state=UnitState.DONE, result=answer(units[i].spec, **options))
    raise AssertionError("never ended")


def test_a_study_of_a_loop_ends_in_a_verdict_over_seeds_alone() -> None:
    view, end = run(spec())
    assert end == Finish()
    answer = recommend(view)
    assert answer.verdict == "better"
    assert answer.recommended.optimizer == "lion"
    assert (answer.metric.name, answer.metric.direction) == ("val_bpb", "minimize")
    assert answer.effect.difference == pytest.approx(-0.5, abs=0.1)
    assert answer.score.rows == 0
    assert answer.score.seeds == answer.score.runs == 5
    assert "for new runs on the same data" in answer.summary
    assert any("same data" in note and "5 seeds" in note for note in answer.notes)
    text = " ".join([answer.headline, answer.summary, *answer.notes])
    assert "val_bpb" in text
    assert "error" not in text
    assert answer.replay.command == ""
    assert "400 steps of your own loop" in answer.snippet
    assert answer.trained is not None
    assert answer.trained.epochs is None
    # No unit but those that a client trains, each on the one split that the loop has.
    assert {u.spec.kind for u in view.units} == {"train", "screen", "confirm"}
    assert {u.spec.fold for u in view.units} == {None}


def test_a_metric_of_which_more_is_better_has_the_same_study_mirrored() -> None:
    low, _ = run(spec())
    high, _ = run(spec(metric="reward", metric_direction="max"), sign=-1)
    assert [u.spec for u in low.units] == [u.spec for u in high.units]
    one, other = recommend(low), recommend(high)
    assert one.verdict == other.verdict
    assert other.effect.difference == pytest.approx(-one.effect.difference)
    assert other.score.mean == pytest.approx(-one.score.mean)


def test_a_loop_that_ignores_its_seed_is_asked_whether_it_does() -> None:
    def deaf(unit: UnitSpec) -> UnitResult:
        [trial] = unit.trials
        return told(unit.model_copy(update={"trials": [trial.model_copy(update={"seed": 1})]}))

    view, _ = run(spec(), answer=deaf)
    assert any("All seeds scored alike" in note for note in recommend(view).notes)
    view, _ = run(spec())
    assert not any("All seeds scored alike" in note for note in recommend(view).notes)


def test_row_scores_make_it_speak_of_new_rows() -> None:
    view, _ = run(spec(), rows=200)
    answer = recommend(view)
    assert answer.score.rows == 200
    assert "new rows" in answer.summary
    # Told by some runs only, they cannot be paired: one score each.
    i, unit = next((i, u) for i, u in enumerate(view.units) if u.spec.kind == "confirm")
    assert unit.result is not None
    bare = [t.model_copy(update={"rows": {}}) for t in unit.result.trials]
    units = list(view.units)
    units[i] = unit.model_copy(update={"result": unit.result.model_copy(update={"trials": bare})})
    assert recommend(view.model_copy(update={"units": units})).score.rows == 0


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_confirmed_run_that_broke_counts_as_the_worst_never_as_the_best(direction: str) -> None:
    sign = 1 if direction == "min" else -1
    view, _ = run(spec(metric="m", metric_direction=direction), sign=sign)
    whole = recommend(view)
    units = list(view.units)
    for i, unit in enumerate(units):
        [trial] = unit.spec.trials
        if unit.spec.kind == "confirm" and "rival" in trial.roles and trial.configuration.optimizer == "lion":
            broken = TrialResult(
                number=trial.number, objective=WORST_VALUE, metric=None, loss=None, diverged_at_step=7, steps=FULL
            )
            assert unit.result is not None
            units[i] = unit.model_copy(update={"result": unit.result.model_copy(update={"trials": [broken]})})
            break
    answer = recommend(view.model_copy(update={"units": units}))
    row = {r.optimizer: r.confirmed for r in answer.league}["lion"]
    before = {r.optimizer: r.confirmed for r in whole.league}["lion"]
    assert row is not None
    assert before is not None
    assert sign * row.mean > sign * before.mean
    assert any("diverged in 1 of its" in note for note in answer.notes)


def test_a_budget_in_trials_asks_the_same_of_any_number_of_clients_up_to_four() -> None:
    alone, _ = run(spec(), workers=1)
    four, _ = run(spec(), workers=4)
    asked = [[u.spec.model_copy(update={"workers": 1}) for u in view.units] for view in (alone, four)]
    assert asked[0] == asked[1]


def test_no_client_waits_while_there_is_budget() -> None:
    first = plan(
        StudyView(study_id="s", spec=spec(budget={"trials": 400}), units=[], elapsed_s=0, device_s=0, workers=32)
    )
    assert isinstance(first, Plan)
    units = [UnitView(spec=u, state=UnitState.LEASED) for u in first.units]
    for unit in units[: len(units) - 32]:
        done = unit.model_copy(update={"state": UnitState.DONE, "result": told(unit.spec)})
        units[units.index(unit)] = done
    assert len(first.units) >= 9
    view = StudyView(study_id="s", spec=spec(budget={"trials": 400}), units=[
        UnitView(spec=u.spec, state=UnitState.DONE, result=told(u.spec)) for u in units
    ], elapsed_s=1, device_s=1, workers=32)  # fmt: skip
    then = plan(view)
    assert isinstance(then, Plan)
    assert len(then.units) >= 32


def test_a_budget_in_time_begins_with_a_short_run_that_shows_what_a_step_takes() -> None:
    timed = spec(budget={"seconds": 12.0})
    empty = StudyView(study_id="s", spec=timed, units=[], elapsed_s=0, device_s=0)
    step = plan(empty)
    assert isinstance(step, Plan)
    [unit] = step.units
    assert unit.kind == "probe"
    assert unit.horizon == 60
    assert unit.trials[0].configuration.optimizer == "adamw"
    assert forecast(empty) is None
    waiting = empty.model_copy(update={"units": [UnitView(spec=unit, state=UnitState.LEASED)]})
    assert plan(waiting) == Wait()
    view, end = run(timed)
    assert end == Finish()
    assert recommend(view).verdict in ("better", "no_difference", "inconclusive")
    assert view.elapsed_s == pytest.approx(12, rel=0.25)
    expected = forecast(view)
    assert expected is not None
    assert expected.trainings == pytest.approx(12 / (FULL * 1e-3 / 4), rel=0.3)


def test_a_loop_whose_first_runs_fail_at_once_is_told_so() -> None:
    def failing(unit: UnitSpec) -> UnitResult:
        [trial] = unit.trials
        broken = TrialResult(
            number=trial.number, objective=WORST_VALUE, metric=None, loss=None, diverged_at_step=0, steps=unit.horizon
        )
        return UnitResult(trials=[broken], seconds=1.0, train_steps=0, device="external", engine="external")

    view, end = run(spec(budget={"seconds": 60.0}), answer=failing)
    assert end.failure is not None
    assert end.failure[0] == "loop_failed"
    assert len(view.units) == 3
    view, end = run(spec(), answer=failing)
    assert end.failure is not None
    assert end.failure[0] == "all_trials_failed"


def refused(**changes) -> tuple[str, str]:
    with pytest.raises(SpecErrors) as caught:
        spec(**changes)
    return caught.value.pointer, caught.value.code


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"metric_direction": None}, "/metric_direction", "field_required"),
        ({"metric": "accuracy"}, "/metric_direction", "invalid_value"),
        ({"metric": "m" * 33}, "/metric", "invalid_value"),
        ({"metric": None}, "/metric", "field_required"),
        ({"split": {"by": "group", "column": "site"}}, "/split", "option_not_applicable"),
        ({"model": "external"}, "/model", "field_required"),
        ({"task": "classification"}, "/task", "option_not_applicable"),
        ({"loss": "mse"}, "/loss", "option_not_applicable"),
        ({"training": {"steps": 5}}, "/training/steps", "option_not_applicable"),
        ({"training": {"batch_size": 64}}, "/training/batch_size", "option_not_applicable"),
        ({"training": {"fine_tune": {"weights": "w.pt"}}}, "/training/fine_tune", "option_not_applicable"),
        ({"training": {"test_fraction": 0.3}}, "/training/test_fraction", "option_not_applicable"),
        ({"search": {"techniques": {"dropout": [0.1]}}}, "/search/techniques/dropout", "option_not_applicable"),
        ({"search": {"techniques": {"label_smoothing": [0.1]}}}, "/search/techniques/label_smoothing",
         "option_not_applicable"),
        ({"search": {"optimizers": ["lbfgs"]}}, "/search/optimizers", "option_not_applicable"),
        ({"dataset": {"kind": "builtin", "name": "iris"}}, "/dataset", "option_not_applicable"),
        ({"model": {"kind": "external"}}, "/model/steps", "field_required"),
        ({"model": {"kind": "external", "steps": 0}}, "/model/steps", "number_out_of_range"),
        ({"model": {"kind": "external", "steps": 5, "depth": 3}}, "/model/depth", "unknown_field"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_loop_of_ones_own_is_refused_by_name(changes: dict, pointer: str, code: str) -> None:
    assert refused(**changes) == (pointer, code)


def test_external_data_need_an_external_model() -> None:
    assert refused(model={"kind": "catalogue", "name": "mlp"}, dataset={"kind": "external"}, metric="loss") == (
        "/dataset", "option_not_applicable",
    )  # fmt: skip


def test_a_metric_may_be_called_anything_and_known_names_say_what_is_better() -> None:
    assert spec(metric="loss", metric_direction=None).external_metric == ("loss", "minimize")
    assert spec(metric="accuracy", metric_direction=None).external_metric == ("accuracy", "maximize")
    assert spec(metric="eval/MMLU @5", metric_direction="max").external_metric == ("eval/MMLU @5", "maximize")
    assert spec(model={"kind": "external", "steps": 2000, "parameters": 124e6}).model.parameters == 124_000_000  # type: ignore[union-attr]


def test_a_loop_says_its_budget_itself_and_may_leave_out_the_kind() -> None:
    raw = {"model": {"steps": 100}, "metric": "loss"}
    with pytest.raises(SpecErrors) as caught:
        parse_spec(raw)
    assert (caught.value.pointer, caught.value.code) == ("/budget", "budget_required")
    found = parse_spec({**raw, "budget": "9 trials"})
    assert found.external
    # As it is stored.
    assert parse_spec(found.model_dump(mode="json")) == found


def test_a_budget_in_trials_climbs_rungs_and_its_price_is_known_before() -> None:
    for trials in (1, 3, 12, 40):
        study = spec(budget={"trials": trials})
        asked, first = price(study), forecast(StudyView(study_id="s", spec=study, units=[], elapsed_s=0, device_s=0))
        assert asked is not None
        assert first is not None
        assert asked.sentence in first.sentence
        view, _ = run(study)
        horizons = Counter(u.spec.horizon for u in view.units if u.spec.kind == "train")
        assert sum(horizons.values()) <= asked.trials + asked.again
        assert len({t.number for u in view.units if u.spec.kind == "train" for t in u.spec.trials}) <= trials
        assert len(view.units) <= asked.most
        if trials >= 12:
            # What does badly is never trained in full.
            assert set(horizons) == {FULL // 4, FULL}
            assert horizons[FULL] < 0.7 * trials
    assert price(spec(budget={"seconds": 60.0})) is None


def test_one_of_something_reads_as_one() -> None:
    asked = price(spec(budget={"trials": 1}))
    assert asked is not None
    assert asked.sentence.startswith(
        f"up to {asked.most} trainings of at most {FULL} steps: 1 trial of the search, perhaps again over"
    )
    one_of_each = Price(steps=1, trials=1, again=0, screened=1, look=0, needed=1)
    assert one_of_each.sentence.startswith(
        "up to 2 trainings of at most 1 step: 1 trial of the search; 1 run to screen the best; "
    )
    assert one_of_each.sentence.endswith("; a verdict needs about 1 trial")


def test_what_would_suffice_is_said_in_the_unit_of_the_budget_and_only_where_it_would() -> None:
    view, _ = run(spec(budget={"trials": 6}))
    expected = forecast(view)
    assert expected is not None
    assert not expected.enough
    answer = recommend(view, expected.suffices)
    assert answer.decide is not None
    assert answer.decide.seconds is None
    assert answer.decide.trials == expected.needed_trials
    assert "trials would suffice" in answer.summary
    assert "on this machine" not in answer.summary + expected.sentence
    # A speed is what was measured, and no placeholder: a second a step would be 40 times this budget.
    steps = spec(budget={"train_steps": 40 * FULL})
    assert forecast(StudyView(study_id="s", spec=steps, units=[], elapsed_s=0, device_s=0)) is None
    view, _ = run(steps)
    expected = forecast(view)
    assert expected is not None
    assert expected.needed_s is not None
    assert expected.needed_s < 200 * FULL * 1e-3

    # Where all score alike more of it is no remedy, and where the budget was enough neither.
    def constant(unit: UnitSpec) -> UnitResult:
        result = told(unit)
        alike = [
            t.model_copy(update={"objective": 1.0, "metric": 1.0, "diverged_at_step": None}) for t in result.trials
        ]
        return result.model_copy(update={"trials": alike})

    view, _ = run(spec(budget={"trials": 6}), answer=constant)
    expected = forecast(view)
    assert expected is not None
    answer = recommend(view, expected.suffices)
    assert "would suffice" not in answer.summary
    view, _ = run(spec(budget={"trials": 60}))
    expected = forecast(view)
    assert expected is not None
    assert expected.suffices is None


@pytest.mark.parametrize("huge", [1e31, 1e200, -1e308])
def test_a_number_that_no_run_can_have_measured_is_none(huge: float) -> None:
    assert not measured(huge)
    assert measured(math.copysign(1e29, huge))
    # At the bound everything stays finite.
    largest = math.copysign(9.9e29, huge)

    def extreme(unit: UnitSpec) -> UnitResult:
        result = told(unit)
        [trial] = result.trials
        metric = None if trial.metric is None else (largest if trial.number % 2 else -largest)
        return result.model_copy(update={"trials": [trial.model_copy(update={"metric": metric})]})

    view, end = run(spec(budget={"trials": 8}), answer=extreme)
    assert end == Finish()
    answer = recommend(view)
    json.dumps(answer.document(), allow_nan=False)
    stands = standing(view)
    assert stands is None or math.isfinite(stands.gain)


def test_of_runs_that_failed_the_first_ones_reason_is_said() -> None:
    def broken(unit: UnitSpec) -> UnitResult:
        failed = TrialResult(
            number=unit.trials[0].number, objective=WORST_VALUE, metric=None, loss=None, diverged_at_step=0, steps=0
        )
        return UnitResult(trials=[failed], seconds=1.0, train_steps=0, device="external", engine="external")

    for budget in ({"trials": 4}, {"seconds": 60.0}):
        view, end = run(spec(budget=budget), answer=broken)
        units = [u.model_copy(update={"error": f"it ended with exit code {i + 1}"}) for i, u in enumerate(view.units)]
        end = plan(view.model_copy(update={"units": units}))
        assert isinstance(end, Finish)
        assert end.failure is not None
        assert end.failure[1].endswith("the first: it ended with exit code 1")
        assert "diverged" not in end.failure[1]
    view, end = run(spec(budget={"trials": 4}), answer=broken)
    assert end.failure is not None
    assert "every configuration diverged" in end.failure[1]


def test_the_margin_of_a_metric_with_an_offset_is_that_of_its_differences() -> None:
    def lifted(unit: UnitSpec) -> UnitResult:
        result = told(unit)
        up = [t.model_copy(update={"metric": None if t.metric is None else t.metric + 1e6}) for t in result.trials]
        return result.model_copy(update={"trials": up})

    view, _ = run(spec(), answer=lifted)
    answer = recommend(view)
    assert answer.effect.margin < 1.0
    assert answer.verdict == "better"
    assert any("absolute_margin" in note and "count as none" in note for note in answer.notes)
    view, _ = run(spec(absolute_margin=0.3), answer=lifted)
    answer = recommend(view)
    assert answer.effect.margin == 0.3
    assert not any("absolute_margin" in note for note in answer.notes)
    # As for a study of an engine: near a perfect score a share of what is missing, unless it is told in percent.
    assert margin_of("score", 0.99, spec(metric="accuracy", metric_direction="max")) == pytest.approx(0.002)
    assert margin_of("score", 99.0, spec(metric="accuracy", metric_direction="max")) == pytest.approx(0.99)


def test_a_loop_of_which_no_run_succeeds_is_asked_no_more() -> None:
    def fails(unit: UnitSpec) -> UnitResult:
        [trial] = unit.trials
        broken = TrialResult(number=trial.number, objective=WORST_VALUE, metric=None, loss=None, steps=0)
        return UnitResult(trials=[broken], seconds=1.0, train_steps=0, device="external", engine="external")

    units: list[UnitView] = []
    for _ in range(60):
        step = plan(StudyView(study_id="s", spec=spec(budget={"trials": 200}), units=units, elapsed_s=0, device_s=0))
        if isinstance(step, Finish):
            break
        assert isinstance(step, Plan)
        units += [
            UnitView(spec=u, state=UnitState.DONE, result=fails(u), error="no gpu" if len(units) + i < 100 else None)
            for i, u in enumerate(step.units)
        ]
    assert isinstance(step, Finish)
    assert step.failure is not None
    code, message = step.failure
    assert code == "loop_failed"
    assert "the first: no gpu" in message
    assert sum(len(u.spec.trials) for u in units) <= 30, "of 200"


@pytest.mark.parametrize("clients", [1, 20])
def test_a_budget_in_time_that_no_answer_fits_into_is_said_and_not_exceeded(clients: int) -> None:
    run_s = 10.0
    for seconds, enough in ((15.0, False), (45.0, True)):
        view, end = run(
            spec(budget={"seconds": seconds}), workers=clients, answer=lambda u: told(u, step_s=run_s / FULL)
        )
        if enough:
            assert end.failure is None
            # Two clients at once wait for each other; alone, nothing is begun that cannot end but the confirmation.
            assert sum(u.result.seconds for u in view.units if u.result is not None) / clients <= 1.5 * seconds
            continue
        assert end.failure is not None
        code, message = end.failure
        assert code == "budget_too_small"
        assert "a run of your loop takes about 10 s, and the smallest answer two of them, 20 s" in message
        assert sum(u.result.train_steps for u in view.units if u.result is not None) < FULL


def test_where_every_run_of_adamw_diverged_nobody_says_how_good_it_is() -> None:
    def dies(unit: UnitSpec) -> UnitResult:
        found, [trial] = told(unit), unit.trials
        if trial.configuration.optimizer != "adamw":
            return found
        broken = TrialResult(
            number=trial.number, objective=WORST_VALUE, metric=None, loss=None, diverged_at_step=1, steps=1
        )
        return found.model_copy(update={"trials": [broken]})

    view, end = run(spec(), answer=dies)
    assert end.failure is None
    answer = recommend(view)
    assert answer.recommended.optimizer != "adamw"
    assert (answer.verdict, answer.reason) == ("inconclusive", "not_enough_search")
    assert "every run of AdamW diverged" in answer.headline
    assert "so nobody can say by how much that is better" in answer.summary
    assert "at its best at its defaults" not in answer.summary
    assert "ahead by" not in answer.summary
    assert answer.score.diverged == 0
    assert all(one.diverged == one.runs > 0 for one in answer.baselines.values())


@pytest.mark.parametrize(("trials", "said"), [(1, "Of AdamW nothing was tried but its defaults"), (40, "")])
def test_adamw_is_at_its_best_only_where_it_was_looked_for(trials: int, said: str) -> None:
    view, _ = run(spec(budget={"trials": trials}))
    summary = recommend(view).summary
    assert said in summary
    assert trials == 40 or "at its best at its defaults" not in summary
