"""Which form a probe chooses, given what it measures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from optim_core.engine import forms
from optim_core.engine.forms import ALONE, candidates, fastest_form
from optim_core.spec.trial import Form
from optim_core.tasks.build import Problem
from tests.unit.test_engine import problem

MICROSECONDS = 1e-6


def stacked(width: int, **how: bool) -> Form:
    return Form(engine="batched", width=width, **how)


def on_gpu() -> Problem:
    """As if its data lay on a GPU; nothing is computed with it."""
    task = replace(problem(), device=torch.device("cuda"))
    task.__dict__["batchable"] = (True, "")
    return task


def measured(monkeypatch: pytest.MonkeyPatch, times: dict[Form, float], otherwise: float = 10.0) -> None:
    monkeypatch.setattr(forms, "trial_seconds", lambda task, form: times.get(form, otherwise) * MICROSECONDS)


def test_a_cpu_measures_widths_and_vmap_and_never_more_trials_than_fit() -> None:
    assert candidates(problem(), 64) == [stacked(16), stacked(8), stacked(32), stacked(64), stacked(16, vectorise=True)]
    assert candidates(problem(), 4) == [stacked(4), stacked(4, vectorise=True)]


def test_a_gpu_takes_all_trials_at_once_and_measures_recorded_steps() -> None:
    assert candidates(on_gpu(), 64) == [
        stacked(64, vectorise=v, recorded=r) for v in (False, True) for r in (False, True)
    ]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({stacked(16): 1.0, stacked(8): 0.97, ALONE: 2.0}, stacked(16)),
        ({stacked(16): 1.0, stacked(8): 0.9, ALONE: 2.0}, stacked(8)),
        ({stacked(16): 1.0, stacked(32): 0.9, stacked(64): 0.8, ALONE: 2.0}, stacked(64)),
        ({stacked(16): 1.0, stacked(16, vectorise=True): 0.9, ALONE: 2.0}, stacked(16)),
        ({stacked(16): 1.0, stacked(16, vectorise=True): 0.8, ALONE: 2.0}, stacked(16, vectorise=True)),
        ({stacked(16): 1.0, ALONE: 0.9}, stacked(16)),
        ({stacked(16): 1.0, ALONE: 0.8}, ALONE),
    ],
)
def test_another_form_wins_by_a_margin(
    monkeypatch: pytest.MonkeyPatch, times: dict[Form, float], expected: Form
) -> None:
    measured(monkeypatch, times)
    found = fastest_form(problem(), 64)
    assert found == (expected, times[expected] * MICROSECONDS, times[ALONE] * MICROSECONDS)


def test_a_slow_moment_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Form] = []

    def seconds(task: Problem, form: Form) -> float:
        asked.append(form)
        usual = {stacked(16): 1.0, ALONE: 1.2}.get(form, 1.1)
        return MICROSECONDS * usual * (1.25 if len(asked) <= 2 else 1)

    monkeypatch.setattr(forms, "trial_seconds", seconds)
    assert fastest_form(problem(), 64).form == stacked(16)
    assert asked[:2] == [ALONE, stacked(16)]


def test_a_long_slow_moment_does_not_change_the_way_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hits everything but the first: there, and back."""
    asked: list[Form] = []

    def seconds(task: Problem, form: Form) -> float:
        asked.append(form)
        slow = 1 < len(asked) <= 11
        return MICROSECONDS * (1.5 if form == ALONE else 1.0) * (2 if slow else 1)

    monkeypatch.setattr(forms, "trial_seconds", seconds)
    found = fastest_form(problem(), 64)
    assert found.form == stacked(16)
    assert found.trial_step_s == MICROSECONDS
    assert asked[-6:] == [ALONE, stacked(16)] * 3


def test_wide_parts_of_large_networks_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Form] = []

    def seconds(task: Problem, form: Form) -> float:
        asked.append(form)
        return 0.01 if form == stacked(8) else 0.02

    monkeypatch.setattr(forms, "trial_seconds", seconds)
    assert fastest_form(problem(), 64).form == stacked(8)
    # One step of sixteen takes a third of a second; what is far from the fastest is measured once.
    assert asked == [ALONE, stacked(16), stacked(8), stacked(16, vectorise=True)]


def test_a_network_that_cannot_be_recorded_trains_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(task: Problem, form: Form) -> float:
        if form.recorded:
            raise RuntimeError("operation not permitted when stream is capturing")
        return MICROSECONDS if form.engine == "batched" else 5 * MICROSECONDS

    monkeypatch.setattr(forms, "trial_seconds", seconds)
    assert fastest_form(on_gpu(), 64).form == stacked(64)


def test_a_network_that_cannot_train_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(task: Problem, form: Form) -> float:
        if form.vectorise:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return MICROSECONDS

    monkeypatch.setattr(forms, "trial_seconds", seconds)
    with pytest.raises(RuntimeError, match="shapes"):
        fastest_form(problem(), 64)
