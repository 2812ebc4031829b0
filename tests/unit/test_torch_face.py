"""The torch face: catalogue optimizers as ordinary torch optimizers, in loops, checkpoints and schedulers."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms import kernels
from optim_core.transforms.base import Layout
from optim_core.transforms.registry import build_transform
from optim_core.transforms.roles import roles_of
from optim_core.transforms.torch_adapter import build_optimizer, build_scheduler
from tests.unit.test_transforms import gradient, settings, start, with_base

SCHEDULE: dict[str, str | float] = {"name": "cosine", "warmup_fraction": 0.1}


def regression(name: str) -> tuple[torch.nn.Module, torch.optim.Optimizer, Callable[[], Tensor]]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    x, y = torch.randn(32, 6), torch.randn(32, 1)
    optimizer = build_optimizer(name, model)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.mse_loss(model(x), y)
        value.backward()
        return value

    return model, optimizer, loss


WRAPPED = ["lookahead(momentum)", "cautious(lion)", "sam(momentum)", "sam(lookahead(adam))", "lookahead(muon)"]
GRADIENT = [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"] + WRAPPED


@pytest.mark.parametrize("name", [*OPTIMIZERS, *WRAPPED])
def test_the_torch_face_survives_save_and_load_mid_run(name: str) -> None:
    model, optimizer, loss = regression(name)
    for _ in range(5):
        optimizer.step(loss)
    saved = {k: v.clone() for k, v in model.state_dict().items()}, optimizer.state_dict()
    memory = copy.deepcopy(saved[1])
    for _ in range(5):
        optimizer.step(loss)
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    model, optimizer, loss = regression(name)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(memory)
    for _ in range(5):
        optimizer.step(loss)
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key])


def test_the_torch_face_refuses_what_it_does_not_know() -> None:
    model = torch.nn.Linear(2, 1)
    with pytest.raises(SpecError, match="did you mean 'adamw'"):
        build_optimizer("adamww", model)
    with pytest.raises(SpecError, match="unknown hyperparameter"):
        build_optimizer("sgd", model, momentum=0.9)
    with pytest.raises(SpecError, match="no weight to train"):
        build_optimizer("sgd", torch.nn.ReLU())


def test_weights_that_are_all_frozen_are_trained_once_they_are_not() -> None:
    """As torch's: one optimizer for the head, one for a backbone that is unfrozen later."""
    model, torchs = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    torchs.load_state_dict(model.state_dict())
    for one, build in ((model, lambda p: build_optimizer("momentum", p)), (torchs, _torchs_momentum)):
        optimizer = build(one.requires_grad_(False).parameters())
        optimizer.step()
        for _ in range(3):
            one.requires_grad_(True)
            optimizer.zero_grad()
            one(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    for p, q in zip(model.parameters(), torchs.parameters(), strict=True):
        assert torch.allclose(p, q)


def _torchs_momentum(parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
    plain = OPTIMIZERS["momentum"].defaults()
    return torch.optim.SGD(parameters, lr=plain["lr"], momentum=plain["momentum"], weight_decay=plain["weight_decay"])


def test_biases_do_not_decay_behind_the_torch_face() -> None:
    optimizer = build_optimizer("adamw", torch.nn.Linear(3, 2), weight_decay=0.3)
    assert [(g["role"], g["weight_decay"]) for g in optimizer.param_groups] == [("head", 0.3), ("vector", 0.0)]


def test_param_groups_follow_the_roles_of_the_weights() -> None:
    model = torch.nn.ModuleDict(
        {
            "tokens": torch.nn.Embedding(10, 4),
            "inner": torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Conv1d(4, 4, 3)),
            "out": torch.nn.Linear(4, 10, bias=False),
        }
    )
    expected = {
        "tokens.weight": "embedding", "inner.0.weight": "matrix", "inner.0.bias": "vector", "inner.1.weight": "norm",
        "inner.1.bias": "norm", "inner.2.weight": "matrix", "inner.2.bias": "vector", "out.weight": "head",
    }  # fmt: skip
    assert roles_of(model) == expected
    tied = copy.deepcopy(model)
    tied["out"].weight = tied["tokens"].weight
    assert roles_of(tied)["tokens.weight"] == "embedding"
    assert "head" not in {roles_of(tied).get(n) for n in ("tokens.weight", "out.weight")}
    optimizer = build_optimizer("muon", model)
    assert sorted(g["role"] for g in optimizer.param_groups) == ["embedding", "head", "matrix", "norm", "vector"]
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    orthogonal = [
        p for p in model.parameters() if set(optimizer.state_dict()["state"][0]) and "buffer" in optimizer.state[p]
    ]
    assert len(orthogonal) == 2


def path_of(optimizer: torch.optim.Optimizer, weights: dict[str, torch.nn.Parameter], steps: int) -> list[list[Tensor]]:
    path = []
    for t in range(1, steps + 1):

        def closure(t: int = t) -> Tensor:
            for p, g in zip(
                weights.values(), gradient({n: w.detach() for n, w in weights.items()}, t).values(), strict=True
            ):
                p.grad = g
            return torch.zeros(())

        optimizer.step(closure)
        path.append([p.detach().clone() for p in weights.values()])
    return path


@pytest.mark.parametrize("varied", [0, 1], ids=["defaults", "varied"])
@pytest.mark.parametrize("name", GRADIENT)
def test_the_torch_face_takes_the_same_steps_as_the_pure_functions(name: str, varied: int) -> None:
    hyper = settings(name)[varied]
    weights = {n: torch.nn.Parameter(p.clone()) for n, p in start(0).items()}
    # Vectors do not decay behind the face.
    groups = Layout(groups={"vector": 1})
    hypers = [with_base(hyper), with_base({**hyper, "weight_decay": 0.0})]
    transform, params = build_transform(name, groups), start(0)
    state = transform.init(params, hypers)
    for t, theirs in enumerate(path_of(build_optimizer(name, weights.items(), **hyper), weights, 60), 1):
        grads = gradient(params, t)
        if transform.perturb is not None:
            grads = gradient(transform.perturb(params, grads, hypers), t)
        params, state = transform.update(params, grads, state, hypers, t)
        for mine, other in zip(params.values(), theirs, strict=True):
            assert (mine - other).abs().max() <= 1e-9, t


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw", "lookahead(momentum)"])
def test_eval_shows_the_answer_and_train_goes_on_from_where_it_was(name: str) -> None:
    ends = []
    for looks in (False, True):
        weights = {n: torch.nn.Parameter(p.clone()) for n, p in start(1).items()}
        optimizer = build_optimizer(name, weights.items())
        path_of(optimizer, weights, 7)
        if looks:
            before = [p.detach().clone() for p in weights.values()]
            optimizer.eval()
            assert not torch.equal(weights["matrix"], before[0])
            shown = weights["matrix"].detach().clone()
            with pytest.raises(SpecError, match=r"optimizer.train\(\)"):
                optimizer.step()
            saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
            optimizer = build_optimizer(name, weights.items())
            optimizer.load_state_dict(saved)
            optimizer.eval()
            assert torch.equal(weights["matrix"], shown)
            optimizer.train()
            assert torch.equal(weights["matrix"], before[0])
        ends.append(path_of(optimizer, weights, 7)[-1])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("name", ["lion", "muon", "prodigy", "schedule_free_adamw", "adamw"])
def test_loss_scaling_skips_steps_with_infinite_gradients(name: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    optimizer, scaler = build_optimizer(name, model), torch.amp.GradScaler("cpu", init_scale=8.0)
    for poisoned in (False, True, False):
        before = model.weight.detach().clone()
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(8, 4)).square().mean()).backward()
        if poisoned:
            model.weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(before, model.weight) is poisoned
        assert bool(model.weight.isfinite().all())


