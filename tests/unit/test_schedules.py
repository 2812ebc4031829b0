"""Closed-form schedules against torch's schedulers or a plain loop over the formula; rescaling; warm-up; plateaus."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedules

from optim_core.schedules import plateau
from optim_core.schedules.shapes import SHAPES, multipliers, stack_multipliers
from optim_core.spec.errors import SpecError
from optim_core.spec.schedules import SCHEDULES, ScheduleParameter, complete_schedule
from optim_core.transforms.torch_adapter import build_scheduler

T = 60
Numbers = Mapping[str, float]


def follow(make: Callable, total: int = T) -> list[float]:
    """The learning rates that a torch scheduler gives to an SGD with lr 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, seen = make(optimizer), []
    for t in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if t < total - 1:
            scheduler.step()
    return seen


def milestone(fraction: float, total: int) -> int:
    return max(1, round(fraction * total))


def cyclic(mode: str) -> Callable:
    def make(o: torch.optim.Optimizer, total: int, p: Numbers) -> torch_schedules.CyclicLR:
        rise = max(1.0, p["rise_fraction"] * total)
        gamma = p.get("decay_factor", 1.0) ** (1 / total)
        # The type says int; torch calculates with float(step_size_up).
        return torch_schedules.CyclicLR(o, p["low_factor"], 1.0, rise, mode=mode, gamma=gamma, cycle_momentum=False)  # type: ignore[arg-type]

    return make


def one_cycle(o: torch.optim.Optimizer, total: int, p: Numbers) -> torch_schedules.OneCycleLR:
    given = {**p, "three_phase": bool(p["three_phase"])}
    return torch_schedules.OneCycleLR(o, 1.0, total, cycle_momentum=False, **given)  # type: ignore[arg-type]


# torch's own scheduler for an optimizer, a horizon and complete parameters without warm-up.
TORCH: dict[str, Callable] = {
    "constant": lambda o, total, p: torch_schedules.ConstantLR(o, 1.0),
    "cosine": lambda o, total, p: torch_schedules.CosineAnnealingLR(o, total, eta_min=p["end_factor"]),
    "linear": lambda o, total, p: torch_schedules.LinearLR(o, 1.0, p["end_factor"], total),
    "polynomial": lambda o, total, p: torch_schedules.PolynomialLR(o, total, p["power"]),
    "step": lambda o, total, p: torch_schedules.StepLR(o, milestone(p["step_fraction"], total), p["gamma"]),
    "multistep": lambda o, total, p: torch_schedules.MultiStepLR(
        o, [milestone(p["first_milestone"], total), milestone(p["second_milestone"], total)], p["gamma"]
    ),
    "exponential": lambda o, total, p: torch_schedules.ExponentialLR(o, p["end_factor"] ** (1 / total)),
    "sgdr": lambda o, total, p: torch_schedules.CosineAnnealingWarmRestarts(
        o, round(p["first_cycle"] * total), int(p["cycle_factor"]), eta_min=p["end_factor"]
    ),
    "triangular": cyclic("triangular"),
    "triangular2": cyclic("triangular2"),
    "exp_range": cyclic("exp_range"),
    "one_cycle": one_cycle,
}


def sgdr(t: int, total: int, p: Numbers) -> float:
    start, length = 0.0, max(1.0, p["first_cycle"] * total)
    while t >= start + length - 1e-9 * length:
        start, length = start + length, length * p["cycle_factor"]
    return p["end_factor"] + (1 - p["end_factor"]) * (1 + math.cos(math.pi * max(0.0, t - start) / length)) / 2


def wsd(t: int, total: int, p: Numbers) -> float:
    length = p["decay_fraction"] * total
    if t <= total - length:
        return 1.0
    x = (t - (total - length)) / length
    return 1 - math.sqrt(x) if p["sqrt_shape"] == 1 else 1 - x


def hold_cosine(t: int, total: int, p: Numbers) -> float:
    hold, end = p["hold_fraction"], p["end_factor"]
    if t / total <= hold:
        return 1.0
    return end + (1 - end) * (1 + math.cos(math.pi * (t / total - hold) / (1 - hold))) / 2


