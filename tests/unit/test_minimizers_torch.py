"""Minimizers behind torch's interface: a step is a run."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch

from optim_core.minimizers.registry import MINIMIZERS
from optim_core.minimizers.torch_face import MinimizerOptimizer
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS

HYPER = {name: OPTIMIZERS[name].defaults() for name in MINIMIZERS}
GRADIENT = ("lbfgs", "slsqp")
RANDOM = ("cma_es", "simulated_annealing", "pso", "openai_es")


class Task:
    """Least squares with two groups: a matrix that decays and a bias, in any precision."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float64, **more) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model = torch.nn.Linear(3, 1).to(dtype)
        with torch.no_grad():
            self.model.weight.fill_(0.1)
            self.model.bias.fill_(0.2)
        self.x = torch.randn(40, 3, generator=generator).to(dtype)
        self.y = self.x @ torch.tensor([[0.5], [-0.3], [0.8]], dtype=dtype) + 0.4
        self.calls = 0
        groups = [{"params": [self.model.weight], "weight_decay": 0.1}, {"params": [self.model.bias]}]
        self.optimizer = MinimizerOptimizer(groups, name, {**HYPER[name], **more})

    def closure(self) -> torch.Tensor:
        self.calls += 1
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss

    def loss(self) -> torch.Tensor:
        return (self.model(self.x) - self.y).square().mean()


def ridge(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """The closed form of Task: mean squares + 0.1/2·‖w‖² (not the bias)."""
    a = torch.cat([task.x, torch.ones(40, 1)], dim=1).double()
    normal = 2 * a.T @ a / 40 + torch.diag(torch.tensor([0.1, 0.1, 0.1, 0.0])).double()
    solution = torch.linalg.solve(normal, 2 * a.T @ task.y.double() / 40).squeeze()
    return solution[:3], solution[3]


@pytest.mark.parametrize("name", MINIMIZERS)
def test_one_step_of_the_torch_face_is_one_run(name: str) -> None:
    task = Task(name, max_evaluations=150)
    before = task.loss().item()
    loss = task.optimizer.step(task.closure)
    assert 0 < task.calls <= 150
    assert loss.item() == task.loss().item() < 0.6 * before
    assert not loss.requires_grad
    for _ in range(10):
        task.optimizer.step(task.closure)
    weight, bias = ridge(task)
    # Random methods start each step with wide steps again.
    tolerance = 1e-4 if name in GRADIENT else 0.25
    assert (task.model.weight[0] - weight).abs().max() <= tolerance
    assert (task.model.bias - bias).abs().max() <= tolerance


def test_the_torch_face_takes_mixed_precisions_frozen_weights_and_weights_without_gradient() -> None:
    a = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float32))
    b = torch.nn.Parameter(torch.tensor([[1.5]], dtype=torch.float64))
    frozen = torch.nn.Parameter(torch.tensor([9.0]), requires_grad=False)
    unused = torch.nn.Parameter(torch.tensor([7.0], dtype=torch.bfloat16))
    optimizer = MinimizerOptimizer([a, b, frozen, unused], "lbfgs", HYPER["lbfgs"])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (a.double() - 1).square().sum() + (b - 2).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() < 1e-9
    assert (a - 1).abs().max() < 1e-4
    assert (b - 2).abs().max() < 1e-4
    assert (frozen.item(), unused.item(), unused.dtype) == (9.0, 7.0, torch.bfloat16)


def test_every_closure_call_counts_once() -> None:
    task = Task("lbfgs", max_evaluations=5)
    task.optimizer.step(task.closure)
    assert task.calls == 5


@pytest.mark.parametrize("name", RANDOM)
def test_each_step_of_the_torch_face_draws_its_own_numbers(name: str) -> None:
    def points(task: Task) -> list[float]:
        seen: list[float] = []

        def closure() -> torch.Tensor:
            seen.append(task.model.weight[0, 0].item())
            return task.loss()

        task.model.load_state_dict(start)
        task.optimizer.step(closure)
        return seen

    task, other = Task(name, seed=3), Task(name, seed=4)
    start = copy.deepcopy(task.model.state_dict())
    first, second = points(task), points(task)
    assert first[0] == second[0]
    assert first[1:] != second[1:]
    assert first[1:] != points(other)[1:]
    assert first == points(Task(name, seed=3))


def test_a_loss_that_is_no_number_leaves_the_weights() -> None:
    task = Task("pso")
    start = copy.deepcopy(task.model.state_dict())
    loss = task.optimizer.step(lambda: torch.tensor(math.nan))
    assert math.isnan(loss.item())
    assert all(torch.equal(p, start[key]) for key, p in task.model.state_dict().items())


def test_the_torch_face_needs_a_closure_and_says_so() -> None:
    with pytest.raises(SpecError, match=r"lbfgs .* call step\(closure\)"):
        Task("lbfgs").optimizer.step()
    with pytest.raises(SpecError, match="did you mean 'cma_es'"):
        MinimizerOptimizer([torch.nn.Parameter(torch.zeros(1))], "cma-es", {})
    weights = [torch.nn.Parameter(torch.zeros(n)) for n in (900, 101)]
    with pytest.raises(SpecError, match="slsqp takes at most 1,000 weights, this model has 1,001; use lbfgs"):
        MinimizerOptimizer(weights, "slsqp", HYPER["slsqp"])
    MinimizerOptimizer(weights, "lbfgs", HYPER["lbfgs"])


@pytest.mark.parametrize("name", MINIMIZERS)
def test_the_torch_face_survives_save_and_load(name: str) -> None:
    task = Task(name, max_evaluations=20, seed=3)
    task.optimizer.step(task.closure)
    buffer = io.BytesIO()
    torch.save([task.model.state_dict(), task.optimizer.state_dict()], buffer)
    expected = task.optimizer.step(task.closure)
    again = Task(name)
    buffer.seek(0)
    weights, memory = torch.load(buffer, weights_only=True)
    again.model.load_state_dict(weights)
    again.optimizer.load_state_dict(memory)
    assert torch.equal(again.optimizer.step(again.closure), expected)
    assert all(torch.equal(p, q) for p, q in zip(again.model.parameters(), task.model.parameters(), strict=True))
    clone = copy.deepcopy(again.optimizer)
    assert clone.state_dict()["param_groups"] == again.optimizer.state_dict()["param_groups"]
