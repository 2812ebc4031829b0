"""Images: a few trials at a time, side by side in the channels.

Inside a run of image layers the trials of a block are merged: (batch, k·channels, height, width), trial by trial. Then a
convolution of all of them is one grouped convolution, and normalization, pooling and activations are torch's own kernels.
Blocks are small because grouped convolutions of many trials fall out of the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.nn.blocks import Mean
from optim_core.stacked.base import Back, Context, Layer
from optim_core.stacked.containers import sequential
from optim_core.stacked.dense import aten, dropout_factors
from optim_core.stacked.fallback import vectorised

# Trials side by side on a CPU; a GPU takes all.
BLOCK = 8
# Up to this many numbers a patch, a convolution is as fast as one matrix product of patches.
SMALL_PATCH = 36
# So many input channels torch's library takes for the colours of a photograph and rounds differently, groups or not.
COLOURS = 3
# Images of fewer pixels are smaller than the widest vector register (of float32).
FEW_PIXELS = 16


@dataclass(frozen=True)
class Block(Context):
    """The context of ``k`` merged trials. ``order``: the memory order that suits the run's layers."""

    k: int = 1
    order: torch.memory_format = torch.contiguous_format

    def merged(self, name: str) -> Tensor:
        """A weight or buffer of all trials of the block, (k·first axis, …)."""
        return self.tensor(name).flatten(0, 1)

    def merge(self, x: Tensor) -> Tensor:
        """(k, batch, c, h, w) → (batch, k·c, h, w)."""
        return x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=self.order)

    def split(self, x: Tensor) -> Tensor:
        """(batch, k·c, h, w) → (k, batch, c, h, w), a view."""
        return x.unflatten(1, (self.k, -1)).transpose(0, 1)

    def put(self, name: str | None, gradient: Tensor) -> None:
        """Write the merged gradient of a weight into its slot, if there is one."""
        slot = None if name is None else self.slot(name)
        if slot is not None:
            slot.copy_(gradient.reshape(slot.shape))


