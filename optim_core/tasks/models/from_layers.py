"""A declared list of layers to a network. Shapes and sizes are worked out with integers before anything is built."""

from __future__ import annotations

from math import prod

from torch import nn

from optim_core.nn.blocks import ImageRows
from optim_core.nn.dropout import SeededDropout
from optim_core.nn.recurrent import GRU, LSTM, MAX_STEPS, LastState
from optim_core.spec import layers as spec
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import LayersModel

MAX_PARAMETERS = 50_000_000
MAX_ACTIVATIONS = 50_000_000
Shape = tuple[int, ...]
_ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU, "Tanh": nn.Tanh, "SiLU": nn.SiLU, "Sigmoid": nn.Sigmoid}
_RECURRENT = {"GRU": GRU, "LSTM": LSTM}


def build_layers(model: LayersModel, shape: Shape, outputs: int) -> nn.Sequential:
    """The network for rows of ``shape``. Raises SpecError ``shape_mismatch``, ``model_too_large``,
    ``nothing_to_train``, each with a pointer to the layer.
    """
    shapes = check_layers(model, shape, outputs)
    befores = [shape, *shapes[:-1]]
    return nn.Sequential(
        *(_module(layer, s, i) for i, (layer, s) in enumerate(zip(model.layers, befores, strict=True)))
    )


def check_layers(model: LayersModel, shape: Shape, outputs: int) -> list[Shape]:
    """The shape of one row after each layer. Raises as ``build_layers`` does; allocates nothing."""
    shapes, parameters, activations = [], 0, prod(shape)
    for position, layer in enumerate(model.layers):
        shape, added = _step(layer, shape, f"/model/layers/{position}")
        parameters, activations = parameters + added, activations + prod(shape)
        if parameters > MAX_PARAMETERS or activations > MAX_ACTIVATIONS:
            message = (
                f"after layer {position} ({layer.type}) the model has {parameters:,} weights and {activations:,} "
                f"values a row; the limits are {MAX_PARAMETERS:,} and {MAX_ACTIVATIONS:,}"
            )
            raise SpecError(message, code="model_too_large", pointer=f"/model/layers/{position}")
        shapes.append(shape)
    if parameters == 0:
        raise SpecError("no layer has weights to train", code="nothing_to_train", pointer="/model/layers")
    if shape != (outputs,):
        message = f"the last layer gives the shape {shape}; this data set needs ({outputs},)"
        raise SpecError(message, code="shape_mismatch", pointer=f"/model/layers/{len(model.layers) - 1}")
    return shapes


def _step(layer: spec.Layer, shape: Shape, pointer: str) -> tuple[Shape, int]:
    """(shape after the layer, weights it adds)."""
    if isinstance(layer, spec.Linear):
        if len(shape) != 1:
            raise _mismatch(f"Linear needs flat rows, not {shape}; put Flatten before it", pointer)
        return (layer.out_features,), layer.out_features * (shape[0] + layer.bias)
    if isinstance(layer, spec.Conv2d):
        after = _window(shape, layer.kernel_size, layer.stride, layer.padding, layer.type, pointer)
        weights = layer.out_channels * (shape[0] * layer.kernel_size**2 + layer.bias)
        return (layer.out_channels, *after), weights
    if isinstance(layer, (spec.MaxPool2d, spec.AvgPool2d)):
        return (shape[0], *_window(shape, layer.kernel_size, layer.kernel_size, 0, layer.type, pointer)), 0
    if isinstance(layer, spec.Flatten):
        return (prod(shape),), 0
    if isinstance(layer, spec.LayerNorm):
        return shape, 2 * prod(shape)
    if isinstance(layer, spec.BatchNorm):
        return shape, 2 * shape[0]
    if isinstance(layer, spec.GroupNorm):
        return _groups(shape, layer.groups, pointer), 2 * shape[0]
    if isinstance(layer, spec.Recurrent):
        return _recurrent(layer, shape, pointer)
    return shape, 0


def _groups(shape: Shape, groups: int, pointer: str) -> Shape:
    if shape[0] % groups:
        what = "channels" if len(shape) == 3 else "features"
        raise _mismatch(f"{groups} groups do not divide {shape[0]} {what}", pointer)
    if prod(shape) == groups:
        raise _mismatch(f"{groups} groups of a single number leave nothing of it", pointer)
    return shape


def _recurrent(layer: spec.Recurrent, shape: Shape, pointer: str) -> tuple[Shape, int]:
    if len(shape) != 3:
        raise _mismatch(f"{layer.type} reads images row by row, not flat rows of {shape[0]} features", pointer)
    if shape[1] > MAX_STEPS:
        message = f"the image has {shape[1]:,} rows; {layer.type} takes at most {MAX_STEPS:,} steps"
        raise SpecError(message, code="model_too_large", pointer=pointer)
    gates, width = _RECURRENT[layer.type].gates, layer.hidden_size
    return (width,), gates * width * (shape[0] * shape[2] + width + 2)


def _window(shape: Shape, kernel: int, stride: int, padding: int, name: str, pointer: str) -> Shape:
    if len(shape) != 3:
        raise _mismatch(f"{name} needs images, not flat rows of {shape[0]} features", pointer)
    if kernel > min(shape[1:]) + 2 * padding:
        raise _mismatch(f"the kernel {kernel} is larger than the image of {shape[1]} x {shape[2]}", pointer)
    if name == "MaxPool2d" or padding < kernel:
        return tuple((side + 2 * padding - kernel) // stride + 1 for side in shape[1:])
    raise _mismatch(f"padding {padding} is not smaller than the kernel {kernel}", pointer)


def _mismatch(message: str, pointer: str) -> SpecError:
    return SpecError(message, code="shape_mismatch", pointer=pointer)


def _module(layer: spec.Layer, shape: Shape, position: int) -> nn.Module:
    """The module for a row of ``shape``; checked before by ``_step``."""
    if isinstance(layer, spec.Linear):
        return nn.Linear(shape[0], layer.out_features, layer.bias)
    if isinstance(layer, spec.Conv2d):
        return nn.Conv2d(
            shape[0], layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=layer.bias
        )  # fmt: skip
    if isinstance(layer, spec.MaxPool2d):
        return nn.MaxPool2d(layer.kernel_size)
    if isinstance(layer, spec.AvgPool2d):
        return nn.AvgPool2d(layer.kernel_size)
    if isinstance(layer, spec.Flatten):
        return nn.Flatten()
    if isinstance(layer, spec.LayerNorm):
        return nn.LayerNorm(list(shape))
    if isinstance(layer, spec.BatchNorm):
        return nn.BatchNorm1d(shape[0]) if len(shape) == 1 else nn.BatchNorm2d(shape[0])
    if isinstance(layer, spec.GroupNorm):
        return nn.GroupNorm(layer.groups, shape[0])
    if isinstance(layer, spec.Recurrent):
        cell = _RECURRENT[layer.type](shape[0] * shape[2], layer.hidden_size)
        return nn.Sequential(ImageRows(), cell, LastState())
    if isinstance(layer, spec.Dropout):
        return SeededDropout(layer.p, position)
    return _ACTIVATIONS[layer.type]()
