"""The allow-listed layer types of a declarative model, and their options."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from optim_core.spec.base import Value

Width = Annotated[int, Field(ge=1, le=65536)]
Kernel = Annotated[int, Field(ge=1, le=31)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Linear(Value):
    type: Literal["Linear"]
    out_features: Width
    bias: bool = True


class Conv2d(Value):
    type: Literal["Conv2d"]
    out_channels: Width
    kernel_size: Kernel
    stride: Kernel = 1
    padding: Annotated[int, Field(ge=0, le=31)] = 0
    bias: bool = True


class MaxPool2d(Value):
    type: Literal["MaxPool2d"]
    kernel_size: Kernel


class AvgPool2d(Value):
    type: Literal["AvgPool2d"]
    kernel_size: Kernel


class Flatten(Value):
    type: Literal["Flatten"]


class LayerNorm(Value):
    type: Literal["LayerNorm"]


class BatchNorm(Value):
    """Batch normalization over features (2-D input) or channels (4-D input)."""

    type: Literal["BatchNorm"]


class GroupNorm(Value):
    """Normalization over groups of channels (images) or of features (flat rows); ``groups`` must divide them."""

    type: Literal["GroupNorm"]
    groups: Width


class Recurrent(Value):
    """A recurrent layer over the rows of an image, top to bottom; its state after the last row goes on."""

    type: Literal["GRU", "LSTM"]
    hidden_size: Width


class Dropout(Value):
    type: Literal["Dropout"]
    p: Probability = 0.5


class Activation(Value):
    type: Literal["ReLU", "GELU", "Tanh", "SiLU", "Sigmoid"]


Layer = Annotated[
    Linear
    | Conv2d
    | MaxPool2d
    | AvgPool2d
    | Flatten
    | LayerNorm
    | BatchNorm
    | GroupNorm
    | Recurrent
    | Dropout
    | Activation,
    Field(discriminator="type"),
]
