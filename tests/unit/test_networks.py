"""What is said of a network without torch is what torch makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optim_core.networks import describe, fitting, fitting_text
from optim_core.networks.catalogue import MODELS
from optim_core.nn.decoder import Decoder
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import BuiltinDataset, CatalogueModel, LayersModel, Search, StudySpec, Training
from optim_core.tasks.layers_line import layers_line
from optim_core.tasks.models import make_networks

SIZES = st.integers(1, 6)
LAYERS = st.one_of(
    st.builds(lambda n, b: {"type": "Linear", "out_features": n, "bias": b}, SIZES, st.booleans()),
    st.builds(
        lambda n, k, s, p: {"type": "Conv2d", "out_channels": n, "kernel_size": k, "stride": s, "padding": min(p, k - 1)},
        SIZES, st.integers(1, 4), st.integers(1, 3), st.integers(0, 2),
    ),
    st.builds(lambda t, k: {"type": t, "kernel_size": k}, st.sampled_from(["MaxPool2d", "AvgPool2d"]), st.integers(1, 3)),
    st.builds(lambda g: {"type": "GroupNorm", "groups": g}, st.integers(1, 3)),
    st.builds(lambda t, n: {"type": t, "hidden_size": n}, st.sampled_from(["GRU", "LSTM"]), SIZES),
    st.sampled_from(["Flatten", "Flatten", "LayerNorm", "BatchNorm", "Dropout", "ReLU", "Tanh"]).map(lambda t: {"type": t}),
)  # fmt: skip
SHAPES = st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))


def module_for(layer: dict[str, Any], shape: torch.Size) -> nn.Module:
    """Torch's own module for what the layers before give."""
    name, options = layer["type"], {key: value for key, value in layer.items() if key != "type"}
    match name:
        case "Linear" | "Conv2d":
            return getattr(nn, name)(shape[1], **options)
        case "GroupNorm":
            return nn.GroupNorm(options["groups"], shape[1])
        case "GRU" | "LSTM":
            return getattr(nn, name)(shape[1] * shape[3], **options, batch_first=True)
        case "LayerNorm":
            return nn.LayerNorm(list(shape[1:]))
        case "BatchNorm":
            return nn.BatchNorm1d(shape[1]) if len(shape) == 2 else nn.BatchNorm2d(shape[1])
        case _:
            return getattr(nn, name)(**options)


FOR_IMAGES = {"Conv2d", "MaxPool2d", "AvgPool2d", "GRU", "LSTM"}


def as_torch_has_it(layers: list[dict[str, Any]], x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The layers by torch's own modules; outputs and weights. Raises what torch raises."""
    weights = 0
    for layer in layers:
        name = layer["type"]
        # Torch would apply a Linear to the last axis of an image alone, and take flat rows for one image.
        if (x.ndim != 4 and name in FOR_IMAGES) or (x.ndim != 2 and name == "Linear"):
            raise RuntimeError("no rows for it")
        module = module_for(layer, x.shape)
        found = module(x.transpose(1, 2).flatten(2) if name in ("GRU", "LSTM") else x)
        x = found[0][:, -1] if isinstance(found, tuple) else found
        weights += sum(p.numel() for p in module.parameters())
    return x, weights


def refusal_of(spec: StudySpec, shape: tuple[int, ...], classes: int | None) -> SpecError | None:
    try:
        fitting(spec, shape, classes)
    except SpecError as error:
        return error
    return None


@settings(max_examples=600, deadline=None)
@given(st.lists(LAYERS, min_size=1, max_size=6), SHAPES, st.integers(1, 3), st.sampled_from([1, 2, 5]), st.data())
def test_layers_are_accepted_where_torch_runs_them(
    layers: list[dict[str, Any]], shape: tuple[int, ...], outputs: int, batch: int, data: st.DataObject
) -> None:
    rows = torch.ones(batch, *shape)
    try:
        result, weights = as_torch_has_it(layers, rows)
    except (RuntimeError, ValueError):
        result, weights = None, 0
    if result is not None and data.draw(st.booleans()):
        outputs = result.shape[1]  # else nearly all would be refused for their end
    spec = StudySpec(
        model=LayersModel.model_validate({"kind": "layers", "layers": layers}),
        dataset=BuiltinDataset(name="synthetic_regression" if outputs == 1 else "synthetic_classification"),
        training=Training(batch_size=batch),
    )
    classes = None if outputs == 1 else outputs
    error = refusal_of(spec, shape, classes)
    if error is not None:
        assert error.pointer.startswith(("/model/layers", "/training/batch_size"))
        # Torch would take these; nothing could be learned.
        senseless = error.code == "nothing_to_train" or "leave nothing of it" in str(error)
        assert senseless or result is None or result.shape != (batch, outputs), (error, result)
        return
    network = fitting(spec, shape, classes)
    assert result is not None
    assert result.shape == (batch, outputs)
    assert network.parameter_count == weights
    built = next(make_networks(spec.model, shape, outputs, [0], torch.float32, "cpu"))
    assert built(rows).shape == (batch, outputs)
    assert layers_line(built) == network.line


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {"name": st.sampled_from(sorted(MODELS))},
        optional={
            "width": st.integers(1, 12), "depth": st.integers(1, 3), "heads": st.integers(1, 4),
            "stages": st.integers(1, 4), "hidden": st.lists(SIZES, max_size=2), "dropout": st.just(0.5),
        },
    ),
    SHAPES, st.integers(1, 4),
)  # fmt: skip
def test_a_ready_made_network_is_what_is_said_of_it(
    options: dict[str, Any], shape: tuple[int, ...], outputs: int
) -> None:
    model = CatalogueModel(**options)
    codes = (3, 2) if model.name == "tabular" and len(shape) == 1 and shape[0] >= 2 else ()
    try:
        network = describe(model, shape, outputs, cardinalities=codes)
    except SpecError as error:
        if error.code not in ("option_not_applicable", "shape_mismatch"):
            raise
        return
    built = next(make_networks(model, shape, outputs, [0], torch.float32, "cpu", cardinalities=codes))
    assert built(torch.zeros(3, *shape)).shape == (3, outputs)
    assert sum(p.numel() for p in built.parameters()) == network.parameter_count
    assert layers_line(built) == network.line


