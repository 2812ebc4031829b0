"""Roles that registration does not show: what was guessed is said where it matters, and only there."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from torch import nn

from optim_core.networks.catalogue import MODELS
from optim_core.spec.problem import CatalogueModel
from optim_core.tasks.models import outline
from optim_core.transforms.roles import look_at, roles_of
from optim_core.transforms.torch_adapter import build_optimizer
from tests.unit.role_models import (
    IDS,
    Blocks,
    ByHand,
    Critic,
    D,
    Factors,
    Heads,
    Language,
    Mixture,
    Pixels,
    TiedByHand,
    Vision,
    X,
    built,
    mlp,
)


def warned(name: str, model: nn.Module, **kwargs: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build_optimizer(name, model, **kwargs)
    return [str(one.message) for one in caught]


UNSURE = {
    "tied by hand": (TiedByHand(), IDS, "body.2.weight as matrix (or head)"),
    "a head registered first": (Vision("verdict"), X, "linear2.weight as head (or matrix)"),
    "a layer by hand": (ByHand(), X, "inner as embedding (or matrix)"),
}


@pytest.mark.parametrize("case", UNSURE)
@pytest.mark.parametrize("name", ["muon", "apollo_mini", "lookahead(muon)"])
def test_a_guess_that_matters_is_said_and_the_example_or_roles_settle_it(name: str, case: str) -> None:
    model, example, words = UNSURE[case]
    (message,) = warned(name, model)
    assert words in message
    assert "example_input=" in message
    assert not warned(name, model, example_input=example)
    known = {n: one.role for n, one in look_at(model).known.items() if one.maybe is not None}
    assert not warned(name, model, roles=known)


@pytest.mark.parametrize("case", UNSURE)
@pytest.mark.parametrize("name", ["adamw", "soap", "shampoo", "psgd_kron", "lion", "lbfgs"])
def test_a_guess_on_which_nothing_depends_is_not_said(name: str, case: str) -> None:
    assert not warned(name, UNSURE[case][0])


def test_a_technique_for_the_head_makes_a_guess_matter() -> None:
    assert len(warned("adamw", Vision("verdict"), techniques={"agc": 0.1})) == 1
    model = Vision("verdict")
    model.body.requires_grad_(False)
    model.get_submodule("verdict").requires_grad_(False)
    assert not warned("adamw", model, techniques={"agc": 0.1}), "what is frozen is not trained wrongly"


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)),
        nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4)),
        nn.ModuleList([nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)]),
        nn.Sequential(Factors(D), nn.ReLU(), Factors(2)),
        nn.Linear(3, 2),
        nn.LSTM(3, 4),
        Language(tied=True, first=False),
        Language(tied=False, first=True),
        Blocks(2),
        Heads(),
        Critic(apart=True),
        Critic(apart=False),
        Pixels(),
        Mixture(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_clear_head_is_not_worth_a_word(model: nn.Module) -> None:
    assert not warned("muon", model)


@pytest.mark.parametrize("name", MODELS)
def test_the_networks_of_the_catalogue_are_clear(name: Any) -> None:
    model = outline(
        CatalogueModel(name=name), (3, 8, 8) if name in ("cnn", "resnet") else (7,), 3, cardinalities=(3, 4)
    )
    assert not [n for n, one in look_at(model).known.items() if one.maybe is not None]


TASKS = {"age": nn.Linear(16, 1), "sex": nn.Linear(16, 2)}
TRUNK = {"l1": nn.Linear(8, 16), "l2": nn.Linear(16, 16)}
# Registered in another order than used → what is said. Sizes show it.
MISPLACED = {
    "policy and value first": (
        built(value=nn.Linear(16, 1), policy=nn.Linear(16, 3), body=mlp(8, 16, 16)),
        {"value.weight", "policy.weight", "body.2.weight"},
    ),
    "flat": (
        built(value=nn.Linear(16, 1), policy=nn.Linear(16, 3), **TRUNK),
        {"value.weight", "policy.weight", "l2.weight"},
    ),
    **{
        name: (built(**{name: nn.Linear(16, 3)}, **TRUNK), {f"{name}.weight", "l2.weight"})
        for name in ("readout", "proj", "out", "z")
    },
    "layers in a list": (
        built(out=nn.Linear(16, 3), layers=nn.ModuleList(TRUNK.values())),
        {"out.weight", "layers.1.weight"},
    ),
    "the second layer first": (
        built(layer2=nn.Linear(16, 3), layer1=nn.Linear(8, 16)),
        {"layer2.weight", "layer1.weight"},
    ),
    "tasks first": (
        built(tasks=nn.ModuleDict(TASKS), trunk=mlp(8, 16, 16)),
        {"tasks.age.weight", "tasks.sex.weight", "trunk.2.weight"},
    ),
    "the decoder first": (built(dec=mlp(4, 16, 8), enc=mlp(8, 16, 4)), {"dec.2.weight", "enc.2.weight"}),
    "scores between": (
        built(stem=nn.Linear(8, 32), aux=nn.Linear(32, 5), body=nn.Linear(32, 64), out=nn.Linear(64, 7)),
        {"aux.weight"},
    ),
    "networks of other inputs": (built(a=mlp(8, 16, 1), b=mlp(5, 16, 2)), {"a.2.weight"}),
    "a wide one beside a deep one": (built(wide=nn.Linear(99, 1), deep=mlp(20, 32, 1)), {"wide.weight"}),
}


@pytest.mark.parametrize("case", MISPLACED)
def test_parts_that_cannot_stand_where_they_are_registered_are_said_once(case: str) -> None:
    model, doubted = MISPLACED[case]
    (message,) = warned("muon", model)
    taken = message.partition("Taken were ")[2].partition(". To settle")[0]
    assert {one.split(" as ")[0] for one in taken.split(", ")} == doubted
    assert not warned("adamw", model)
    known = look_at(model).known
    assert not warned("muon", model, roles={name: known[name].role for name in doubted})


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (built(user=mlp(8, 16, 16), item=mlp(8, 16, 16)), {"user.2.weight", "item.2.weight"}),
        (built(online=mlp(8, 16, 4), target=mlp(8, 16, 4)), {"online.2.weight", "target.2.weight"}),
        (
            built(generator=mlp(8, 16, 16), discriminator=mlp(8, 16, 16)),
            {"generator.2.weight", "discriminator.2.weight"},
        ),
        (built(trunk=mlp(8, 16, 16), tasks=nn.ModuleDict(TASKS)), {"tasks.age.weight", "tasks.sex.weight"}),
        (built(trunk=mlp(8, 16, 16), tasks=nn.ModuleList(TASKS.values())), {"tasks.0.weight", "tasks.1.weight"}),
        (built(q1=mlp(10, 32, 1), q2=mlp(10, 32, 1)), {"q1.2.weight", "q2.2.weight"}),
    ],
)
def test_networks_beside_each_other_and_tasks_have_each_its_head(model: nn.Module, expected: set[str]) -> None:
    assert {name for name, role in roles_of(model).items() if role == "head"} == expected
    assert not warned("muon", model)


PLAIN = {
    "layers": built(**TRUNK, l3=nn.Linear(16, 3)),
    "as many out as in": built(l1=nn.Linear(8, 64), l2=nn.Linear(64, 64), l3=nn.Linear(64, 8)),
    "squares": built(a=nn.Linear(16, 16), b=nn.Linear(16, 16)),
    "convolutions": built(c1=nn.Conv2d(1, 32, 3), c2=nn.Conv2d(32, 64, 3), l1=nn.Linear(9216, 128), l2=nn.Linear(128, 10)),
    "autoencoder": built(encoder=mlp(8, 16, 4), decoder=mlp(4, 16, 8)),
    "variational": built(enc=mlp(8, 32, 16), mu=nn.Linear(16, 2), logvar=nn.Linear(16, 2), dec=mlp(2, 16, 8)),
    "recurrent": built(proj=nn.Linear(8, 16), rnn=nn.LSTM(16, 32), out=nn.Linear(32, 3)),
    "state and action": built(state=mlp(8, 16), q1=nn.Linear(18, 32), q2=nn.Linear(32, 1)),
    "two inputs": built(a=mlp(8, 16), b=mlp(5, 12), top=mlp(28, 16, 1)),
    "pairs": built(enc=mlp(8, 16, 16), top=nn.Linear(48, 1)),
    "adversarial": built(g=mlp(4, 8, 2), d=mlp(2, 8, 1)),
    "tables": built(emb=nn.ModuleList([nn.Embedding(9, 16)]), bottom=mlp(13, 64, 16), top=mlp(22, 32, 1)),
    "blocks": built(
        stem=nn.Linear(8, 32), blocks=nn.ModuleList([built(a=nn.Linear(32, 64), b=nn.Linear(64, 32))] * 2), out=nn.Linear(32, 3)
    ),
    "transformer": built(
        tokens=nn.Embedding(50, 16),
        body=nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2),
        out=nn.Linear(16, 50),
    ),
    "u-net": built(
        d1=nn.Conv2d(1, 8, 3), d2=nn.Conv2d(8, 16, 3), up=nn.ConvTranspose2d(16, 8, 2), c=nn.Conv2d(16, 8, 3),
        out=nn.Conv2d(8, 2, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLAIN)
def test_networks_registered_as_they_are_used_are_not_worth_a_word(case: str) -> None:
    assert not warned("muon", PLAIN[case])
