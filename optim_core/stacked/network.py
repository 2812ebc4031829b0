"""K networks of one architecture as one: built from a module, run with stacked weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

from optim_core.nn.blocks import Attention, FeatureTokens, ImageRows, Mean, Positions, Residual
from optim_core.nn.categories import CategoryColumns
from optim_core.nn.dropout import SeededDropout
from optim_core.nn.recurrent import GRU, LSTM, LastState
from optim_core.stacked import categories, containers, dense, images, norms, recurrent, tokens
from optim_core.stacked.base import Back, Context, Layer, Rule
from optim_core.stacked.fallback import vectorised

# Rules on vectors and tokens with a trial axis; whatever is not here is vectorised by torch.
STACKED: dict[type[nn.Module], Rule] = {
    nn.Linear: dense.linear,
    **dense.ACTIVATIONS,
    SeededDropout: dense.dropout,
    nn.LayerNorm: norms.layer_norm,
    nn.BatchNorm1d: norms.batch_norm,
    ImageRows: tokens.image_rows,
    Positions: tokens.positions,
    FeatureTokens: tokens.feature_tokens,
    Attention: tokens.attention,
    Mean: tokens.mean,
    GRU: recurrent.gru,
    LSTM: recurrent.lstm,
    LastState: recurrent.last_state,
    CategoryColumns: categories.category_columns,
}
# Rules on the merged images of a block of trials; whatever is not here is taken apart and vectorised by torch.
MERGED: dict[type[nn.Module], Rule] = {
    nn.Conv2d: images.conv2d,
    nn.MaxPool2d: images.max_pool2d,
    nn.AvgPool2d: images.avg_pool2d,
    nn.GroupNorm: images.group_norm,
    nn.Flatten: images.flatten,
    Mean: images.mean,
    SeededDropout: images.dropout,
    **dense.ACTIVATIONS,
}
# Layers whose output is a new tensor that their backward does not need.
_FRESH = (
    nn.Linear,
    nn.Conv2d,
    nn.LayerNorm,
    nn.BatchNorm1d,
    nn.GroupNorm,
    nn.MaxPool2d,
    Positions,
    Attention,
    Residual,
)


class StackedNetwork:
    """The networks. ``trained``: names of the weights that are trained; ``x``: a few rows like those to come, (n, …).

    ``vectorise``: leave the whole network to ``torch.vmap`` instead of the rules here.
    """

    def __init__(self, module: nn.Module, trained: Collection[str], x: Tensor, *, vectorise: bool = False) -> None:
        builder = _Builder(set(trained), {} if vectorise else _input_axes(module, x))
        self._root = builder.unknown(module, "", False) if vectorise else builder.layer(module, "", False, False)

    @property
    def known(self) -> bool:
        """Whether every layer has a rule of its own."""
        return all(layer.rule not in (vectorised, images.unknown) for layer in _each(self._root))

    def forward(
        self,
        weights: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        x: Tensor,
        slots: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Back | None]:
        """(K, outputs, n) for rows ``x`` of shape (K or 1, n, …), and backward when there are ``slots``.

        ``weights``, ``buffers``: (K, *shape) by name; ``slots``: where gradients are written. Whether dropout drops and batch
        norm measures is what the modules' own ``training`` says.
        """
        return self._root.run(x.mT if x.ndim == 3 else x, Context(weights, buffers, slots))


class _Builder:
    def __init__(self, trained: set[str], axes: Mapping[nn.Module, int]) -> None:
        self._trained, self._axes = trained, axes

    def layer(self, module: nn.Module, prefix: str, wants: bool, in_images: bool) -> Layer:
        """The module's layer. ``in_images``: inside a run of image layers."""
        if isinstance(module, nn.Sequential):
            children = self._in_order(module, prefix, wants, in_images)
            last = children[-1] if children else None
            return Layer(
                module,
                prefix,
                wants,
                fresh=last is not None and last.fresh,
                overwrites=last is not None and last.overwrites,
                children=children,
                rule=containers.sequential,
            )
        fresh, overwrites = isinstance(module, _FRESH), type(module) in dense.ACTIVATIONS
        if isinstance(module, Residual):
            children = [self.layer(module.body, f"{prefix}body.", wants, in_images)]
            if not isinstance(module.shortcut, nn.Identity):
                children.append(self.layer(module.shortcut, f"{prefix}shortcut.", wants, in_images))
            return Layer(module, prefix, wants, fresh=fresh, children=children, rule=containers.residual)
        rule = (MERGED if in_images else STACKED).get(type(module)) if _usual(module) else None
        if rule is None:
            return self.unknown(module, prefix, wants, in_images)
        children = []
        if isinstance(module, Attention):
            children = [
                self.layer(getattr(module, n), f"{prefix}{n}.", wants, False) for n in ("query", "key", "value")
            ]
            children.append(self.layer(module.out, f"{prefix}out.", True, False))
        return Layer(module, prefix, wants, fresh=fresh, overwrites=overwrites, children=children, rule=rule)

    def unknown(self, module: nn.Module, prefix: str, wants: bool, in_images: bool = False) -> Layer:
        """A layer without a rule of its own."""
        return Layer(module, prefix, wants, rule=images.unknown if in_images else vectorised)

    def _in_order(self, module: nn.Sequential, prefix: str, wants: bool, in_images: bool) -> list[Layer]:
        found: list[Layer] = []
        for inner, child in _pooled_first(_flattened(module, prefix)):
            images_here = not in_images and self._is_image_layer(child)
            layer = self.layer(child, inner, wants, in_images or images_here)
            wants = wants or self._trains(child, inner)
            if images_here and found and isinstance(found[-1].rule, images.ImageRun):
                self._append(found[-1].children, layer)
            elif images_here:
                found.append(Layer(module, prefix, layer.wants, children=[layer], rule=images.ImageRun([], [])))
            else:
                self._append(found, layer)
        return [self._finished(layer) for layer in found]

    @staticmethod
    def _append(layers: list[Layer], layer: Layer) -> None:
        """Put a layer behind the others, and tell it what it may do with what they give."""
        if layers:
            layer.may_overwrite = layers[-1].fresh
            if isinstance(layer.module, SeededDropout):
                layer.fresh = layers[-1].fresh
            # These may pass a gradient on as it is, to one that writes into it.
            if isinstance(layer.module, SeededDropout | Positions):
                layer.overwrites |= layers[-1].overwrites
        layers.append(layer)

    def _finished(self, layer: Layer) -> Layer:
        if not isinstance(layer.rule, images.ImageRun):
            return layer
        first = layer.children[0]
        if len(layer.children) == 1 and isinstance(first.module, nn.Flatten):
            return Layer(first.module, first.prefix, first.wants, rule=images.stacked_flatten)
        names = [f"{c.prefix}{name}" for c in layer.children for name in c.module.state_dict(keep_vars=True)]
        layer.rule = images.ImageRun(names, [c.module for c in layer.children])
        return layer

    def _is_image_layer(self, module: nn.Module) -> bool:
        return self._axes.get(module) == 4 and not isinstance(module, ImageRows)

    def _trains(self, module: nn.Module, prefix: str) -> bool:
        return any(f"{prefix}{name}" in self._trained for name, _ in module.named_parameters())


