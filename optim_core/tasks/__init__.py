"""What is trained: a spec becomes tensors, networks, a loss and a metric."""

from optim_core.tasks.build import Problem, Split, build_problem
from optim_core.tasks.dropout import SeededDropout, set_step

__all__ = ["Problem", "SeededDropout", "Split", "build_problem", "set_step"]
