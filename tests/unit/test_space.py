"""Search spaces: every point is a valid configuration inside its ranges."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import Search
from optim_core.spec.space import (
    CLIP_NORMS,
    Domain,
    allowed_schedules,
    configuration_from,
    default_configuration,
    point_from,
    search_space,
)
from optim_core.spec.trial import Configuration


def a_point(draw: st.DrawFn, space: dict[str, Domain]) -> dict:
    return {
        name: draw(st.sampled_from(d.choices)) if d.kind == "categorical" else draw(st.floats(d.low, d.high))
        for name, d in space.items()
    }


@given(data=st.data(), optimizer=st.sampled_from(sorted(OPTIMIZERS)), n=st.integers(1, 100), clip=st.booleans())
def test_every_point_is_a_configuration_inside_the_ranges(data, optimizer: str, n: int, clip: bool) -> None:
    search = Search(clip_norm=clip)
    space = search_space(optimizer, n, search)
    configuration = configuration_from(optimizer, data.draw(st.composite(a_point)(space)), search)
    row = OPTIMIZERS[optimizer]
    assert list(configuration.hyperparameters) == [h.name for h in row.hyperparameters]
    for hyper in row.hyperparameters:
        value = configuration.hyperparameters[hyper.name]
        assert value == hyper.default or hyper.low - 1e-9 <= value <= hyper.high + 1e-9
    assert configuration.schedule["name"] in row.schedules
    assert configuration.techniques.get("clip_norm", 0.0) in CLIP_NORMS
    assert Configuration.model_validate(json.loads(configuration.model_dump_json())) == configuration
    again = configuration_from(optimizer, point_from(configuration, space), search)
    for key, value in configuration.hyperparameters.items():
        assert again.hyperparameters[key] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_spaces_grow_with_the_budget(optimizer: str) -> None:
    sizes = [len(search_space(optimizer, n, Search())) for n in (1, 6, 12, 25, 50)]
    assert sizes == sorted(sizes)
    assert list(search_space(optimizer, 3, Search())) == ["lr"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_defaults_lie_inside_their_own_ranges(optimizer: str) -> None:
    for hyper in OPTIMIZERS[optimizer].hyperparameters:
        assert hyper.low <= hyper.default <= hyper.high or hyper.default == 0, hyper.name


def test_given_ranges_are_respected_always() -> None:
    search = Search(ranges={"adamw": {"lr": [0.01, 0.02], "beta2": [0.9, 0.95]}}, schedules=["linear"])
    space = search_space("adamw", 1, search)
    assert set(space) == {"lr", "beta2"}
    assert (space["lr"].low, space["lr"].high) == (0.01, 0.02)
    assert default_configuration("adamw", search).hyperparameters["lr"] == 0.01
    assert default_configuration("adamw", search).schedule["name"] == "linear"
    assert allowed_schedules("adagrad", Search(schedules=["cosine"])) == ["constant"]


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
