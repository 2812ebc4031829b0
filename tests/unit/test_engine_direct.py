"""Minimizers in the engine: the objective, the budget in mini-batch steps, pauses, checkpoints and mixed packs."""

from __future__ import annotations

import gc
import math
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from optim_core.engine import Interrupted, PackTooLarge, run_pack
from optim_core.engine.batched import BatchedRunner
from optim_core.engine.checkpoint import dump, load
from optim_core.engine.direct import DirectRunner, FullBatch
from optim_core.engine.loop import make_runner
from optim_core.engine.sequential import SequentialRunner
from optim_core.minimizers.registry import MINIMIZERS
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import WORST_VALUE, Configuration, TrialParams, UnitSpec
from optim_core.tasks.build import Problem, build_problem

HYPER: dict[str, dict[str, float | bool]] = {
    "lbfgs": {"history": 10},
    "slsqp": {"ftol": 1e-9},
    "cma_es": {"sigma": 0.3, "population": 0},
    "simulated_annealing": {"initial_temperature": 5230.0, "visit": 2.62, "span": 1.0},
    "pso": {"inertia": 0.729, "cognitive": 1.494, "social": 1.494, "population": 30, "span": 1.0},
    "openai_es": {"lr": 0.03, "sigma": 0.05, "population": 32},
}
STEPS = 200
MODES = ("batched", "sequential")
BATCH_NORM = {
    "kind": "layers",
    "layers": [
        {"type": "Linear", "out_features": 6},
        {"type": "BatchNorm"},
        {"type": "ReLU"},
        {"type": "Linear", "out_features": 3},
    ],
}
MODELS = {
    "plain": {"kind": "catalogue", "name": "mlp", "hidden": [6]},
    "dropout": {"kind": "catalogue", "name": "mlp", "hidden": [6], "dropout": 0.3},
    "batch norm": BATCH_NORM,
}


def problem(dtype: torch.dtype = torch.float64, data: str = "iris", **changes) -> Problem:
    raw = {
        "model": MODELS["plain"],
        "dataset": {"kind": "builtin", "name": data},
        "training": {"batch_size": 16},
        **changes,
    }
    return build_problem(StudySpec.model_validate(raw), dtype=dtype)


def trial(number: int, optimizer: str, seed: int = 0, **hyper) -> TrialParams:
    known = HYPER[optimizer] if optimizer in HYPER else OPTIMIZERS[optimizer].defaults()
    configuration = Configuration(
        optimizer=optimizer,
        hyperparameters={"weight_decay": 0.0, **known, **hyper},
        schedule={"name": "constant"},
    )
    return TrialParams(number=number, configuration=configuration, seed=seed, stage="search", origin="test")


def unit(trials: list[TrialParams], horizon: int = STEPS) -> UnitSpec:
    return UnitSpec(key="u", kind="train", rung=0, horizon=horizon, split="validation", trials=trials)


def everyone() -> list[TrialParams]:
    return [trial(i, name, seed=i % 2) for i, name in enumerate(MINIMIZERS)]


def minimizer_threads() -> int:
    gc.collect()
    return sum(thread.name == "minimizer" for thread in threading.enumerate())


def by_hand(task: Problem, seed: int, x: np.ndarray) -> Tensor:
    """The training loss with the weights ``x``, by a plain module."""
    model = task.make_model(seed)
    torch.nn.utils.vector_to_parameters(torch.tensor(x, dtype=task.dtype), model.parameters())
    model.train()
    return task.loss(model(task.train.x), task.train.y)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stacked", [True, False])
