"""Closed-form schedules against torch's schedulers, and rescaling."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
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


def follow(make, total: int = T) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, seen = make(optimizer), []
    for t in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if t < total - 1:
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


def torch_twin(name: str, total: int, p: dict[str, float]):
    """torch's own scheduler for the same parameters, as a function of the optimizer."""
    if name == "cosine":
        return lambda o: torch_schedules.CosineAnnealingLR(o, total, eta_min=p["end_factor"])
    if name == "linear":
        return lambda o: torch_schedules.LinearLR(o, 1.0, p["end_factor"], total)
    if name == "step":
        length = max(1, round(p["step_fraction"] * total))
        return lambda o: torch_schedules.StepLR(o, length, p["gamma"])
    if name == "one_cycle":
        return lambda o: torch_schedules.OneCycleLR(o, 1.0, total, cycle_momentum=False, **p)
    return lambda o: torch_schedules.LambdaLR(o, lambda t: 1.0)


@settings(deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SCHEDULES)), total=st.integers(1, 120))
def test_equals_torch_for_any_horizon_and_parameters(data: st.DataObject, name: str, total: int) -> None:
    rows = [row for row in SCHEDULES[name].parameters if row.name != "warmup_fraction"]
    p = {row.name: data.draw(st.floats(row.low, row.high), label=row.name) for row in rows}
    # A rise of exactly one step divides by zero in torch.
    assume("pct_start" not in p or p["pct_start"] * total != 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.tensor(follow(torch_twin(name, total, p), total), dtype=torch.float64)
    torch.testing.assert_close(multipliers({"name": name, **p}, total), expected, rtol=0, atol=1e-12)


def test_a_rise_of_exactly_one_step_starts_at_the_peak() -> None:
    values = multipliers({"name": "one_cycle", "pct_start": 0.1}, 10)
    assert float(values[0]) == 1
    assert bool((values.diff() < 0).all())


@settings(deadline=None)
@given(total=st.integers(2, 200), fraction=st.floats(0, 0.5), name=st.sampled_from(["constant", "cosine", "linear"]))
def test_warmup_and_decay_in_closed_form(total: int, fraction: float, name: str) -> None:
    length = round(fraction * total)
    decay: dict[str, Callable[[int], float]] = {
        "constant": lambda t: 1.0,
        "cosine": lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * t / total)) / 2,
        "linear": lambda t: 1 - 0.9 * t / total,
    }
    expected = [decay[name](t) * (min(1.0, (t + 1) / length) if length else 1.0) for t in range(total)]
    end = {} if name == "constant" else {"end_factor": 0.1}
    ours = multipliers({"name": name, "warmup_fraction": fraction, **end}, total)
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_keeps_its_shape_on_a_longer_run(name: str) -> None:
    short, long = multipliers({"name": name}, 300), multipliers({"name": name}, 3000)
    torch.testing.assert_close(short, long[::10], rtol=0, atol=0.02)


def test_no_steps_are_no_schedule() -> None:
    with pytest.raises(SpecError, match="at least one step"):
        multipliers({"name": "cosine"}, 0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_scheduler_face_gives_the_same_numbers(name: str) -> None:
    seen = follow(lambda o: build_scheduler(o, {"name": name}, T))
    torch.testing.assert_close(torch.tensor(seen, dtype=torch.float64), multipliers({"name": name}, T), rtol=0, atol=0)


def test_warmup_rises_linearly_in_front_of_any_shape() -> None:
    plain = multipliers({"name": "cosine"}, 100)
    warm = multipliers({"name": "cosine", "warmup_fraction": 0.1}, 100)
    torch.testing.assert_close(warm[:10], plain[:10] * torch.arange(1, 11) / 10)
    assert torch.equal(warm[10:], plain[10:])


@settings(deadline=None)
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
