"""How people train several configurations today: one after the other, compiled, in two processes, with torch.func.

Every rival has ``steps(n)``: n steps of all its trials. AdamW is torch's fused one.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

from benchmarks.engine_workloads import ROWS, make_problem, plain_model
from optim_core.engine.batched import BatchedRunner
from optim_core.engine.pack import PackRunner
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Form, TrialParams
from optim_core.tasks.build import Problem


class Ours:
    """The engine with ``k`` trials of AdamW, each with numbers of its own. ``shared``: all have the same mini-batches."""

    def __init__(self, problem: Problem, k: int, form: Form, shared: bool) -> None:
        self.trials, self._at = k, 0
        plain = default_configuration("adamw", problem.spec.search)
        packs = []
        for i in range(k):
            values = {**plain.hyperparameters, "lr": 1e-3 * (1 + i / k), "weight_decay": 0.01 * (1 + i / k)}
            own = plain.model_copy(update={"hyperparameters": values, "schedule": {"name": "constant"}})
            seed = 0 if shared else i
            packs.append(TrialParams(number=i, configuration=own, seed=seed, stage="search", origin="benchmark"))
        self._runner = PackRunner(problem, packs, LONGEST, form)

    def steps(self, n: int) -> None:
        """n steps of all trials."""
        if self._at + n > LONGEST:
            self._at = 0
        self._runner.advance(self._at, self._at + n)
        self._at += n


class CompiledRules(Ours):
    """The engine's losses and gradients through torch.compile, which the engine does not do: whether it should."""

    def __init__(self, problem: Problem, k: int) -> None:
        super().__init__(problem, k, Form(engine="batched", width=k), shared=True)
        for part in self._runner._parts:
            assert isinstance(part.runner, BatchedRunner)
            part.runner._gradients = torch.compile(part.runner._gradients, dynamic=False)


# The schedule's table is as long as the run.
LONGEST = 2_000


class Plain:
    """One trial, as a tutorial would train it, data on the device."""

    trials = 1

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.model = model = plain_model(problem)
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        self._order, self._at = torch.randperm(ROWS, device=problem.device), 0

    def steps(self, n: int) -> None:
        """n steps."""
        batch, (x, y, _) = self._problem.batch_size, self._problem.train
        for _ in range(n):
            rows = self._order[self._at : self._at + batch]
            self._at = (self._at + batch) % (ROWS - batch)
            self._optimizer.zero_grad()
            self._backward(x[rows], y[rows])
            self._optimizer.step()

    def _backward(self, x: Tensor, y: Tensor) -> None:
        F.cross_entropy(self.model(x), y).backward()


class Compiled(Plain):
    """The same with forward and backward as one compiled function, which was the fastest of three ways to compile it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._weights = dict(self.model.named_parameters())
        self._function: Callable[..., Any] = torch.compile(torch.func.grad(self._loss), dynamic=False)

    def _loss(self, weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(self.model, weights, (x,)), y)

    def _backward(self, x: Tensor, y: Tensor) -> None:
        found = self._function({name: p.detach() for name, p in self._weights.items()}, x, y)
        for name, p in self._weights.items():
            p.grad = found[name]


class Ensemble:
    """``k`` models with torch.func as in PyTorch's tutorial on ensembling: vmap over stacked weights, one AdamW for all."""

    def __init__(self, problem: Problem, k: int) -> None:
        self.trials, self._problem = k, problem
        # torch's own recurrent and attention kernels have no rule here.
        models = [problem.make_model(i) for i in range(k)]
        self._skeleton = models[0]
        self._weights, self._buffers = stack_module_state(models)
        self._optimizer = torch.optim.AdamW(list(self._weights.values()), lr=1e-3, fused=True)
        self._order, self._at = torch.randperm(ROWS, device=problem.device), 0
        self._gradients = torch.vmap(torch.func.grad(self._loss), in_dims=(0, 0, None, None))

    def _loss(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(self._skeleton, (weights, buffers), (x,)), y)

    def steps(self, n: int) -> None:
        """n steps of all trials."""
        batch, (x, y, _) = self._problem.batch_size, self._problem.train
        for _ in range(n):
            rows = self._order[self._at : self._at + batch]
            self._at = (self._at + batch) % (ROWS - batch)
            found: Any = self._gradients(self._weights, self._buffers, x[rows], y[rows])
            for name, p in self._weights.items():
                p.grad = found[name]
            self._optimizer.step()


class Processes:
    """Training in ``count`` processes at the same time, each on one thread: plain, or the engine in a form, as a machine's
    local workers do it, with ``k`` trials in each.
    """

    def __init__(self, workload: str, count: int, form: Form | None = None, k: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._children = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            child = context.Process(target=_train, args=(workload, form, k, theirs), daemon=True)
            child.start()
            self._ends.append(ours)
            self._children.append(child)
        for end in self._ends:
            end.recv()

    def rate(self, seconds: float) -> float:
        """Trial-steps per second of all together, over ``seconds``."""
        for end in self._ends:
            end.send(seconds)
        return sum(end.recv() for end in self._ends)

    def close(self) -> None:
        """End the processes."""
        for end, child in zip(self._ends, self._children, strict=True):
            end.send(0.0)
            child.join(10)


def _train(workload: str, form: Form | None, k: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    problem = make_problem(workload)
    rival = Plain(problem) if form is None else Ours(problem, k, form, shared=True)
    rival.steps(5)
    pipe.send(0.0)
    while seconds := pipe.recv():
        pipe.send(rate(rival, seconds))


def rate(rival: Any, seconds: float, burst: int = 0) -> float:
    """Trial-steps per second over about ``seconds``; ``burst`` steps between two looks at the clock (0: as many as fit)."""
    n = burst or 1
    start, done = time.perf_counter(), 0
    while True:
        rival.steps(n)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        done += n
        spent = time.perf_counter() - start
        if spent >= seconds:
            return done * rival.trials / spent
        if not burst:
            n = max(1, min(int((seconds - spent) / (spent / done)), 4 * n))


def interleaved(rivals: dict[str, Any], rounds: int, seconds: float) -> dict[str, list[float]]:
    """``rounds`` of trial-steps per second of each, in turn, so that a slow moment hits all alike."""
    for rival in rivals.values():
        rival.steps(2)
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for i in range(rounds):
        names: Sequence[str] = list(rivals) if i % 2 == 0 else list(rivals)[::-1]
        for name in names:
            found[name].append(rate(rivals[name], seconds))
    return found
