"""Networks: the same from a seed, the same alone or stacked, refused with a reason when they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.networks.catalogue import MODELS
from optim_core.nn.dropout import set_step
from optim_core.nn.init import initialise
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import (
    BuiltinDataset,
    CatalogueModel,
    Dataset,
    FileDataset,
    LayersModel,
    Model,
    StudySpec,
    Training,
)
from optim_core.tasks import Problem, build_problem
from optim_core.tasks.layers_line import layers_line
from optim_core.tasks.models import make_networks, outline

CHURN = FileDataset(path=str(Path(__file__).resolve().parents[2] / "examples" / "churn.csv"), target="churned")


def layers(*rows: dict[str, Any]) -> LayersModel:
    return LayersModel.model_validate({"kind": "layers", "layers": list(rows)})


OWN = layers(
    {"type": "Conv2d", "out_channels": 6, "kernel_size": 3, "padding": 1}, {"type": "BatchNorm"}, {"type": "SiLU"},
    {"type": "MaxPool2d", "kernel_size": 2}, {"type": "AvgPool2d", "kernel_size": 2}, {"type": "LayerNorm"},
    {"type": "Flatten"}, {"type": "Dropout", "p": 0.2}, {"type": "Linear", "out_features": 12, "bias": False},
    {"type": "BatchNorm"}, {"type": "Tanh"}, {"type": "Linear", "out_features": 10},
)  # fmt: skip
ROWS = layers(
    {"type": "Conv2d", "out_channels": 4, "kernel_size": 3}, {"type": "GroupNorm", "groups": 2},
    {"type": "GRU", "hidden_size": 6}, {"type": "GroupNorm", "groups": 3}, {"type": "Linear", "out_features": 10},
)  # fmt: skip
MODELS_HERE: dict[str, Model] = {
    **{name: CatalogueModel(name=name) for name in MODELS},  # type: ignore[arg-type]
    **{
        f"{name}-dropout": CatalogueModel(name=name, dropout=0.3, activation="gelu")  # type: ignore[arg-type]
        for name in ("mlp", "cnn", "resnet", "transformer", "tabular")
    },
    **{
        f"{name}-deep": CatalogueModel(name=name, dropout=0.3, depth=2, width=8)  # type: ignore[arg-type]
        for name in ("gru", "lstm")
    },
    "layers": OWN,
    "layers-gru": ROWS,
    "layers-lstm": layers({"type": "LSTM", "hidden_size": 5}, {"type": "Linear", "out_features": 10}),
}


def problem_for(model: Model, data: str = "digits", dtype: torch.dtype = torch.float32, **training: Any) -> Problem:
    dataset: Dataset = BuiltinDataset(name=data)  # type: ignore[arg-type]
    if isinstance(model, CatalogueModel) and model.name == "tabular" and data == "digits":
        dataset = CHURN
    return build_problem(StudySpec(model=model, dataset=dataset, training=Training(**training)), dtype=dtype)


@pytest.mark.parametrize("name", MODELS_HERE)
def test_three_trials_trained_in_one_pack_are_three_trials_trained_alone(name: str) -> None:
    problem = problem_for(MODELS_HERE[name], dtype=torch.float64, label_smoothing=0.1, batch_size=16)
    assert problem.batchable == (True, "")
    alone = [problem.make_model(seed) for seed in range(3)]
    params, buffers = torch.func.stack_module_state([problem.make_model(seed) for seed in range(3)])
    skeleton = outline(problem.spec.model, problem.feature_shape, problem.outputs, cardinalities=problem.cardinalities)
    for step in range(1, 4):
        x, y = problem.train.x[step * 16 :][:16], problem.train.y[step * 16 :][:16]
        set_step(buffers, step)

        def loss(own: dict, state: dict, x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            return problem.loss(torch.func.functional_call(skeleton, (own, state), (x,)), y)

        losses = torch.vmap(loss)(params, buffers)
        grads = dict(zip(params, torch.autograd.grad(losses.sum(), list(params.values())), strict=True))
        params = {key: (value - 0.1 * grads[key]).detach().requires_grad_() for key, value in params.items()}
        for trial, model in enumerate(alone):
            set_step(dict(model.named_buffers()), step)
            single = problem.loss(model(x), y)
            torch.testing.assert_close(losses[trial], single)
            own = dict(model.named_parameters())
            for key, grad in zip(own, torch.autograd.grad(single, list(own.values())), strict=True):
                own[key].data -= 0.1 * grad
    for trial, model in enumerate(alone):
        for key, value in model.named_parameters():
            torch.testing.assert_close(params[key][trial], value)
        for key, value in model.named_buffers():
            torch.testing.assert_close(buffers[key][trial], value)


@pytest.mark.parametrize("name", MODELS_HERE)
def test_a_network_is_a_function_of_its_seed(name: str) -> None:
    problem = problem_for(MODELS_HERE[name])
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = problem.make_model(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    again, other = problem.make_model(5), problem.make_model(6)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
        assert value.dtype != torch.float32 or value.isfinite().all()
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert problem.parameter_count == sum(p.numel() for p in first.parameters())
    assert first.training


def test_weights_start_as_torch_would_start_them() -> None:
    model = next(make_networks(CatalogueModel(name="mlp", hidden=[400]), (100,), 3, [0], torch.float32, "cpu"))
    first = model[0]
    assert isinstance(first, nn.Linear)
    ours, theirs = first.weight, nn.Linear(100, 400).weight
    assert ours.abs().max().item() <= 0.1
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.02)


def test_a_network_in_double_precision_starts_at_the_same_weights() -> None:
    single, double = (next(make_networks(OWN, (1, 8, 8), 10, [3], t, "cpu")) for t in (torch.float32, torch.float64))
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(a.double(), b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_one_after_the_other_are_those_of_their_seeds(dtype: torch.dtype) -> None:
    layers = [
        {"type": "Conv2d", "out_channels": 3, "kernel_size": 3}, {"type": "BatchNorm"}, {"type": "Dropout", "p": 0.3},
        {"type": "Flatten"}, {"type": "Linear", "out_features": 10},
    ]  # fmt: skip
    raw = {"model": {"kind": "layers", "layers": layers}, "dataset": {"kind": "builtin", "name": "digits"}}
    problem, seeds = build_problem(StudySpec.model_validate(raw), dtype=dtype), [3, 5, 3]
    for seed, network in zip(seeds, problem.make_models(seeds), strict=True):
        alone = problem.make_model(seed).state_dict()
        found = network.state_dict()
        assert found.keys() == alone.keys()
        assert all(torch.equal(x, alone[name]) for name, x in found.items())
        assert len({p.dtype for p in network.parameters()} - {dtype}) == 0
        with torch.no_grad():
            for x in network.state_dict().values():
                x.fill_(7)


def test_a_module_without_a_rule_is_not_left_uninitialised() -> None:
    with pytest.raises(TypeError, match="Bilinear"):
        initialise(nn.Sequential(nn.Bilinear(2, 2, 2)), torch.Generator())


@pytest.mark.parametrize("name", ["linear", "mlp", "transformer", "gru", "lstm", "tabular"])
@pytest.mark.parametrize("data", ["diabetes", "wine"])
def test_plain_tables_fit_the_plain_models(name: Any, data: str) -> None:
    problem = problem_for(CatalogueModel(name=name), data)
    model = problem.make_model(0)
    assert model(problem.train.x[:4]).shape == (4, problem.outputs)
    assert problem.loss(model(problem.train.x[:4]), problem.train.y[:4]).shape == ()


LINEAR = {"type": "Linear", "out_features": 10}
REFUSED: list[tuple[Model, str, str]] = [
    (CatalogueModel(name="linear", hidden=[3]), "option_not_applicable", "/model/hidden"),
    (CatalogueModel(name="cnn", heads=2), "option_not_applicable", "/model/heads"),
    (CatalogueModel(name="cnn", depth=4), "shape_mismatch", "/model/depth"),
    (CatalogueModel(name="transformer", width=30, heads=4), "shape_mismatch", "/model/heads"),
    (CatalogueModel(name="mlp", hidden=[8192] * 3), "model_too_large", "/model"),
    (CatalogueModel(name="gru", hidden=[3]), "option_not_applicable", "/model/hidden"),
    (CatalogueModel(name="lstm", activation="gelu"), "option_not_applicable", "/model/activation"),
    (layers({"type": "GroupNorm", "groups": 2}, LINEAR), "shape_mismatch", "/model/layers/0"),
    (layers({"type": "Flatten"}, {"type": "GroupNorm", "groups": 64}, LINEAR), "shape_mismatch", "/model/layers/1"),
    (layers({"type": "Flatten"}, {"type": "GRU", "hidden_size": 4}, LINEAR), "shape_mismatch", "/model/layers/1"),
    (layers({"type": "LSTM", "hidden_size": 8192}, LINEAR), "model_too_large", "/model/layers/0"),
    (layers(LINEAR), "shape_mismatch", "/model/layers/0"),
    (layers({"type": "Flatten"}, {"type": "ReLU"}), "nothing_to_train", "/model/layers"),
    (layers({"type": "Flatten"}, {"type": "Linear", "out_features": 7}), "shape_mismatch", "/model/layers/1"),
    (layers({"type": "MaxPool2d", "kernel_size": 9}, LINEAR), "shape_mismatch", "/model/layers/0"),
    (layers({"type": "Flatten"}, {"type": "Conv2d", "out_channels": 2, "kernel_size": 1}), "shape_mismatch",
     "/model/layers/1"),
    (layers({"type": "Conv2d", "out_channels": 2, "kernel_size": 2, "padding": 2}, {"type": "Flatten"}, LINEAR),
     "shape_mismatch", "/model/layers/0"),
    (layers({"type": "Flatten"}, *[{"type": "Linear", "out_features": 65536}] * 2, LINEAR), "model_too_large",
     "/model/layers/2"),
    (layers({"type": "Conv2d", "out_channels": 65536, "kernel_size": 1, "padding": 0}, *[{"type": "ReLU"}] * 12,
            {"type": "Flatten"}, LINEAR), "model_too_large", "/model/layers/11"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "code", "pointer"), REFUSED)
def test_models_that_do_not_fit_images(model: Model, code: str, pointer: str) -> None:
    with pytest.raises(SpecError) as caught:
        problem_for(model)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_image_models_refuse_plain_tables(name: Any) -> None:
    with pytest.raises(SpecError, match="needs images") as caught:
        problem_for(CatalogueModel(name=name), "iris")
    assert (caught.value.code, caught.value.pointer) == ("shape_mismatch", "/model")


@pytest.mark.parametrize("name", ["gru", "lstm", "transformer"])
def test_rows_of_too_many_features_are_refused(name: Any) -> None:
    with pytest.raises(SpecError, match="takes at most 1,024") as caught:
        outline(CatalogueModel(name=name), (1025,), 2)
    assert (caught.value.code, caught.value.pointer) == ("model_too_large", "/model")


def test_a_recurrent_layer_refuses_images_of_too_many_rows() -> None:
    with pytest.raises(SpecError, match="takes at most 1,024") as caught:
        outline(layers({"type": "GRU", "hidden_size": 2}, {"type": "Linear", "out_features": 2}), (1, 1025, 2), 2)
    assert (caught.value.code, caught.value.pointer) == ("model_too_large", "/model/layers/0")


def test_a_network_in_a_line() -> None:
    network = torch.nn.Sequential(
        torch.nn.Embedding(9, 4),
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.Identity(),
        *[torch.nn.Linear(4, 4)] * 2,
        torch.nn.ReLU(),
    )
    assert layers_line(network) == "Embedding 9→4, Conv2d 3→8, Linear 4→4, ReLU"
    twice = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    assert layers_line(twice) == "2 × Linear 4→4, Linear 4→2"
    deep = torch.nn.Sequential(*[layer for i in range(2, 22) for layer in (torch.nn.Linear(i, i + 1), torch.nn.ReLU())])
    assert layers_line(deep).endswith("… (40 layers)")
    assert layers_line(deep).count(",") == 10
