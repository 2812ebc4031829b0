"""What a task's kind decides: how its networks are run together, and who scores them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from optim_core.engine.forward import Forward, TableForward
from optim_core.spec.trial import Form, TrialParams
from optim_core.stacked.network import StackedNetwork
from optim_core.tasks.build import Problem
from optim_core.tasks.judge import TableJudge
from optim_core.tasks.task import Judge, Task


def forward_of(task: Task, skeleton: nn.Module, names: list[str], trials: Sequence[TrialParams], form: Form) -> Forward:
    """The networks of ``trials``, whose structure ``skeleton`` has; ``names``: the weights that are trained."""
    assert isinstance(task, Problem)
    return TableForward(task, skeleton, names, trials, vectorise=form.vectorise)


def rules_know(task: Task) -> bool:
    """Whether there are rules for stacked layers for every layer of the task's networks."""
    assert isinstance(task, Problem)
    return StackedNetwork(task.make_model(0), [], task.train.x[:2]).known


def judge_of(task: Task) -> Judge:
    """Who scores the task's networks."""
    assert isinstance(task, Problem)
    return TableJudge(task)