def inverse_sqrt(t: int, total: int, p: Numbers) -> float:
    w = milestone(p["rise_fraction"], total)
    return (t + 1) / w if t + 1 <= w else math.sqrt(w / (t + 1))


# The formula of a step, where torch has no scheduler or only part of it.
PLAIN: dict[str, Callable[[int, int, Numbers], float]] = {
    "polynomial": lambda t, total, p: p["end_factor"] + (1 - p["end_factor"]) * math.pow(1 - t / total, p["power"]),
    "sgdr": sgdr,
    "wsd": wsd,
    "hold_cosine": hold_cosine,
    "inverse_sqrt": inverse_sqrt,
    "inverse_time": lambda t, total, p: 1 / (1 + p["decay"] / total * t),
    # Its losses decide, see below; what is left is nothing.
    "reduce_on_plateau": lambda t, total, p: 1.0,
}


def number(row: ScheduleParameter) -> st.SearchStrategy[float]:
    """Any allowed value, and more often than chance the ends and what a search tries."""
    if row.whole:
        return st.integers(int(row.low), int(min(row.high, row.low + 10))).map(float)
    return st.sampled_from((row.low, row.high, row.default, *row.choices)) | st.floats(row.low, row.high)


def parameters(name: str, but: tuple[str, ...] = ("warmup_fraction",)) -> st.SearchStrategy[dict[str, float]]:
    return st.fixed_dictionaries({row.name: number(row) for row in SCHEDULES[name].parameters if row.name not in but})


