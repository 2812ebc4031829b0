"""What a task's kind decides: how its networks are run together, and who scores them how often."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from optim_core.engine.forward import Forward, TableForward
from optim_core.engine.module_forward import ModuleForward
from optim_core.own.task import OwnTask
from optim_core.spec.trial import Form, TrialParams
from optim_core.stacked.network import StackedNetwork
from optim_core.tasks.build import Problem
from optim_core.tasks.judge import TableJudge
from optim_core.tasks.task import Judge, Task

SHARED = "stacked layers: trials share each forward and backward"
MODULE = "the whole module for many trials at once, proven equal to training it alone"
FLAT = f"{MODULE}; its operations were noted once, found the same each time, and run without its Python"
# Evaluations of a run; of a person's module, whose evaluations cost what its forward passes do, at least so many.
POINTS, FEWEST_POINTS = 10, 2


def forward_of(
    task: Task, skeleton: nn.Module, names: list[str], trials: Sequence[TrialParams], form: Form, *, shared: bool
) -> Forward:
    """The networks of ``trials``, whose structure ``skeleton`` has. ``names``: the weights that are trained; ``shared``:
    whether all see the same batches.
    """
    if isinstance(task, OwnTask):
        return ModuleForward(task, skeleton, trials, form, shared=shared)
    assert isinstance(task, Problem)
    return TableForward(task, skeleton, names, trials, vectorise=form.vectorise)


def rules_know(task: Task) -> bool:
    """Whether what shares a step knows every layer of the task's networks; a person's module is run as a whole."""
    if not isinstance(task, Problem):
        return True
    return StackedNetwork(task.make_model(0), [], task.train.x[:2]).known


def asleep(task: Task) -> frozenset[str]:
    """Weights that no loss has used so far as is known: no optimizer touches them until one does."""
    return frozenset(task.proof.unused) if isinstance(task, OwnTask) else frozenset()


def recordable(task: Task) -> bool:
    """Whether a step reads and writes the same memory each time, so that a GPU can replay it."""
    return isinstance(task, Problem)


def may_be_flat(task: Task) -> bool:
    """Whether forms with flat steps are worth a try."""
    return isinstance(task, OwnTask) and task.batchable[0]


def is_flat(task: Task) -> bool:
    """Whether flat steps, which have been tried, were found equal."""
    return isinstance(task, OwnTask) and task.recordings.any_trusted


def lanes(task: Task) -> int:
    """How many parts run at once: one for each thread that torch may use on a CPU, one on a GPU. One of a person's modules,
    whose code may use what all threads share, such as random streams.
    """
    return torch.get_num_threads() if isinstance(task, Problem) and task.device.type == "cpu" else 1


def widest_part(task: Task, form: Form) -> float:
    """Trials of a part at most. A person's modules share what is read of their data, also one after the other."""
    if form.engine == "sequential" and not isinstance(task, Problem):
        return math.inf
    return max(1, form.width)


def what_is_shared(task: Task, form: Form) -> str:
    """In what way trials share a step, in words."""
    if isinstance(task, Problem):
        return SHARED
    return FLAT if form.flat else MODULE


def points_of(task: Task, horizon: int) -> int:
    """Evaluations of a run: of a person's module they see no more samples than the run trains on."""
    if isinstance(task, Problem):
        return POINTS
    return max(FEWEST_POINTS, min(POINTS, horizon * task.batch_size // task.rows["validation"]))


def judge_of(task: Task) -> Judge:
    """Who scores the task's networks."""
    if isinstance(task, OwnTask):
        return task.judge
    assert isinstance(task, Problem)
    return TableJudge(task)
