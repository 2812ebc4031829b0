"""State is where torch's users look for it: visible, replaceable, saved with the method's name and the weights' names."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as checkpoints

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, unwrap
from optim_core.transforms.torch_adapter import build_optimizer

GRADIENT = [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"]
# One of each kind of state.
KINDS = ["sgd", "momentum", "adamw", "nadam", "lion", "prodigy", "swats", "schedule_free_adamw", "adafactor", "muon",
         "soap", "lookahead(momentum)", "cautious(adamw)"]  # fmt: skip


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 4), nn.Linear(4, 2))


def go(model: nn.Module, optimizer: Any, steps: int, seed: int = 0) -> None:
    g = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(8, 5, generator=g)

        def closure(x: Tensor = x) -> Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for _, p in sorted(model.named_parameters())])


@pytest.mark.parametrize("name", GRADIENT)
def test_state_is_visible_and_training_mode_changes_nothing(name: str) -> None:
    plain, told = network(), network()
    first, second = build_optimizer(name, plain), build_optimizer(name, told)
    for t in range(6):
        go(plain, first, 1, t)
        second.train()
        go(told, second, 1, t)
    assert torch.equal(flat(plain), flat(told))
    for p in told.parameters():
        assert int(second.state[p]["step"]) == 6
        assert all(isinstance(value, Tensor) for value in second.state[p].values())


@pytest.mark.parametrize("name", KINDS)
def test_cleared_state_restarts(name: str) -> None:
    model = network()
    optimizer = build_optimizer(name, model)
    go(model, optimizer, 4)
    optimizer.state.clear()
    fresh = copy.deepcopy(model)
    anew = build_optimizer(name, fresh)
    go(model, optimizer, 4, 1)
    go(fresh, anew, 4, 1)
    assert torch.equal(flat(model), flat(fresh))
    assert int(optimizer.state[model[0].weight]["step"]) == 4


def test_what_is_put_under_a_weight_is_what_counts() -> None:
    model = network()
    optimizer = build_optimizer("momentum", model, lr=0.1, momentum=0.5)
    go(model, optimizer, 3)
    p = model[0].weight
    optimizer.state[p]["buffer"] = torch.full_like(p, 2.0)
    optimizer.state[p]["step"] = torch.tensor(40.0)
    before = p.detach().clone()
    for each in model.parameters():
        each.grad = torch.zeros_like(each)
    optimizer.step()
    torch.testing.assert_close(p.detach(), before - 0.1)
    assert int(optimizer.state[p]["step"]) == 41
    optimizer.state[p]["buffer"].zero_()
    before = p.detach().clone()
    optimizer.step()
    assert torch.equal(p, before)


@pytest.mark.parametrize("change", ["data", "memory format", "precision"])
@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "soap"])
def test_weights_whose_data_is_replaced_are_trained_where_they_are(name: str, change: str) -> None:
    model, still = network(), network()
    optimizer, other = build_optimizer(name, model), build_optimizer(name, still)
    go(model, optimizer, 3)
    go(still, other, 3)
    for p in model.parameters():
        if change == "data":
            p.data = p.data.clone()
        elif change == "memory format" and p.ndim == 2:
            p.data = p.data.t().contiguous().t()
        elif change == "precision":
            p.data = p.data.double()
    if change == "precision":
        for p in (*model.parameters(), *still.parameters()):
            p.grad = torch.ones_like(p)
        optimizer.step()
        other.step()
    else:
        go(model, optimizer, 3, 1)
        go(still, other, 3, 1)
    torch.testing.assert_close(flat(model).float(), flat(still), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_a_replaced_weight_is_trained_and_the_old_one_left_alone(name: str) -> None:
    model = network()
    optimizer = build_optimizer(name, model)
    go(model, optimizer, 3)
    old, new = model[2].weight, nn.Parameter(torch.randn(4, 6))
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    model[2].weight = new
    before = old.detach().clone(), new.detach().clone()
    go(model, optimizer, 3)
    assert torch.equal(old, before[0])
    assert not torch.equal(new, before[1])
    assert int(optimizer.state[new]["step"]) == 3


@pytest.mark.parametrize("name", [*KINDS, "lbfgs"])
def test_a_weight_unfrozen_later_is_trained(name: str) -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = build_optimizer(name, model)
    # A minimizer would have nothing left to do.
    go(model, optimizer, 0 if name == "lbfgs" else 2)
    before = model[0].weight.detach().clone()
    model[0].requires_grad_(True)
    go(model, optimizer, 2)
    assert not torch.equal(model[0].weight, before)


@pytest.mark.parametrize("name", [*KINDS, "lbfgs"])
def test_the_state_of_another_method_is_refused(name: str) -> None:
    model = network()
    optimizer = build_optimizer(name, model)
    go(model, optimizer, 1)
    saved = optimizer.state_dict()
    with pytest.raises(
        SpecError, match=rf"saved by {name.replace('(', '.').replace(')', '.')}, and the optimizer is adan"
    ):
        build_optimizer("adan", network()).load_state_dict(saved)
    go(model, optimizer, 1)


def test_a_wrapper_without_a_base_is_the_one_around_adamw() -> None:
    model = network()
    optimizer = build_optimizer("lookahead", model)
    go(model, optimizer, 2)
    build_optimizer("lookahead(adamw)", network()).load_state_dict(optimizer.state_dict())
    with pytest.raises(SpecError, match="techniques"):
        build_optimizer("lookahead", network(), techniques={"ema": 0.9}).load_state_dict(optimizer.state_dict())


class Reordered(nn.Module):
    """The same network, its layers registered the other way round."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        for i in reversed(range(4)):
            self.add_module(str(i), layers[i])  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        for i in range(4):
            x = getattr(self, str(i))(x)
        return x