def close(ours: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_tables_have_the_same_rows() -> None:
    assert set(SHAPES) == set(SCHEDULES) == set(TORCH) | set(PLAIN)


@pytest.mark.parametrize("name", TORCH)
@settings(deadline=None)
@given(data=st.data(), total=st.integers(1, 120))
def test_equals_torch_for_any_horizon_and_parameters(name: str, data: st.DataObject, total: int) -> None:
    p = data.draw(parameters(name))
    if name == "polynomial":
        # torch's always ends at 0.
        p["end_factor"] = 0.0
    if name == "sgdr":
        # torch's cycles are whole numbers of steps.
        p["first_cycle"] = data.draw(st.integers(math.ceil(total / 100), total), label="T_0") / total
    # A rise of exactly one step divides by zero in torch.
    assume("pct_start" not in p or p["pct_start"] * total != 1)
    close(multipliers({"name": name, **p}, total), follow(lambda o: TORCH[name](o, total, p), total))


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_restarts_fall_on_torchs_steps_whatever_the_rounding(factor: int) -> None:
    for length in range(2, 60):
        p = {"first_cycle": length / 190, "cycle_factor": factor, "end_factor": 0.0}
        close(multipliers({"name": "sgdr", **p}, 190), follow(lambda o, p=p: TORCH["sgdr"](o, 190, p), 190))


@pytest.mark.parametrize("name", PLAIN)
@settings(deadline=None)
@given(data=st.data(), total=st.integers(1, 120))
def test_equals_the_formula_for_any_horizon_and_parameters(name: str, data: st.DataObject, total: int) -> None:
    p = data.draw(parameters(name))
    close(multipliers({"name": name, **p}, total), [PLAIN[name](t, total, p) for t in range(total)])


@pytest.mark.parametrize("name", [name for name, row in SCHEDULES.items() if row.takes_warmup])
@settings(deadline=None, max_examples=30)
@given(data=st.data(), total=st.integers(1, 200), fraction=st.floats(0, 0.5))
def test_warmup_rises_linearly_in_front_of_any_shape(
    name: str, data: st.DataObject, total: int, fraction: float
) -> None:
    p = {"name": name, **data.draw(parameters(name))}
    plain, length = multipliers(p, total).tolist(), round(fraction * total)
    expected = [value * (t + 1) / length if t < length else value for t, value in enumerate(plain)]
    close(multipliers({**p, "warmup_fraction": fraction}, total), expected)


def test_warmup_is_for_shapes_without_a_rise() -> None:
    own = {name for name, row in SCHEDULES.items() if not row.takes_warmup}
    assert own == {"triangular", "triangular2", "exp_range", "one_cycle", "inverse_sqrt"}
    for name in SCHEDULES:
        values = multipliers({"name": name}, 1000)
        assert (float(values[0]) < 0.2) == (name in own)
        # exp_range has decayed by the time of its first peak, d^(1/4) at the defaults.
        assert float(values.max()) == pytest.approx(0.1 + 0.9 * 0.1**0.25 if name == "exp_range" else 1.0, abs=0.01)


@pytest.mark.parametrize("three_phase", [0, 1])
def test_a_rise_of_exactly_one_step_starts_at_the_peak(three_phase: int) -> None:
    values = multipliers({"name": "one_cycle", "pct_start": 0.1, "three_phase": three_phase}, 10)
    assert float(values[0]) == 1
    assert bool((values.diff() < 0).all())


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_keeps_its_shape_on_a_longer_run(name: str) -> None:
    short, long = multipliers({"name": name}, 300), multipliers({"name": name}, 3000)
    # inverse_sqrt counts t + 1 steps, the others t; one-cycle, as torch's, reaches its peak and its end a step early.
    same = long[9::10] if name == "inverse_sqrt" else long[::10]
    torch.testing.assert_close(short, same, rtol=0, atol=0.02 if name == "one_cycle" else 1e-9)


@settings(deadline=None)
@given(cycle=st.sampled_from([1 / 7, 1 / 3, 1.0]), factor=st.sampled_from([1, 2]), total=st.integers(100, 2000))
def test_the_searched_restarts_end_a_cycle_with_the_run(cycle: float, factor: int, total: int) -> None:
    values = multipliers({"name": "sgdr", "first_cycle": cycle, "cycle_factor": factor}, total)
    assert float(values[-1]) < 0.02
    cycles = {1.0: 1, 1 / 3: 3 if factor == 1 else 2, 1 / 7: 7 if factor == 1 else 3}[cycle]
    assert int((values.diff() > 0).sum()) == cycles - 1


def test_no_steps_are_no_schedule() -> None:
    with pytest.raises(SpecError, match="at least one step"):
        multipliers({"name": "cosine"}, 0)


@pytest.mark.parametrize("name", [name for name, row in SCHEDULES.items() if not row.stateful])
def test_the_scheduler_face_gives_the_same_numbers(name: str) -> None:
    seen = follow(lambda o: build_scheduler(o, {"name": name}, T))
    torch.testing.assert_close(torch.tensor(seen, dtype=torch.float64), multipliers({"name": name}, T), rtol=0, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
@settings(deadline=None)
@given(data=st.data(), total=st.integers(1, 8) | st.integers(1, 400))
def test_multipliers_are_finite_and_within_one(name: str, data: st.DataObject, total: int) -> None:
    values = multipliers({"name": name, **data.draw(parameters(name, but=()))}, total)
    assert values.shape == (total,)
    assert values.dtype == torch.float64
    assert bool(torch.isfinite(values).all())
    assert float(values.min()) >= 0
    assert float(values.max()) <= 1 + 1e-12


def test_stacked_columns_are_the_single_schedules() -> None:
    parts = [{"name": name} for name in SCHEDULES]
    stacked = stack_multipliers(parts, T)
    assert stacked.shape == (T, len(SCHEDULES))
    for k, part in enumerate(parts):
        assert torch.equal(stacked[:, k], multipliers(part, T))
    assert len({tuple(column.tolist()) for column in stacked.T}) == len(SCHEDULES) - 1, "only plateau equals constant"


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_catalogue_row_is_consistent(name: str) -> None:
    row = SCHEDULES[name]
    assert row.name == name
    assert all((row.title, row.formula, row.reference, row.wins_when, row.pitfalls))
    assert complete_schedule({"name": name}) == {"name": name, **{p.name: p.default for p in row.parameters}}
    for p in row.parameters:
        for value in (p.default, *p.choices):
            assert p.low <= value <= p.high
            assert not p.whole or value == int(value)
    ends = multipliers({"name": name}, 1000)[-1]
    assert (float(ends) <= 0.15) == row.decays
    axes = [[(p.name, value) for value in p.choices or (p.default,)] for p in row.parameters]
    rises = [
        bool((multipliers({"name": name, **dict(point)}, 1000).diff()[500:] > 0).any()) for point in product(*axes)
    ]
    # "Restarts" means: some searched setting comes back up in the second half. One-cycle's latest peak is at half.
    assert any(rises) == row.restarts


def test_unknown_names_and_values_out_of_range_are_refused() -> None:
    for bad in (
        {"name": "cosin"},
        {"name": "cosine", "gamma": 1.0},
        {"name": "step", "gamma": 7.0},
        {"name": "step", "gamma": math.nan},
        {"name": "sgdr", "cycle_factor": 1.5},
        {"name": "wsd", "sqrt_shape": 0.5},
        {"name": "one_cycle", "warmup_fraction": 0.1},
        {"name": "reduce_on_plateau", "patience": 2.5},
    ):
        with pytest.raises(SpecError):
            complete_schedule(bad)


# Below zero torch is not to be followed, see test_schedulers.
LOSS = st.sampled_from([1.0, 0.99995, 0.9999, 0.5, 0.0, math.nan, math.inf, -math.inf]) | st.floats(0, 2)
PLATEAU = st.fixed_dictionaries(
    {
        "gamma": st.sampled_from([0.1, 0.5]) | st.floats(0.01, 0.99),
        "patience": st.integers(0, 4),
        "cooldown": st.integers(0, 3),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
    }
)


def torch_plateau(losses: list[float], gamma: float, **p: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch_schedules.ReduceLROnPlateau(optimizer, factor=gamma, eps=0.0, **p)  # type: ignore[arg-type]
    seen = []
    for loss in losses:
        scheduler.step(loss)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@settings(deadline=None)
@given(
    trials=st.lists(st.tuples(PLATEAU, st.lists(LOSS, min_size=30, max_size=30)), min_size=1, max_size=5),
)
def test_plateaus_of_k_trials_equal_torch_trial_by_trial(trials: list[tuple[dict[str, float], list[float]]]) -> None:
    losses = torch.tensor([row for _, row in trials], dtype=torch.float64)
    hyper = {key: torch.tensor([p[key] for p, _ in trials], dtype=torch.float64) for key in trials[0][0]}
    state, seen = plateau.init(len(trials)), []
    for t in range(losses.shape[1]):
        before = {key: value.clone() for key, value in state.items()}
        new = plateau.observe(state, losses[:, t], **hyper)
        assert all(torch.equal(state[key], value) for key, value in before.items()), "nothing changes in place"
        state = new
        seen.append(state["factor"])
    for k, (p, row) in enumerate(trials):
        close(torch.stack(seen)[:, k], torch_plateau(row, **p))


@given(p=PLATEAU, losses=st.lists(LOSS, min_size=1, max_size=30))
def test_plateau_takes_plain_numbers(p: dict[str, float], losses: list[float]) -> None:
    state, seen = plateau.init(2), []
    for loss in losses:
        state = plateau.observe(state, torch.tensor([loss, loss], dtype=torch.float64), **p)
        assert float(state["factor"][0]) == float(state["factor"][1])
        seen.append(float(state["factor"][0]))
    close(torch.tensor(seen, dtype=torch.float64), torch_plateau(losses, **p))


def test_with_patience_two_the_third_bad_evaluation_fires_and_nan_is_bad() -> None:
    state, seen = plateau.init(2), []
    for _ in range(8):
        state = plateau.observe(state, torch.tensor([1.0, math.nan]), 0.1, 2, 1, 1e-4)
        seen.append(state["factor"].tolist())
    good_first, always_bad = zip(*seen, strict=True)
    assert good_first == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01])
    assert always_bad == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert state["best"].tolist() == [1.0, math.inf]


def test_small_gains_add_up_to_an_improvement() -> None:
    losses = [1.0, 0.95, 0.89, 0.85, 0.82, 0.81]
    assert torch_plateau(losses, gamma=0.5, patience=1, cooldown=0, threshold=0.1) == [1, 1, 1, 1, 0.5, 0.5]
    state, seen = plateau.init(1), []
    for loss in losses:
        state = plateau.observe(state, torch.tensor([loss], dtype=torch.float64), 0.5, 1, 0, 0.1)
        seen.append(float(state["factor"]))
    assert seen == [1, 1, 1, 1, 0.5, 0.5]
