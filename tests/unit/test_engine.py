"""The batched engine equals the sequential reference; divergence, interruption and packs disturb nobody."""

from __future__ import annotations

import importlib

import pytest
import torch

from optim_core.engine import Chunk, Interrupted, PackTooLarge, probe, run_pack
from optim_core.engine.batched import BatchedRunner
from optim_core.engine.checkpoint import dump, load
from optim_core.engine.forms import default_form
from optim_core.engine.loop import evaluation_steps, make_runner
from optim_core.engine.seeding import BatchOrder
from optim_core.spec.errors import TrainingError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import WORST_VALUE, Configuration, TrialParams, UnitSpec
from optim_core.tasks.build import Problem, build_problem

STEPS = 50


def problem(dtype: torch.dtype = torch.float64, **changes) -> Problem:
    raw = {
        "model": {"kind": "catalogue", "name": "mlp", "hidden": [12]},
        "dataset": {"kind": "builtin", "name": "iris"},
        "training": {"batch_size": 16},
        **changes,
    }
    return build_problem(StudySpec.model_validate(raw), dtype=dtype)


def trial(
    number: int, optimizer: str, schedule: str = "constant", seed: int = 0, clip: float = 0.0, **h
) -> TrialParams:
    values = {**OPTIMIZERS[optimizer].defaults(), **h}
    configuration = Configuration(
        optimizer=optimizer,
        hyperparameters=values,
        schedule={"name": schedule},
        techniques={"clip_norm": clip} if clip else {},
    )
    return TrialParams(number=number, configuration=configuration, seed=seed, stage="search", origin="test")


def unit(trials: list[TrialParams], horizon: int = STEPS) -> UnitSpec:
    return UnitSpec(key="u", kind="train", rung=0, horizon=horizon, split="validation", trials=trials)


def assert_same_weights(task: Problem, trials: list[TrialParams], atol: float = 1e-9) -> None:
    runners = [make_runner(task, unit(trials), engine) for engine in ("batched", "sequential")]
    losses = [runner.advance(0, STEPS) for runner in runners]
    assert (losses[0] - losses[1]).abs().max() <= atol
    for name, stacked in runners[0].weights().items():
        assert (stacked - runners[1].weights()[name]).abs().max() <= atol, name


METHODS = [name for name, row in OPTIMIZERS.items() if row.batched] + ["lookahead(momentum)", "sam(lookahead(adam))"]
# One schedule for each optimizer, in turns, and every other one among the long proofs.
EVERY_PAIR = [
    pytest.param(o, s, marks=[] if i % len(found) == j else [pytest.mark.slow])
    for i, o in enumerate(METHODS)
    for found in [OPTIMIZERS[o].schedules]
    for j, s in enumerate(found)
]


@pytest.mark.parametrize(("optimizer", "schedule"), EVERY_PAIR)
def test_batched_equals_sequential_for_every_optimizer_and_schedule(optimizer: str, schedule: str) -> None:
    lr = float(OPTIMIZERS[optimizer].defaults()["lr"])
    trials = [trial(i, optimizer, schedule, lr=lr * f, weight_decay=0.01 * i) for i, f in enumerate((1.0, 0.3, 0.05))]
    assert_same_weights(problem(), trials)


def test_batched_equals_sequential_in_a_mixed_pack() -> None:
    task = problem(
        model={"kind": "catalogue", "name": "mlp", "hidden": [12, 8], "dropout": 0.3},
        training={"batch_size": 16, "label_smoothing": 0.1},
    )
    names = ["lion", "adamw", "sgd", "adamw", "radam", "momentum"]
    trials = [
        trial(i, name, "cosine" if i % 2 else "linear", seed=i % 3, clip=0.5 * (i % 2), lr=0.01)
        for i, name in enumerate(names)
    ]
    assert_same_weights(task, trials)


@pytest.mark.parametrize(
    ("name", "dataset"), [("linear", "iris"), ("cnn", "digits"), ("resnet", "digits"), ("transformer", "digits")]
)
def test_batched_equals_sequential_for_every_model(name: str, dataset: str) -> None:
    task = problem(model={"kind": "catalogue", "name": name}, dataset={"kind": "builtin", "name": dataset})
    runs = [
        run_pack(task, unit([trial(0, "adamw"), trial(1, "sgd", lr=0.01)], 4), mode=m)
        for m in ("batched", "sequential")
    ]
    for a, b in zip(runs[0].trials, runs[1].trials, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=1e-9)


def test_batch_norm_layers_train_batched() -> None:
    layers = [
        {"type": "Linear", "out_features": 8},
        {"type": "BatchNorm"},
        {"type": "ReLU"},
        {"type": "Linear", "out_features": 3},
    ]
    task = problem(model={"kind": "layers", "layers": layers})
    assert task.batchable == (True, "")
    assert_same_weights(task, [trial(0, "adamw"), trial(1, "sgd", seed=1)])


def test_a_diverged_trial_is_a_result_and_leaves_the_others_bit_identical() -> None:
    task = problem(dataset={"kind": "builtin", "name": "diabetes"})
    calm = [trial(0, "sgd", lr=0.01), trial(1, "sgd", lr=0.02), trial(2, "adamw")]
    wild = [calm[0], trial(1, "sgd", lr=1e6), calm[2]]
    before, after = run_pack(task, unit(calm)), run_pack(task, unit(wild))
    assert after.trials[1].objective == WORST_VALUE
    assert after.trials[1].metric is None
    assert 0 < after.trials[1].diverged_at_step < STEPS
    for i in (0, 2):
        assert before.trials[i] == after.trials[i]


