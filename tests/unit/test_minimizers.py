"""Minimizers: known minima, the packages behind them, budgets, seeds, pauses, values that are not numbers."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cmaes import CMA, SepCMA
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import dual_annealing, rosen, rosen_der
from scipy.optimize import minimize as scipy_minimize

from optim_core.minimizers.base import LARGE, BudgetSpent, Vector
from optim_core.minimizers.counted import Counted
from optim_core.minimizers.evolution import centred_ranks
from optim_core.minimizers.pausable import Pausable
from optim_core.minimizers.registry import MINIMIZERS, minimize
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, Hyperparameter

HYPER: dict[str, dict[str, float | bool]] = {
    "lbfgs": {"history": 10},
    "slsqp": {"ftol": 1e-9},
    "cma_es": {"sigma": 0.3, "population": 0},
    "simulated_annealing": {"initial_temperature": 5230.0, "visit": 2.62, "span": 1.0},
    "pso": {"inertia": 0.729, "cognitive": 1.494, "social": 1.494, "population": 30, "span": 1.0},
    "openai_es": {"lr": 0.03, "sigma": 0.05, "population": 32},
}
GRADIENT = ("lbfgs", "slsqp")
RANDOM = ("cma_es", "simulated_annealing", "pso", "openai_es")
POPULATION = ("cma_es", "pso", "openai_es")
# name → (evaluations, value): an ill-conditioned quadratic in 5 dimensions, minimum 0, from 8.75.
QUADRATIC = {
    "lbfgs": (60, 1e-12),
    "slsqp": (60, 1e-12),
    "cma_es": (1500, 1e-12),
    "simulated_annealing": (20_000, 1e-4),
    "pso": (3000, 1e-6),
    "openai_es": (3000, 2e-3),
}
ROSENBROCK = {"lbfgs": (180, 1e-12), "slsqp": (180, 1e-8), "cma_es": (1200, 1e-12)}
SCALES, GOAL = np.linspace(1, 10, 5), np.linspace(0.3, 0.7, 5)

Path = list[bytes]


def quadratic(x: Vector) -> float:
    return float((SCALES * (x - GOAL) ** 2).sum())


def quadratic_gradient(x: Vector) -> tuple[float, Vector]:
    return quadratic(x), 2 * SCALES * (x - GOAL)


def bowl(limit: float = math.inf, **more) -> Counted:
    return Counted(np.zeros(5), quadratic, quadratic_gradient, limit=limit, **more)


def from_value(value: Callable[[Vector], float], start: Vector, limit: float) -> Counted:
    return Counted(start, value, lambda x: (value(x), np.zeros_like(x)), limit=limit)


def recorded(value: Callable[[Vector], float], start: Vector, limit: float) -> tuple[Counted, Path]:
    """An objective and the points at which it was evaluated, to the last bit."""
    path: Path = []

    def note(x: Vector) -> float:
        path.append(x.tobytes())
        return value(x)

    return from_value(note, start, limit), path


def walk(name: str, seed: int, limit: float = 300) -> Path:
    counted, path = recorded(quadratic, np.zeros(5), limit)
    minimize(name, counted, HYPER[name], seed)
    return path


def test_every_minimizer_is_tested() -> None:
    assert set(MINIMIZERS) == set(HYPER) == set(QUADRATIC) == {*GRADIENT, *RANDOM}
    assert set(MINIMIZERS) == {name for name, row in OPTIMIZERS.items() if row.kind != "gradient"}
    for name, hyper in HYPER.items():
        assert {**hyper, "weight_decay": 0.0} == OPTIMIZERS[name].defaults()


@pytest.mark.parametrize("name", MINIMIZERS)
def test_the_minimum_of_a_quadratic_is_found_in_time(name: str) -> None:
    evaluations, value = QUADRATIC[name]
    counted = bowl(evaluations)
    minimize(name, counted, HYPER[name], 0)
    assert counted.best_value <= value
    assert quadratic(counted.best_point) == counted.best_value
    assert 0 < counted.cost <= evaluations


@pytest.mark.parametrize("name", ROSENBROCK)
def test_the_end_of_the_curved_valley_is_found_in_time(name: str) -> None:
    evaluations, value = ROSENBROCK[name]
    counted = Counted(np.array([-1.2, 1.0]), rosen, lambda x: (rosen(x), rosen_der(x)), limit=evaluations)
    minimize(name, counted, HYPER[name], 0)
    assert counted.best_value <= value
    assert np.abs(counted.best_point - 1).max() < 1e-3


@pytest.mark.parametrize(("name", "method"), [("lbfgs", "L-BFGS-B"), ("slsqp", "SLSQP")])
def test_gradient_methods_are_scipys_own(name: str, method: str) -> None:
    options = {
        "lbfgs": {"maxcor": 5, "ftol": 1e-12, "gtol": 1e-8, "maxiter": 10_000, "maxfun": 10_000},
        "slsqp": {"ftol": 1e-7, "maxiter": 10_000},
    }[name]
    start, theirs, ours = np.array([-1.2, 1.0, 0.3]), [], []

    def call(x: Vector, path: Path) -> tuple[float, Vector]:
        path.append(x.tobytes())
        return rosen(x), rosen_der(x)

    result = scipy_minimize(lambda x: call(x, theirs), start, jac=True, method=method, options=options)
    counted = Counted(start, rosen, lambda x: call(x, ours))
    minimize(name, counted, {"history": 5, "ftol": 1e-7}, 0)
    assert ours == theirs
    assert len(ours) > 20
    assert counted.best_value <= result.fun


def test_annealing_is_scipys_own() -> None:
    def stairs(x: Vector) -> float:
        return float(np.round(3 * x).__abs__().sum())

    start, theirs = np.array([0.9, -0.8]), []

    def note(x: Vector) -> float:
        theirs.append(x.tobytes())
        return stairs(x)

    bounds = [(0.9 - 2, 0.9 + 2), (-0.8 - 2, -0.8 + 2)]
    rng = np.random.default_rng(7)
    dual_annealing(
        note, bounds, maxiter=50, initial_temp=100.0, visit=2.5, rng=rng, no_local_search=True, x0=start
    )  # fmt: skip
    counted, path = recorded(stairs, start, len(theirs))
    minimize("simulated_annealing", counted, {"initial_temperature": 100.0, "visit": 2.5, "span": 2.0}, 7)
    assert len(path) > 150
    assert path == theirs


@pytest.mark.parametrize(
    ("size", "method", "asked", "population"),
    [(6, CMA, 0, 9), (6, CMA, 12, 12), (200, CMA, 0, 19), (201, SepCMA, 0, 19)],
)
def test_cma_es_is_the_packages_own(size: int, method: type, asked: int, population: int) -> None:
    def value(x: Vector) -> float:
        return float((x**2 * np.arange(1, size + 1)).sum())

    strategy = method(np.full(size, 0.5), 0.2, seed=3, population_size=population)
    theirs = [np.full(size, 0.5).tobytes()]
    for _ in range(10):
        points = [strategy.ask() for _ in range(population)]
        theirs += [x.tobytes() for x in points]
        strategy.tell([(x, value(x)) for x in points])
    counted, path = recorded(value, np.full(size, 0.5), len(theirs))
    minimize("cma_es", counted, {"sigma": 0.2, "population": asked}, 3)
    assert path == theirs
    assert counted.best_value < value(np.full(size, 0.5))


def test_pso_is_the_loop_over_particles_of_the_textbook() -> None:
    w, c1, c2, span, particles, n = 0.6, 1.3, 1.7, 0.5, 7, 5
    rng, low, high = np.random.default_rng(11), -0.5, 0.5
    x = rng.uniform(low, high, (particles, n))
    x[0] = 0.0
    elsewhere = rng.uniform(low, high, (particles, n))
    v = [(elsewhere[i] - x[i]) / 2 for i in range(particles)]
    theirs, own, reflected = [p.tobytes() for p in x], [(quadratic(p), p.copy()) for p in x], 0
    for _ in range(30):
        best = min(own, key=lambda pair: pair[0])[1]
        r1, r2 = rng.random((particles, n)), rng.random((particles, n))
        for i in range(particles):
            for d in range(n):
                speed = w * v[i][d] + c1 * r1[i, d] * (own[i][1][d] - x[i, d]) + c2 * r2[i, d] * (best[d] - x[i, d])
                speed = min(max(speed, -span), span)
                place = x[i, d] + speed
                if place > high:
                    place, speed, reflected = 2 * high - place, -speed, reflected + 1
                elif place < low:
                    place, speed, reflected = 2 * low - place, -speed, reflected + 1
                v[i][d], x[i, d] = speed, place
            theirs.append(x[i].tobytes())
        own = [(quadratic(x[i]), x[i].copy()) if quadratic(x[i]) < own[i][0] else own[i] for i in range(particles)]
    assert reflected > 10
    counted, path = recorded(quadratic, np.zeros(n), len(theirs))
    hyper = {"inertia": w, "cognitive": c1, "social": c2, "population": particles, "span": span}
    minimize("pso", counted, hyper, 11)
    assert np.abs(np.frombuffer(b"".join(path)) - np.frombuffer(b"".join(theirs))).max() <= 1e-12


def test_openai_es_is_adam_on_the_estimated_gradient() -> None:
    lr, sigma, pairs = 0.05, 0.1, 4
    rng, x = np.random.default_rng(5), torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    adam, theirs = torch.optim.Adam([x], lr=lr), []
    for _ in range(20):
        centre, half = x.detach().numpy().copy(), rng.standard_normal((pairs, 5))
        noise = [*half, *(-half)]
        theirs += [centre, *(centre + sigma * e for e in noise)]
        order = sorted(range(2 * pairs), key=lambda i: quadratic(centre + sigma * noise[i]))
        fitness = {i: rank / (2 * pairs - 1) - 0.5 for rank, i in enumerate(order)}
        total = sum(fitness[i] * noise[i] for i in range(2 * pairs))
        x.grad = torch.from_numpy(total / (2 * pairs * sigma))
        adam.step()
    counted, path = recorded(quadratic, np.zeros(5), len(theirs))
    minimize("openai_es", counted, {"lr": lr, "sigma": sigma, "population": 2 * pairs}, 5)
    assert len(path) == len(theirs) == 180
    assert np.abs(np.frombuffer(b"".join(path)) - np.concatenate(theirs)).max() <= 1e-9


def test_ranks_are_centred_and_ties_share_theirs() -> None:
    assert centred_ranks(np.array([3.0, 1.0, 2.0])).tolist() == [0.5, -0.5, 0.0]
    assert centred_ranks(np.array([7.0, 7.0, 7.0, 7.0])).tolist() == [0.0] * 4
    assert centred_ranks(np.array([LARGE, 0.0, LARGE])).tolist() == [0.25, -0.5, 0.25]


@pytest.mark.parametrize("name", RANDOM)
def test_the_seed_fixes_the_path_and_only_the_seed(name: str) -> None:
    assert walk(name, 4) == walk(name, 4)
    assert walk(name, 4)[-100:] != walk(name, 5)[-100:]
    # A larger budget only goes on.
    assert walk(name, 4, 900)[:300] == walk(name, 4)


@pytest.mark.parametrize("name", MINIMIZERS)
def test_the_start_is_evaluated_first(name: str) -> None:
    calls: list[Vector] = []

    def value(x: Vector) -> float:
        calls.append(x.copy())
        return quadratic(x)

    counted = Counted(np.full(5, 0.1), value, lambda x: (value(x), quadratic_gradient(x)[1]), limit=3)
    minimize(name, counted, HYPER[name], 0)
    assert np.array_equal(calls[0], np.full(5, 0.1))


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(MINIMIZERS)),
    limit=st.integers(0, 120),
    block=st.integers(1, 9),
    seed=st.integers(0, 2**40),
    holes=st.floats(0, 1),
)
def test_a_run_never_costs_more_than_its_limit(name: str, limit: int, block: int, seed: int, holes: float) -> None:
    done, costs = [0], []

    def hole(x: Vector) -> bool:
        return bool(math.modf(abs(float(x.sum())) * 977)[0] < holes)

    def value(x: Vector) -> float:
        done[0] += 1
        return math.nan if hole(x) else quadratic(x)

    def value_and_gradient(x: Vector) -> tuple[float, Vector]:
        done[0] += 3
        return (math.inf, x * math.nan) if hole(x) else quadratic_gradient(x)

    def values(points: Vector) -> Vector:
        assert len(points) <= block
        return np.array([value(x) for x in points])

    counted = Counted(
        np.zeros(5), value, value_and_gradient, values, limit=limit, block=block, on_evaluation=costs.append
    )
    minimize(name, counted, HYPER[name], seed)
    assert counted.cost == done[0] <= limit
    assert costs == sorted(costs)
    assert costs[-1:] == ([done[0]] if done[0] else [])
    if name not in GRADIENT and holes < 0.5:
        # Not wasteful either: what is left would not pay the next block.
        assert counted.cost > limit - block
    assert counted.best_value == math.inf or counted.best_value == quadratic(counted.best_point)


def test_prices_and_what_is_seen_when_the_money_runs_out() -> None:
    counted = bowl(5)
    assert counted.value(GOAL) == 0
    assert counted.value_and_gradient(np.zeros(5))[0] == quadratic(np.zeros(5))
    assert counted.cost == 4
    with pytest.raises(BudgetSpent, match="cost to 7"):
        counted.value_and_gradient(np.zeros(5))
    with pytest.raises(BudgetSpent):
        counted.values(np.array([np.ones(5), np.ones(5)]))
    assert (counted.cost, counted.best_value) == (5, 0.0)
    assert np.array_equal(counted.best_point, GOAL)


def test_gradients_are_finite_and_the_best_point_is_a_copy() -> None:
    slopes = {
        1.0: (3.0, [1.0, math.nan]),
        2.0: (math.nan, [1.0, 1.0]),
        3.0: (1e200, [1.0, 1.0]),
        4.0: (2.0, [0.0, 5.0]),
    }

    def value_and_gradient(x: Vector) -> tuple[float, Vector]:
        value, slope = slopes[x[0]]
        return value, np.array(slope)

    counted, x, seen = Counted(np.zeros(2), quadratic, value_and_gradient), np.zeros(2), []
    for x[0] in slopes:
        value, gradient = counted.value_and_gradient(x)
        seen.append((value, gradient.tolist()))
    assert seen == [(3.0, [1.0, 0.0]), (LARGE, [0.0, 0.0]), (LARGE, [0.0, 0.0]), (2.0, [0.0, 5.0])]
    x[:] = 9.0
    assert (counted.best_value, counted.best_point.tolist()) == (2.0, [4.0, 0.0])
    counted.start[:] = 7.0
    assert counted.start.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["lbfgs", "slsqp", "cma_es", "pso"])
def test_what_has_converged_stops(name: str) -> None:
    counted = bowl(10**6)
    minimize(name, counted, HYPER[name], 0)
    assert counted.cost < 30_000
    assert counted.best_value < 1e-12


ENDS = [(name, h, end) for name in MINIMIZERS for h in OPTIMIZERS[name].hyperparameters for end in (h.low, h.high)]


@pytest.mark.parametrize(("name", "hyper", "end"), ENDS, ids=[f"{n}-{h.name}-{e:g}" for n, h, e in ENDS])
def test_every_range_of_the_catalogue_is_safe_to_its_ends(name: str, hyper: Hyperparameter, end: float) -> None:
    def finite(x: Vector) -> float:
        assert np.isfinite(x).all()
        return quadratic(x)

    counted = Counted(np.zeros(5), finite, quadratic_gradient, limit=600)
    minimize(name, counted, {**OPTIMIZERS[name].defaults(), hyper.name: end}, 0)
    assert 2 <= counted.cost <= 600
    assert counted.best_value < quadratic(np.zeros(5))


@pytest.mark.parametrize("population", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", POPULATION)
def test_the_smallest_populations_still_search(name: str, population: int) -> None:
    counted = bowl(1000)
    minimize(name, counted, {**HYPER[name], "population": population}, 0)
    assert counted.best_value < 0.9 * quadratic(np.zeros(5))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", MINIMIZERS)
def test_one_weight_is_enough(name: str, size: int) -> None:
    counted = Counted(
        np.zeros(size),
        lambda x: float(((x - 0.5) ** 2).sum()),
        lambda x: (float(((x - 0.5) ** 2).sum()), 2 * x - 1),
        limit=1000,
    )
    minimize(name, counted, HYPER[name], 0)
    assert counted.best_value < 1e-2


@pytest.mark.parametrize(
    ("name", "hyper", "value"),
    [
        ("cma_es", "sigma", 0.0),
        ("openai_es", "sigma", 0.0),
        ("pso", "span", 0.0),
        ("simulated_annealing", "span", 0.0),
        ("simulated_annealing", "initial_temperature", 0.0),
        ("simulated_annealing", "visit", 1.0),
        ("pso", "span", math.inf),
    ],
)
def test_values_that_no_run_can_use_are_refused_in_words(name: str, hyper: str, value: float) -> None:
    with pytest.raises(SpecError, match=f"{hyper} must be above"):
        minimize(name, bowl(100), {**HYPER[name], hyper: value}, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
@pytest.mark.parametrize("name", MINIMIZERS)
def test_a_function_without_any_number_is_survived_and_leaves_the_start(name: str, bad: float) -> None:
    counted = Counted(np.full(3, 0.2), lambda x: bad, lambda x: (bad, x * math.nan), limit=500)
    assert counted.value(np.zeros(3)) == LARGE
    minimize(name, counted, HYPER[name], 0)
    assert counted.best_value == math.inf
    assert np.array_equal(counted.best_point, np.full(3, 0.2))


@pytest.mark.parametrize("name", MINIMIZERS)
@pytest.mark.parametrize("start", [0.05, 0.7, 10.0])
def test_a_cliff_of_nan_is_survived(name: str, start: float) -> None:
    """Σ x − ln x: minimum n at 1, not a number for x ≤ 0, which the first steps from 0.05 and from 10 run into."""
    cliffs = [0]

    def value(x: Vector) -> float:
        if (x <= 0).any():
            cliffs[0] += 1
            return math.nan
        return float((x - np.log(x)).sum())

    def value_and_gradient(x: Vector) -> tuple[float, Vector]:
        found = value(x)
        return found, np.full(3, math.nan) if math.isnan(found) else 1 - 1 / x

    first = start + 0.1 * np.arange(3)
    counted = Counted(first, value, value_and_gradient, limit=2000)
    minimize(name, counted, HYPER[name], 0)
    if name in GRADIENT or name == "cma_es" or start < 1:
        assert counted.best_value == pytest.approx(3, abs=1e-3)
    else:
        # ± span, or as far as Adam's steps reach.
        assert counted.best_value < value(first) - 2.5
    if (name in GRADIENT and start == 10.0) or (name in POPULATION and start == 0.05):
        assert cliffs[0] > 0


def plateaus(x: Vector) -> float:
    """Like an error rate: constant almost everywhere. Only ±0.5 and beyond differ from 0 in a coordinate."""
    return float(np.floor(np.abs(x - 2.2)).sum())


@pytest.mark.parametrize("name", MINIMIZERS)
def test_where_nothing_slopes_gradients_stay_and_samples_improve(name: str) -> None:
    start = np.zeros(4)
    counted = from_value(plateaus, start, 4000)
    minimize(name, counted, {**HYPER[name], "sigma": 0.5}, 0)
    if name in GRADIENT:
        assert np.array_equal(counted.best_point, start)
        assert counted.cost <= 6
    else:
        assert counted.best_value <= plateaus(start) - 4


@pytest.mark.parametrize("name", MINIMIZERS)
def test_paused_and_resumed_equals_in_one_go(name: str) -> None:
    def run(limits: list[int]) -> tuple[list[tuple[float, float]], bytes]:
        seen: list[tuple[float, float]] = []
        counted = bowl(values=lambda p: np.array([quadratic(x) for x in p]), block=4)
        counted.on_evaluation = lambda cost: seen.append((cost, counted.best_value))
        pausable = Pausable(lambda objective: minimize(name, objective, HYPER[name], 1), counted)
        for limit in limits:
            pausable.go_on(limit)
            assert counted.cost <= limit
        return seen, counted.best_point.tobytes()

    whole, pieces = run([200]), run([0, 1, 2, 3, 7, 8, 50, 51, 110, 200])
    assert whole == pieces
    assert len(whole[0]) > 5
    counted = bowl(200, values=lambda p: np.array([quadratic(x) for x in p]), block=4)
    minimize(name, counted, HYPER[name], 1)
    assert counted.best_point.tobytes() == whole[1]


def minimizer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "minimizer"]


@pytest.mark.parametrize("name", MINIMIZERS)
def test_a_dropped_run_leaves_no_thread(name: str) -> None:
    gc.collect()
    before = len(minimizer_threads())
    pausable = Pausable(lambda objective: minimize(name, objective, HYPER[name], 1), bowl())
    pausable.go_on(20)
    assert len(minimizer_threads()) == before + 1
    del pausable
    gc.collect()
    assert len(minimizer_threads()) == before


def test_what_a_run_raises_reaches_its_caller_and_ends_it() -> None:
    def broken(x: Vector) -> float:
        if x[0] != 0:
            raise MemoryError("no room")
        return 1.0

    pausable = Pausable(
        lambda objective: minimize("pso", objective, HYPER["pso"], 0), from_value(broken, np.zeros(2), 0)
    )
    pausable.go_on(1)
    with pytest.raises(MemoryError, match="no room"):
        pausable.go_on(2)
    pausable.go_on(3)
    assert not minimizer_threads()


def test_unknown_names_and_models_that_are_too_large_are_refused_in_words() -> None:
    with pytest.raises(SpecError, match="did you mean 'lbfgs'"):
        minimize("lbgfs", bowl(), {}, 0)
    large = Counted(np.zeros(1001), lambda x: 0.0, lambda x: (0.0, x))
    with pytest.raises(SpecError, match=r"slsqp takes at most 1,000 weights, this model has 1,001"):
        minimize("slsqp", large, HYPER["slsqp"], 0)
