"""Words, view models, charts and colours: pure functions of values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.recommendation import Effect
from optim_core.spec.states import TrialState
from optim_core.spec.trial import CurvePoint
from service import web
from service.operations.views import Curve
from service.web import charts, palette, views, words
from service.web.bestsofar import Finish
from tests.web.web_samples import SEARCHED, sample_recommendation

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


def test_the_league_puts_confirmed_first_and_without_a_value_last() -> None:
    league = views.league_of_answer(sample_recommendation("s"))
    # All but plain SGD, which the sample leaves out.
    rivals = len(SEARCHED) - 1
    assert [line.confirmed for line in league] == [True] * 4 + [False] * (rivals - 4)
    assert [line.rank for line in league] == list(range(1, rivals + 1))
    finishes = [
        Finish(0, "sgd", 3.0, 0.1),
        Finish(1, "adamw", 2.0, 0.2),
        Finish(1, "adamw", 1.0, 0.9),
        Finish(2, "lion", None, 1.0),
    ]
    league = views.league_so_far(["adamw", "sgd", "lion"], finishes, "minimize")
    assert [(line.optimizer, line.value, line.trials, line.divergence_rate) for line in league] == [
        ("adamw", 1.0, 1, 0.0), ("sgd", 3.0, 1, 0.0), ("lion", None, 1, 1.0),
    ]  # fmt: skip
    assert league[2].rank is None


@pytest.mark.parametrize(("direction", "best"), [("maximize", [1.0, 3.0, 3.0]), ("minimize", [1.0, 0.5, 0.5])])
def test_best_so_far_only_improves(direction: str, best: list[float]) -> None:
    values = [1.0, 3.0, 0.5, None, 2.0]
    finishes = [Finish(i, "adam", v, float(i)) for i, v in enumerate(values)]
    figure = charts.best_so_far(finishes, direction, "loss", "time")
    assert figure["data"][1]["y"] == best
    assert figure["data"][1]["x"][-1] == 4.0


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    points = [CurvePoint(step=i, train_loss=None, loss=1.0, value=float(i)) for i in range(1, 5001)]
    curve = Curve(number=1, optimizer="adam", stage="search", state=TrialState.RUNNING, points=points)
    line = charts.learning_curves([curve], "accuracy", "value")["data"][0]
    assert len(line["x"]) == charts.CURVE_POINTS
    assert (line["x"][0], line["x"][-1]) == (1, 5000)


def test_no_trial_is_no_figure_error() -> None:
    assert charts.learning_curves([], None, "value")["data"] == []
    assert charts.best_so_far([], None, None, "trial")["data"][0]["x"] == []


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
