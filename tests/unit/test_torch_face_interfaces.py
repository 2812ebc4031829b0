"""The ways in which people build torch's optimizers, and what they expect of any of them afterwards."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.torch_adapter import build_optimizer

GRADIENT = [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def go(model: nn.Module, optimizer: Any, steps: int = 3, sign: float = 1.0) -> Tensor:
    g = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(8, 3, generator=g)

        def closure(x: Tensor = x) -> Tensor:
            optimizer.zero_grad()
            loss = sign * (model(x) - 1).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("name", ["adamw", "lion", "lamb", "prodigy"])
def test_model_named_parameters_and_parameters_train_alike(name: str) -> None:
    ends = []
    for source in (lambda m: m, lambda m: m.named_parameters(), lambda m: m.parameters()):
        model = network()
        ends.append(go(model, build_optimizer(name, source(model))))
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_param_groups_stay_as_they_are_given() -> None:
    model = network()
    body = [("body.weight", model[0].weight), ("body.bias", model[0].bias)]
    head = [("head.weight", model[2].weight), ("head.bias", model[2].bias)]
    given = [
        {"params": body, "lr": 0.1, "weight_decay": 0.5, "name": "body"},
        {"params": head, "betas": (0.5, 0.6)},
    ]
    first, second = build_optimizer("adamw", given, lr=0.2, weight_decay=0.3).param_groups
    assert (first["lr"], first["base_lr"], first["weight_decay"], first["betas"]) == (0.1, 0.1, 0.5, (0.9, 0.999))
    assert (second["lr"], second["base_lr"], second["weight_decay"], second["betas"]) == (0.2, 0.2, 0.3, (0.5, 0.6))
    assert first["name"] == "body"
    assert second["param_names"] == ["head.weight", "head.bias"]


def test_param_groups_train_as_torchs_do() -> None:
    ends = []
    for make in (lambda g: build_optimizer("adamw", g, lr=0.01), lambda g: torch.optim.AdamW(g, lr=0.01)):
        model = network()
        groups = [{"params": model[0].parameters(), "lr": 0.1, "weight_decay": 0.5}, {"params": model[2].parameters()}]
        ends.append(go(model, make(groups)))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"lr": -1.0}, "lr must be finite"),
        ({"betas": (0.9,)}, "beta1, beta2"),
        ({"betas": (0.9, 0.9), "beta1": 0.5}, "together or one by one"),
        ({"beta2": 1.0}, r"beta2 must be in \[0, 1\)"),
    ],
)
def test_the_values_of_a_group_are_checked_like_any(group: dict, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build_optimizer("adamw", [{"params": [nn.Parameter(torch.zeros(2))], **group}])


@pytest.mark.parametrize(
    "source", [torch.zeros(2, 2), [1.0], [torch.zeros(2), {"params": []}]], ids=["tensor", "number", "mix"]
)
def test_what_is_no_model_and_no_list_of_weights_is_refused(source: Any) -> None:
    with pytest.raises(SpecError, match=r"model\.parameters\(\)"):
        build_optimizer("sgd", source)


@pytest.mark.parametrize("lr", [torch.tensor(0.03), np.float64(0.03), np.float32(0.03), np.array([0.03])], ids=type)
@pytest.mark.parametrize("name", ["sgd", "adamw", "lion"])
def test_a_rate_may_be_a_tensor_or_of_numpy(name: str, lr: Any) -> None:
    ends = [
        go(model, build_optimizer(name, model, lr=rate)) for model, rate in ((network(), lr), (network(), lr.item()))
    ]
    assert torch.equal(*ends)


def test_a_rate_set_to_a_tensor_later_counts_also_when_it_changes_in_place() -> None:
    model = network()
    optimizer = build_optimizer("sgd", [*model.parameters()], lr=1.0)
    rate = torch.tensor(0.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    assert torch.equal(go(model, optimizer), before)
    rate.fill_(0.1)
    assert not torch.equal(go(model, optimizer), before)


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if "beta1" in OPTIMIZERS[n].defaults()])
def test_betas_as_torch_spells_them(name: str) -> None:
    names = [key for key in ("beta1", "beta2", "beta3") if key in OPTIMIZERS[name].defaults()]
    betas = (0.8, 0.9, 0.95)[: len(names)]
    one_by_one, together = network(), network()
    first = build_optimizer(name, one_by_one, **dict(zip(names, betas, strict=True)))
    second = build_optimizer(name, together, betas=betas)
    # Muon's momentum is what schedulers cycle, so its betas stand one by one.
    assert second.param_groups[0].get("betas", betas) == betas
    assert torch.equal(go(one_by_one, first), go(together, second))


@pytest.mark.parametrize("name", [*GRADIENT, "lbfgs", "pso"])
def test_maximize_goes_uphill_as_far_as_the_other_way_down(name: str) -> None:
    # Decay pulls to zero either way.
    ends = []
    for sign in (1.0, -1.0):
        model = network()
        ends.append(go(model, build_optimizer(name, model, maximize=sign < 0, weight_decay=0.1), 2, sign))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_can_be_told_to_evaluate_and_to_train_and_says_what_it_is(name: str) -> None:
    model = network()
    optimizer = build_optimizer(name, model)
    assert repr(optimizer).startswith(f"{name} (")
    go(model, optimizer, 1)
    trained = nn.utils.parameters_to_vector(model.parameters()).detach()
    optimizer.eval()
    optimizer.eval()
    optimizer.train()
    optimizer.train()
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), trained)
    twin = pickle.loads(pickle.dumps(optimizer))
    assert repr(twin) == repr(optimizer)
    assert repr(copy.deepcopy(optimizer)) == repr(optimizer)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("lookahead", {"lookahead_alpha": 3.0}, r"lookahead_alpha must be in \[0, 1\]"),
        ("shampoo", {"grafting": 7.0}, "grafting must be true or false"),
        ("schedule_free_adamw", {"beta1": 0.0}, "beta1 must be between 0 and 1"),
        ("schedule_free_sgd", {"momentum": 0.0}, "momentum must be between 0 and 1"),
        ("adabound", {"gamma": 0.0}, "gamma must be finite and above 0"),
        ("adafactor", {"d": 0.0}, "d must be finite and above 0"),
        ("lookahead", {"lookahead_k": 2.5}, "lookahead_k must be a whole number from 1"),
        ("soap", {"precondition_frequency": 0}, "precondition_frequency must be a whole number from 1"),
        ("rmsprop", {"centered": 0.5}, "centered must be true or false"),
    ],
)
def test_values_that_make_no_step_are_refused(name: str, values: dict, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build_optimizer(name, network(), **values)


def zeroes() -> list[tuple[str, str]]:
    return [
        (name, hyper.name)
        for name in GRADIENT
        for hyper in OPTIMIZERS[name].hyperparameters
        if hyper.sample_as != "flag"
    ]


@pytest.mark.parametrize(("name", "key"), zeroes())
def test_zero_is_refused_or_leaves_the_weights_finite(name: str, key: str) -> None:
    model = network()
    try:
        optimizer = build_optimizer(name, model, **{key: 0.0})
    except SpecError:
        return
    assert bool(go(model, optimizer, 12).isfinite().all())
    optimizer.eval()
    assert bool(nn.utils.parameters_to_vector(model.parameters()).isfinite().all())


def test_adabounds_band_is_that_of_the_added_groups_own_rate() -> None:
    apart, added = network(), network()
    both = build_optimizer(
        "adabound", [{"params": [*apart[0].parameters()]}, {"params": [*apart[2].parameters()], "lr": 0.1}]
    )
    later = build_optimizer("adabound", [{"params": [*added[0].parameters()]}])
    later.add_param_group({"params": [*added[2].parameters()], "lr": 0.1})
    assert later.param_groups[1]["base_lr"] == 0.1
    assert torch.equal(go(apart, both), go(added, later))


@pytest.mark.parametrize("name", ["adamw", "muon", "lion"])
def test_a_group_without_names_may_join_those_that_have_them(name: str) -> None:
    model = network()
    optimizer = build_optimizer(name, model[0])
    optimizer.add_param_group({"params": model[2].parameters()})
    end = go(model, optimizer)
    assert optimizer.param_groups[-1]["param_names"] == [
        f"group{len(optimizer.param_groups) - 1}.{i}" for i in range(2)
    ]
    twin = build_optimizer(name, network()[0])
    twin.add_param_group({"params": network()[2].parameters()})
    twin.load_state_dict(optimizer.state_dict())
    assert bool(end.isfinite().all())


@pytest.mark.parametrize("name", ["adamw", "muon", "lion"])
def test_an_added_group_may_say_its_values_in_every_way_the_first_may(name: str) -> None:
    spelled: list[dict[str, Any]] = [
        {"lr": 0.02, "beta1": 0.7, "beta2": 0.8},
        {"lr": torch.tensor(0.02, dtype=torch.float64), "betas": (0.7, 0.8)},
    ]
    ends = []
    for values in spelled:
        model = network()
        optimizer = build_optimizer(name, model[0])
        optimizer.add_param_group({"params": model[2].parameters(), **values})
        ends.append(go(model, optimizer))
    assert torch.equal(*ends)
    with pytest.raises(SpecError, match="lr must be finite"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "lr": -1.0})


# The compiler looks for a gradient of the loss that torch's hooks hand back.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", ["adamw", "muon", "sam", "lookahead", "schedule_free_adamw", "lbfgs", "slsqp"])
@pytest.mark.parametrize("whole", [False, True], ids=["the step", "a function around it"])
def test_a_compiled_step_is_the_step(name: str, whole: bool) -> None:
    ends = []
    for compiled in (lambda f: f, lambda f: torch.compile(f, backend="eager")):
        torch.compiler.reset()
        model = network()
        optimizer = build_optimizer(name, model)

        def closure(model: nn.Module = model, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = (model(torch.ones(2, 3)) - 1).square().mean()
            loss.backward()
            return loss

        def step(closure: Any = closure, optimizer: Any = optimizer) -> Tensor:
            optimizer.train()
            optimizer.step(closure)
            optimizer.eval()
            return closure() * 2

        take = compiled(step) if whole else compiled(optimizer.step)
        for _ in range(3):
            take(closure)
        ends.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    assert torch.equal(*ends)
