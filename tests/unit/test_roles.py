"""What each weight of a network is: by how modules are registered, by one forward pass, and as the caller says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from optim_core.networks.catalogue import MODELS
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import CatalogueModel
from optim_core.tasks.models import outline
from optim_core.transforms.groups import groups_of
from optim_core.transforms.order_of_use import uses_of
from optim_core.transforms.roles import decaying, look_at, roles_of
from optim_core.transforms.torch_adapter import build_optimizer
from tests.unit.role_models import (
    IDS,
    IMAGE,
    X4,
    ByHand,
    Critic,
    D,
    Factors,
    Heads,
    Language,
    Mixture,
    Pixels,
    Roles,
    TiedByHand,
    Vision,
    X,
    heads,
    hidden,
)


# What was found was wrong in every line that is not said to be as before.
@pytest.mark.parametrize("example", [None, IDS], ids=["registered", "used"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_is_the_embedding_and_a_head_is_found_wherever_it_is_registered(
    tied: bool, first: bool, example: Tensor | None
) -> None:
    roles = roles_of(Language(tied=tied, first=first), example)
    shared = "lm_head.weight" if first else "tokens.weight"
    assert hidden(roles) == {"hidden.weight"}
    assert heads(roles) == (set() if tied else {"lm_head.weight"})
    assert roles[shared if tied else "tokens.weight"] == "embedding"


@pytest.mark.parametrize("example", [None, X], ids=["registered", "used"])
@pytest.mark.parametrize("head", ["head", "fc", "classifier", "mlp_head"])
def test_tokens_positions_and_prompts_are_no_matrices(head: str, example: Tensor | None) -> None:
    roles = roles_of(Vision(head), example)
    assert heads(roles) == {f"{head}.weight"}
    inner = {"self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"}
    assert hidden(roles) == {f"body.layers.0.{name}" for name in inner}
    assert [roles[n] for n in ("cls_token", "pos_embed", "table", "prompts.0")] == ["vector", *["embedding"] * 3]


def test_an_unusual_name_of_a_head_registered_first_needs_the_example() -> None:
    assert heads(roles_of(Vision("verdict"))) == {"body.layers.0.linear2.weight"}
    assert heads(roles_of(Vision("verdict"), X)) == {"verdict.weight"}


@pytest.mark.parametrize("example", [None, X], ids=["registered", "used"])
def test_every_task_has_its_head(example: Tensor | None) -> None:
    roles = roles_of(Heads(), example)
    assert heads(roles) == {"heads.kind.weight", "heads.size.1.weight"}
    assert hidden(roles) == {"heads.size.0.weight", "body.0.weight", "body.2.weight"}


def test_what_is_called_fc_but_feeds_another_layer_is_no_head() -> None:
    net = nn.Sequential()
    for name, layer in {"conv": nn.Conv2d(1, 2, 3), "fc": nn.Linear(8, 5), "out": nn.Linear(5, 3)}.items():
        net.add_module(name, layer)
    assert heads(roles_of(net)) == {"out.weight"}
    wrapped = nn.Module()
    wrapped.add_module("module", Vision("classifier"))
    assert heads(roles_of(wrapped)) == {"module.classifier.weight"}


def test_a_hand_written_layer_is_known_by_its_use() -> None:
    expected = {"inner": "matrix", "scale": "embedding", "norm.weight": "norm", "norm.bias": "norm"}
    assert roles_of(ByHand(), X) == {**expected, "leaf.kernel": "head"}
    assert roles_of(ByHand()) == {**expected, "inner": "embedding", "leaf.kernel": "matrix"}


def test_the_layers_of_torch_own_what_is_theirs() -> None:
    attention = nn.MultiheadAttention(D, 2, add_bias_kv=True, kdim=4)
    roles = roles_of(attention)
    assert hidden(roles) | heads(roles) == {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"}
    assert roles["bias_k"] == roles["bias_v"] == "vector"
    for cell in (nn.LSTM(D, 3, 2, proj_size=2), nn.GRU(D, 3, bidirectional=True), nn.RNN(1, 3), nn.LSTMCell(D, 3)):
        # Also with one number in, as of a linear layer.
        expected = {n for n, p in cell.named_parameters() if p.ndim == 2}
        assert hidden(roles_of(cell)) == expected
    for layer in (nn.Bilinear(3, 4, 5), nn.ConvTranspose2d(3, 5, 2)):
        assert roles_of(layer)["weight"] == "head"
        assert roles_of(nn.ModuleList([layer, nn.Linear(5, 2)]))["0.weight"] == "matrix"
    narrow = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 1))
    assert roles_of(narrow) == {"0.weight": "matrix", "0.bias": "vector", "1.weight": "head", "1.bias": "vector"}


class LowRank(nn.Module):
    """W + B·A as a parametrization, as adapters do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(2, D)), nn.Parameter(torch.zeros(D, 2))

    def forward(self, w: Tensor) -> Tensor:
        return w + self.b @ self.a


