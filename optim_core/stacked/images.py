"""Images, one trial after the other: convolutions have nothing to gain from stacking on a CPU, their neighbours a lot.

Inside, there is no trial axis: images are (batch, channels, height, width) in channels-last memory, where pooling is
several times faster, and one trial runs through all image layers while its activations are in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.counter import BITS, GAMMA, bits, mix
from optim_core.stacked.base import Back, Context, Layer
from optim_core.stacked.dense import aten
from optim_core.tasks.blocks import Mean
from optim_core.tasks.dropout import RATE, SEED, STEP, SeededDropout

# Up to this many numbers a patch, a convolution is faster as one matrix product of patches.
SMALL_PATCH = 36
LAST = torch.channels_last


@dataclass(frozen=True)
class OneTrial(Context):
    """The context of one trial: no lead axis. ``memo``: what layers have worked out of the input that all trials share."""

    memo: dict[str, Any] | None = field(default=None)


class EachTrial:
    """The rule of a run of image layers: children in order for each trial, their outputs stacked again.

    ``names``: full names of the weights and buffers inside. Outputs that are vectors become (K, features, batch).
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __call__(self, layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
        """See ``base.Rule``."""
        k = len(context.tensor(self._names[0])) if self._names else len(x)
        weights, buffers = self._cut(context.weights, k), self._cut(context.buffers, k)
        slots = None if context.slots is None else self._cut(context.slots, k)
        memo: dict[str, Any] | None = {} if len(x) == 1 else None
        outputs: Tensor | None = None
        backs: list[list[Back]] = []
        for i in range(k):
            own = OneTrial(weights[i], buffers[i], None if slots is None else slots[i], memo)
            y, ways = x[i if len(x) > 1 else 0], []
            for child in layer.children:
                y, back = child.run(y, own)
                if back is not None:
                    ways.append(back)
            if outputs is None:
                outputs = y.new_empty(k, y.shape[1], y.shape[0]) if y.ndim == 2 else y.new_empty(k, *y.shape)
            outputs[i].copy_(y.mT if y.ndim == 2 else y)
            backs.append(ways)
        assert outputs is not None
        if context.slots is None:
            return outputs, None
        vectors = outputs.ndim == 3

        def way_back(dy: Tensor) -> Tensor | None:
            found: Tensor | None = None
            for i in range(k):
                gradient: Tensor | None = dy[i].mT.contiguous() if vectors else dy[i]
                ways = backs[i]
                while ways and gradient is not None:
                    gradient = ways.pop()(gradient)
                if layer.wants and gradient is not None:
                    found = gradient.new_empty(k, *gradient.shape) if found is None else found
                    found[i] = gradient
            return found

        return outputs, way_back

    def _cut(self, tensors: Mapping[str, Tensor], k: int) -> list[dict[str, Tensor]]:
        """Views of each trial's own."""
        parts = {name: tensors[name].unbind(0) for name in self._names if name in tensors}
        return [{name: part[i] for name, part in parts.items()} for i in range(k)]


def conv2d(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """torch's convolution, or one matrix product where a patch is small."""
    module, weight = layer.module, context.tensor(layer.names["weight"])
    assert isinstance(module, nn.Conv2d)
    if weight[0].numel() <= SMALL_PATCH and not layer.wants and module.groups == 1 and module.dilation == (1, 1):
        return _patch_product(layer, x, context)
    x, weight = x.contiguous(memory_format=LAST), weight.contiguous(memory_format=LAST)
    bias = context.tensor(layer.names["bias"]) if "bias" in layer.names else None
    how = (module.stride, sides(module), module.dilation)
    y = torch.conv2d(x, weight, bias, *how, module.groups)
    if context.slots is None:
        return y, None
    slots = [context.slot(layer.names[name]) if name in layer.names else None for name in ("weight", "bias")]

    def back(dy: Tensor) -> Tensor | None:
        wanted = [layer.wants, slots[0] is not None, slots[1] is not None]
        dx, *found = aten.convolution_backward(
            dy.contiguous(memory_format=LAST), x, weight, [len(weight)], *how, False, [0, 0], module.groups, wanted
        )
        for slot, gradient in zip(slots, found, strict=True):
            if slot is not None:
                slot.copy_(gradient)
        return dx if layer.wants else None

    return y, back


def sides(module: nn.Conv2d) -> tuple[int, int]:
    """The padding in numbers. Raises TypeError for "same" and "valid", which have no rule here."""
    high, wide = module.padding
    if isinstance(high, str) or isinstance(wide, str):
        raise TypeError("padding by name has no rule")
    return high, wide


def _patch_product(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """(patches, numbers) times (numbers, channels): the result lies in channels-last order by itself."""
    module, weight = layer.module, context.tensor(layer.names["weight"])
    assert isinstance(module, nn.Conv2d)
    memo = context.memo if isinstance(context, OneTrial) else None
    patches, shape = memo[layer.prefix] if memo and layer.prefix in memo else _patches(module, x)
    if memo is not None:
        memo[layer.prefix] = patches, shape
    flat = weight.reshape(len(weight), -1)
    bias = context.tensor(layer.names["bias"]) if "bias" in layer.names else None
    y = patches @ flat.t() if bias is None else torch.addmm(bias, patches, flat.t())
    out = y.view(*shape, -1).permute(0, 3, 1, 2)
    if context.slots is None:
        return out, None

    def back(dy: Tensor) -> None:
        rows = dy.permute(0, 2, 3, 1).reshape(len(patches), -1)
        if (slot := context.slot(layer.names["weight"])) is not None:
            torch.mm(rows.t(), patches, out=slot.view(len(weight), -1))
        if "bias" in layer.names and (slot := context.slot(layer.names["bias"])) is not None:
            torch.sum(rows, 0, out=slot)

    return out, back


def _patches(module: nn.Conv2d, x: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    high, wide = sides(module)
    padded = F.pad(x, (wide, wide, high, high))
    (kh, kw), (sh, sw) = module.kernel_size, module.stride
    seen = padded.unfold(2, kh, sh).unfold(3, kw, sw)
    shape = (len(x), seen.shape[2], seen.shape[3])
    return seen.permute(0, 2, 3, 1, 4, 5).reshape(shape[0] * shape[1] * shape[2], -1), shape


def max_pool2d(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """torch's max pooling."""
    module = layer.module
    assert isinstance(module, nn.MaxPool2d)
    how = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
    kernel, stride, padding, dilation = ([v, v] if isinstance(v, int) else list(v) for v in how[:4])
    y, places = aten.max_pool2d_with_indices(x, kernel, stride, padding, dilation, how[4])

    def back(dy: Tensor) -> Tensor:
        return aten.max_pool2d_with_indices_backward(
            dy.contiguous(memory_format=LAST), x, kernel, stride, padding, dilation, how[4], places
        )

    return y, back if context.slots is not None else None


def avg_pool2d(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """torch's average pooling."""
    module = layer.module
    assert isinstance(module, nn.AvgPool2d)
    kernel, stride, padding = (
        [v, v] if isinstance(v, int) else list(v) for v in (module.kernel_size, module.stride, module.padding)
    )
    how = (kernel, stride, padding, module.ceil_mode, module.count_include_pad, module.divisor_override)
    y = aten.avg_pool2d(x, *how)
    return y, (lambda dy: aten.avg_pool2d_backward(dy, x, *how)) if context.slots is not None else None


def stacked_flatten(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """(K, batch, c, h, w) → (K, c·h·w, batch), where nothing else looks at the images."""
    shape = x.shape

    def back(dy: Tensor) -> Tensor | None:
        return dy.mT.unflatten(2, shape[2:]) if layer.wants else None

    return x.flatten(2).mT, back if context.slots is not None else None


def flatten(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """(batch, c, h, w) → (batch, c·h·w), channels first as torch counts."""
    del layer
    shape = x.shape
    return x.flatten(1), (lambda dy: dy.view(shape)) if context.slots is not None else None


def mean(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """Mean over the module's axes."""
    assert isinstance(layer.module, Mean)
    axes, shape = layer.module.axes, x.shape
    count = 1
    for axis in axes:
        count *= shape[axis]

    def back(dy: Tensor) -> Tensor:
        for axis in sorted(axes):
            dy = dy.unsqueeze(axis)
        return (dy / count).expand(shape).contiguous(memory_format=LAST)

    return x.mean(axes), back if context.slots is not None else None


def group_norm(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """torch's group normalization."""
    module = layer.module
    assert isinstance(module, nn.GroupNorm)
    weight, bias = (context.tensor(layer.names[name]) for name in ("weight", "bias"))
    n, c, area = len(x), x.shape[1], x[0, 0].numel()
    y, mean_, rstd = aten.native_group_norm(x, weight, bias, n, c, area, module.num_groups, module.eps)
    if context.slots is None:
        return y, None
    slots = [context.slot(layer.names[name]) for name in ("weight", "bias")]

    def back(dy: Tensor) -> Tensor | None:
        wanted = [layer.wants, slots[0] is not None, slots[1] is not None]
        dy = dy.contiguous(memory_format=LAST)
        dx, *found = aten.native_group_norm_backward(dy, x, mean_, rstd, weight, n, c, area, module.num_groups, wanted)
        for slot, gradient in zip(slots, found, strict=True):
            if slot is not None:
                slot.copy_(gradient)
        return dx if layer.wants else None

    return y, back


def by_autograd(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """Any other module, through autograd."""
    names = {name: layer.names[name] for name, _ in layer.module.named_parameters(recurse=False)}
    trained = [name for name, full in names.items() if context.slot(full) is not None]
    own = {name: context.tensor(full).detach() for name, full in layer.names.items()}
    leaves = [own[name].requires_grad_() for name in trained]
    given = x.detach()
    if layer.wants and context.slots is not None:
        leaves.append(given.requires_grad_())
    with torch.set_grad_enabled(context.slots is not None):
        y = torch.func.functional_call(layer.module, own, (given,))
    if context.slots is None:
        return y, None

    def back(dy: Tensor) -> Tensor | None:
        if not leaves:
            return None
        found = list(torch.autograd.grad(y, leaves, dy))
        gradient = found.pop() if layer.wants else None
        for name, tensor in zip(trained, found, strict=True):
            slot = context.slot(names[name])
            assert slot is not None
            slot.copy_(tensor)
        return gradient

    return y.detach(), back


def dropout(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """The mask of ``SeededDropout``, which counts elements in the order of ``x``'s axes."""
    module = layer.module
    assert isinstance(module, SeededDropout)
    if not module.training:
        return x, (lambda dy: dy) if context.slots is not None else None
    seed, step, rate = (context.buffers[layer.names[name]] for name in (SEED, STEP, RATE))
    key = mix(mix(seed * GAMMA + module.layer) + step * GAMMA)
    drawn = bits(key, x.numel()) >= (rate * 2**BITS).round()
    keep = drawn.to(x.dtype).mul_((1.0 / (1.0 - rate)).to(x.dtype)).view(x.shape)
    return x * keep, (lambda dy: dy * keep) if context.slots is not None else None