class ImageRun:
    """The rule of neighbouring image layers. ``names``: full names of the weights and buffers inside."""

    def __init__(self, names: Sequence[str], modules: Sequence[nn.Module]) -> None:
        self._names = list(names)
        inside = [inner for module in modules for inner in module.modules()]
        # Pooling is several times faster in channels-last order, group norm in the usual one.
        pooled = any(isinstance(inner, nn.MaxPool2d) for inner in inside)
        normed = any(isinstance(inner, nn.GroupNorm) for inner in inside)
        self._order = torch.channels_last if pooled and not normed else torch.contiguous_format

    def __call__(self, layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
        """See ``base.Rule``. Outputs that are vectors are (K, features, batch)."""
        k = len(context.tensor(self._names[0])) if self._names else len(x)
        # Blocks of about one size: one trial alone would be a convolution of another kind, with other rounding.
        size = -(-k // -(-k // BLOCK)) if x.device.type == "cpu" else k
        outputs, backs = [], []
        for start in range(0, k, size):
            span = slice(start, min(start + size, k))
            y, back = self._block(layer, x if len(x) == 1 else x[span], self._cut(context, span, k))
            outputs.append(y)
            backs.append((span, back))
        y = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        if context.slots is None:
            return y, None

        def way_back(dy: Tensor) -> Tensor | None:
            found = [back(dy[span]) for span, back in backs]
            return torch.cat(found) if layer.wants and found[0] is not None else None  # type: ignore[arg-type]

        return y, way_back

    def _cut(self, context: Context, span: slice, k: int) -> Block:
        if span.stop - span.start == k:
            return Block(context.weights, context.buffers, context.slots, k, self._order)
        weights, buffers = (
            {name: tensors[name][span] for name in self._names if name in tensors}
            for tensors in (context.weights, context.buffers)
        )
        slots = context.slots
        own = None if slots is None else {name: slots[name][span] for name in self._names if name in slots}
        return Block(weights, buffers, own, span.stop - span.start, self._order)

    def _block(self, layer: Layer, x: Tensor, block: Block) -> tuple[Tensor, Callable[[Tensor], Tensor | None]]:
        # A convolution takes an input that all trials share as it is; anything else wants one for each.
        alone = len(x) == 1 and layer.children[0].rule is conv2d
        y = x[0].contiguous(memory_format=block.order) if alone else block.merge(x.expand(block.k, *x.shape[1:]))
        y, back = sequential(layer, y, block)
        images = y.ndim == 4

        def way_back(dy: Tensor) -> Tensor | None:
            assert back is not None
            gradient = back(block.merge(dy) if images else dy)
            return None if gradient is None else block.split(gradient)

        return block.split(y) if images else y, way_back


def _block(context: Context) -> Block:
    assert isinstance(context, Block)
    return context


def conv2d(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """One grouped convolution; without groups where all trials share the input ``x``."""
    module, block = layer.module, _block(context)
    assert isinstance(module, nn.Conv2d)
    weight = block.merged(layer.names["weight"]).contiguous(memory_format=block.order)
    shared = x.shape[1] == module.in_channels
    last = block.order == torch.channels_last
    if shared and last and not layer.wants and weight[0].numel() <= SMALL_PATCH and module.dilation == (1, 1):
        return _patch_product(layer, x, block)
    whole, stride = x.shape, module.stride
    if x.is_cpu and module.kernel_size == (1, 1) and _sides(module) == (0, 0) and stride != (1, 1):
        # What such a convolution does not look at is left out before it: less work for torch, above all in backward.
        x, stride = x[..., :: stride[0], :: stride[1]].contiguous(memory_format=block.order), (1, 1)
    groups = 1 if shared else block.k
    bias = block.merged(layer.names["bias"]) if "bias" in layer.names else None
    how = (stride, _sides(module), module.dilation)
    y = torch.conv2d(x, weight, bias, *how, groups)
    if context.slots is None:
        return y, None
    names = [layer.names.get(name) for name in ("weight", "bias")]
    wanted = [layer.wants, *(name is not None and block.slot(name) is not None for name in names)]

    def back(dy: Tensor) -> Tensor | None:
        dy = dy.contiguous(memory_format=block.order)
        images, weights, of = x, weight, groups
        if x.is_cpu and groups == x.shape[1] == COLOURS:
            # A group of zeros beside them, so that all numbers of trials are rounded alike.
            of = groups + 1
            dy, images = (_one_more(part, 1, groups, block.order) for part in (dy, x))
            weights = _one_more(weight, 0, groups, block.order)
        dx, *found = aten.convolution_backward(dy, images, weights, [len(weights)], *how, False, [0, 0], of, wanted)
        for name, gradient, wants in zip(names, found, wanted[1:], strict=True):
            if wants:
                block.put(name, gradient[: len(weight)].contiguous())
        if not layer.wants:
            return None
        if of > groups:
            dx = dx[:, :COLOURS].contiguous(memory_format=block.order)
        if dx.shape == whole:
            return dx
        spread = dx.new_zeros(whole).contiguous(memory_format=block.order)
        spread[..., :: module.stride[0], :: module.stride[1]] = dx
        return spread

    return y, back


def _one_more(x: Tensor, axis: int, groups: int, order: torch.memory_format) -> Tensor:
    """``x`` with a group of zeros after its ``groups`` along ``axis``."""
    zeros = list(x.shape)
    zeros[axis] //= groups
    return torch.cat([x, x.new_zeros(zeros)], axis).contiguous(memory_format=order)


def _patch_product(layer: Layer, x: Tensor, block: Block) -> tuple[Tensor, Back | None]:
    """(patches, numbers) times (numbers, channels): the result lies in channels-last order by itself.

    torch cannot tell the order of images of one channel, and would answer in the other one.
    """
    module = layer.module
    assert isinstance(module, nn.Conv2d)
    high, wide = _sides(module)
    (kh, kw), (sh, sw) = module.kernel_size, module.stride
    seen = F.pad(x, (wide, wide, high, high)).unfold(2, kh, sh).unfold(3, kw, sw)
    shape = (len(x), seen.shape[2], seen.shape[3])
    patches = seen.permute(0, 2, 3, 1, 4, 5).reshape(shape[0] * shape[1] * shape[2], -1)
    flat = block.merged(layer.names["weight"]).flatten(1)
    bias = block.merged(layer.names["bias"]) if "bias" in layer.names else None
    y = patches @ flat.t() if bias is None else torch.addmm(bias, patches, flat.t())

    def back(dy: Tensor) -> None:
        rows = dy.permute(0, 2, 3, 1).reshape(len(patches), -1)
        # Few numbers a patch, many channels: this way round the long rows are the wide ones, much faster on some machines.
        block.put(layer.names["weight"], (patches.t() @ rows).t())
        if "bias" in layer.names:
            block.put(layer.names["bias"], rows.sum(0))

    return y.view(*shape, -1).permute(0, 3, 1, 2), back if block.slots is not None else None


def _sides(module: nn.Conv2d) -> tuple[int, int]:
    high, wide = module.padding
    assert not isinstance(high, str)
    assert not isinstance(wide, str)
    return high, wide


def max_pool2d(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """torch's max pooling."""
    module, order = layer.module, _block(context).order
    assert isinstance(module, nn.MaxPool2d)
    kernel, stride, padding, dilation = map(_pair, (module.kernel_size, module.stride, module.padding, module.dilation))
    how = (kernel, stride, padding, dilation, module.ceil_mode)
    y, places = aten.max_pool2d_with_indices(x, *how)

    def back(dy: Tensor) -> Tensor:
        return aten.max_pool2d_with_indices_backward(dy.contiguous(memory_format=order), x, *how, places)

    return y, back if context.slots is not None else None


def avg_pool2d(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """torch's average pooling."""
    module = layer.module
    assert isinstance(module, nn.AvgPool2d)
    kernel, stride, padding = map(_pair, (module.kernel_size, module.stride, module.padding))
    how = (kernel, stride, padding, module.ceil_mode, module.count_include_pad, module.divisor_override)
    y = aten.avg_pool2d(x, *how)
    return y, (lambda dy: aten.avg_pool2d_backward(dy, x, *how)) if context.slots is not None else None


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def flatten(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """(batch, k·c, h, w) → (k, c·h·w, batch), channels first as torch counts.

    Each way is a transposition of a matrix, for which torch has a fast path, and an exchange of its long rows.
    """
    del layer
    block, shape = _block(context), x.shape
    n, channels, high, wide = shape
    last, split = block.order == torch.channels_last, (block.k, channels // block.k, high * wide)
    pixels = x.permute(0, 2, 3, 1) if last else x
    rows = pixels.reshape(n, -1).t().contiguous()
    if last:
        rows = rows.view(split[2], *split[:2], n).permute(1, 2, 0, 3)

    def back(dy: Tensor) -> Tensor:
        rows = dy.view(*split, n)
        if last:
            rows = rows.permute(2, 0, 1, 3)
        pixels = rows.reshape(-1, n).t().contiguous()
        return pixels.view(n, high, wide, channels).permute(0, 3, 1, 2) if last else pixels.view(shape)

    return rows.reshape(block.k, -1, n), back if context.slots is not None else None


def stacked_flatten(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """(K, batch, c, h, w) → (K, c·h·w, batch), where nothing else looks at the images."""
    shape = x.shape

    def back(dy: Tensor) -> Tensor | None:
        return dy.mT.unflatten(2, shape[2:]) if layer.wants else None

    return x.flatten(2).mT, back if context.slots is not None else None


def mean(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """Over height and width: (batch, k·c, h, w) → (k, c, batch)."""
    assert isinstance(layer.module, Mean)
    assert layer.module.axes == (2, 3)
    block, shape = _block(context), x.shape

    def back(dy: Tensor) -> Tensor:
        each = (dy / (shape[2] * shape[3])).flatten(0, 1).t()
        return each[:, :, None, None].expand(shape).contiguous(memory_format=block.order)

    y = x.mean((2, 3)).unflatten(1, (block.k, -1)).permute(1, 2, 0).contiguous()
    return y, back if context.slots is not None else None


def group_norm(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """Wu & He 2018 (arXiv 1803.08494): with the trials in the channels, k times as many groups."""
    module, block = layer.module, _block(context)
    assert isinstance(module, nn.GroupNorm)
    names = [layer.names[name] for name in ("weight", "bias")]
    weight, bias = (block.merged(name) for name in names)
    x = x.contiguous()
    pixels = x[0, 0].numel()
    size = (len(x), x.shape[1], pixels, block.k * module.num_groups)
    y, mean_, rstd = aten.native_group_norm(x, weight, bias, *size, module.eps)
    if context.slots is None:
        return y, None
    wanted = [layer.wants, *(block.slot(name) is not None for name in names)]
    # Back along pixels, or along channels where pixels do not fill a vector register.
    order = torch.channels_last if x.is_cpu and pixels < FEW_PIXELS else torch.contiguous_format

    def back(dy: Tensor) -> Tensor | None:
        both = (part.contiguous(memory_format=order) for part in (dy, x))
        dx, *found = aten.native_group_norm_backward(*both, mean_, rstd, weight, *size, wanted)
        for name, gradient, wants in zip(names, found, wanted[1:], strict=True):
            if wants:
                block.put(name, gradient)
        return dx.contiguous() if layer.wants else None

    return y, back


def dropout(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """The mask of ``SeededDropout``, which counts a trial's elements in the order (batch, c, h, w)."""
    block = _block(context)
    if not layer.module.training:
        return x, (lambda dy: dy) if context.slots is not None else None
    factors = dropout_factors(layer, context, x.numel() // block.k, x.dtype)
    keep = block.merge(factors.view(block.k, len(x), -1, *x.shape[2:]))
    return x * keep, (lambda dy: dy * keep) if context.slots is not None else None


def unknown(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """Any other module, vectorised by torch over the trials taken apart again."""
    block = _block(context)
    y, back = vectorised(layer, block.split(x), context)
    if back is None:
        return block.merge(y), None
    inner = back

    def way_back(dy: Tensor) -> Tensor | None:
        gradient = inner(block.split(dy))
        return None if gradient is None else block.merge(gradient)

    return block.merge(y), way_back
