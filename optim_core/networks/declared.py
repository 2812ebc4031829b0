"""A declared list of layers. Shapes and sizes are worked out with integers; nothing is built."""

from __future__ import annotations

from math import prod

from optim_core.networks.limits import MAX_ACTIVATIONS, MAX_PARAMETERS, MAX_STEPS
from optim_core.networks.part import Network, Part, conv, group_norm, layer_norm, linear, recurrent
from optim_core.spec import layers as spec
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import LayersModel

Shape = tuple[int, ...]


def declared_network(model: LayersModel, shape: Shape, outputs: int) -> Network:
    """The network for rows of ``shape``. Raises SpecError ``shape_mismatch``, ``model_too_large``,
    ``nothing_to_train``, each with a pointer to the layer.
    """
    parts: list[Part] = []
    parameters, activations = 0, prod(shape)
    for position, layer in enumerate(model.layers):
        pointer = f"/model/layers/{position}"
        part, shape = _step(layer, shape, position, pointer)
        parameters, activations = parameters + part.parameter_count, activations + prod(shape)
        if parameters > MAX_PARAMETERS or activations > MAX_ACTIVATIONS:
            message = (
                f"after layer {position} ({layer.type}) the model has {parameters:,} weights and {activations:,} "
                f"values a row; the limits are {MAX_PARAMETERS:,} and {MAX_ACTIVATIONS:,}"
            )
            raise SpecError(message, code="model_too_large", pointer=pointer)
        parts.append(part)
    if parameters == 0:
        raise SpecError("no layer has weights to train", code="nothing_to_train", pointer="/model/layers")
    if shape != (outputs,):
        raise _mismatch(_wrong_end(shape, outputs), f"/model/layers/{len(model.layers) - 1}")
    return Network(tuple(parts))


def _wrong_end(shape: Shape, outputs: int) -> str:
    needed = f"needs {outputs:,}, one for each class" if outputs > 1 else "needs 1, the prediction"
    if len(shape) > 1:
        return f"the last layer gives {_rows(shape)}; this data set {needed}: end with Flatten and Linear"
    width = prod(shape)
    return f"the last layer gives {width:,} {'number' if width == 1 else 'numbers'} a row; this data set {needed}"


def _step(layer: spec.Layer, shape: Shape, position: int, pointer: str) -> tuple[Part, Shape]:
    """The layer for rows of ``shape``, and the shape after it."""
    if isinstance(layer, spec.Linear):
        if len(shape) != 1:
            raise _mismatch(f"Linear needs flat rows, not {_rows(shape)}; put Flatten before it", pointer)
        return linear(shape[0], layer.out_features, layer.bias), (layer.out_features,)
    if isinstance(layer, spec.Conv2d):
        after = _window(shape, layer.kernel_size, layer.stride, layer.padding, layer.type, pointer)
        part = conv(shape[0], layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.bias)
        return part, (layer.out_channels, *after)
    if isinstance(layer, (spec.MaxPool2d, spec.AvgPool2d)):
        after = _window(shape, layer.kernel_size, layer.kernel_size, 0, layer.type, pointer)
        return Part(layer.type, (layer.kernel_size,)), (shape[0], *after)
    if isinstance(layer, spec.Flatten):
        return Part("Flatten"), (prod(shape),)
    if isinstance(layer, spec.LayerNorm):
        return layer_norm(*shape), shape
    if isinstance(layer, spec.BatchNorm):
        kind, lone = "BatchNorm1d" if len(shape) == 1 else "BatchNorm2d", prod(shape[1:]) == 1
        return Part(kind, (shape[0],), 2 * shape[0], lone=lone), shape
    if isinstance(layer, spec.GroupNorm):
        return _groups(shape, layer.groups, pointer), shape
    if isinstance(layer, spec.Recurrent):
        return _recurrent(layer, shape, pointer), (layer.hidden_size,)
    if isinstance(layer, spec.Dropout):
        return Part("SeededDropout", (layer.p, position)), shape
    return Part(layer.type), shape


def _groups(shape: Shape, groups: int, pointer: str) -> Part:
    if shape[0] % groups:
        what = "channels" if len(shape) == 3 else "features"
        raise _mismatch(f"{groups} groups do not divide {shape[0]} {what}", pointer)
    if prod(shape) == groups:
        raise _mismatch(f"{groups} groups of a single number leave nothing of it", pointer)
    return group_norm(groups, shape[0])


def _recurrent(layer: spec.Recurrent, shape: Shape, pointer: str) -> Part:
    if len(shape) != 3:
        raise _mismatch(f"{layer.type} reads images row by row, not {_rows(shape)}", pointer)
    if shape[1] > MAX_STEPS:
        message = f"the image has {shape[1]:,} rows; {layer.type} takes at most {MAX_STEPS:,} steps"
        raise SpecError(message, code="model_too_large", pointer=pointer)
    cell = recurrent(layer.type, shape[0] * shape[2], layer.hidden_size)
    return Part("Sequential", inner=(Part("ImageRows"), cell, Part("LastState")))


def _window(shape: Shape, kernel: int, stride: int, padding: int, name: str, pointer: str) -> Shape:
    if len(shape) != 3:
        raise _mismatch(f"{name} needs images, not {_rows(shape)}", pointer)
    if kernel > min(shape[1:]) + 2 * padding:
        raise _mismatch(f"the kernel {kernel} is larger than the image of {shape[1]} x {shape[2]}", pointer)
    if name != "Conv2d" or padding < kernel:
        return tuple((side + 2 * padding - kernel) // stride + 1 for side in shape[1:])
    raise _mismatch(f"padding {padding} is not smaller than the kernel {kernel}", pointer)


def _rows(shape: Shape) -> str:
    if len(shape) == 1:
        return f"flat rows of {shape[0]:,} {'feature' if shape[0] == 1 else 'features'}"
    channels = f"{shape[0]:,} {'channel' if shape[0] == 1 else 'channels'}"
    return f"images of {shape[1]:,} x {shape[2]:,} with {channels}"


def _mismatch(message: str, pointer: str) -> SpecError:
    return SpecError(message, code="shape_mismatch", pointer=pointer)
