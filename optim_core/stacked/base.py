"""What a layer sees of its K copies, and what it gives back: its output and its backward.

Shapes (lead: K trials). Vectors are (K, features, batch): reductions over features and softmax over few classes then run
along contiguous memory. Tokens are (K, batch, tokens, width), images (K, batch, channels, height, width). A leading axis of
1 stands for K equal inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

# Gradient of the output → gradient of the input, or None where nobody wants it. Writes the gradients of weights into their
# slots on the way. It is called once.
Back = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True)
class Context:
    """Weights and buffers by name, each (K, *shape).

    ``slots``: where the gradient of a weight is written; weights without one are constants; None: no backward is wanted.
    """

    weights: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    slots: Mapping[str, Tensor] | None

    def tensor(self, name: str) -> Tensor:
        """A weight, trained or not."""
        found = self.weights.get(name)
        return self.buffers[name] if found is None else found

    def slot(self, name: str) -> Tensor | None:
        """Where the gradient of a weight is written, or None when nobody wants it."""
        return None if self.slots is None else self.slots.get(name)


@dataclass
class Layer:
    """A module in its place.

    ``wants``: whether the gradient of its input is wanted, because something before it is trained. ``fresh``: whether its
    output is a new tensor that its own backward does not need. ``may_overwrite``: whether its input is such a tensor, and
    nobody else's. ``overwrites``: whether its backward writes into the gradient that it is given. ``names``: attribute →
    full name.
    """

    module: nn.Module
    prefix: str
    wants: bool = True
    may_overwrite: bool = False
    fresh: bool = False
    overwrites: bool = False
    children: list[Layer] = field(default_factory=list)
    rule: Rule | None = None

    def __post_init__(self) -> None:
        own = [name for name, _ in self.module.named_parameters(recurse=False)]
        own += [name for name, _ in self.module.named_buffers(recurse=False)]
        self.names = {name: f"{self.prefix}{name}" for name in own}

    def run(self, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
        """The output of the K copies, and its backward when there is one."""
        assert self.rule is not None
        return self.rule(self, x, context)


Rule = Callable[[Layer, Tensor, Context], tuple[Tensor, Back | None]]
