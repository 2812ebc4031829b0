"""Step times that repeat: from steps in turn, by a clock of the test's own, and from real ones that they are times."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from optim_core.engine import optimizer_times, probe
from optim_core.engine.optimizer_times import optimizer_seconds
from optim_core.engine.turns import ratios, take_turns, usual
from tests.unit.test_engine import problem


class Machine:
    """A clock that steps move; ``slowness``: of the machine at the n-th step of all."""

    def __init__(self, slowness: Callable[[int], float] = lambda n: 1.0) -> None:
        self.now, self.steps, self.slowness = 0.0, 0, slowness
        self.names: list[str] = []

    def clock(self) -> float:
        return self.now

    def step(self, name: str, seconds: float) -> Callable[[], None]:
        def take() -> None:
            self.names.append(name)
            self.now += seconds * self.slowness(self.steps)
            self.steps += 1

        return take


SECONDS = {"a": 0.001, "b": 0.002, "c": 0.0015}


def timed(slowness: Callable[[int], float]) -> dict[str, list[float]]:
    machine = Machine(slowness)
    steps = {name: machine.step(name, s) for name, s in SECONDS.items()}
    return take_turns(steps, patience_s=0.15, fewest=5, most=60, clock=machine.clock)


def test_everyone_has_one_step_a_round_in_an_order_that_changes() -> None:
    machine = Machine()
    take_turns({n: machine.step(n, 1.0) for n in "abc"}, patience_s=0, fewest=6, most=60, clock=machine.clock)
    rounds = ["".join(machine.names[i : i + 3]) for i in range(0, len(machine.names), 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) == 6
    assert {one[0] for one in rounds} == {"a", "b", "c"}


@pytest.mark.parametrize(("seconds", "rounds"), [(1.0, 5), (0.01, 16), (0.0001, 60)])
def test_rounds_end_with_patience_but_not_before_the_fewest(seconds: float, rounds: int) -> None:
    machine = Machine()
    times = take_turns({"a": machine.step("a", seconds)}, patience_s=0.15, fewest=5, most=60, clock=machine.clock)
    assert len(times["a"]) == rounds


def test_what_is_prepared_does_not_count() -> None:
    machine = Machine()
    prepare = {"a": machine.step("before a", 9.0)}
    steps = {"a": machine.step("a", 1.0), "b": machine.step("b", 2.0)}
    times = take_turns(steps, patience_s=0, fewest=2, most=2, prepare=prepare, clock=machine.clock)
    assert times == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    assert machine.names.count("before a") == 2


def jitter(seed: int, spikes: float) -> Callable[[int], float]:
    """Every step up to a tenth slower; now and then one that takes fifty times as long, as another process is let in."""
    draw = random.Random(seed)
    return lambda n: 1 + 0.1 * draw.random() + (50 if draw.random() < spikes else 0)


@pytest.mark.parametrize(
    "slowness",
    [
        lambda n: 3.0 if 10 <= n < 25 else 1.0,
        lambda n: 700.0 if n == 1 else 1.0,
        lambda n: 700.0 if n % 17 == 0 else 1.0,
        jitter(0, 0.1),
        jitter(1, 0.1),
    ],
    ids=["a slow moment", "one spike", "many spikes", "jitter", "more jitter"],
)
def test_times_repeat_whatever_happens_beside(slowness: Callable[[int], float]) -> None:
    times = timed(slowness)
    level = usual(times["a"])
    found = {name: level * ratio for name, ratio in ratios(times, "a").items()}
    for name, seconds in SECONDS.items():
        assert found[name] == pytest.approx(seconds, rel=0.1)


def test_every_optimizer_has_a_time_and_minimizers_too() -> None:
    task = problem(search={"optimizers": ["adamw", "sgd", "muon", "sam(sgd)", "swats", "lbfgs", "cma_es"]})
    names = task.spec.search.included()
    report = probe(task).probe
    assert report is not None
    assert set(report.optimizer_step_s) == set(names) >= {"lbfgs", "cma_es", "sam(sgd)"}
    assert all(math.isfinite(s) and s > 0 for s in report.optimizer_step_s.values())


def test_what_does_not_fit_at_once_races_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[list[str]] = []
    real = optimizer_times._race

    def race(task: object, names: list[str], found: dict[str, float]) -> list[float]:
        groups.append(list(names))
        return real(task, names, found)  # type: ignore[arg-type]

    monkeypatch.setattr(optimizer_times, "_race", race)
    task = problem(search={"optimizers": ["adamw", "sgd", "momentum", "lion"]})
    names = task.spec.search.included()
    found = optimizer_seconds(task, names, at_once=3)
    assert groups == [names[:2], names[2:]]
    assert list(found) == names


@pytest.mark.parametrize(("patience_s", "rounds"), [(math.inf, optimizer_times.LONG_ROUNDS), (-1.0, 1)])
def test_an_update_that_takes_long_is_timed_in_few_rounds(
    patience_s: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer_times, "LONG_STEP_S", -1.0)
    monkeypatch.setattr(optimizer_times, "LONG_PATIENCE_S", patience_s)
    monkeypatch.setattr(optimizer_times, "WARM_ROUNDS", 1)
    steps: list[int] = []
    real = optimizer_times._Update.step

    def step(self: optimizer_times._Update) -> None:
        steps.append(1)
        real(self)

    monkeypatch.setattr(optimizer_times._Update, "step", step)
    found = optimizer_seconds(problem(search={"optimizers": ["adamw"]}), ["adamw"], at_once=64)
    assert len(steps) == 1 + rounds
    assert found["adamw"] > 0