def low_rank(layer: nn.Linear) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", LowRank())


@pytest.mark.parametrize("example", [None, X], ids=["registered", "used"])
@pytest.mark.parametrize(
    ("wrap", "parts"),
    [
        (parametrizations.weight_norm, {"original0": "vector", "original1": "same"}),
        (parametrizations.spectral_norm, {"original": "same"}),
        (parametrizations.orthogonal, {"original": "same"}),
        (low_rank, {"original": "same", "0.a": "same", "0.b": "same"}),
    ],
    ids=["weight_norm", "spectral_norm", "orthogonal", "low_rank"],
)
def test_what_a_weight_is_calculated_from_is_part_of_its_layer(
    wrap: Callable[[nn.Linear], nn.Module], parts: Roles, example: Tensor | None
) -> None:
    model = nn.Sequential(wrap(nn.Linear(D, D)), nn.Tanh(), wrap(nn.Linear(D, D)))
    expected: dict[str, str] = {}
    for layer, same in (("0", "matrix"), ("2", "head")):
        expected[f"{layer}.bias"] = "vector"
        expected |= {f"{layer}.parametrizations.weight.{n}": same if r == "same" else r for n, r in parts.items()}
    assert roles_of(model, example) == expected
    rows = groups_of(model, ["head_lr"])
    assert {n for n, i in rows.index.items() if rows.rows[i].head} == {n for n in expected if n.startswith("2.")}


class Adapter(nn.Module):
    """A frozen layer and beside it two small ones, as PEFT's."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_a, self.lora_b = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.lora_b(self.lora_a(x))


@pytest.mark.parametrize("example", [None, IDS], ids=["registered", "used"])
def test_adapters_inside_do_not_hide_the_head(example: Tensor | None) -> None:
    model = Language(tied=False, first=True)
    model.hidden = Adapter(model.hidden)  # type: ignore[assignment]
    assert heads(roles_of(model, example)) == {"lm_head.weight"}
    assert hidden(roles_of(model, example)) == {f"hidden.{n}.weight" for n in ("base_layer", "lora_a", "lora_b")}


@pytest.mark.parametrize("name", MODELS)
def test_the_engines_own_networks_have_their_last_linear_layer_as_head(name: Any) -> None:
    shape = (3, 8, 8) if name in ("cnn", "resnet") else (7,)
    codes = (3, 4) if name == "tabular" else ()
    model = outline(CatalogueModel(name=name), shape, 3, cardinalities=codes)
    modules = dict(model.named_modules())
    last = [n for n, m in modules.items() if isinstance(m, nn.Linear)][-1]
    embedded = {n for n, m in modules.items() if getattr(m, "weight_role", "") == "embedding"}
    for weight, role in roles_of(model).items():
        layer, _, attribute = weight.rpartition(".")
        wide = model.get_parameter(weight).ndim >= 2
        normed = "Norm" in type(modules[layer]).__name__
        plain = "norm" if normed else ("head" if layer == last else "matrix") if wide else "vector"
        assert role == ("embedding" if layer in embedded else plain), (weight, attribute)


def test_the_pass_on_the_example_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), Noise(), nn.Linear(D, 2))
    model[2].eval()
    before = {n: x.clone() for n, x in model.state_dict().items()}
    modes, stream = [m.training for m in model.modules()], torch.get_rng_state()
    assert heads(roles_of(model, torch.randn(8, D, generator=torch.Generator()))) == {"3.weight"}
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(p.grad is None for p in model.parameters())


class Noise(nn.Module):
    """Adds random numbers whatever the mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class TwoInputs(nn.Module):
    """The layer used last is registered first; a hand-written kernel, which nothing can look into, stands before it."""

    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return torch.from_numpy(x.numpy().copy())

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return g

    def __init__(self) -> None:
        super().__init__()
        self.top, self.bottom = nn.Linear(D, 2), nn.Conv1d(D, D, 1)

    def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
        return self.top(self.Opaque.apply(self.bottom(x.mT).mT * scale))


