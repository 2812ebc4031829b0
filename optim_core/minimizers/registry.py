"""Catalogue name → minimizer."""

from __future__ import annotations

from optim_core.minimizers.annealing import simulated_annealing
from optim_core.minimizers.base import BudgetSpent, Hyper, Minimizer, Objective
from optim_core.minimizers.evolution import cma_es, openai_es
from optim_core.minimizers.quasi_newton import lbfgs, slsqp
from optim_core.minimizers.swarm import pso
from optim_core.spec.names import find_row

MINIMIZERS: dict[str, Minimizer] = {
    "lbfgs": lbfgs,
    "slsqp": slsqp,
    "cma_es": cma_es,
    "simulated_annealing": simulated_annealing,
    "pso": pso,
    "openai_es": openai_es,
}


def find_minimizer(name: str) -> Minimizer:
    """The method ``name``. Raises SpecError for an unknown one."""
    return find_row("minimizer", name, MINIMIZERS)


def minimize(name: str, objective: Objective, hyper: Hyper, seed: int) -> None:
    """Run the method ``name`` until it converges or the budget is spent; the objective knows what came out.

    ``hyper``: all hyperparameters of the method; ``seed``: not negative. Raises SpecError for an unknown name and for a
    model that is too large for the method.
    """
    method = find_minimizer(name)
    try:
        method(objective, hyper, seed)
    except BudgetSpent:
        return
