"""Particle swarm optimization."""

from __future__ import annotations

import numpy as np

from optim_core.minimizers.base import Hyper, Objective, above

# The swarm has converged when no particle moves by more than this share of the span.
STILL = 1e-12


def pso(objective: Objective, hyper: Hyper, seed: int) -> None:
    """Particle swarm with one global best (Kennedy & Eberhart 1995; constants of Clerc & Kennedy 2002).

    v = inertia·v + cognitive·r₁(own best − x) + social·r₂(global best − x), clamped to ± span;  x += v, reflected at
    start ± span (above 0) together with v. Particle 0 begins at the start, the others anywhere in the box, all with the
    velocities of SPSO 2006 (half the way to another random place). All particles move at once: the population is the batch.
    """
    span, start, rng = above(hyper, "span"), objective.start, np.random.default_rng(seed)
    shape = (max(2, int(hyper["population"])), objective.size)
    low, high = start - span, start + span
    x = rng.uniform(low, high, shape)
    x[0] = start
    v = (rng.uniform(low, high, shape) - x) / 2
    own, own_values = x.copy(), objective.values(x)
    while np.abs(v).max() > STILL * span:
        best = own[own_values.argmin()]
        r1, r2 = rng.random(shape), rng.random(shape)
        v = hyper["inertia"] * v + hyper["cognitive"] * r1 * (own - x) + hyper["social"] * r2 * (best - x)
        v = np.clip(v, -span, span)
        x = x + v
        # One reflection is enough: a step is at most half the box.
        v = np.where((x < low) | (x > high), -v, v)
        x = np.where(x > high, 2 * high - x, np.where(x < low, 2 * low - x, x))
        values = objective.values(x)
        better = values < own_values
        own, own_values = np.where(better[:, None], x, own), np.where(better, values, own_values)
