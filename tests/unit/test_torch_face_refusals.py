"""What would be written into the wrong memory, or taken for something else, is refused in words before anything changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, find_optimizer
from optim_core.spec.techniques import TECHNIQUES
from optim_core.transforms.hyperparameters import betas_of
from optim_core.transforms.roles import roles_of
from optim_core.transforms.techniques import NEUTRAL
from optim_core.transforms.torch_adapter import build_optimizer, build_scheduler

GRADIENT = [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"]
WRAPPED = [*GRADIENT, "lookahead(asgd)", "cautious(asgd)", "sam(asgd)"]
# Of a weight that they keep: nothing, or what depends on its longer side alone.
SHAPELESS = {"sgd", "apollo_mini"}
BY_ROLE = ["muon", "apollo_mini", "soap", "shampoo"]


def no_loss() -> Tensor:
    return torch.zeros(())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 8), nn.Linear(8, 4))


def stepped(optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    for t in range(steps):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.full_like(p, 0.1 * (t + 1))
        optimizer.step(no_loss)


@pytest.mark.parametrize("shape", [(5, 8), (2, 8), (8, 3)], ids=str)
@pytest.mark.parametrize("name", [name for name in WRAPPED if name not in SHAPELESS])
def test_a_weight_that_has_changed_its_shape_is_refused_and_nothing_is_written(
    name: str, shape: tuple[int, ...]
) -> None:
    weights = [nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(3, 8))]
    optimizer = build_optimizer(name, weights)
    stepped(optimizer, 2)
    weights[1].data = torch.ones(shape)
    before = [p.detach().clone() for p in weights]
    with pytest.raises(SpecError, match=rf"a weight is \({shape[0]}, {shape[1]}\).*its state holds") as refused:
        stepped(optimizer)
    assert refused.value.code == "shape_mismatch"
    assert all(torch.equal(p, old) for p, old in zip(weights, before, strict=True))
    del optimizer.state[weights[1]]
    stepped(optimizer)


@pytest.mark.parametrize("name", ["adamw", "momentum", "adagrad", "sgd", "lion"])
def test_a_gradient_of_another_shape_is_refused_and_nothing_is_written(name: str) -> None:
    p = nn.Parameter(torch.ones(64, 8))
    optimizer = build_optimizer(name, [p])
    for _ in range(2):
        p.grad = torch.ones(64, 8)
        p.grad.data = torch.ones(1, 8)
        with pytest.raises(SpecError, match="gradient") as refused:
            optimizer.step()
        assert refused.value.code == "shape_mismatch"
        assert "step" not in optimizer.state[p] or int(optimizer.state[p]["step"]) == 1
        stepped(optimizer)


def with_technique(name: str, technique: str) -> torch.optim.Optimizer:
    value = 1.0 if technique == "swa" else next(x for x in TECHNIQUES[technique].choices if x)
    return build_optimizer(
        name, [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(4))], techniques={technique: value}
    )


@pytest.mark.parametrize("technique", NEUTRAL)
@pytest.mark.parametrize("name", WRAPPED)
def test_every_method_takes_steps_with_every_technique(name: str, technique: str) -> None:
    optimizer = with_technique(name, technique)
    stepped(optimizer, 2)
    optimizer.eval()  # type: ignore[attr-defined]
    assert all(bool(p.isfinite().all()) for p in optimizer.state)


def kept(optimizer: torch.optim.Optimizer) -> list[dict[str, torch.Size]]:
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    own = [optimizer.state[p] for p in weights]
    return [{key: x.shape for key, x in entries.items() if x.ndim} for entries in own]


@pytest.mark.parametrize("reverse", [False, True], ids=["to other roles", "from other roles"])
@pytest.mark.parametrize("name", GRADIENT)
def test_state_of_weights_with_other_roles_is_refused_unless_it_is_the_same(name: str, reverse: bool) -> None:
    given = [nn.Parameter(torch.ones(4, 8)), nn.Parameter(torch.ones(8))]
    named = list(zip("ab", given, strict=True))
    makers = [lambda: build_optimizer(name, named), lambda: build_optimizer(name, named, roles={"a": "embedding"})]
    here, there = (make() for make in (makers[::-1] if reverse else makers))
    stepped(here)
    stepped(there)
    alike = kept(here) == kept(there)
    assert alike or name in BY_ROLE
    fresh = makers[0 if reverse else 1]()
    if alike:
        fresh.load_state_dict(here.state_dict())
        stepped(fresh)
        return
    with pytest.raises(SpecError, match=f"for which {name} keeps") as refused:
        fresh.load_state_dict(here.state_dict())
    assert refused.value.code == "other_weights"


def test_the_roles_of_a_model_and_those_of_its_parameters_are_not_the_same_for_muon() -> None:
    model = network()
    saved = build_optimizer("muon", model)
    stepped(saved)
    for other in (
        build_optimizer("muon", model.parameters()),
        build_optimizer("muon", model, roles={"2.weight": "matrix"}),
    ):
        with pytest.raises(SpecError, match="this state holds mean, square of a weight"):
            other.load_state_dict(saved.state_dict())


P, Q = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(3))
HOSTILE: list[tuple[Callable[..., Any], str]] = [
    (lambda b, s: b("adamw", network(), maximize="no"), "maximize is True or False"),
    (lambda b, s: b("adamw", network(), roles={"0.weight": None}), "0.weight has no role"),
    (lambda b, s: b("adamw", network(), roles=["0.weight"]), "roles is a mapping"),
    (lambda b, s: b("adamw", network(), lr=True), "lr must be a number"),
    (lambda b, s: b("adamw", [{"params": [P], "weight_decy": 0.1}]), "did you mean 'weight_decay'"),
    (lambda b, s: b("adamw", [{"params": [P], "amsgrad": True}]), "that is the method 'amsgrad'"),
    (lambda b, s: b("sgd", [{"params": [P], "nesterov": True}]), "that is the method 'nesterov'"),
    (lambda b, s: b("adamw", [{"params": [P], "fused": True}]), "unknown entry 'fused'"),
    (lambda b, s: b("adamw", [{"params": [P], "techniques": {}}]), "unknown entry 'techniques'"),
    (lambda b, s: b("lbfgs", [{"params": [P], "fused": True}]), "unknown entry 'fused'"),
    (lambda b, s: b("adamw", [{"lr": 0.1}]), "needs params"),
    (lambda b, s: b("adamw", [P]).add_param_group({"params": [Q], "weigth_decay": 0.1}), "did you mean 'weight_decay'"),
    (lambda b, s: b("lbfgs", [P]).add_param_group({"params": [Q], "weigth_decay": 0.1}), "did you mean 'weight_decay'"),
    (lambda b, s: b("adamw", [P]).add_param_group({"params": [Q], "learning_rate": 0.1}), "did you mean 'lr'"),
    (lambda b, s: b("adamw", [P]).add_param_group({"params": [Q], "amsgrad": True}), "that is the method 'amsgrad'"),
    (lambda b, s: b("adamw", [P]).add_param_group({"params": [Q], "fused": True}), "unknown entry 'fused'"),
    (lambda b, s: b("adamw", [P]).add_param_group({"lr": 0.1}), "needs params"),
    (lambda b, s: b("lbfgs", [P]).add_param_group({"weight_decay": 0.1}), "needs params"),
    (lambda b, s: b("adamw", None), "give the model"),
    (lambda b, s: b("adamw", network(), techniques=["ema"]), "techniques are a mapping"),
    (lambda b, s: b("sgd", network(), nesterov=True), "that is the method 'nesterov'"),
    (lambda b, s: b("sgd", network(), momentum=0.9), "that is the method 'momentum'"),
    (lambda b, s: b("adamw", network(), amsgrad=True), "that is the method 'amsgrad'"),
    (lambda b, s: b("openai_es", network(), lr=0.0), "above 0"),
    (lambda b, s: s(b("adamw", [P]), "cosine", 10), "the schedule is a mapping"),
    (lambda b, s: s(network(), {"name": "cosine"}, 10), "of an optimizer"),
    (lambda b, s: s(b("adamw", [P]), {"name": "cosine"}, 2.5), "whole number, not 2.5"),
    (lambda b, s: s(b("adamw", [P]), {"name": "cosine"}, "10"), "whole number, not '10'"),
    (lambda b, s: s(b("adamw", [P]), {"name": "cosine"}, 10**9), "at most 10000000"),
    (lambda b, s: s(b("adamw", [P]), {"name": "cosine", "warmup": 0.1}, 10), "did you mean 'warmup_fraction'"),
    *[
        (lambda b, s, k=key, v=value: b("adamw", network(), techniques={k: v}), f"technique {key} must be a number")
        for key, value in (
            ("ema", None),
            ("ema", "a"),
            ("clip_norm", "1"),
            ("swa", "5"),
            ("agc", [1]),
            ("swa", torch.ones(2)),
        )
    ],
    *[
        (lambda b, s, v=value: b("adamw", network(), techniques={"swa": v}), "swa is here the step after which")
        for value in (-1, 0.5, float("nan"), float("inf"))
    ],
    (lambda b, s: b("adamw", network(), techniques={"clip_norm": float("nan")}), "must be 0 .off. or lie in"),
    (lambda b, s: b("adamw", network(), techniques={"ema": 0.9, "swa": 3}), "both average the weights"),
    *[
        (lambda b, s, v=value: s(b("adamw", [P]), {"name": "cosine", "warmup_fraction": v}, 10), "must be a number")
        for value in (None, [1], "a", torch.ones(2))
    ],
    (lambda b, s: s(b("adamw", [P]), {"name": None}, 10), "unknown schedule"),
    (lambda b, s: s(b("adamw", [P]), {"name": "cosine"}, 10).step(0.3), "cosine takes no loss"),
    (lambda b, s: s(b("adamw", [P]), {"name": "cosine", "warmup_steps": 3}, 10), "did you mean 'warmup_fraction'"),
    (lambda b, s: s(b("adamw", [P]), {"name": "cosine_with_restarts"}, 10), "did you mean 'sgdr'"),
    (lambda b, s: roles_of(None), "roles are of a model"),  # type: ignore[arg-type]
    (lambda b, s: roles_of(network().parameters()), "roles are of a model"),  # type: ignore[arg-type]
    (lambda b, s: b("adamw", network(), clip_norm=1.0), 'that is a technique: techniques={"clip_norm": …}'),
    (lambda b, s: b("lbfgs", network(), ema=0.9), 'that is a technique: techniques={"ema": …}'),
    (lambda b, s: b("adamw", [P]).add_param_group({"params": [Q], "agc": 0.1}), "that is a technique"),
    (lambda b, s: b("adamw", network(), foreach=True), "fused and multi-tensor kernels are used wherever they fit"),
    (lambda b, s: b("adamw", network(), warmup_steps=9), "warm-up belongs to the schedule"),
    (lambda b, s: b("schedule_free_adamw", network(), warmup=9), "did you mean 'warmup_steps'[?]$"),
    (lambda b, s: b("muon", network(), adjust_lr_fn="original"), "did you mean 'match_rms_adamw'"),
    (lambda b, s: b("GaLoreAdamW", network()), "unknown optimizer 'GaLoreAdamW'$"),
    (lambda b, s: b("diffgrad", network()), "unknown optimizer 'diffgrad'$"),
    (lambda b, s: b("RAdamScheduleFree", network()), "did you mean 'schedule_free_radam'"),
    (lambda b, s: find_optimizer(3), "by its name"),  # type: ignore[arg-type]
    (lambda b, s: b("lbfgs", [P]).step(lambda: None), "the closure returned None"),
]


@pytest.mark.parametrize(("call", "words"), HOSTILE)
def test_what_makes_no_sense_is_refused_with_what_does(call: Callable[..., Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        call(build_optimizer, build_scheduler)


SCHEDULERS: list[Callable[..., Any]] = [
    lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=9),
    lambda o: lr_scheduler.CyclicLR(o, base_lr=0.01, max_lr=0.1),
    lambda o: SWALR(o, swa_lr=0.05),
    lambda o: build_scheduler(o, {"name": "cosine"}, 9),
]


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_a_group_that_schedulers_wrote_into_is_taken_over_and_loaded(schedule: Callable[..., Any]) -> None:
    techniques = {"gradient_noise": 0.01, "ema": 0.9}
    optimizer = build_optimizer("adamw", network(), techniques=techniques)
    schedule(optimizer)
    stepped(optimizer)
    again = build_optimizer("adamw", network(), techniques=techniques)
    again.load_state_dict(optimizer.state_dict())
    for group in again.param_groups:
        fresh = [nn.Parameter(torch.ones(3)) for _ in group["params"]]
        own = {key: value for key, value in group.items() if key not in ("params", "places", "param_names")}
        added = build_optimizer("adamw", [nn.Parameter(torch.ones(2))], techniques=techniques)
        added.add_param_group({**own, "params": fresh})
        kept = build_optimizer("adamw", [{**own, "params": fresh, "name": "late"}], techniques=techniques)
        assert {**kept.param_groups[0], "name": 0}.items() >= {**own, "name": 0}.items()
        stepped(kept)


# What nothing reads would be lost without a word, also when it is set on the way.
@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("adamw", "beta1", "they stand together, as group..betas.. = .beta1, beta2."),
        ("lion", "beta2", "they stand together"),
        ("muon", "betas", "they stand one by one, as group..beta1.."),
        ("sgd", "betas", "which nothing reads"),
        ("sgd", "momentum", "which nothing reads"),
        ("adamw", "clip_norm", "a technique is there from the start"),
    ],
)
def test_what_is_set_in_a_group_and_read_by_nothing_is_refused_at_the_step(name: str, key: str, words: str) -> None:
    model = network()
    optimizer = build_optimizer(name, model)
    stepped(optimizer)
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    optimizer.param_groups[0][key] = (0.5, 0.6) if key == "betas" else 0.5
    with pytest.raises(SpecError, match=f"{name}: a param group holds {key}, .*{words}"):
        stepped(optimizer)
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)
    del optimizer.param_groups[0][key]
    stepped(optimizer)


@pytest.mark.parametrize("name", [n for n, row in OPTIMIZERS.items() if row.kind == "gradient"])
def test_what_a_group_says_itself_is_read(name: str) -> None:
    """Both spellings where a group is given, one of them afterwards."""
    optimizer = build_optimizer(name, [{"params": [nn.Parameter(torch.ones(2))]}], techniques={"clip_norm": 1.0})
    stepped(optimizer)
    assert ("betas" in optimizer.param_groups[0]) != ("beta1" in optimizer.param_groups[0]) or not betas_of(name)
