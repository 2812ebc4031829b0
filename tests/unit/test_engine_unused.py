"""Weights that a step's loss does not use: no optimizer touches them, as in the person's own loop, in any form and company."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core import build_optimizer
from optim_core.engine import Chunk, Interrupted, run_pack
from optim_core.engine.loop import make_runner
from optim_core.engine.seeding import batch_order
from optim_core.own.source import OwnSource
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import Budget, PythonDataset, PythonModel, Search, StudySpec, Training
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Form, TrialParams, UnitSpec

STEPS, EXPERTS = 20, 4
BATCHED, ALONE = Form(engine="batched", width=16), Form(engine="sequential", width=1)
# Own ages, numbers that are carried on, numbers of the whole model, other points, matrices, averages.
METHODS = [
    "adamw", "adam", "amsgrad", "sgd", "momentum", "nesterov",
    "lion", "nadam", "laprop", "prodigy", "swats", "sam", "schedule_free_adamw", "lookahead",
    "asgd", "muon", "lamb", "adafactor", "rmsprop", "adabelief",
]  # fmt: skip


class HardExperts(nn.Module):
    """A batch goes to one expert, which its rows and the gate decide; some have their first turn late, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.first = nn.Linear(6, EXPERTS), nn.Linear(6, 8)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(EXPERTS))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x).mean(0).mul(30).softmax(0)
        chosen = int(share.argmax())
        return self.last(torch.tanh(self.experts[chosen](torch.tanh(self.first(x))) * share[chosen]))


class SkippedBranch(nn.Module):
    """A branch that some batches take, the same for all trials that see them, beside a weight that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.last = nn.Linear(6, 40), nn.Linear(40, 40), nn.Linear(40, 3)
        self.spare = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last(h + torch.tanh(self.branch(h)) if x[:, 0].mean() > 0 else h)


class Gated(nn.Module):
    """Weights without axes: a temperature, and a gate that some batches pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.temperature, self.gate = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        h = h * self.gate if x[:, 0].mean() > 0 else h
        return self.last(h) * self.temperature


class LateBranch(nn.Module):
    """A weight that no loss uses until batches are seen that the proof does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.late, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last(h + self.late(h) if x[:, 1].mean() > 0.25 else h)


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, :3] + 0.3 * x[:, 3:]).argmax(1)


def task_of(make: Callable[[], nn.Module], **training: Any):
    spec = StudySpec(
        model=PythonModel(kind="python", entrypoint="own.py:Net"),
        dataset=PythonDataset(kind="python", entrypoint="own.py:data"),
        search=Search(), training=Training(**{"steps": STEPS, "batch_size": 12, **training}), budget=Budget(trials=10),
    )  # fmt: skip
    return OwnSource(spec, make, data(), dtype=torch.float64).problem()


def trials_of(task: Any, name: str, seeds: list[int], techniques: dict[str, float] | None = None) -> list[TrialParams]:
    plain = default_configuration(name, task.spec.search)
    found = []
    for i, seed in enumerate(seeds):
        values = {**plain.hyperparameters, "lr": plain.hyperparameters["lr"] * (1 + i)}
        values |= {"weight_decay": 0.1 * (i + 1)} if "weight_decay" in values else {}
        own = plain.model_copy(
            update={"hyperparameters": values, "schedule": {"name": "constant"}, "techniques": techniques or {}}
        )
        found.append(TrialParams(number=i, configuration=own, seed=seed, stage="search", origin="test"))
    return found


def unit(trials: list[TrialParams], form: Form) -> UnitSpec:
    return UnitSpec(key="k", kind="train", rung=0, horizon=STEPS, split="validation", trials=trials, form=form)


def by_hand(
    task: Any, trial: TrialParams, optimizer_of: Callable[[nn.Module], Any]
) -> tuple[nn.Module, list[set[str]]]:
    """The person's own loop: the model in the end, and which weights had a gradient in each step."""
    model, order = task.models.make(trial.seed), batch_order(task, trial.seed, STEPS)
    optimizer, used = optimizer_of(model), []
    model.train()
    for step in range(STEPS):
        x, y = task.batch(order.rows(step))

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        used.append({name for name, p in model.named_parameters() if p.grad is not None})
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    return model, used


