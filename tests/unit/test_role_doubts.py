"""Roles that registration does not show: what was guessed is said where it matters, and only there."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from torch import nn

from optim_core.spec.problem import CatalogueModel
from optim_core.tasks.models import outline
from optim_core.tasks.models.catalogue import MODELS
from optim_core.transforms.roles import look_at
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