def test_an_example_may_be_a_mapping_and_kernels_that_cannot_be_seen_are_no_end() -> None:
    roles = roles_of(TwoInputs(), {"x": X, "scale": torch.ones(())})
    assert (heads(roles), hidden(roles)) == ({"top.weight"}, {"bottom.weight"})
    with pytest.raises(SpecError, match=r"does not take example_input: .*scale"):
        roles_of(TwoInputs(), (X,))


def test_the_output_layer_of_an_image_to_image_network_is_its_last_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    assert heads(roles_of(model, torch.zeros(1, 1, 5, 5))) == {"2.weight"}


def test_a_recurrent_loop_has_an_output_layer() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.cell = nn.Linear(D, D), nn.Linear(D, D)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros(2, D)
            for part in x.unbind(1):
                h = self.out(self.cell(h + part).tanh())
            return h

    assert uses_of(Loop(), X).last
    assert heads(roles_of(Loop(), X)) == {"out.weight"}


class LookedUp(nn.Module):
    """Tokens as rows of a weight by hand; then layers of torch's or by hand, and tables that are added."""

    class Table(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            self.weight, self.how = nn.Parameter(torch.randn(11, D)), how

        def forward(self, x: Tensor) -> Tensor:
            if self.how == "index_select":
                return self.weight.index_select(0, x.flatten()).view(*x.shape, D)
            if self.how == "gather":
                return self.weight.gather(0, x.flatten()[:, None].expand(-1, D)).view(*x.shape, D)
            return nn.functional.embedding(x, self.weight) if self.how == "embedding" else self.weight[x]

    class Layer(nn.Module):
        def __init__(self, n: int, m: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(m, n))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.T

    def __init__(self, how: str, *, by_hand: bool) -> None:
        super().__init__()
        layer = self.Layer if by_hand else nn.Linear
        self.tokens, self.hidden, self.out = self.Table(how), layer(D, D), layer(D, 11)
        self.positions, self.scale = nn.Parameter(torch.randn(1, 5, D)), nn.Parameter(torch.ones(11))
        self.experts, self.gate = nn.Parameter(torch.randn(3, D, D)), nn.Linear(D, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.tokens(x) * self.scale[x][..., None] + self.positions[:, x.clamp(max=4)][0]
        z = self.hidden(z)
        chosen = self.experts[self.gate(z).argmax(-1)]
        return self.out(torch.einsum("...d,...de->...e", z, chosen))


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("how", ["index", "index_select", "gather", "embedding"])
def test_rows_that_data_chooses_are_data_and_matrices_that_it_chooses_are_not(how: str, by_hand: bool) -> None:
    model = LookedUp(how, by_hand=by_hand)
    known = look_at(model, IDS).known
    found = {name: known[name].role for name in known if not name.endswith("bias")}
    assert found == {
        "tokens.weight": "embedding", "hidden.weight": "matrix", "out.weight": "head", "positions": "embedding",
        "scale": "vector", "experts": "stack", "gate.weight": "matrix",
    }  # fmt: skip
    assert (known["tokens.weight"].decays, known["positions"].decays) == (True, False)


def test_roles_of_the_caller_are_stronger_and_must_exist() -> None:
    model = Language(tied=True, first=False)
    assert roles_of(model, roles={"lm_head.weight": "head"})["tokens.weight"] == "head"
    optimizer = build_optimizer("muon", model, roles={"hidden.weight": "embedding"})
    assert {g["role"] for g in optimizer.param_groups} == {"embedding", "vector"}
    optimizer = build_optimizer("muon", model.named_parameters(), roles={"tokens.weight": "embedding"})
    assert {g["role"]: len(g["params"]) for g in optimizer.param_groups} == {"embedding": 1, "matrix": 1, "vector": 2}
    for source in (model, model.named_parameters()):
        with pytest.raises(SpecError, match=r"unknown parameter 'hiden.weight'; did you mean 'hidden.weight'"):
            build_optimizer("muon", source, roles={"hiden.weight": "matrix"})
    with pytest.raises(SpecError, match="unknown role 'heads'; did you mean 'head'"):
        roles_of(model, roles={"hidden.weight": "heads"})  # type: ignore[dict-item]


def test_build_optimizer_reads_roles_from_the_example() -> None:
    model = Vision("verdict")
    optimizer = build_optimizer("muon", model, example_input=X)
    matrices = next(g["params"] for g in optimizer.param_groups if g["role"] == "matrix")
    assert {id(p) for p in matrices} == {id(p) for n, p in model.named_parameters() if n in hidden(roles_of(model, X))}
    with pytest.raises(SpecError, match="example input needs the model"):
        build_optimizer("muon", model.named_parameters(), example_input=X)


def test_weights_without_a_shape_yet_are_refused_or_get_it_from_the_example() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    with pytest.raises(SpecError, match=r"0.weight has no shape yet"):
        roles_of(model)
    assert heads(roles_of(model, X)) == {"2.weight"}


def test_an_added_group_has_the_role_it_names_or_that_of_its_shapes() -> None:
    model, added = Language(tied=False, first=False), [nn.Linear(D, D), nn.Linear(D, D)]
    optimizer = build_optimizer("muon", model)
    optimizer.add_param_group({"params": added[0].parameters(), "role": "head"})
    optimizer.add_param_group({"params": added[1].parameters()})
    for layer in added:
        for p in layer.parameters():
            p.grad = torch.ones_like(p)
    optimizer.step()
    assert "buffer" not in optimizer.state[added[0].weight]
    assert ["buffer" in optimizer.state[p] for p in added[1].parameters()] == [True, False]
    with pytest.raises(SpecError, match="unknown role 'heads'; did you mean 'head'"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))], "role": "heads"})


