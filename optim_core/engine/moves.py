"""What an optimizer remembers of a trial, by weight, so that it can go on in a pack that cuts weights in another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from optim_core.engine.blocks import Blocks
from optim_core.transforms.base import TRIAL, State


def taken(memory: State, blocks: Blocks, whole: bool) -> list[State]:
    """The memory of each of k trials. ``whole``: tensors are (k, n) by block, else (k, *shape) by weight."""
    named = {key: _by_name(own, key, blocks, whole) for key, own in memory.items()}
    count = len(next((x for own in named.values() for x in own.values()), ()))
    return [{key: {name: x[i] for name, x in own.items()} for key, own in named.items()} for i in range(count)]


def give(memory: State, states: Sequence[State], blocks: Blocks, whole: bool) -> None:
    """Put what ``taken`` took into a fresh ``memory``. What a trial did not need where it comes from stays as it starts."""
    for key, own in memory.items():
        # Copies: a method may start with the weights themselves.
        fresh = {name: x.clone() for name, x in own.items()}
        named = _by_name(fresh, key, blocks, whole)
        for i, state in enumerate(states):
            for name, tensor in named.items():
                found = _entry(state.get(key, {}), name)
                if found is not None:
                    tensor[i] = found
        memory[key] = fresh


def _by_name(own: Mapping[str, Tensor], key: str, blocks: Blocks, whole: bool) -> Mapping[str, Tensor]:
    return blocks.cut(own) if whole and key != TRIAL else own


def _entry(own: Mapping[str, Tensor], name: str) -> Tensor | None:
    """A number of a group that is new to the trial is that of any other: without learning rates of layers all share it."""
    if name in own:
        return own[name]
    stem, slash, _ = name.partition("/")
    return next((x for other, x in own.items() if slash and other.partition("/")[0] == stem), None)