def _each(layer: Layer) -> Iterator[Layer]:
    yield layer
    for child in layer.children:
        yield from _each(child)


def _flattened(module: nn.Sequential, prefix: str) -> list[tuple[str, nn.Module]]:
    """Prefix and module of each layer, those of sequences inside the sequence included."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        inner = f"{prefix}{name}."
        found += _flattened(child, inner) if isinstance(child, nn.Sequential) else [(inner, child)]
    return found


def _usual(module: nn.Module) -> bool:
    """Whether the module's options are those that the rules know."""
    if isinstance(module, nn.Conv2d):
        return not isinstance(module.padding, str) and module.groups == 1 and module.padding_mode == "zeros"
    if isinstance(module, nn.GELU):
        return module.approximate == "none"
    if isinstance(module, nn.BatchNorm1d):
        return module.affine and module.track_running_stats and module.momentum is not None
    if isinstance(module, nn.GroupNorm):
        return module.affine
    if isinstance(module, nn.LayerNorm):
        return module.elementwise_affine and module.bias is not None
    return True


def _pooled_first(children: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """max(relu(x)) = relu(max(x)), gradients included, and the second looks at a quarter of the numbers."""
    ordered = list(children)
    for i in range(len(ordered) - 1):
        if isinstance(ordered[i][1], nn.ReLU) and isinstance(ordered[i + 1][1], nn.MaxPool2d):
            ordered[i], ordered[i + 1] = ordered[i + 1], ordered[i]
    return ordered


def _input_axes(module: nn.Module, x: Tensor) -> dict[nn.Module, int]:
    """Module → number of axes of what it is given, the batch's included."""
    found: dict[nn.Module, int] = {}

    def note(inner: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[inner] = inputs[0].ndim

    hooks = [inner.register_forward_pre_hook(note) for inner in module.modules()]
    training = module.training
    module.eval()
    with torch.no_grad():
        module(x)
    module.train(training)
    for hook in hooks:
        hook.remove()
    return found