def theirs(trial: TrialParams) -> Callable[[nn.Module], Any]:
    values = trial.configuration.hyperparameters

    def made(model: nn.Module) -> Any:
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        others = [p for p in model.parameters() if p.ndim < 2]
        return torch.optim.AdamW(
            [{"params": matrices, "weight_decay": values["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
            lr=values["lr"], betas=(values["beta1"], values["beta2"]), eps=values["eps"],
        )  # fmt: skip

    return made


def ours(trial: TrialParams) -> Callable[[nn.Module], Any]:
    own = trial.configuration
    return lambda model: build_optimizer(own.optimizer, model, techniques=dict(own.techniques), **own.hyperparameters)


def assert_as_by_hand(
    task: Any, trials: list[TrialParams], form: Form, optimizer_of: Any = ours
) -> list[list[set[str]]]:
    runner = make_runner(task, unit(trials, form), form)
    runner.advance(0, 7)
    runner.advance(7, STEPS)
    found, seen = runner.weights(), []
    for i, trial in enumerate(trials):
        model, used = by_hand(task, trial, optimizer_of(trial))
        seen.append(used)
        for name, p in model.named_parameters():
            torch.testing.assert_close(
                found[name][i], p.detach(), atol=1e-8, rtol=1e-8, msg=lambda m, n=name: f"{n}: {m}"
            )
    return seen


@pytest.mark.parametrize("seeds", [[7, 7, 7], [7, 8, 9]])
@pytest.mark.parametrize(("make", "form"), [(HardExperts, ALONE), (SkippedBranch, ALONE), (SkippedBranch, BATCHED)])
def test_a_weight_without_a_gradient_stays_as_torchs_adamw_leaves_it(make: Any, form: Form, seeds: list[int]) -> None:
    task = task_of(make)
    assert task.proof.equal == (make is SkippedBranch)
    seen = assert_as_by_hand(task, trials_of(task, "adamw", seeds), form, theirs)
    # The case is one: the same weights are sometimes used and sometimes not.
    for used in seen:
        assert set.intersection(*used) < set.union(*used)


@pytest.mark.parametrize("form", [BATCHED, ALONE])
@pytest.mark.parametrize("name", METHODS)
def test_every_kind_of_method_leaves_it_as_build_optimizer_does(name: str, form: Form) -> None:
    task = task_of(SkippedBranch)
    assert_as_by_hand(task, trials_of(task, name, [7, 7]), form)


@pytest.mark.parametrize("form", [BATCHED, ALONE])
@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"])
def test_weights_without_axes_are_trained_as_build_optimizer_does(name: str, form: Form) -> None:
    task = task_of(Gated)
    assert_as_by_hand(task, trials_of(task, name, [7, 8]), form)


@pytest.mark.parametrize("techniques", [{"ema": 0.9}, {"clip_norm": 0.1}, {"agc": 0.05}, {"centralize": 1.0}])
def test_techniques_too(techniques: dict[str, float]) -> None:
    task = task_of(SkippedBranch)
    assert_as_by_hand(task, trials_of(task, "adamw", [7, 7], techniques), BATCHED)


def test_experts_that_differ_between_trials_with_every_way_to_update() -> None:
    task = task_of(HardExperts)
    for name in ("adamw", "lion", "muon"):
        for count in (1, 5):
            assert_as_by_hand(task, trials_of(task, name, list(range(count))), ALONE)


@pytest.mark.parametrize("form", [BATCHED, ALONE])
def test_a_weight_that_is_used_later_than_the_proof_saw_begins_then(form: Form) -> None:
    task = task_of(LateBranch)
    assert {"late.weight", "late.bias"} == set(task.proof.unused)
    seen = assert_as_by_hand(task, trials_of(task, "adamw", [7, 7, 7]), form, theirs)
    assert any("late.weight" in step for step in seen[0])
    assert "late.weight" not in seen[0][0]


def test_a_trial_that_uses_all_weights_does_not_notice_one_that_does_not() -> None:
    class OftenSkipped(SkippedBranch):
        """Whose trials of large output bias skip the branch."""

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.first(x))
            return self.last(h + torch.tanh(self.branch(h)) if float(self.last.bias[0]) < 0.5 else h)

    task = task_of(OftenSkipped)
    pack = trials_of(task, "adamw", [7, 8, 9, 10])
    alone, company = (make_runner(task, unit(some, ALONE), ALONE) for some in (pack[:1], pack))
    biased = company.state()
    for own in biased[1:3]:
        own["weights"]["last.bias"].fill_(1.0)
    company.restore([{k: v for k, v in own.items()} for own in biased])
    alone.advance(0, STEPS)
    company.advance(0, STEPS)
    for name, p in alone.weights().items():
        assert torch.equal(p[0], company.weights()[name][0])


@pytest.mark.parametrize(("make", "form"), [(HardExperts, ALONE), (SkippedBranch, BATCHED)])
@pytest.mark.parametrize("name", ["adamw", "momentum", "amsgrad", "prodigy", "nadam", "schedule_free_adamw"])
def test_a_checkpoint_goes_on_bit_for_bit(make: Any, form: Form, name: str) -> None:
    task = task_of(make)
    whole = unit(trials_of(task, name, [5, 6]), form)
    chunks = iter(range(100))

    def stop(chunk: Chunk) -> bool:
        return next(chunks) < 2

    with pytest.raises(Interrupted) as interrupted:
        run_pack(task, whole, on_chunk=stop)
    resumed = run_pack(task, whole, checkpoint=interrupted.value.checkpoint)
    assert resumed.trials == run_pack(task, whole).trials