def test_the_objective_is_the_training_loss_of_all_rows(model: str, stacked: bool) -> None:
    task = problem(model=MODELS[model], training={"batch_size": 16, "label_smoothing": 0.1})
    if not stacked:
        task.__dict__["_batchable"] = (False, "for this test")
    full = FullBatch(task, trial(0, "lbfgs", seed=3, weight_decay=0.05))
    assert full.points == (8 if stacked else 1)
    points = full.start + 0.3 * np.random.default_rng(0).standard_normal((5, len(full.start)))
    decaying = np.concatenate([np.full(p.numel(), float(p.ndim >= 2)) for p in task.make_model(3).parameters()])
    assert 0 < decaying.sum() < len(decaying)
    for x, together in zip(points, full.values(points), strict=True):
        expected = by_hand(task, 3, x).item() + 0.025 * (decaying * x**2).sum()
        value, gradient = full.value_and_gradient(x)
        assert [value, full.value(x), together] == pytest.approx([expected] * 3, abs=1e-12)
        direction = np.random.default_rng(1).standard_normal(len(x))
        slope = (full.value(x + 1e-6 * direction) - full.value(x - 1e-6 * direction)) / 2e-6
        assert gradient @ direction == pytest.approx(slope, rel=1e-5)


def test_rows_that_do_not_fit_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem()
    whole = FullBatch(task, trial(0, "lbfgs"))
    monkeypatch.setattr("optim_core.engine.direct.LARGEST_BLOCK", 410)
    parts = FullBatch(task, trial(0, "lbfgs"))
    assert parts.points == 1
    rows = [len(x) for x in task.train.x.tensor_split(parts._blocks)]
    assert len(rows) > 3
    assert max(rows) - min(rows) == 1
    value, gradient = parts.value_and_gradient(parts.start)
    expected, slope = whole.value_and_gradient(whole.start)
    assert value == pytest.approx(expected, abs=1e-12)
    assert parts.value(parts.start) == pytest.approx(expected, abs=1e-12)
    assert np.abs(gradient - slope).max() <= 1e-12


def test_points_that_do_not_fit_together_are_taken_in_smaller_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem()
    per_row = 6 + 6 + 3 + 3  # as the probe counts: linear, ReLU, linear and the network itself
    monkeypatch.setattr("optim_core.engine.direct.LARGEST_BLOCK", 3 * per_row * len(task.train.y))
    assert FullBatch(task, trial(0, "pso")).points == 3


def test_lbfgs_reaches_the_closed_form_of_least_squares() -> None:
    task = problem(data="diabetes", model={"kind": "catalogue", "name": "linear"})
    x = torch.cat([task.train.x, torch.ones(len(task.train.y), 1)], dim=1).double()
    solution = torch.linalg.lstsq(x, task.train.y.double()[:, None]).solution
    expected = (x @ solution - task.train.y[:, None]).square().mean().item()
    for name in ("lbfgs", "slsqp"):
        runner = DirectRunner(task, [trial(0, name)])
        losses = runner.advance(0, 1000)[0]
        assert losses[0].item() > 1.2 * expected
        assert losses[-1].item() == pytest.approx(expected, abs=1e-6)
        assert losses[-1].item() >= expected - 1e-12


@pytest.mark.parametrize("name", MINIMIZERS)
def test_every_minimizer_improves_in_the_engine(name: str) -> None:
    task = problem(torch.float32, model={"kind": "catalogue", "name": "linear"})
    result = run_pack(task, unit([trial(0, name)], 1000)).trials[0]
    curve = [point.train_loss for point in result.curve]
    start = by_hand(task, 0, FullBatch(task, trial(0, name)).start).item()
    assert curve[-1] < 0.6 * start
    assert curve == sorted(curve, reverse=True)
    assert result.diverged_at_step is None