@pytest.mark.parametrize(("width", "depth", "heads"), [(None, None, None), (12, 3, 2)])
def test_a_decoder_is_what_is_said_of_it(width: int | None, depth: int | None, heads: int | None) -> None:
    model = CatalogueModel(name="transformer", width=width, depth=depth, heads=heads)
    spec = StudySpec(model=model, dataset=BuiltinDataset(name="python_docs"))
    decoder = Decoder(40, 16, width or 64, depth or 2, heads or 4)
    network = fitting_text(spec, 40, 16)
    assert network.parameter_count == sum(p.numel() for p in decoder.parameters())
    assert network.line == layers_line(decoder)


def layers(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"model": LayersModel.model_validate({"kind": "layers", "layers": list(rows)})}


FLAT, LINEAR, POOL = (
    {"type": "Flatten"},
    {"type": "Linear", "out_features": 10},
    {"type": "MaxPool2d", "kernel_size": 2},
)
IMAGE, TABLE = (1, 8, 8), (4,)
CONTRADICTIONS: list[tuple[dict[str, Any], tuple[int, ...], str, str]] = [
    ({"model": CatalogueModel(name="cnn")}, TABLE, "/model",
     "the model cnn needs images (such as digits); this data set has 4 plain features"),
    ({"model": CatalogueModel(name="transformer", width=30)}, IMAGE, "/model/heads", "width 30 is not a multiple of heads 4"),
    ({"model": CatalogueModel(name="cnn", depth=4)}, IMAGE, "/model/depth",
     "depth 4 halves the image 4 times; 8 x 8 pixels allow 3"),
    (layers(FLAT, {"type": "Linear", "out_features": 9}), IMAGE, "/model/layers/1",
     "the last layer gives 9 numbers a row; this data set needs 10, one for each class"),
    (layers({"type": "Conv2d", "out_channels": 2, "kernel_size": 9}, FLAT, LINEAR), IMAGE, "/model/layers/0",
     "the kernel 9 is larger than the image of 8 x 8"),
    (layers(LINEAR), IMAGE, "/model/layers/0",
     "Linear needs flat rows, not images of 8 x 8 with 1 channel; put Flatten before it"),
    (layers(POOL, POOL, POOL, POOL, FLAT, LINEAR), IMAGE, "/model/layers/3",
     "the kernel 2 is larger than the image of 1 x 1"),
    (layers({"type": "Conv2d", "out_channels": 10, "kernel_size": 1}), IMAGE, "/model/layers/0",
     "the last layer gives images of 8 x 8 with 10 channels; this data set needs 10, one for each class: end with Flatten and "
     "Linear"),
    (layers({"type": "BatchNorm"}, LINEAR) | {"training": Training(batch_size=1)}, TABLE, "/training/batch_size",
     "a batch norm compares the rows of a batch, and 1 row has no other; take more, or LayerNorm"),
    ({"model": CatalogueModel(name="linear"), "search": Search(techniques={"dropout": [0.1]})}, TABLE,
     "/search/techniques/dropout", "technique dropout does not apply: this model has no place for dropout layers"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "shape", "pointer", "message"), CONTRADICTIONS, ids=[c[3][:40] for c in CONTRADICTIONS]
)
def test_a_contradiction_is_said_in_plain_words(
    asked: dict[str, Any], shape: tuple[int, ...], pointer: str, message: str
) -> None:
    spec = StudySpec(dataset=BuiltinDataset(name="digits"), **asked)
    with pytest.raises(SpecError) as caught:
        fitting(spec, shape, 10)
    assert (caught.value.pointer, str(caught.value)) == (pointer, message)
