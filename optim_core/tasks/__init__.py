"""What is trained: a spec becomes tensors, networks, a loss and a metric."""

from optim_core.tasks.build import Problem, ProblemSource, Split, build_problem

__all__ = ["Problem", "ProblemSource", "Split", "build_problem"]
