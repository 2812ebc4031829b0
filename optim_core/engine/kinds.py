"""What a task's kind decides: how its networks are run together, and who scores them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from optim_core.engine.forward import Forward, TableForward
from optim_core.engine.module_forward import ModuleForward
from optim_core.own.task import OwnTask
from optim_core.spec.trial import Form, TrialParams
from optim_core.stacked.network import StackedNetwork
from optim_core.tasks.build import Problem
from optim_core.tasks.judge import TableJudge
from optim_core.tasks.task import Judge, Task


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


def recordable(task: Task) -> bool:
    """Whether a step reads and writes the same memory each time, so that a GPU can replay it."""
    return isinstance(task, Problem)


def judge_of(task: Task) -> Judge:
    """Who scores the task's networks."""
    if isinstance(task, OwnTask):
        return task.judge
    assert isinstance(task, Problem)
    return TableJudge(task)
