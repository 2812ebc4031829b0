"""Simulated annealing."""

from __future__ import annotations

import numpy as np
import scipy

from optim_core.minimizers.base import Hyper, Objective, above

# No limit of SciPy's own: the objective ends the run.
ENDLESS = 10**9
# SciPy allows 3, but towards it the exponents 1/(3 − visit) of its formula overflow.
LARGEST_VISIT = 2.9


def simulated_annealing(objective: Objective, hyper: Hyper, seed: int) -> None:
    """Generalised simulated annealing (Tsallis & Stariolo 1996; SciPy's dual_annealing without its local search).

    ``initial_temperature`` in (0.01, 5e4]; ``visit`` above 1, beyond 2.9 as 2.9: wider jumps when larger; ``span``: weights
    stay within ± span (above 0) of their start. It never converges by itself.
    """
    start, span = objective.start, above(hyper, "span")
    # The visiting distribution has no moments: jumps overflow now and then, and SciPy folds them back into the bounds.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scipy.optimize.dual_annealing(
            objective.value,
            np.stack([start - span, start + span], axis=1),
            maxiter=ENDLESS,
            maxfun=ENDLESS,
            initial_temp=above(hyper, "initial_temperature"),
            visit=min(above(hyper, "visit", 1.0), LARGEST_VISIT),
            rng=np.random.default_rng(seed),
            no_local_search=True,
            x0=start,
        )
