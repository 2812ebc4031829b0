"""Methods that build a model of the curvature from gradients. Both are SciPy's; they need a deterministic loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy

from optim_core.minimizers.base import LARGE, Hyper, Objective, Vector
from optim_core.spec.optimizers.limits import check_size

# No limit of SciPy's own: the objective ends the run.
ENDLESS = 10**9
# Tighter than SciPy's 2.2e-9 and 1e-5: what is left of the budget has no better use.
VALUE_TOLERANCE, GRADIENT_TOLERANCE = 1e-12, 1e-8


def _with_soft_walls(objective: Objective) -> Callable[[Vector], tuple[float, Vector]]:
    """The objective with unusable values replaced by ones only somewhat above what was seen.

    L-BFGS-B fits a cubic through the values of its line search; through ``LARGE`` that makes a step of length zero, at
    which it gives up.
    """
    low = high = math.nan

    def evaluate(x: Vector) -> tuple[float, Vector]:
        nonlocal low, high
        value, gradient = objective.value_and_gradient(x)
        if value < LARGE:
            # fmin and fmax pass over the NaN of the beginning.
            low, high = float(np.fmin(low, value)), float(np.fmax(high, value))
        elif not math.isnan(high):
            value = high + (high - low) + 1.0
        return value, gradient

    return evaluate


def lbfgs(objective: Objective, hyper: Hyper, seed: int) -> None:
    """L-BFGS (Byrd, Lu, Nocedal & Zhu 1995; SciPy's L-BFGS-B without bounds). ``history``: pairs kept, at least 1."""
    del seed
    options = {
        "maxcor": max(1, int(hyper["history"])),
        "ftol": VALUE_TOLERANCE,
        "gtol": GRADIENT_TOLERANCE,
        "maxiter": ENDLESS,
        "maxfun": ENDLESS,
    }
    scipy.optimize.minimize(_with_soft_walls(objective), objective.start, jac=True, method="L-BFGS-B", options=options)


def slsqp(objective: Objective, hyper: Hyper, seed: int) -> None:
    """Sequential least-squares programming (Kraft 1988; SciPy's SLSQP), a BFGS method when nothing is constrained.

    ``ftol``: precision of the value at which it stops. Raises SpecError above 1,000 weights.
    """
    del seed
    check_size(["slsqp"], objective.size)
    options = {"ftol": float(hyper["ftol"]), "maxiter": ENDLESS}
    scipy.optimize.minimize(objective.value_and_gradient, objective.start, jac=True, method="SLSQP", options=options)
