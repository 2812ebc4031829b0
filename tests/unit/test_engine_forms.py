"""Which form a probe chooses, given what it measures. The clock is a fake: what a step takes is the test's to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from optim_core.engine import forms
from optim_core.engine.forms import ALONE, candidates, fastest_form
from optim_core.spec.trial import Form
from optim_core.stacked.network import StackedNetwork
from optim_core.tasks.build import Problem
from tests.unit.test_engine import problem

MICROSECONDS = 1e-6


def stacked(width: int, **how: bool) -> Form:
    return Form(engine="batched", width=width, **how)


def on_gpu() -> Problem:
    """As if its data lay on a GPU; nothing is computed with it."""
    task = replace(problem(), device=torch.device("cuda"))
    task.__dict__["_batchable"] = (True, "")
    return task


class Machine:
    """Its own clock. ``seconds``: of a trial's step in a form; ``slowness``: of the machine at the n-th step of all."""

    def __init__(self, seconds: Callable[[Form], float], slowness: Callable[[int], float] = lambda n: 1.0) -> None:
        self.seconds, self.slowness = seconds, slowness
        self.now, self.steps = 0.0, 0
        self.looked_at: list[Form] = []

    def take(self, form: Form) -> None:
        self.now += self.seconds(form) * form.width * self.slowness(self.steps)
        self.steps += 1

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Machine:
        machine = self

        class Fake(forms.Contender):
            def __init__(self, task: Problem, form: Form) -> None:
                self._problem, self._width, self.form = task, form.width, form
                machine.looked_at.append(form)

            def step(self) -> None:
                machine.take(self.form)

        monkeypatch.setattr(forms, "Contender", Fake)
        monkeypatch.setattr(forms, "fair_clock", lambda device: lambda: machine.now)
        return self


def measured(monkeypatch: pytest.MonkeyPatch, times: dict[Form, float], otherwise: float = 10.0) -> Machine:
    return Machine(lambda form: times.get(form, otherwise) * MICROSECONDS).install(monkeypatch)


def with_an_unknown_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StackedNetwork, "known", property(lambda self: False))


def test_a_cpu_measures_widths_and_never_more_trials_than_fit() -> None:
    assert candidates(problem(), 64) == [stacked(8), stacked(16), stacked(32), stacked(64)]
    assert candidates(problem(), 4) == [stacked(4)]


def test_what_cannot_be_stacked_has_no_candidates() -> None:
    task = problem()
    task.__dict__["_batchable"] = (False, "not this one")
    assert candidates(task, 64) == []


def test_a_layer_without_a_rule_makes_vmap_a_candidate() -> None:
    # Nobody wrote a rule for batch norm of images.
    layers = [
        {"type": "Conv2d", "out_channels": 2, "kernel_size": 3},
        {"type": "BatchNorm"},
        {"type": "Flatten"},
        {"type": "Linear", "out_features": 10},
    ]
    task = problem(model={"kind": "layers", "layers": layers}, dataset={"kind": "builtin", "name": "digits"})
    assert candidates(task, 64)[-1] == stacked(16, vectorise=True)


def test_a_gpu_takes_all_trials_at_once_and_measures_recorded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = measured(monkeypatch, {})
    fastest_form(on_gpu(), 64)
    ways = [(v, r) for v in (False, True) for r in (False, True)]
    assert machine.looked_at == [ALONE, *(stacked(64, vectorise=v, recorded=r) for v, r in ways)]


@pytest.mark.parametrize(
    ("times", "expected", "enough"),
    [
        ({stacked(16): 1.0, stacked(8): 0.97, ALONE: 2.0}, stacked(16), 8),
        ({stacked(16): 1.0, stacked(8): 0.9, ALONE: 2.0}, stacked(8), 8),
        ({stacked(16): 1.0, stacked(32): 0.9, stacked(64): 0.8, ALONE: 2.0}, stacked(64), 64),
        ({stacked(16): 1.0, stacked(32): 0.9, stacked(64): 0.88, ALONE: 2.0}, stacked(32), 32),
        ({stacked(16): 1.0, stacked(16, vectorise=True): 0.9, ALONE: 2.0}, stacked(16), 16),
        ({stacked(16): 1.0, stacked(16, vectorise=True): 0.8, ALONE: 2.0}, stacked(16, vectorise=True), 16),
        ({stacked(16): 1.0, ALONE: 0.9}, stacked(16), 16),
        ({stacked(16): 1.0, ALONE: 0.8}, ALONE, 8),
    ],
)
def test_another_form_wins_by_a_margin(
    monkeypatch: pytest.MonkeyPatch, times: dict[Form, float], expected: Form, enough: int
) -> None:
    measured(monkeypatch, times)
    with_an_unknown_layer(monkeypatch)
    found = fastest_form(problem(), 64)
    assert (found.form, found.best_width) == (expected, enough)
    assert found.trial_step_s == pytest.approx(times[expected] * MICROSECONDS)
    assert found.alone_s == pytest.approx(times[ALONE] * MICROSECONDS)


