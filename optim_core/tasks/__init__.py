"""What is trained: a spec becomes tensors, networks, a loss and a metric."""

from optim_core.tasks.build import Problem, ProblemSource, Split, build_problem
from optim_core.tasks.dropout import SeededDropout, set_step

__all__ = ["Problem", "ProblemSource", "SeededDropout", "Split", "build_problem", "set_step"]