@pytest.mark.parametrize("engine", ["batched", "sequential"])
def test_only_steps_that_were_taken_are_counted(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optim_core.engine.loop.PIECE_S", 0.0)
    task = problem(dataset={"kind": "builtin", "name": "diabetes"})
    pack = unit([trial(0, "sgd", lr=0.01), trial(1, "sgd", lr=1e6), trial(2, "adamw")])
    whole = run_pack(task, pack, mode=engine)
    left = evaluation_steps(STEPS)[0]
    assert whole.trials[1].diverged_at_step < left < STEPS
    assert [result.steps for result in whole.trials] == [STEPS, left, STEPS]
    assert whole.train_steps == 2 * STEPS + left
    # The same where the pack was put aside after it had left.
    with pytest.raises(Interrupted) as stop:
        run_pack(task, pack, mode=engine, on_chunk=lambda chunk: chunk.step < left + 3)
    again = run_pack(task, pack, mode=engine, checkpoint=stop.value.checkpoint)
    assert (again.train_steps, again.trials) == (whole.train_steps, whole.trials)


@pytest.mark.parametrize("where", ["at an evaluation", "between two"])
@pytest.mark.parametrize("engine", ["batched", "sequential"])
def test_interrupted_and_resumed_equals_undisturbed(engine: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optim_core.engine.loop.PIECE_S", 0.0)
    task = problem(torch.float32, model={"kind": "catalogue", "name": "mlp", "hidden": [12], "dropout": 0.2})
    pack = unit([trial(0, "adamw", "cosine"), trial(1, "momentum"), trial(2, "adamw", seed=1)])
    whole = run_pack(task, pack, mode=engine)
    stop_at = 20 if where == "at an evaluation" else 23
    with pytest.raises(Interrupted) as stop:
        run_pack(task, pack, mode=engine, on_chunk=lambda chunk: chunk.step < stop_at)
    seen: list[int] = []

    def watch(chunk: Chunk) -> bool:
        seen.append(chunk.step)
        return True

    resumed = run_pack(task, pack, mode=engine, checkpoint=stop.value.checkpoint, on_chunk=watch)
    assert seen[0] == stop_at + 1
    assert resumed.trials == whole.trials


def test_a_damaged_or_foreign_checkpoint_means_start_again() -> None:
    data = dump("a", {"x": torch.arange(3)})
    assert torch.equal(load(data, "a")["x"], torch.arange(3))
    assert load(data, "b") is None
    for cut in range(0, len(data), 97):
        assert load(data[:cut], "a") is None
        assert load(data[:cut] + bytes([data[cut] ^ 1]) + data[cut + 1 :], "a") is None


def test_a_checkpoint_of_another_pytorch_means_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dump("a", {"x": torch.arange(3)})
    monkeypatch.setattr(torch, "__version__", "1.0")
    assert load(data, "a") is None


def test_a_trial_does_not_depend_on_its_company() -> None:
    task = problem()
    alone = run_pack(task, unit([trial(7, "adamw", seed=3)])).trials[0]
    crowd = [trial(i, "sgd", seed=i) for i in range(3)] + [trial(7, "adamw", seed=3)]
    inside = run_pack(task, unit(crowd)).trials[3]
    assert inside.loss == pytest.approx(alone.loss, abs=1e-9)


def test_same_seed_same_batches_and_every_row_once_an_epoch() -> None:
    one, two, other = BatchOrder(50, 8, 1), BatchOrder(50, 8, 1), BatchOrder(50, 8, 2)
    epoch = torch.cat([one.rows(step) for step in range(6)])
    assert len(set(epoch.tolist())) == 48
    assert torch.equal(two.rows(13), one.rows(13))
    assert not torch.equal(other.rows(0), one.rows(0))


def test_evaluation_points() -> None:
    assert evaluation_steps(3) == [1, 2, 3]
    assert evaluation_steps(100) == list(range(10, 101, 10))


def test_the_probe_reports_what_planning_needs() -> None:
    report = probe(problem()).probe
    assert report.engine == "batched"
    assert report.full_horizon == 200
    assert report.max_pack_size == 64
    assert report.pack_step_s > 0
    assert set(report.optimizer_step_s) == set(problem().spec.search.included())
    assert report.train_rows + report.validation_rows + report.test_rows == 150


def test_a_budget_of_seconds_is_not_spent_on_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    # By name: the package's function of that name hides its module.
    module = importlib.import_module("optim_core.engine.probe")
    monkeypatch.delattr(module, "fastest_form")
    monkeypatch.delattr(module, "optimizer_seconds")
    given = problem(budget={"seconds": 3})
    report = probe(given).probe
    assert report is not None
    assert report.form == default_form(given)
    assert report.max_pack_size == 64
    assert report.pack_step_s > 0
    assert (report.speedup, report.optimizer_step_s) == (None, {})
    with pytest.raises(NameError):
        probe(problem(budget={"seconds": 30}))


def test_memory_that_runs_out_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(BatchedRunner, "advance", no_memory)
    with pytest.raises(PackTooLarge, match="1 trials do not fit"):
        run_pack(problem(), unit([trial(0, "adamw")]))


def test_a_model_that_cannot_train_is_refused_at_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Problem, "loss", lambda self, a, *_: a @ a)
    with pytest.raises(TrainingError, match="cannot train"):
        probe(problem())
