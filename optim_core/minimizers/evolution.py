"""Evolution strategies: a normal distribution that moves to where its better samples lie."""

from __future__ import annotations

import math

import numpy as np
import scipy

from optim_core.minimizers.base import Hyper, Objective, Vector, above

# Above so many weights a full covariance matrix costs more than it brings (n² memory, n³ time).
LARGEST_FULL_COVARIANCE = 200
# Below this the recombination weights are not defined.
SMALLEST_POPULATION = 4
# Adam on the estimated gradient: Kingma & Ba's values, as Salimans et al. use them.
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def cma_es(objective: Objective, hyper: Hyper, seed: int) -> None:
    """CMA-ES (Hansen, arXiv 1604.00772), diagonal above 200 weights (Ros & Hansen 2008); the package ``cmaes``.

    ``sigma``: first step size, above 0; ``population``: samples a generation, 0 for 4 + ⌊3 ln n⌋. Stops by the rules of
    the package (flat values, vanished or exploded steps).
    """
    # It imports scipy.stats, which few studies need.
    from cmaes import CMA, SepCMA

    asked = int(hyper["population"])
    population = max(SMALLEST_POPULATION, asked) if asked > 0 else 4 + math.floor(3 * math.log(objective.size))
    method = CMA if objective.size <= LARGEST_FULL_COVARIANCE else SepCMA
    strategy = method(objective.start, above(hyper, "sigma"), seed=seed % 2**32, population_size=population)
    # The distribution's centre is no sample of it, but the run must not end at a point worse than where it began.
    objective.value(objective.start)
    # A collapsed axis divides by zero in the package's stopping rules, which then stop, as they should.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        while not strategy.should_stop():
            points = np.stack([strategy.ask() for _ in range(population)])
            strategy.tell(list(zip(points, objective.values(points).tolist(), strict=True)))


def openai_es(objective: Objective, hyper: Hyper, seed: int) -> None:
    """Evolution strategy of Salimans et al. 2017 (arXiv 1703.03864): ĝ = 1/(n·sigma)·Σ F·ε, then Adam with ``lr``.

    ε come in antithetic pairs, n = ``population`` of them (an odd one is left out); F are the ranks of the values, spread
    evenly over [−1/2, 1/2]. Ties share their mean rank, unlike in the paper's code, so that a plateau gives no gradient.
    The centre is evaluated too (one more value a generation): it is better than its samples. It never converges by itself.
    """
    x, lr, sigma = objective.start, float(hyper["lr"]), above(hyper, "sigma")
    rng, pairs = np.random.default_rng(seed), max(1, int(hyper["population"]) // 2)
    mean, square, step = np.zeros_like(x), np.zeros_like(x), 0
    while True:
        half = rng.standard_normal((pairs, objective.size))
        noise = np.concatenate([half, -half])
        values = objective.values(np.concatenate([x[None], x + sigma * noise]))
        gradient = centred_ranks(values[1:]) @ noise / (len(noise) * sigma)
        step += 1
        mean = BETA1 * mean + (1 - BETA1) * gradient
        square = BETA2 * square + (1 - BETA2) * gradient**2
        x = x - lr * (mean / (1 - BETA1**step)) / (np.sqrt(square / (1 - BETA2**step)) + EPS)


def centred_ranks(values: Vector) -> Vector:
    """(P,) values → (P,) ranks in [−1/2, 1/2], the smallest value lowest; P is at least 2."""
    return (scipy.stats.rankdata(values) - 1) / (len(values) - 1) - 0.5