@pytest.mark.parametrize("name", MINIMIZERS)
def test_a_trial_uses_what_its_steps_allow_and_never_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, used = problem(), [0]
    price = len(task.train.y)
    value, value_and_gradient, values = FullBatch.value, FullBatch.value_and_gradient, FullBatch.values

    def one(self: FullBatch, x: np.ndarray) -> float:
        used[0] += price
        return value(self, x)

    def slope(self: FullBatch, x: np.ndarray) -> tuple[float, np.ndarray]:
        used[0] += 3 * price
        return value_and_gradient(self, x)

    def many(self: FullBatch, points: np.ndarray) -> np.ndarray:
        # A single point is passed on to ``value``.
        used[0] += price * len(points) * (len(points) > 1)
        return values(self, points)

    monkeypatch.setattr(FullBatch, "value", one)
    monkeypatch.setattr(FullBatch, "value_and_gradient", slope)
    monkeypatch.setattr(FullBatch, "values", many)
    runner = DirectRunner(task, [trial(0, name)])
    # The loss of the start, known without having been paid for.
    runner.advance(0, 1)
    assert used[0] == price
    used[0] = 0
    for step in range(1, 91, 6):
        before = used[0]
        runner.advance(step, step + 6)
        allowed = 3 * 16 * (step + 6)
        assert before <= used[0] <= allowed
    # What is left would not pay the next evaluation, at most 8 points or one gradient.
    assert used[0] > allowed - 8 * price
    assert used[0] % price == 0


def test_before_the_first_evaluation_the_loss_is_that_of_the_start() -> None:
    task = problem(training={"batch_size": 2})
    runner = DirectRunner(task, [trial(0, "pso"), trial(1, "lbfgs", seed=1)])
    losses = runner.advance(0, 5)
    for row, seed in enumerate((0, 1)):
        start = FullBatch(task, trial(0, "pso", seed=seed)).start
        assert losses[row].tolist() == pytest.approx([by_hand(task, seed, start).item()] * 5, abs=1e-12)
    assert minimizer_threads() == 0


@pytest.mark.parametrize("model", MODELS)
def test_pieces_equal_one_go_to_the_last_bit(model: str) -> None:
    task = problem(torch.float32, model=MODELS[model])
    whole, pieces = DirectRunner(task, everyone()), DirectRunner(task, everyone())
    expected = whole.advance(0, STEPS)
    cuts = [0, 1, 2, 3, 50, 51, 120, STEPS]
    found = []
    for first, last in pairwise(cuts):
        found.append(pieces.advance(first, last))
        pieces.outputs(task.validation.x)
    assert torch.equal(torch.cat(found, dim=1), expected)
    assert (expected[:, -1] < expected[:, 0]).all()
    assert torch.equal(pieces.outputs(task.validation.x), whole.outputs(task.validation.x))
    for name, stacked in whole.weights().items():
        assert torch.equal(pieces.weights()[name], stacked)
        assert stacked.dtype == torch.float32
        assert len(stacked) == len(MINIMIZERS)


def test_a_restored_runner_goes_on_bit_for_bit() -> None:
    task = problem(torch.float32)
    whole, half, again = (DirectRunner(task, everyone()) for _ in range(3))
    expected = whole.advance(0, STEPS)[:, 77:]
    half.advance(0, 77)
    stored = load(dump("f", {"runner": half.state()}), "f")
    assert stored is not None
    again.advance(0, 130)
    for runner in (again, DirectRunner(task, everyone())):
        runner.restore(stored["runner"])
        assert torch.equal(runner.outputs(task.validation.x), half.outputs(task.validation.x))
        assert torch.equal(runner.advance(77, STEPS), expected)
        assert torch.equal(runner.outputs(task.validation.x), whole.outputs(task.validation.x))


MIXED = ["pso", "adamw", "lbfgs", "sgd", "cma_es", "adamw"]


