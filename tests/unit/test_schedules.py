"""Closed-form schedules against torch's schedulers, and rescaling."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedules

from optim_core.schedules.shapes import SHAPES, multipliers, stack_multipliers
from optim_core.spec.errors import SpecError
from optim_core.spec.schedules import SCHEDULES, complete_schedule
from optim_core.transforms.torch_adapter import build_scheduler

T = 60
TORCH = {
    "constant": ({}, lambda o: torch_schedules.LambdaLR(o, lambda t: 1.0)),
    "cosine": ({}, lambda o: torch_schedules.CosineAnnealingLR(o, T)),
    "linear": ({"end_factor": 0.1}, lambda o: torch_schedules.LinearLR(o, 1.0, 0.1, T)),
    "step": ({"gamma": 0.2, "step_fraction": 0.25}, lambda o: torch_schedules.StepLR(o, T // 4, 0.2)),
    "one_cycle": ({}, lambda o: torch_schedules.OneCycleLR(o, 1.0, T, cycle_momentum=False)),
}


def follow(make) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, seen = make(optimizer), []
    for t in range(T):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if t < T - 1:
            scheduler.step()
    return seen


def test_tables_have_the_same_rows() -> None:
    assert set(SHAPES) == set(SCHEDULES) == set(TORCH)


@pytest.mark.parametrize("name", SCHEDULES)
def test_equals_torch(name: str) -> None:
    parameters, make = TORCH[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.tensor(follow(make), dtype=torch.float64)
    torch.testing.assert_close(multipliers({"name": name, **parameters}, T), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_scheduler_face_gives_the_same_numbers(name: str) -> None:
    seen = follow(lambda o: build_scheduler(o, {"name": name}, T))
    torch.testing.assert_close(torch.tensor(seen, dtype=torch.float64), multipliers({"name": name}, T), rtol=0, atol=0)


def test_warmup_rises_linearly_in_front_of_any_shape() -> None:
    plain = multipliers({"name": "cosine"}, 100)
    warm = multipliers({"name": "cosine", "warmup_fraction": 0.1}, 100)
    torch.testing.assert_close(warm[:10], plain[:10] * torch.arange(1, 11) / 10)
    assert torch.equal(warm[10:], plain[10:])


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    total=st.integers(1, 400),
    warmup=st.floats(0, 0.5),
)
def test_multipliers_are_finite_and_within_one(name: str, total: int, warmup: float) -> None:
    parts = {"name": name} if name == "one_cycle" else {"name": name, "warmup_fraction": warmup}
    values = multipliers(parts, total)
    assert values.shape == (total,)
    assert bool(torch.isfinite(values).all())
    assert float(values.min()) >= 0
    assert float(values.max()) <= 1 + 1e-12


def test_stacked_columns_are_the_single_schedules() -> None:
    parts = [{"name": "constant"}, {"name": "step", "gamma": 0.5}]
    stacked = stack_multipliers(parts, T)
    assert stacked.shape == (T, 2)
    assert torch.equal(stacked[:, 1], multipliers(parts[1], T))


def test_unknown_names_and_values_out_of_range_are_refused() -> None:
    for bad in ({"name": "cosin"}, {"name": "cosine", "gamma": 1.0}, {"name": "step", "gamma": 7.0}):
        with pytest.raises(SpecError):
            complete_schedule(bad)
