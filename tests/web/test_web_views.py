"""Words, view models, charts and colours: pure functions of values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.recommendation import Decide, Effect
from optim_core.spec.states import TrialState
from optim_core.spec.trial import CurvePoint
from service import web
from service.operations.views import Curve
from service.web import charts, palette, views, words
from service.web.bestsofar import MOST_DOTS, Search, Searched
from tests.web.web_answers import CONFIRMED_N, SHORT_STEPS, sample_recommendation
from tests.web.web_samples import SEARCHED

CSS = (Path(web.__file__).parent / "static" / "app.css").read_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.001, "0.001"), (1e-8, "1e−8"), (-0.5, "−0.5"), (True, "on"), (False, "off"),
     (12345.0, "12,345"), ("cosine", "cosine"), (0.99987, "0.9999"), (1e12, "1e12")],
)  # fmt: skip
def test_numbers(value: float | bool | str | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.04, "0.0 s"), (9.96, "10.0 s"), (41.2, "41 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"),
     (7500, "2 h 05 min"), (273600, "3 d 4 h"), (-1.0, "0.0 s")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_has_words(value: float) -> None:
    assert words.score(value)
    assert words.number(value)
    assert words.signed(value)[0] in "+−0"


def test_scores_line_up_and_differences_have_a_sign() -> None:
    assert [words.score(v) for v in (0.9, 12.0, 123.456, 4321.0, 1e-7, None)] == [
        "0.9000", "12.000", "123.46", "4,321.0", "1e−7", "–",
    ]  # fmt: skip
    assert (words.signed(0.25), words.signed(-0.25), words.signed(0.0)) == ("+0.2500", "−0.2500", "0.0000")
    assert (words.probability(1.0), words.probability(0.0), words.probability(0.5)) == ("> 99.9 %", "< 0.1 %", "50.0 %")


def test_settings_are_in_the_order_people_name_them() -> None:
    values = {"beta1": 0.9, "eps": 1e-8, "lr": 0.01, "nesterov": True, "weight_decay": 0.0}
    assert words.settings_text(values) == "lr 0.01, beta1 0.9, eps 1e−8, nesterov on"
    assert [name for name, _ in words.ordered({"test": 1, "train": 2, "validation": 3})] == [
        "train",
        "validation",
        "test",
    ]
    schedule = {"name": "one_cycle", "pct_start": 0.3, "warmup_fraction": 0.0}
    assert words.schedule_text(schedule) == "one cycle (pct start 0.3)"


def test_a_lower_is_better_metric_turns_the_effect_round() -> None:
    effect = Effect(difference=-2.0, ci95=(-3.0, -1.0), probability_better=0.99, margin=0.5)
    plot = views.effect_plot(effect, "minimize")
    assert plot.better == "left"
    assert 0 < plot.span.low < plot.span.mid < plot.span.high < plot.margin_low < plot.zero < plot.margin_high < 100


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=9))
def test_everything_on_a_track_is_inside_it(values: list[float]) -> None:
    bounds = views.track(values)
    assert all(0 <= views.place(v, bounds) <= 100 for v in values)


@pytest.mark.parametrize(
    ("direction", "ends", "side"),
    [
        ("maximize", (0.1, 0.4), "ahead"),
        ("minimize", (-0.4, -0.1), "ahead"),
        ("minimize", (0.1, 0.4), "inside"),
        ("maximize", (-0.4, 0.4), "inside"),
        ("maximize", (-0.6, 0.4), "open"),
        ("minimize", (0.6, 0.9), "open"),
    ],
)
def test_an_effect_is_ahead_inside_the_margin_or_open(direction: str, ends: tuple[float, float], side: str) -> None:
    effect = Effect(difference=sum(ends) / 2, ci95=ends, probability_better=0.5, margin=0.5)
    assert views.effect_plot(effect, direction).side == side


def test_a_baseline_is_not_compared_with_itself() -> None:
    better, kept = sample_recommendation("s"), sample_recommendation("s", "no_difference")
    assert not views.is_itself(better, "adamw_tuned")
    assert views.is_itself(kept, "adamw_tuned")
    assert not views.is_itself(kept, "adamw_default")
    assert not views.tuned_is_default(kept)
    same = kept.model_copy(update={"baselines": {**kept.baselines, "adamw_tuned": kept.baselines["adamw_default"]}})
    assert views.tuned_is_default(same)
    labels = charts.confirmation(same)["data"][0]["y"]
    assert sum(label.startswith("AdamW,") for label in labels) == 1


def test_what_would_decide_names_only_what_would() -> None:
    assert words.decide_pairs(Decide()) == []
    assert words.decide_pairs(Decide(seeds=7)) == [("seeds of each in all", "7")]
    assert words.decide_pairs(Decide(seconds=150.0, rows=12_000)) == [
        ("a budget on this machine of about", "2 min 30 s"), ("rows in all", "12,000"),
    ]  # fmt: skip


def test_the_league_keeps_searched_and_confirmed_apart() -> None:
    league = views.league_of_answer(sample_recommendation("s", "not_enough_search"))
    # All but plain SGD, which the sample leaves out.
    rivals = len(SEARCHED) - 1
    assert [line.confirmed is not None for line in league] == [True] * CONFIRMED_N + [False] * (rivals - CONFIRMED_N)
    assert [line.rank for line in league] == list(range(1, rivals + 1))
    assert all(line.confirmed.mean != line.searched for line in league if line.confirmed)
    spans = [line.span for line in league if line.span]
    assert len(spans) == CONFIRMED_N
    assert all(0 < span.low < span.mid < span.high < 100 for span in spans)
    # The later half never reached the full horizon, which their searched value says.
    assert [line.short for line in league] == [None] * (rivals // 2) + [SHORT_STEPS] * (rivals - rivals // 2)
    assert [line.lacks is not None for line in league] == [False] * (rivals - 2) + [True] * 2


def test_a_row_whose_long_trials_all_diverged_is_marked_as_short() -> None:
    league = sample_recommendation("s").league
    row = league[1].model_copy(update={"searched_steps": SHORT_STEPS})
    assert row.full_trials > 0
    assert views.searched_short(row, league)
    assert not views.searched_short(league[1], league)
    assert not views.searched_short(row.model_copy(update={"searched_steps": None, "searched": None}), league)


def search(*finishes: tuple[int, str, float | None, float]) -> Searched:
    of = Search()
    for finish in finishes:
        of.add(*finish)
    return of.seen()


def test_a_trial_that_is_left_out_is_as_if_it_had_never_been() -> None:
    rows = [(0, "sgd", 3.0, 0.1), (1, "adamw", 0.5, 0.2), (2, "lion", 1.0, 1.0), (1, "adamw", 9.0, 1.5)]
    whole = Search()
    for row in rows:
        whole.add(*row)
    assert [f.number for f in whole.seen().least] == [0, 1]
    assert whole.without(1).seen() == search(*(row for row in rows if row[0] != 1))


def test_what_a_page_shows_of_a_long_search_is_no_longer_than_of_a_short_one() -> None:
    seen = search(*((i, "adam", 1.0 + (i * 7919) % 1000, float(i)) for i in range(5000)))
    assert len(seen.dots) == MOST_DOTS
    assert (seen.dots[0].number, seen.dots[-1].number) == (0, 4999)
    assert seen.last is not None
    assert (seen.last.place, seen.optimizers["adam"].trials) == (5000, 5000)
    assert (seen.optimizers["adam"].least, seen.optimizers["adam"].greatest) == (1.0, 1000.0)


def test_the_league_so_far_is_by_value_and_without_one_last() -> None:
    searched = search(
        (0, "sgd", 3.0, 0.1),
        (1, "adamw", 2.0, 0.2),
        (1, "adamw", 1.0, 0.9),
        (2, "lion", None, 1.0),
        (3, "other", 0.0, 2.0),
    )
    league = views.league_so_far(["adamw", "sgd", "lion"], searched, "minimize")
    assert [(line.optimizer, line.searched, line.trials, line.divergence_rate) for line in league] == [
        ("adamw", 1.0, 1, 0.0), ("sgd", 3.0, 1, 0.0), ("lion", None, 1, 1.0),
    ]  # fmt: skip
    assert league[2].rank is None


def test_at_a_tie_adamw_comes_first_and_the_rank_is_shared() -> None:
    finishes = [(i, name, 1.0, 0.1) for i, name in enumerate(["adagrad", "nesterov", "adamw"])]
    searched = search(*finishes, (3, "lion", 0.5, 0.2))
    league = views.league_so_far(["adagrad", "adamw", "lion", "nesterov"], searched, "maximize")
    assert [(line.rank, line.optimizer) for line in league] == [
        (1, "adamw"), (1, "adagrad"), (1, "nesterov"), (4, "lion"),
    ]  # fmt: skip
    answer = sample_recommendation("s", "better")
    tied = [row.model_copy(update={"searched": 0.5}) for row in answer.league[:3]]
    ranks = [
        line.rank for line in views.league_of_answer(answer.model_copy(update={"league": [*tied, *answer.league[3:5]]}))
    ]
    assert ranks == [1, 1, 1, 4, 5]


@pytest.mark.parametrize(("direction", "best"), [("maximize", [1.0, 3.0, 3.0]), ("minimize", [1.0, 0.5, 0.5])])
def test_best_so_far_only_improves(direction: str, best: list[float]) -> None:
    values = [1.0, 3.0, 0.5, None, 2.0]
    searched = search(*((i, "adam", v, float(i)) for i, v in enumerate(values)))
    figure = charts.best_so_far(searched, direction, "loss", "time")
    assert figure["data"][1]["y"] == best
    assert figure["data"][1]["x"][-1] == 4.0


def test_the_confirmation_is_drawn_best_on_top_whatever_the_direction() -> None:
    answer = sample_recommendation("s")
    trace = charts.confirmation(answer)["data"][0]
    assert len(trace["x"]) == CONFIRMED_N + 1 + 2
    assert trace["x"] == sorted(trace["x"])
    beside = [label for label, symbol in zip(trace["y"], trace["marker"]["symbol"], strict=True) if symbol == "diamond"]
    assert beside == ["logistic regression", "gradient-boosted trees"]
    assert trace["text"][-1] == "0.9762 [0.9736, 0.9788]"
    least = answer.model_copy(update={"metric": answer.metric.model_copy(update={"direction": "minimize"})})
    trace = charts.confirmation(least)["data"][0]
    assert trace["x"] == sorted(trace["x"], reverse=True)


def test_tuning_curves_have_bands_for_the_recommended_and_adamw() -> None:
    answer = sample_recommendation("s")
    traces = charts.tuning_curves(answer)["data"]
    bands = [trace for trace in traces if "fill" in trace]
    assert {trace["legendgroup"] for trace in bands} == {"nesterov", "adamw"}
    assert traces[: len(bands)] == bands
    # Only the best are drawn, and the two with bands wherever they are.
    assert len(traces) == charts.TUNING_SHOWN + len(bands)
    last = answer.league[-1].optimizer
    chosen = answer.model_copy(update={"recommended": answer.recommended.model_copy(update={"optimizer": last})})
    shown = [trace["legendgroup"] for trace in charts.tuning_curves(chosen)["data"] if "fill" not in trace]
    assert shown == [*(row.optimizer for row in answer.league[: charts.TUNING_SHOWN]), last]


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    points = [CurvePoint(step=i, train_loss=None, loss=1.0, value=float(i)) for i in range(1, 5001)]
    curve = Curve(number=1, optimizer="adam", stage="search", state=TrialState.RUNNING, points=points)
    line = charts.learning_curves([curve], "accuracy", "value")["data"][0]
    assert len(line["x"]) == 168 <= charts.CURVE_POINTS
    assert (line["x"][0], line["x"][-1]) == (1, 5000)


def test_no_trial_is_no_figure_error() -> None:
    assert charts.learning_curves([], None, "value")["data"] == []
    assert charts.best_so_far(Searched(), None, None, "trial")["data"][0]["x"] == []


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes() -> dict[str, dict[str, str]]:
    light, dark = CSS.split("prefers-color-scheme: dark", 1)
    found = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", part)) for part in (light, dark.split("}", 1)[0])]
    return {"light": found[0], "dark": found[1]}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_have_enough_contrast(theme: str) -> None:
    rows = themes()[theme]
    for ink in ("ink", "muted", "accent", "good", "warn", "bad"):
        for ground in ("bg", "card", "code"):
            assert contrast(rows[ink], rows[ground]) >= 4.5, (theme, ink, ground)
    for tint in ("accent", "good", "warn", "bad"):
        assert contrast(rows[tint], rows[f"{tint}-soft"]) >= 4.5, (theme, tint)
    assert contrast(rows["muted"], rows["track"]) >= 4.5
    for name, value in palette.COLOURS.items():
        assert contrast(value, rows["card"]) >= 3.0, (theme, name)


def test_every_optimizer_has_a_colour_of_its_own() -> None:
    assert set(palette.COLOURS) == set(OPTIMIZERS)
    assert len(set(palette.COLOURS.values())) == len(OPTIMIZERS)
