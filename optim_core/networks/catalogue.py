"""The ready-made networks. Each takes the spec, what a row looks like and the number of outputs; nothing is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from math import gcd, prod
from typing import NamedTuple

from optim_core.networks.limits import MAX_PARAMETERS, MAX_STEPS, MAX_TOKENS
from optim_core.networks.part import Network, Part, attention, conv, group_norm, layer_norm, linear, recurrent
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import CatalogueModel

_ACTIVATIONS = {"relu": Part("ReLU"), "gelu": Part("GELU"), "tanh": Part("Tanh"), "silu": Part("SiLU")}
Shape = tuple[int, ...]
Layers = tuple[Part, ...]


class InputShape(NamedTuple):
    """``shape``: (d,) or (c, h, w). ``cardinalities``: codes of each category column, which are the last of the d."""

    shape: Shape
    cardinalities: tuple[int, ...] = ()


def catalogue_network(spec: CatalogueModel, rows: InputShape, outputs: int, *, always_dropout: bool = False) -> Network:
    """The network ``spec`` for ``rows``.

    ``always_dropout``: dropout layers also where the rate is 0, for trials that set their own.

    Raises SpecError ``option_not_applicable``, ``shape_mismatch``, ``model_too_large``.
    """
    builder, options = MODELS[spec.name]
    given = {"hidden", "width", "depth", "heads", "stages"} & {k for k, v in spec.model_dump().items() if v is not None}
    given |= {"activation"} if spec.activation != "relu" else set()
    given |= {"dropout"} if spec.dropout else set()
    for name in sorted(given - options):
        takes = f"it takes {', '.join(sorted(options))}" if options else "it takes no options"
        message = f"{name} does not fit the model {spec.name}; {takes}"
        raise SpecError(message, code="option_not_applicable", pointer=f"/model/{name}")
    layers = builder(spec, rows, outputs)
    network = Network(layers if spec.dropout or always_dropout else _without_dropout(layers))
    if network.parameter_count > MAX_PARAMETERS:
        message = f"the model has {network.parameter_count:,} weights; the limit is {MAX_PARAMETERS:,}"
        raise SpecError(message, code="model_too_large", pointer="/model")
    return network


def default_width(cardinalities: tuple[int, ...]) -> int:
    """round(1.6·n^0.56) for the column with the most codes, n, as fastai's ``emb_sz_rule``: 2 for n = 2, 15 for n = 52."""
    return round(1.6 * max(cardinalities) ** 0.56)


def _linear(spec: CatalogueModel, rows: InputShape, outputs: int) -> Layers:
    return (*_flat(rows.shape), linear(prod(rows.shape), outputs))


def _mlp(spec: CatalogueModel, rows: InputShape, outputs: int) -> Layers:
    """Linear, activation, dropout per hidden width (default 64, 64)."""
    return (*_flat(rows.shape), *_perceptron(spec, prod(rows.shape), outputs))


def _tabular(spec: CatalogueModel, rows: InputShape, outputs: int) -> Layers:
    """As ``mlp``, with an embedding of ``width`` (``categories.default_width``) numbers for each category column."""
    if len(rows.shape) != 1:
        raise _mismatch("the model tabular needs a table; the rows of this data set are images")
    if not rows.cardinalities:
        return _perceptron(spec, rows.shape[0], outputs)
    width = spec.width or default_width(rows.cardinalities)
    numbers = rows.shape[0] - len(rows.cardinalities)
    columns = Part("CategoryColumns", (numbers, rows.cardinalities, width), sum(rows.cardinalities) * width)
    return (columns, *_perceptron(spec, numbers + len(rows.cardinalities) * width, outputs))


def _perceptron(spec: CatalogueModel, features: int, outputs: int) -> Layers:
    layers: list[Part] = []
    number = count()
    widths = [features, *(spec.hidden if spec.hidden is not None else [64, 64])]
    for before, after in pairwise(widths):
        layers += [linear(before, after), _ACTIVATIONS[spec.activation], *_dropout(spec, number)]
    return (*layers, linear(widths[-1], outputs))


