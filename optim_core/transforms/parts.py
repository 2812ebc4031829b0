"""The parts at the top of a model in the order in which they are registered, and whether data could go through them so.

What a layer takes and gives shows which parts cannot be followed by another one, so that they give an output, and where the
part registered last goes on into one registered before it, so that it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from optim_core.transforms.registration import NORMS, OUTPUTS, Registered

Layers = list[tuple[str, nn.Module]]
# Parts called so come last, whatever their sizes say.
_LAST = ("dec", "out")


class Part(NamedTuple):
    """``layers``: linear layers and convolutions in it. ``first``: those that may take what comes in."""

    name: str
    layers: Layers
    first: list[nn.Module]

    @property
    def last(self) -> tuple[str, nn.Module]:
        """The layer that is registered last."""
        return self.layers[-1]


def held(module: nn.Module) -> dict[str, nn.Module]:
    """Name → child, of those that hold weights."""
    return {name: child for name, child in module.named_children() if any(True for _ in child.parameters())}


def within(prefix: str, layers: Layers) -> Layers:
    """The layers in the module ``prefix``, itself one of them or not."""
    return [(name, module) for name, module in layers if f"{name}.".startswith(f"{prefix}.")]


def sides(layer: nn.Module) -> tuple[int | None, int]:
    """How many features or channels a layer takes, where it takes one input, and gives."""
    if isinstance(layer, nn.Linear | nn.Bilinear):
        return getattr(layer, "in_features", None), int(layer.out_features)
    return int(layer.in_channels), int(layer.out_channels)  # type: ignore[arg-type]


def parts_of(path: str, module: nn.Module, layers: Layers) -> list[Part]:
    """Of the module at ``path`` (with its dot); the entries of lists and dictionaries of modules are parts of their own."""
    found: list[Part] = []
    for name, child in held(module).items():
        if isinstance(child, nn.ModuleDict | nn.ModuleList):
            found += parts_of(f"{path}{name}.", child, layers)
        elif inside := within(path + name, layers):
            first = inside[:1] if isinstance(child, nn.Sequential) else inside
            found.append(Part(name, inside, [layer for _, layer in first]))
    return found


def fits(giving: nn.Module, taking: nn.Module) -> bool:
    """Whether ``taking`` may take what ``giving`` gives, flattened or not."""
    (_, out), (wanted, _) = sides(giving), sides(taking)
    if wanted is None or isinstance(giving, nn.Linear) == isinstance(taking, nn.Linear):
        return wanted in (None, out)
    return wanted % out == 0 if isinstance(taking, nn.Linear) else out % wanted == 0


def elsewhere(weights: Mapping[str, Registered]) -> set[int]:
    """Sizes that may be taken by what is neither a linear layer nor a convolution: recurrent layers, tables, by hand."""
    others = [one.p for one in weights.values() if not isinstance(one.places[0].owner, (*OUTPUTS, *NORMS))]
    return {size for p in others if p.ndim > 1 for size in p.shape}


def misplaced(parts: list[Part], heads: set[str], taken: set[int]) -> set[str]:
    """Names of layers that may be the output, or may not, because what they give and take does not fit the order in which
    parts are registered. ``heads``: the layers that are taken for the output. ``taken``: sizes that go ``elsewhere``.
    """
    if len(parts) < 2:
        return set()
    last = parts[-1]
    ends = [p for p in parts if p.last[0] not in heads and sides(p.last[1])[1] not in taken and not _takers(p, parts)]
    after = _takers(last, parts)
    if backwards := [p for p in ends if p in after] or [p for p in after if _wider(p, last)]:
        return {last.last[0], *(p.last[0] for p in backwards)}
    return {p.last[0] for p in ends if _same_input(p, last) or not _joins(p, parts)}


def _takers(part: Part, parts: list[Part]) -> list[Part]:
    return [p for p in parts if p is not part and any(fits(part.last[1], layer) for layer in p.first)]


def _wider(part: Part, last: Part) -> bool:
    """Whether the two feed each other and the last ends at the narrow side, as an encoder behind its decoder does."""
    both = len(part.layers) > 1 and len(last.layers) > 1 and any(fits(part.last[1], layer) for layer in last.first)
    return both and not last.name.startswith(_LAST) and sides(part.last[1])[1] > sides(last.last[1])[1]


def _same_input(part: Part, other: Part) -> bool:
    return sides(part.first[0])[0] == sides(other.first[0])[0]


def _joins(part: Part, parts: list[Part]) -> bool:
    """Whether a part registered later takes more than any one gives, so that it may take this one's beside others'. A single
    number is more probably an output.
    """
    out = sides(part.last[1])[1]
    if out == 1:
        return False
    later = [(p, layer) for p in parts[parts.index(part) + 1 :] for layer in p.first]
    return any(
        (sides(layer)[0] or out + 1) > out and not any(fits(q.last[1], layer) for q in parts if q is not p)
        for p, layer in later
    )
