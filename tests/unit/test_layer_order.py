"""Learning rates by layer: which layers a network has, from input to output, and what is the head's."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from optim_core.networks.catalogue import MODELS
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import CatalogueModel
from optim_core.tasks.models import outline
from optim_core.transforms.groups import groups_of
from optim_core.transforms.roles import look_at
from optim_core.transforms.torch_adapter import build_optimizer
from tests.unit.role_models import Blocks, Heads, Language, Vision, X


def test_a_head_registered_first_has_all_hidden_layers_below_it() -> None:
    model = Vision()
    rows = groups_of(model, ["layer_decay"])
    assert rows.rows[rows.index["head.weight"]].above == 0
    below = [rows.rows[rows.index[f"body.layers.0.{n}.weight"]].above for n in ("linear1", "linear2")]
    assert below[0] > below[1] > 0


def above(model: nn.Module, example: Any = None) -> dict[str, int]:
    rows = groups_of(model, ["layer_decay"], look_at(model, example))
    return {name: rows.rows[i].above for name, i in rows.index.items()}


@pytest.mark.parametrize("example", [None, X], ids=["registered", "used"])
def test_layers_are_the_blocks_of_a_transformer(example: Tensor | None) -> None:
    found = above(Blocks(), example)
    expected = {"head": 0, "norm": 0, "patch_embed": 13, "cls_token": 13, "pos_embed": 13}
    for name, layers in found.items():
        top, _, rest = name.partition(".")
        assert layers == (12 - int(rest.partition(".")[0]) if top == "blocks" else expected[top]), name
    rates = {g["lr"] for g in build_optimizer("adamw", Blocks(), lr=1.0, techniques={"layer_decay": 0.75}).param_groups}
    assert rates == {0.75**i for i in range(14)}


def test_the_order_of_blocks_is_that_of_use_where_it_was_seen() -> None:
    model = Blocks(3, first=True, head="verdict")
    found = above(model, X)
    layers = {
        top: {v for n, v in found.items() if f"{n}.".startswith(f"{top}.")}
        for top in ("verdict", "norm", "patch_embed")
    }
    assert layers == {"verdict": {0}, "norm": {0}, "patch_embed": {4}}
    assert found["blocks.0.linear1.weight"] == 3
    model.blocks = nn.ModuleList(reversed(list(model.blocks)))
    assert above(model, X)["blocks.0.linear1.weight"] == 3


def test_layers_of_other_networks() -> None:
    plain = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert [above(plain)[f"{i}.weight"] for i in (0, 1, 3, 5)] == [2, 2, 1, 0]
    stage = [nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)) for _ in range(n))) for n in (2, 3)]
    nested = nn.Sequential(nn.Conv2d(1, 4, 3), *stage, nn.Linear(4, 2))
    assert [above(nested)[n] for n in ("0.weight", "1.0.0.weight", "1.1.1.bias", "2.0.0.weight", "2.2.0.weight", "3.bias")] == [
        6, 5, 4, 3, 1, 0,
    ]  # fmt: skip
    both = above(Heads(), X)
    assert [both[f"{n}.weight"] for n in ("body.0", "body.2", "heads.size.0", "heads.size.1", "heads.kind")] == [
        3,
        2,
        1,
        0,
        0,
    ]
    tied = above(Language(tied=True, first=True))
    assert tied["lm_head.weight"] > tied["hidden.weight"]


@pytest.mark.parametrize("model", [Language(tied=True, first=False), nn.LSTM(3, 4)], ids=["tied", "no output layer"])
def test_a_rate_of_the_head_is_refused_where_there_is_none(model: nn.Module) -> None:
    with pytest.raises(SpecError, match="head_lr needs a head of its own") as caught:
        build_optimizer("adamw", model, techniques={"head_lr": 3.0})
    assert caught.value.code == "option_not_applicable"


def test_a_rate_of_a_tied_head_is_set_where_it_is_named() -> None:
    model = Language(tied=True, first=False)
    optimizer = build_optimizer("adamw", model, lr=0.1, techniques={"head_lr": 3.0}, roles={"lm_head.weight": "head"})
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(model.tokens.weight)] == pytest.approx(0.3)


@pytest.mark.parametrize("name", MODELS)
def test_the_engine_and_the_torch_face_have_the_same_groups(name: Any) -> None:
    shape = (3, 8, 8) if name in ("cnn", "resnet") else (7,)
    model = outline(CatalogueModel(name=name), shape, 3, cardinalities=(3, 4))
    techniques = {"layer_decay": 0.5, "head_lr": 3.0}
    groups = groups_of(model, list(techniques))
    hypers = groups.hypers({"lr": 0.1, "base_lr": 0.1, "weight_decay": 0.01, **techniques})
    optimizer = build_optimizer("adamw", model, lr=0.1, weight_decay=0.01, techniques=techniques)
    theirs = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    for weight, p in model.named_parameters():
        own = hypers[groups.index[weight]]
        assert theirs[id(p)] == pytest.approx((own["lr"], own["weight_decay"])), weight


def test_the_blocks_of_the_engines_transformer() -> None:
    found = above(outline(CatalogueModel(name="transformer"), (7,), 3, cardinalities=()))
    layers = list(dict.fromkeys(found.values()))
    # Tokens; attention and feed-forward, twice; norm and head.
    assert layers == [5, 4, 3, 2, 1, 0]