def _cnn(spec: CatalogueModel, rows: InputShape, outputs: int) -> Layers:
    """``depth`` (2) times 3x3 convolution, activation, 2x2 max pooling; channels ``width`` (16) doubling."""
    shape = _image(rows, "cnn")
    width, depth = spec.width or 16, spec.depth or 2
    channels, side = shape[0], min(shape[1:])
    if side >> depth < 1:
        message = (
            f"depth {depth} halves the image {depth} times; {shape[1]} x {shape[2]} pixels allow {_halvings(side)}"
        )
        raise SpecError(message, code="shape_mismatch", pointer="/model/depth")
    layers: list[Part] = []
    for block in range(depth):
        out = width << block
        layers += [conv(channels, out, 3, padding=1), _ACTIVATIONS[spec.activation], Part("MaxPool2d", (2,))]
        channels = out
    features = channels * (shape[1] >> depth) * (shape[2] >> depth)
    return (*layers, Part("Flatten"), *_dropout(spec, count()), linear(features, outputs))


def _resnet(spec: CatalogueModel, rows: InputShape, outputs: int) -> Layers:
    """``stages`` (2) of ``depth`` (1) pre-activation residual blocks, GroupNorm; channels ``width`` (16) doubling.

    Each stage but the first halves the image. Three stages of one block are the eight layers of ResNet-8 (arXiv 1512.03385,
    1603.05027).
    """
    shape = _image(rows, "resnet")
    width, depth, act = spec.width or 16, spec.depth or 1, _ACTIVATIONS[spec.activation]
    stages, side = spec.stages or 2, min(shape[1:])
    if side >> (stages - 1) < 1:
        message = f"{stages} stages halve the image {stages - 1} times; {shape[1]} x {shape[2]} pixels are too few"
        raise SpecError(message, code="shape_mismatch", pointer="/model/stages")
    layers: list[Part] = [conv(shape[0], width, 3, padding=1, bias=False)]
    channels = width
    for stage in range(stages):
        for block in range(depth):
            out, stride = width << stage, 2 if stage and not block else 1
            body = (
                _group_norm(channels), act, conv(channels, out, 3, stride, padding=1, bias=False),
                _group_norm(out), act, conv(out, out, 3, padding=1, bias=False),
            )  # fmt: skip
            plain = stride == 1 and channels == out
            shortcut = None if plain else conv(channels, out, 1, stride, bias=False)
            layers.append(Part("Residual", inner=body, shortcut=shortcut))
            channels = out
    return (
        *layers,
        _group_norm(channels),
        act,
        Part("Mean", (2, 3)),
        *_dropout(spec, count()),
        linear(channels, outputs),
    )


def _gru(spec: CatalogueModel, rows: InputShape, outputs: int) -> Layers:
    return _recurrent(spec, rows, outputs, "GRU")


def _lstm(spec: CatalogueModel, rows: InputShape, outputs: int) -> Layers:
    return _recurrent(spec, rows, outputs, "LSTM")


def _recurrent(spec: CatalogueModel, rows: InputShape, outputs: int, cell: str) -> Layers:
    """``depth`` (1) cells of ``width`` (32) over image rows or features, dropout after each; the last state decides."""
    width, depth, shape = spec.width or 32, spec.depth or 1, rows.shape
    steps, number = _sequence(shape, MAX_STEPS, f"the model {spec.name}"), count()
    layers: list[Part] = [Part("ImageRows")] if len(shape) == 3 else [_feature_tokens(steps, width)]
    inputs = shape[0] * shape[2] if len(shape) == 3 else width
    for block in range(depth):
        layers += [
            recurrent(cell, inputs, width),
            *([Part("LastState")] if block == depth - 1 else []),
            *_dropout(spec, number),
        ]
        inputs = width
    return (*layers, linear(width, outputs))