@pytest.mark.parametrize("name", ["lion", "soap", "nadamw"])
def test_a_group_added_later_and_sparse_gradients_are_trained(name: str) -> None:
    first, second = torch.nn.Embedding(5, 4, sparse=True), torch.nn.Linear(4, 1)
    optimizer = build_optimizer(name, first)
    for added in (False, True, True):
        if added and len(optimizer.param_groups) == 1:
            optimizer.add_param_group({"params": list(second.parameters())})
        before = [p.detach().clone() for p in (*first.parameters(), *second.parameters())]
        optimizer.zero_grad()
        second.zero_grad()
        second(first(torch.tensor([1, 2, 2]))).square().mean().backward()
        optimizer.step()
    after = [*first.parameters(), *second.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    steps = {int(optimizer.state_dict()["state"][i]["step"]) for i in range(3)}
    assert steps == {2, 3}


def evaluate(model: torch.nn.Module, x: Tensor) -> Tensor:
    model.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    return loss


def train(name: str, steps: int, halfway: Callable[[object], object] = lambda parts: parts) -> Tensor:
    """The weights after ``steps`` with a scheduler; ``halfway`` may replace (model, optimizer) after half of them."""
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 2, dtype=torch.float64)
    optimizer = build_optimizer(name, model, lr=1e-2, weight_decay=0.1)
    optimizer.catalogue_name = name  # type: ignore[attr-defined]
    scheduler = build_scheduler(optimizer, SCHEDULE, steps)
    g = torch.Generator().manual_seed(1)
    for t in range(steps):
        if t == steps // 2:
            model, optimizer, scheduler = halfway((model, optimizer, scheduler))  # type: ignore[misc]
        x = torch.randn(8, 6, generator=g, dtype=torch.float64)
        optimizer.step(functools.partial(evaluate, model, x))
        scheduler.step()
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def through_a_file(parts: object) -> object:
    """A new process in miniature: everything is built again and loaded from bytes that hold tensors and numbers only."""
    old = dict(zip(("model", "optimizer", "scheduler"), parts, strict=True))  # type: ignore[call-overload]
    # The functions of a LambdaLR are not saved; build_scheduler makes them again.
    states = {key: part.state_dict() for key, part in old.items()}
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    model = torch.nn.Linear(6, 2, dtype=torch.float64)
    optimizer = build_optimizer(old["optimizer"].catalogue_name, model)
    scheduler = build_scheduler(optimizer, SCHEDULE, 40)
    for key, part in (("model", model), ("optimizer", optimizer), ("scheduler", scheduler)):
        part.load_state_dict(loaded[key])
    return model, optimizer, scheduler


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("halfway", [through_a_file, copy.deepcopy], ids=["file", "deepcopy"])
def test_training_with_a_scheduler_continues_bit_for_bit(name: str, halfway: Callable) -> None:
    assert torch.equal(train(name, 40), train(name, 40, halfway))


