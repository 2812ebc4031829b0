"""What was guessed of a model, where a guess changes how it trains."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.roles import Known, Network

# Techniques that treat the head apart.
_OF_THE_HEAD = frozenset({"agc", "head_lr", "layer_decay"})


def doubtful(optimizer: str, network: Network, techniques: Mapping[str, float]) -> str | None:
    """A sentence about trainable weights whose role is a guess and would be treated otherwise in the other role; None where
    nothing depends on a guess.
    """

    def matters(name: str, one: Known) -> bool:
        p = network.weights[name].p
        if one.maybe is None or not p.requires_grad:
            return False
        row, shape = OPTIMIZERS[optimizer], tuple(p.shape)
        # What a method remembers shows which part of it takes the weight.
        differs = row.numbers_of(shape, one.role) != row.numbers_of(shape, one.maybe)
        return differs or ("head" in (one.role, one.maybe) and bool(_OF_THE_HEAD & techniques.keys()))

    guessed = [f"{name} as {one.role} (or {one.maybe})" for name, one in network.known.items() if matters(name, one)]
    if not guessed:
        return None
    more = f" and {len(guessed) - 5} more" if len(guessed) > 5 else ""
    return (
        f"{optimizer} treats weights by what they are, and the registration of modules does not show it for all. Taken were "
        f"{', '.join(guessed[:5])}{more}. To settle it give example_input=, an input of the model, or roles={{name: role}}."
    )