def _transformer(spec: CatalogueModel, rows: InputShape, outputs: int) -> Layers:
    """``depth`` (2) pre-norm blocks of ``width`` (32) and ``heads`` (4) over image rows or features; mean pool."""
    width, depth, heads = spec.width or 32, spec.depth or 2, spec.heads or 4
    if width % heads:
        message = f"width {width} is not a multiple of heads {heads}"
        raise SpecError(message, code="shape_mismatch", pointer="/model/heads")
    shape = rows.shape
    tokens = _sequence(shape, MAX_TOKENS, "attention")
    layers: list[Part] = [_feature_tokens(tokens, width)]
    if len(shape) == 3:
        layers = [Part("ImageRows"), linear(shape[0] * shape[2], width), positions(tokens, width)]
    number = count()
    for _ in range(depth):
        attend = (layer_norm(width), attention(width, heads), *_dropout(spec, number))
        think = (
            layer_norm(width), linear(width, 2 * width), _ACTIVATIONS[spec.activation],
            linear(2 * width, width), *_dropout(spec, number),
        )  # fmt: skip
        layers += [Part("Residual", inner=attend), Part("Residual", inner=think)]
    return (*layers, layer_norm(width), Part("Mean", (1,)), linear(width, outputs))


Builder = Callable[[CatalogueModel, InputShape, int], Layers]
# name → (builder, the options it takes); a new model is one row here and one name in ``CatalogueModel``.
MODELS: dict[str, tuple[Builder, frozenset[str]]] = {
    "linear": (_linear, frozenset()),
    "mlp": (_mlp, frozenset({"hidden", "activation", "dropout"})),
    "cnn": (_cnn, frozenset({"width", "depth", "activation", "dropout"})),
    "resnet": (_resnet, frozenset({"width", "depth", "stages", "activation", "dropout"})),
    "gru": (_gru, frozenset({"width", "depth", "dropout"})),
    "lstm": (_lstm, frozenset({"width", "depth", "dropout"})),
    "transformer": (_transformer, frozenset({"width", "depth", "heads", "activation", "dropout"})),
    "tabular": (_tabular, frozenset({"hidden", "width", "activation", "dropout"})),
}


def _flat(shape: Shape) -> Layers:
    return (Part("Flatten"),) if len(shape) > 1 else ()


def _dropout(spec: CatalogueModel, number: count[int]) -> Layers:
    return (Part("SeededDropout", (spec.dropout, next(number))),)


def _without_dropout(layers: Layers) -> Layers:
    """The layers less those that would do nothing."""
    kept = [replace(layer, inner=_without_dropout(layer.inner)) for layer in layers]
    return tuple(layer for layer in kept if layer.kind != "SeededDropout")


def _group_norm(channels: int) -> Part:
    return group_norm(gcd(8, channels), channels)


def _feature_tokens(features: int, width: int) -> Part:
    return Part("FeatureTokens", (features, width), 2 * features * width)


def positions(tokens: int, width: int) -> Part:
    """``nn.blocks.Positions``."""
    return Part("Positions", (tokens, width), tokens * width)


def _halvings(side: int) -> int:
    return max(0, side.bit_length() - 1)


def _sequence(shape: Shape, most: int, who: str) -> int:
    """How many tokens the rows make: image rows, or features."""
    tokens = shape[1] if len(shape) == 3 else shape[0]
    if tokens > most:
        message = f"the rows make {tokens:,} tokens; {who} takes at most {most:,}"
        raise SpecError(message, code="model_too_large", pointer="/model")
    return tokens


def _image(rows: InputShape, name: str) -> Shape:
    if len(rows.shape) != 3:
        raise _mismatch(
            f"the model {name} needs images (such as digits); this data set has {rows.shape[0]} plain features"
        )
    return rows.shape


def _mismatch(message: str) -> SpecError:
    return SpecError(message, code="shape_mismatch", pointer="/model")