@pytest.mark.parametrize("name", KINDS)
def test_state_finds_its_weights_by_name_and_shares_nothing(name: str) -> None:
    model = network()
    optimizer = build_optimizer(name, [*model.named_parameters()])
    go(model, optimizer, 3)
    twin = Reordered(copy.deepcopy(model))
    assert [n for n, _ in twin.named_parameters()] != [n for n, _ in model.named_parameters()]
    other = build_optimizer(name, [*twin.named_parameters()])
    other.load_state_dict(optimizer.state_dict())
    go(model, optimizer, 3, 1)
    go(twin, other, 3, 1)
    torch.testing.assert_close(flat(model), flat(twin), rtol=0, atol=1e-6)


def test_state_of_other_weights_is_refused_in_words() -> None:
    model = network()
    optimizer = build_optimizer("adamw", model)
    go(model, optimizer, 1)
    with pytest.raises(SpecError, match="of 8 weights, and the optimizer has 2"):
        build_optimizer("adamw", nn.Linear(3, 3)).load_state_dict(optimizer.state_dict())
    wide = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 4), nn.Linear(4, 2))
    with pytest.raises(SpecError, match=r"saved of another weight, as \(6, 5\), and the weight is \(7, 5\)"):
        build_optimizer("adamw", wide).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("name", ["adamw", "schedule_free_adamw"])
def test_what_is_remembered_of_16_bit_weights_keeps_its_digits_when_loaded(name: str) -> None:
    model = network().bfloat16()
    optimizer = build_optimizer(name, [*model.parameters()])
    for p in model.parameters():
        p.grad = torch.full_like(p, 0.1)
    optimizer.step()
    twin = build_optimizer(name, [*copy.deepcopy(model).parameters()])
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for mine, theirs in zip(twin.state.values(), optimizer.state.values(), strict=True):
        assert {k: v.dtype for k, v in mine.items()} == {k: v.dtype for k, v in theirs.items()}
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


TORCHS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.02),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.8, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.8, nesterov=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.02, initial_accumulator_value=0.3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.002, centered=True, momentum=0.5),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.5),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.99)),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.2),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.02, amsgrad=True),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.02),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.02),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.02),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.02, etas=(0.4, 1.3), step_sizes=(1e-5, 0.1)),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.02, eps=(None, 2e-3), d=1.5, weight_decay=0.1),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.02, lambd=0.01, t0=2),
}


@pytest.mark.parametrize("by", ["a model", "parameters"])
@pytest.mark.parametrize("name", TORCHS)
def test_what_torchs_own_class_saved_goes_on_as_there(name: str, by: str) -> None:
    model = network()
    theirs = TORCHS[name](model.parameters())
    go(model, theirs, 4)
    twin = copy.deepcopy(model)
    ours = build_optimizer(name, twin if by == "a model" else twin.parameters())
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    go(model, theirs, 4, 1)
    go(twin, ours, 4, 1)
    torch.testing.assert_close(flat(twin), flat(model), rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("name", "saved_by", "words"),
    [
        ("adamw", "adam", "decoupled_weight_decay=False"),
        ("adam", "amsgrad", "amsgrad=True"),
        ("momentum", "nesterov", "nesterov=True"),
        ("sgd", "momentum", "momentum_buffer"),
        ("adam", "adamax", "exp_inf"),
        ("lion", "adamw", "no class of torch.optim keeps what lion does"),
        ("nadamw", "nadam", "no class of torch.optim keeps what nadamw does"),
        ("muon", "momentum", "nesterov=False, which muon is not"),
        ("muon", "adagrad", "sum, which muon does not keep"),
        ("rprop", "adam", "exp_avg, exp_avg_sq, which rprop does not keep"),
    ],
)
def test_the_state_of_another_class_of_torch_is_refused(name: str, saved_by: str, words: str) -> None:
    model = network()
    theirs = TORCHS[saved_by](model.parameters())
    go(model, theirs, 1)
    with pytest.raises(SpecError, match=words):
        build_optimizer(name, network()).load_state_dict(theirs.state_dict())


