"""Search spaces: every point is a valid configuration inside its ranges."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core.spec.optimizers import OPTIMIZERS, Hyperparameter
from optim_core.spec.problem import Search
from optim_core.spec.schedules import SCHEDULES, complete_schedule
from optim_core.spec.space import (
    Domain,
    allowed_schedules,
    configuration_from,
    default_configuration,
    point_from,
    search_space,
)
from optim_core.spec.techniques import TECHNIQUES
from optim_core.spec.trial import Configuration


def a_point(draw: st.DrawFn, space: dict[str, Domain]) -> dict:
    return {
        name: draw(st.sampled_from(d.choices)) if d.kind == "categorical" else draw(st.floats(d.low, d.high))
        for name, d in space.items()
    }


@settings(deadline=None)
@given(data=st.data(), optimizer=st.sampled_from(sorted(OPTIMIZERS)), n=st.integers(1, 100), clip=st.booleans())
def test_every_point_is_a_configuration_inside_the_ranges(data, optimizer: str, n: int, clip: bool) -> None:
    search = Search(techniques={"clip_norm": [], "ema": [0.9]} if clip else {})
    space = search_space(optimizer, n, search)
    configuration = configuration_from(optimizer, data.draw(st.composite(a_point)(space)), search)
    row = OPTIMIZERS[optimizer]
    assert list(configuration.hyperparameters) == [h.name for h in row.hyperparameters]
    for hyper in row.hyperparameters:
        value = configuration.hyperparameters[hyper.name]
        assert value == hyper.default or hyper.low - 1e-9 <= value <= hyper.high + 1e-9
    assert configuration.schedule["name"] in row.schedules
    assert configuration.techniques.get("clip_norm", 0.0) in TECHNIQUES["clip_norm"].choices
    assert configuration.techniques.get("ema") == (0.9 if clip else None)
    assert Configuration.model_validate(json.loads(configuration.model_dump_json())) == configuration
    again = configuration_from(optimizer, point_from(configuration, space), search)
    for key, value in configuration.hyperparameters.items():
        assert again.hyperparameters[key] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_spaces_grow_with_the_budget(optimizer: str) -> None:
    sizes = [len(search_space(optimizer, n, Search())) for n in (1, 6, 12, 25, 50)]
    assert sizes == sorted(sizes)
    always = [h.name for h in OPTIMIZERS[optimizer].hyperparameters if h.min_trials == 0]
    assert list(search_space(optimizer, 3, Search())) == always
    assert len(always) <= 2


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_defaults_lie_inside_their_own_ranges(optimizer: str) -> None:
    for hyper in OPTIMIZERS[optimizer].hyperparameters:
        assert hyper.low <= hyper.default <= hyper.high or hyper.default == 0, hyper.name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_how_many_hyperparameters_are_searched_at_which_budget(optimizer: str) -> None:
    own = {h.name for h in OPTIMIZERS[optimizer].hyperparameters}

    def searched(n: int) -> set[str]:
        return own & set(search_space(optimizer, n, Search()))

    for n in (9, 10, 15, 16, 24, 25, 40):
        rows = OPTIMIZERS[optimizer].hyperparameters
        assert searched(n) == {h.name for h in rows if h.min_trials is not None and n >= h.min_trials}
    # A rich space at a small budget loses to a poor one: betas of the second moment come last, eps late.
    late = {"beta2": 40, "eps": 10, "weight_decay": 16}
    assert all(n >= late[name] for n in (9, 15, 39) for name in searched(n) & late.keys())
    assert own >= searched(10_000)


def a_range(draw: st.DrawFn, hyper: Hyperparameter) -> list[float]:
    if hyper.whole:
        return sorted([float(draw(st.integers(1, 1000))), float(draw(st.integers(1, 1000)))])
    top = 0.999999 if hyper.sample_as == "one_minus" else 1e3
    bottom = 0.0 if hyper.sample_as == "one_minus" else 1e-12
    return sorted([draw(st.floats(bottom, top)), draw(st.floats(bottom, top))])


@settings(deadline=None)
@given(data=st.data(), optimizer=st.sampled_from(sorted(OPTIMIZERS)), n=st.integers(1, 100))
def test_given_ranges_hold_for_every_point_and_for_the_default(data: st.DataObject, optimizer: str, n: int) -> None:
    rows = [h for h in OPTIMIZERS[optimizer].hyperparameters if h.sample_as != "flag"]
    chosen = data.draw(st.lists(st.sampled_from(rows), min_size=1, unique_by=lambda h: h.name))
    ranges = {h.name: data.draw(st.composite(a_range)(h)) for h in chosen}
    schedules = data.draw(st.none() | st.lists(st.sampled_from(sorted(SCHEDULES)), min_size=1, unique=True))
    search = Search(ranges={optimizer: ranges}, schedules=schedules)
    space = search_space(optimizer, n, search)
    point = data.draw(st.composite(a_point)(space))
    for configuration in (configuration_from(optimizer, point, search), default_configuration(optimizer, search)):
        for name, (low, high) in ranges.items():
            assert low <= configuration.hyperparameters[name] <= high
        assert configuration.schedule["name"] in allowed_schedules(optimizer, search)
        assert set(point_from(configuration, space)) == set(space)
        assert complete_schedule(configuration.schedule) == configuration.schedule
        assert Configuration.model_validate_json(configuration.model_dump_json()) == configuration


def test_a_range_of_one_value_fixes_it() -> None:
    search = Search(ranges={"lion": {"beta1": [0.95, 0.95]}})
    assert "beta1" not in search_space("lion", 100, search)
    assert default_configuration("lion", search).hyperparameters["beta1"] == 0.95


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_catalogue_row_is_consistent(optimizer: str) -> None:
    row = OPTIMIZERS[optimizer]
    assert row.name == optimizer
    assert row.default_schedule in row.schedules
    assert set(row.schedules) <= set(SCHEDULES)
    names = [h.name for h in row.hyperparameters]
    assert len(set(names)) == len(names)
    assert {"weight_decay"} | ({"lr"} if row.kind == "gradient" else set()) <= set(names)
    assert all((row.title, row.formula, row.reference, row.wins_when, row.pitfalls))
    assert all(h.reason for h in row.hyperparameters)
    for hyper in row.hyperparameters:
        if hyper.sample_as != "flag" and hyper.min_trials is not None:
            hyper.check_range(hyper.low, hyper.high)
    # A method whose steps never shrink by themselves is only ever run with a schedule that decays.
    assert row.fits != "decaying" or all(SCHEDULES[name].decays for name in row.schedules)
    assert optimizer not in ("lion", "signum") or row.fits == "decaying"


def test_given_ranges_are_respected_always() -> None:
    search = Search(ranges={"adamw": {"lr": [0.01, 0.02], "beta2": [0.9, 0.95]}}, schedules=["linear"])
    space = search_space("adamw", 1, search)
    assert set(space) == {"lr", "beta2"}
    assert (space["lr"].low, space["lr"].high) == (0.01, 0.02)
    assert default_configuration("adamw", search).hyperparameters["lr"] == 0.01
    assert default_configuration("adamw", search).schedule["name"] == "linear"
    # What a person names is taken where it makes sense with the method.
    assert allowed_schedules("adagrad", Search(schedules=["cosine"])) == ["cosine"]
    assert allowed_schedules("lion", Search(schedules=["constant", "wsd"])) == ["wsd"]
    assert allowed_schedules("schedule_free_adamw", Search(schedules=["cosine"])) == ["constant"]
    assert allowed_schedules("prodigy", Search(schedules=["sgdr", "linear"])) == ["linear"]


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"adamw": {"lr": [0.1, 0.01]}}, "low 0.1 > high 0.01"),
        ({"adamw": {"lr": [0.0, 0.01]}}, "above 0"),
        ({"adamw": {"beta1": [0.5, 1.0]}}, r"\[0, 1\)"),
        ({"adamw": {"bata1": [0.5, 0.9]}}, "did you mean 'beta1'"),
        ({"adaw": {"lr": [0.1, 0.2]}}, "did you mean 'adamw'"),
    ],
)
def test_impossible_ranges_are_refused(ranges: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Search(ranges=ranges)