@pytest.mark.parametrize("engine", ["batched", "sequential"])
@pytest.mark.parametrize("names", [list(MINIMIZERS), MIXED], ids=["minimizers", "mixed"])
def test_interrupted_and_resumed_equals_undisturbed(
    names: list[str], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optim_core.engine.loop.PIECE_S", 0.0)
    task = problem(torch.float32, model=MODELS["dropout"])
    pack = unit([trial(i, name, seed=i % 3) for i, name in enumerate(names)], 120)
    whole = run_pack(task, pack, mode=engine)
    with pytest.raises(Interrupted) as stop:
        run_pack(task, pack, mode=engine, on_chunk=lambda chunk: chunk.step < 53)
    seen: list[int] = []
    resumed = run_pack(
        task,
        pack,
        mode=engine,
        checkpoint=stop.value.checkpoint,
        on_chunk=lambda chunk: seen.append(chunk.step) is None,
    )
    assert seen[0] == 54
    assert resumed.trials == whole.trials


@pytest.mark.parametrize("engine", ["batched", "sequential"])
def test_in_a_mixed_pack_each_trial_is_as_alone(engine: str) -> None:
    task = problem()
    trials = [trial(i, name, seed=i % 3) for i, name in enumerate(MIXED)]
    together = make_runner(task, unit(trials), engine)
    losses, outputs, weights = together.advance(0, STEPS), together.outputs(task.test.x), together.weights()
    assert len({tuple(row.tolist()) for row in losses}) == len(MIXED)
    for i, one in enumerate(trials):
        alone = make_runner(task, unit([one]), engine)
        assert (losses[i] - alone.advance(0, STEPS)[0]).abs().max() <= 1e-9
        assert (outputs[i] - alone.outputs(task.test.x)[0]).abs().max() <= 1e-9
        for name, stacked in alone.weights().items():
            assert (weights[name][i] - stacked[0]).abs().max() <= 1e-9
    again = make_runner(task, unit(trials), engine)
    again.restore(together.state())
    assert torch.equal(again.outputs(task.test.x), outputs)
    results = run_pack(task, unit(trials), mode=engine).trials
    assert [result.number for result in results] == list(range(len(MIXED)))


def test_minimizers_have_a_part_of_their_own() -> None:
    task, mixed = problem(), unit([trial(0, "adamw"), trial(1, "pso"), trial(2, "sgd")])
    kinds = {mode: [type(part.runner) for part in make_runner(task, mixed, mode)._parts] for mode in MODES}
    assert kinds == {"batched": [BatchedRunner, DirectRunner], "sequential": [SequentialRunner] * 2 + [DirectRunner]}


def test_outputs_are_of_the_best_point_in_evaluation_mode() -> None:
    task = problem(model=MODELS["dropout"])
    runner = DirectRunner(task, [trial(0, "pso", seed=4)])
    losses = runner.advance(0, STEPS)
    model = task.make_model(4)
    model.load_state_dict({n: w[0] for n, w in runner.weights().items()}, strict=False)
    assert torch.allclose(runner.outputs(task.test.x)[0], model.eval()(task.test.x), atol=1e-12, rtol=0)
    best = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    assert losses[0, -1].item() == pytest.approx(by_hand(task, 4, best).item(), abs=1e-12)


def test_weight_decay_steers_but_is_not_part_of_the_loss() -> None:
    task = problem()
    runner = DirectRunner(task, [trial(0, "lbfgs"), trial(1, "lbfgs", weight_decay=0.1)])
    losses = runner.advance(0, 400)
    free, held = runner.weights()[next(name for name, w in runner.weights().items() if w.ndim == 3)]
    assert held.norm() < 0.7 * free.norm()
    best = torch.cat([w[1].flatten() for w in runner.weights().values()]).numpy()
    assert losses[1, -1].item() == pytest.approx(by_hand(task, 0, best).item(), abs=1e-12)


def test_batch_norm_is_evaluated_with_the_statistics_of_the_training_rows() -> None:
    task = problem(model=BATCH_NORM)
    runner = DirectRunner(task, [trial(0, "lbfgs")])
    few = STEPS // 5  # before the method has converged
    runner.advance(0, few)
    weights = {name: stacked[0] for name, stacked in runner.weights().items()}
    hidden = task.train.x @ weights["0.weight"].T + weights["0.bias"]
    test = task.test.x @ weights["0.weight"].T + weights["0.bias"]
    scaled = (test - hidden.mean(0)) / (hidden.var(0) + 1e-5).sqrt() * weights["1.weight"] + weights["1.bias"]
    expected = scaled.relu() @ weights["3.weight"].T + weights["3.bias"]
    assert torch.allclose(runner.outputs(task.test.x)[0], expected, atol=1e-10, rtol=0)
    runner.advance(few, STEPS)
    assert not torch.allclose(runner.outputs(task.test.x)[0], expected, atol=1e-3, rtol=0)


def test_points_that_overflowed_leave_nothing_in_batch_norm() -> None:
    task = problem(torch.float32, model=BATCH_NORM)
    full, fresh = (FullBatch(task, trial(0, "lbfgs")) for _ in range(2))
    full.value(full.start * 1e30)
    assert not all(buffer.isfinite().all() for buffer in full.model.buffers())
    found = full.outputs(full.start, task.test.x)
    assert torch.equal(found, fresh.outputs(fresh.start, task.test.x))
    assert found.isfinite().all()


def test_the_seed_of_a_trial_fixes_its_run() -> None:
    task = problem()
    runner = DirectRunner(task, [trial(0, "cma_es", seed=1), trial(1, "cma_es", seed=1), trial(2, "cma_es", seed=2)])
    losses = runner.advance(0, STEPS)
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_different_seeds_take_different_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    task, steps = problem(), {}
    values = FullBatch.values

    def note(self: FullBatch, points: np.ndarray) -> np.ndarray:
        steps.setdefault(id(self), []).append(points - self.start)
        return values(self, points)

    monkeypatch.setattr(FullBatch, "values", note)
    runner = DirectRunner(task, [trial(0, "cma_es", seed=1), trial(1, "cma_es", seed=1), trial(2, "cma_es", seed=2)])
    runner.advance(0, 100)
    one, same, other = (steps[id(run.task)][0] for run in runner._runs)
    assert np.abs(one - same).max() == 0
    assert np.abs(one - other).max() > 0.1


def test_a_loss_that_is_no_number_is_a_diverged_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem()
    monkeypatch.setattr(Problem, "loss", lambda self, outputs, y, smoothing=None, w=None: outputs.sum() * math.nan)
    for result in run_pack(task, unit(everyone(), 60)).trials:
        assert (result.objective, result.diverged_at_step) == (WORST_VALUE, 0)


def test_what_a_method_refuses_and_lacks_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = {"kind": "catalogue", "name": "mlp", "hidden": [200]}
    with pytest.raises(SpecError, match="slsqp takes at most 1,000 weights, this model has 1,603; use lbfgs") as caught:
        problem(model=wide, search={"optimizers": ["lbfgs", "slsqp"]})
    assert (caught.value.code, caught.value.pointer) == ("model_too_large", "/search/optimizers")
    problem(search={"optimizers": ["lbfgs", "slsqp"]})
    # Whoever asks for it past the spec hears the same.
    with pytest.raises(SpecError, match="slsqp takes at most 1,000 weights"):
        run_pack(problem(model=wide), unit([trial(0, "slsqp")]))

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FullBatch, "value_and_gradient", no_memory)
    with pytest.raises(PackTooLarge, match="2 trials do not fit"):
        run_pack(problem(), unit([trial(0, "lbfgs"), trial(1, "adamw")]))
    assert minimizer_threads() == 0


def test_threads_end_with_their_runner() -> None:
    task = problem()
    runner = DirectRunner(task, everyone())
    runner.advance(0, 60)
    assert minimizer_threads() == len(MINIMIZERS)
    runner.restore([{"step": 30}] * len(MINIMIZERS))
    assert minimizer_threads() == len(MINIMIZERS)
    del runner
    assert minimizer_threads() == 0
    with pytest.raises(Interrupted):
        run_pack(task, unit(everyone()), on_chunk=lambda chunk: False)
    assert minimizer_threads() == 0