def test_every_twin_in_torch_hands_over_its_state() -> None:
    twins = {name for name, row in OPTIMIZERS.items() if row.torch is not None and unwrap(name) is None}
    assert twins <= TORCHS.keys()
    model = network()
    theirs = torch.optim.Adafactor(model.parameters(), beta2_decay=-0.7)
    go(model, theirs, 1)
    with pytest.raises(SpecError, match=r"beta2_decay=-0.7"):
        build_optimizer("adafactor", network()).load_state_dict(theirs.state_dict())


def test_the_mean_that_torchs_class_only_keeps_is_the_answer_here() -> None:
    model = network()
    theirs = TORCHS["asgd"](model.parameters())
    go(model, theirs, 6)
    ours = build_optimizer("asgd", model.parameters())
    ours.load_state_dict(theirs.state_dict())
    ours.eval()
    for p in model.parameters():
        assert torch.equal(p, theirs.state[p]["ax"])


@pytest.mark.parametrize("adjust", ["match_rms_adamw", None])
def test_torchs_muon_hands_over_what_it_keeps_of_matrices(adjust: str | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6, bias=False), nn.Linear(6, 4, bias=False))
    weights = [*model.parameters()]
    theirs = torch.optim.Muon(weights, lr=0.01, momentum=0.9, weight_decay=0.2, adjust_lr_fn=adjust)
    go(model, theirs, 3)
    twin = copy.deepcopy(model)
    ours = build_optimizer("muon", twin.parameters(), eps=1e-6)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    (group,) = ours.param_groups
    found = [group[key] for key in ("lr", "momentum", "weight_decay", "match_rms_adamw", "eps")]
    assert found == [0.01, 0.9, 0.2, adjust is not None, 1e-6]
    for p, q in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours.state[p]["buffer"], theirs.state[q]["momentum_buffer"])
    go(model, theirs, 3, 1)
    go(twin, ours, 3, 1)
    # It works in bfloat16, and what it is off by adds up.
    torch.testing.assert_close(flat(twin), flat(model), rtol=0, atol=8e-3)
    with pytest.raises(SpecError, match="ns_steps=3"):
        ours.load_state_dict(torch.optim.Muon(weights, ns_steps=3).state_dict())


@pytest.mark.parametrize("flat_keys", [False, True])
@pytest.mark.parametrize("name", ["adamw", "nadam", "prodigy", "soap"])
def test_distributed_checkpoints_hold_all_of_it(name: str, flat_keys: bool) -> None:
    options = checkpoints.StateDictOptions(flatten_optimizer_state_dict=flat_keys)
    model = network()
    optimizer = build_optimizer(name, model)
    go(model, optimizer, 3)
    saved = copy.deepcopy(checkpoints.get_optimizer_state_dict(model, optimizer, options=options))
    twin = copy.deepcopy(model)
    other = build_optimizer(name, twin)
    checkpoints.set_optimizer_state_dict(twin, other, saved, options=options)
    go(model, optimizer, 3, 1)
    go(twin, other, 3, 1)
    assert torch.equal(flat(model), flat(twin))


def test_an_entry_that_is_missing_under_one_weight_does_not_shift_those_of_others() -> None:
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    optimizer = build_optimizer("momentum", weights, lr=1.0, momentum=0.5)
    for t in range(2):
        for i, p in enumerate(weights):
            p.grad = torch.full_like(p, float(i + 1))
        if t == 1:
            optimizer.state[weights[1]] = {}
        optimizer.step()
    # 1 + 0.5·1 + 1 and 3·(1 + 1.5) went on; the middle one began anew.
    assert [-float(p.detach()[0]) for p in weights] == [2.5, 4.0, 7.5]
    optimizer.state[weights[0]]["step"] = torch.tensor(0.0)
    optimizer.step()
    assert [-float(p.detach()[0]) for p in weights] == [4.25, 7.0, 12.75]


_SAVED = """
import hashlib, io, sys, torch
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.torch_adapter import build_optimizer
for name, row in OPTIMIZERS.items():
    if row.kind != "gradient":
        continue
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    optimizer = build_optimizer(name, model)
    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().sum()
        loss.backward()
        return loss
    for _ in range(2):
        optimizer.step(closure)
    states = optimizer.state_dict()["state"]
    print(name, [list(own) for own in states.values()])
"""


def test_entries_of_a_saved_state_stand_in_one_order_in_every_process() -> None:
    """Their order is that of the bytes of a checkpoint, and of whatever walks through them on several machines."""
    told = [
        subprocess.run(
            [sys.executable, "-c", _SAVED],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(told[0].splitlines()) > 40