@pytest.mark.parametrize("seen", [False, True], ids=["registered", "used"])
@pytest.mark.parametrize(
    ("model", "example", "expected"),
    [
        (Critic(apart=False), X4, {"policy.0.weight", "value.0.weight"}),
        (TiedByHand(), IDS, set()),
        (Pixels(), IMAGE, {"out.weight"}),
        (nn.Sequential(Factors(D), nn.ReLU(), Factors(2)), X, {"2.base.weight"}),
        (Mixture(), X, {"out.weight"}),
    ],
    ids=["critic", "tied by hand", "convolution", "adapter", "experts"],
)
def test_output_layers_that_are_not_the_last_linear_layer(
    model: nn.Module, example: Tensor, expected: set[str], seen: bool
) -> None:
    roles = roles_of(model, example if seen else None)
    assert heads(roles) == expected
    factors = {name for name in roles if "lora" in name}
    assert factors <= hidden(roles)
    assert {name for name, role in roles.items() if role == "stack"} == {n for n in roles if n in ("w1", "w2")}


def test_networks_that_share_nothing_have_each_its_head() -> None:
    assert heads(roles_of(Critic(apart=True))) == {"policy.2.weight", "value.2.weight"}


def test_weight_decay_goes_by_role() -> None:
    model = Vision()
    model.norm = nn.LayerNorm([2, 3, 4])
    model.by_hand = type("ImageNorm2d", (nn.Module,), {})()
    model.by_hand.weight = nn.Parameter(torch.ones(2, 3, 4))
    model.scaled = parametrizations.weight_norm(nn.Linear(D, D))
    expected = {n for n, role in roles_of(model).items() if role in ("matrix", "head")} | {"table"}
    assert decaying(model) == expected, (
        "what is added, a token or a position, is a bias; a table by hand may be a matrix"
    )
    assert {"cls_token", "pos_embed", "prompts.0", "norm.weight", "by_hand.weight"}.isdisjoint(expected)
    assert "scaled.parametrizations.weight.original0" not in expected
    optimizer = build_optimizer("adamw", model, weight_decay=0.1)
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(model.get_parameter(n)) for n in expected}
    assert not [n for n, one in look_at(Vision(), X).known.items() if one.decays and one.role == "embedding"]
    assert "tokens.weight" in decaying(Language(tied=False, first=True))
    assert decaying(nn.LSTM(1, 3)) == {"weight_ih_l0", "weight_hh_l0"}
    given = build_optimizer("adamw", model.named_parameters(), weight_decay=0.1, roles={"cls_token": "vector"})
    assert [g["weight_decay"] for g in given.param_groups if id(model.cls_token) in map(id, g["params"])] == [0.0]


@pytest.mark.parametrize("name", MODELS)
def test_weight_decay_of_the_catalogues_networks_is_that_of_two_axes(name: Any) -> None:
    model = outline(
        CatalogueModel(name=name), (3, 8, 8) if name in ("cnn", "resnet") else (7,), 3, cardinalities=(3, 4)
    )
    assert decaying(model) == {n for n, p in model.named_parameters() if p.ndim >= 2}