def test_a_real_loop_equals_torch_with_its_own_scheduler() -> None:
    ends = []
    for ours in (True, False):
        torch.manual_seed(0)
        model = torch.nn.Linear(6, 2, dtype=torch.float64)
        if ours:
            optimizer = build_optimizer("adamw", model, lr=1e-2, weight_decay=0.1)
            scheduler = build_scheduler(optimizer, {"name": "cosine"}, 60)
        else:
            groups = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias], "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW(groups, lr=1e-2)
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
        g = torch.Generator().manual_seed(1)
        for _ in range(60):
            optimizer.zero_grad()
            model(torch.randn(8, 6, generator=g, dtype=torch.float64)).square().mean().backward()
            optimizer.step()
            scheduler.step()
        ends.append(model.state_dict())
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key], rtol=0, atol=1e-9)


def test_torchs_own_schedulers_drive_it_and_after_the_end_the_rate_stays() -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = build_optimizer("lion", model, lr=1.0)
    seen = []
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, [1.0, 2.0], total_steps=10, cycle_momentum=False)
    for _ in range(9):
        optimizer.step()
        theirs.step()
        seen.append([g["lr"] for g in optimizer.param_groups])
    assert all(b == pytest.approx(2 * a) for a, b in seen)
    optimizer = build_optimizer("sgd", model, lr=1.0)
    ours = build_scheduler(optimizer, {"name": "linear"}, 4)
    for _ in range(7):
        optimizer.step()
        ours.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_weights_without_a_gradient_and_frozen_weights_are_left_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer("adamw", model, lr=0.1)
    model[1](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"1.weight", "1.bias"}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 6


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lr": -1.0}, "lr must be finite and not negative"),
        ({"lr": float("nan")}, "lr must be finite"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\)"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and not negative"),
        ({"eps": "1e-8"}, "eps must be a number"),
    ],
)
def test_values_that_no_run_can_use_are_refused(values: dict, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build_optimizer("adamw", torch.nn.Linear(2, 1), **values)


def test_a_weight_of_any_size_takes_the_step_of_sgd(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for large in (1, 1 << 20):
        monkeypatch.setattr(kernels, "LARGE", large)
        torch.manual_seed(0)
        model = torch.nn.Linear(30, 20)
        optimizer = build_optimizer("sgd", model, lr=0.1)
        twin = torch.optim.SGD([p := torch.nn.Parameter(model.weight.detach().clone())], lr=0.1)
        for step in range(3):
            for q in model.parameters():
                q.grad = torch.sin(q.detach() + step)
            p.grad = torch.sin(p.detach() + step)
            optimizer.step()
            twin.step()
        torch.testing.assert_close(model.weight, p, rtol=1e-6, atol=1e-7)
        found.append(model.weight.detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-7)