@pytest.mark.parametrize("slow", [range(3), range(4, 30), range(25, 60), range(0, 500, 5), range(13, 500)])
def test_a_slow_moment_decides_nothing(monkeypatch: pytest.MonkeyPatch, slow: range) -> None:
    """It is half as slow again, while another form would have to win by a twentieth or a seventh."""
    times = {stacked(16): 1.0, stacked(8): 1.1, stacked(32): 1.02, stacked(64): 1.05, ALONE: 1.2}
    Machine(lambda form: times[form] * 100 * MICROSECONDS, lambda n: 1.5 if n in slow else 1.0).install(monkeypatch)
    found = fastest_form(problem(), 64)
    assert found.form == stacked(16)
    assert found.best_width == 16


def test_wide_parts_of_large_networks_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = measured(monkeypatch, {}, otherwise=10_000)
    found = fastest_form(problem(), 64)
    # One step of eight takes a twelfth of a second.
    assert machine.looked_at == [ALONE, stacked(8)]
    assert found.form == stacked(8)


def test_widths_end_where_a_wider_part_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {stacked(8): 1.0, stacked(16): 0.9, stacked(32): 1.0}
    machine = measured(monkeypatch, times)
    assert fastest_form(problem(), 64).form == stacked(16)
    assert machine.looked_at == [ALONE, stacked(8), stacked(16), stacked(32)]


def test_a_network_that_cannot_be_recorded_trains_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(form: Form) -> float:
        if form.recorded:
            raise RuntimeError("operation not permitted when stream is capturing")
        return MICROSECONDS if form.engine == "batched" else 5 * MICROSECONDS

    Machine(seconds).install(monkeypatch)
    assert fastest_form(on_gpu(), 64).form == stacked(64)


def test_a_network_that_cannot_train_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(form: Form) -> float:
        if form.vectorise:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return MICROSECONDS

    Machine(seconds).install(monkeypatch)
    with pytest.raises(RuntimeError, match="shapes"):
        fastest_form(on_gpu(), 64)


def test_real_steps_are_timed() -> None:
    found = fastest_form(problem(), 16)
    assert found.form.width <= 16
    assert found.best_width in (8, 16)
    assert 0 < found.trial_step_s < 60
    assert 0 < found.alone_s < 60


def with_flat_steps(monkeypatch: pytest.MonkeyPatch, equal: bool = True) -> None:
    """As if the task were a person's module."""
    monkeypatch.setattr(forms, "may_be_flat", lambda task: True)
    monkeypatch.setattr(forms, "is_flat", lambda task: equal)


@pytest.mark.parametrize(
    ("flat_s", "expected", "enough"),
    [(0.7, stacked(32, flat=True), 32), (0.85, stacked(32), 32), (1.2, stacked(32), 32)],
)
def test_flat_steps_win_clearly_in_the_fastest_width(
    monkeypatch: pytest.MonkeyPatch, flat_s: float, expected: Form, enough: int
) -> None:
    times = {stacked(8): 2.0, stacked(16): 1.2, stacked(32): 0.9, stacked(64): 0.95, stacked(32, flat=True): flat_s}
    machine = measured(monkeypatch, times)
    with_flat_steps(monkeypatch)
    found = fastest_form(problem(), 64)
    assert (found.form, found.best_width) == (expected, enough)
    assert [form for form in machine.looked_at if form.flat] == [stacked(32, flat=True)]


def test_flat_steps_that_are_not_equal_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, {stacked(16): 1.0, stacked(16, flat=True): 0.1})
    with_flat_steps(monkeypatch, equal=False)
    assert fastest_form(problem(), 16).form == stacked(16)


def test_long_steps_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = measured(monkeypatch, {}, otherwise=10_000)
    with_flat_steps(monkeypatch)
    fastest_form(problem(), 64)
    assert not any(form.flat for form in machine.looked_at)


@pytest.mark.parametrize("equal", [True, False])
def test_a_gpu_measures_flat_steps_of_a_person_s_module(monkeypatch: pytest.MonkeyPatch, equal: bool) -> None:
    measured(monkeypatch, {stacked(64): 1.0, stacked(64, flat=True): 0.1})
    monkeypatch.setattr(forms, "recordable", lambda task: False)
    with_flat_steps(monkeypatch, equal)
    assert fastest_form(on_gpu(), 64).form == stacked(64, flat=equal)
