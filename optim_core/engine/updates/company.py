"""What the trials of a pack have in common, decided once for the whole pack.

Which techniques an update takes part in, and how weights are grouped, follows from all trials that started together. If it
followed from those that are left, a trial that leaves would change the last bits of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from optim_core.engine.hyper import transform_techniques, used
from optim_core.spec.trial import TrialParams
from optim_core.transforms.groups import LAYER_RATES
from optim_core.transforms.rows import METHODS

# ``together``: formulas over all trials at once. ``rows``: one pass of torch's fused kernel over the row of each trial.
# ``alone``: one trial after the other, whose numbers are plain floats, which torch folds into its operations.
Way = Literal["together", "rows", "alone"]
# Up to this many trials of a method without a fused kernel take less time one by one.
FEW = 3


@dataclass(frozen=True)
class Company:
    """``rates``: techniques on learning rates of layers that any trial uses. ``techniques``: optimizer → techniques inside the
    update that any of its trials uses. ``ways``: optimizer → how its trials are updated. ``shared``: whether all see the same
    mini-batches.
    """

    rates: tuple[str, ...]
    techniques: dict[str, tuple[str, ...]]
    ways: Mapping[str, Way]
    shared: bool


def company_of(trials: Sequence[TrialParams], *, on_cpu: bool) -> Company:
    """What ``trials`` have in common."""
    configurations = [trial.configuration for trial in trials]
    counts = Counter(configuration.optimizer for configuration in configurations)
    techniques = {
        name: tuple(transform_techniques([c for c in configurations if c.optimizer == name])) for name in counts
    }
    ways: dict[str, Way] = {
        name: way_of(name, count, techniques[name], on_cpu=on_cpu) for name, count in counts.items()
    }
    rates = tuple(name for name in LAYER_RATES if used(configurations, name))
    return Company(rates, techniques, ways, len({trial.seed for trial in trials}) == 1)


def way_of(optimizer: str, trials: int, techniques: Sequence[str], *, on_cpu: bool) -> Way:
    """The way for so many trials of ``optimizer``, of which any uses ``techniques`` inside the update.

    On a GPU, which waits for no single trial, all go together.
    """
    if not on_cpu:
        return "together"
    if optimizer in METHODS:
        return "together" if techniques else "rows"
    return "alone" if trials <= FEW else "together"
