"""What the trials of a pack have in common, decided once for the whole pack.

Which techniques an update takes part in, and how weights are grouped, follows from all trials that started together. If it
followed from those that are left, a trial that leaves would change the last bits of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optim_core.engine.hyper import transform_techniques, used
from optim_core.spec.trial import TrialParams
from optim_core.transforms.groups import LAYER_RATES
from optim_core.transforms.rows import METHODS

# Up to this many trials of a method without a fused kernel take less time one by one.
FEW = 3


@dataclass(frozen=True)
class Company:
    """``rates``: techniques on learning rates of layers that any trial uses. ``techniques``: optimizer → techniques inside the
    update that any of its trials uses. ``alone``: optimizers whose trials are updated one by one. ``shared``: whether all
    see the same mini-batches.
    """

    rates: tuple[str, ...]
    techniques: dict[str, tuple[str, ...]]
    alone: frozenset[str]
    shared: bool


def company_of(trials: Sequence[TrialParams], *, on_cpu: bool) -> Company:
    """What ``trials`` have in common. A GPU, which waits for no single trial, updates none alone."""
    configurations = [trial.configuration for trial in trials]
    counts = Counter(configuration.optimizer for configuration in configurations)
    techniques = {
        name: tuple(transform_techniques([c for c in configurations if c.optimizer == name])) for name in counts
    }
    few = (name for name, count in counts.items() if count <= FEW and name not in METHODS)
    rates = tuple(name for name in LAYER_RATES if used(configurations, name))
    shared = len({trial.seed for trial in trials}) == 1
    return Company(rates, techniques, frozenset(few) if on_cpu else frozenset(), shared)
