"""Any module that torch can vectorise, for layers without a rule of their own and for whole networks that nobody knows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from optim_core.stacked.base import Back, Context, Layer


def vectorised(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """``torch.vmap`` over the K copies, autograd for backward.

    Inputs and outputs are in the module's own order behind the trial axis; vectors are turned around.
    """
    names = [name for name, _ in layer.module.named_parameters()]
    full = {name: f"{layer.prefix}{name}" for name in names}
    trained = [name for name in names if context.slot(full[name]) is not None]
    weights = {name: context.tensor(full[name]).detach() for name in names}
    buffers = {name: context.buffers[f"{layer.prefix}{name}"] for name, _ in layer.module.named_buffers()}
    k = len(next(iter({**weights, **buffers}.values()), x))
    given = (x.mT if x.ndim == 3 else x).detach()
    leaves = [weights[name].requires_grad_() for name in trained]
    if layer.wants and context.slots is not None:
        given = given.expand(k, *given.shape[1:]).requires_grad_()
        leaves.append(given)
    shared = None if given.shape[0] != k else 0

    def forward(own: dict[str, Tensor], state: dict[str, Tensor], rows: Tensor) -> Tensor:
        return functional_call(layer.module, {**own, **state}, (rows,))

    with torch.set_grad_enabled(context.slots is not None):
        y = torch.vmap(forward, in_dims=(0, 0, shared))(weights, buffers, given if shared == 0 else given[0])
    if context.slots is None:
        return _turned(y), None

    def back(dy: Tensor) -> Tensor | None:
        if not leaves:
            return None
        found = list(torch.autograd.grad(y, leaves, _turned(dy)))
        gradient = _turned(found.pop()) if layer.wants else None
        for name, tensor in zip(trained, found, strict=True):
            slot = context.slot(full[name])
            assert slot is not None
            slot.copy_(tensor)
        return gradient

    return _turned(y.detach()), back


def _turned(x: Tensor) -> Tensor:
    return x.mT if x.ndim == 3 else x
