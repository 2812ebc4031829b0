"""Every optimizer against a trusted reference, batched against single, and the identities of the field."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.base import Transform
from optim_core.transforms.clip import clip_by_global_norm
from optim_core.transforms.registry import RULES, build_transform

SHAPES = {"matrix": (4, 3), "vector": (5,)}
STEPS = 60

TorchFactory = Callable[[list[Tensor], dict], torch.optim.Optimizer]
BETAS = lambda h: (h["beta1"], h["beta2"])  # noqa: E731
TORCH: dict[str, TorchFactory] = {
    "sgd": lambda p, h: torch.optim.SGD(p, lr=h["lr"], weight_decay=h["weight_decay"]),
    "momentum": lambda p, h: torch.optim.SGD(p, lr=h["lr"], momentum=h["momentum"], weight_decay=h["weight_decay"]),
    "nesterov": lambda p, h: torch.optim.SGD(
        p, lr=h["lr"], momentum=h["momentum"], nesterov=True, weight_decay=h["weight_decay"]
    ),
    "adagrad": lambda p, h: torch.optim.Adagrad(p, lr=h["lr"], eps=h["eps"], weight_decay=h["weight_decay"]),
    "rmsprop": lambda p, h: torch.optim.RMSprop(
        p, lr=h["lr"], alpha=h["alpha"], eps=h["eps"], weight_decay=h["weight_decay"]
    ),
    "adam": lambda p, h: torch.optim.Adam(p, lr=h["lr"], betas=BETAS(h), eps=h["eps"], weight_decay=h["weight_decay"]),
    "adamw": lambda p, h: torch.optim.AdamW(
        p, lr=h["lr"], betas=BETAS(h), eps=h["eps"], weight_decay=h["weight_decay"]
    ),
    "amsgrad": lambda p, h: torch.optim.Adam(
        p, lr=h["lr"], betas=BETAS(h), eps=h["eps"], weight_decay=h["weight_decay"], amsgrad=True
    ),
    "radam": lambda p, h: torch.optim.RAdam(
        p, lr=h["lr"], betas=BETAS(h), eps=h["eps"], weight_decay=h["weight_decay"]
    ),
}


class NAdamWByHand(torch.optim.Optimizer):
    """The AlgoPerf formula, written out with scalars and without any code of ours."""

    def __init__(self, params, h):
        super().__init__(params, h)
        self.t = 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        h = self.defaults
        for p in self.param_groups[0]["params"]:
            s = self.state[p]
            s["m"] = h["beta1"] * s.get("m", 0) + (1 - h["beta1"]) * p.grad
            s["v"] = h["beta2"] * s.get("v", 0) + (1 - h["beta2"]) * p.grad**2
            numerator = (h["beta1"] * s["m"] + (1 - h["beta1"]) * p.grad) / (1 - h["beta1"] ** self.t)
            root = (s["v"] / (1 - h["beta2"] ** self.t)).sqrt() + h["eps"]
            p.copy_(p * (1 - h["lr"] * h["weight_decay"]) - h["lr"] * numerator / root)


class LionByHand(NAdamWByHand):
    """Algorithm 2 of arXiv 2302.06675."""

    @torch.no_grad()
    def step(self):
        h = self.defaults
        for p in self.param_groups[0]["params"]:
            s = self.state[p]
            m = s.get("m", torch.zeros_like(p))
            update = torch.sign(h["beta1"] * m + (1 - h["beta1"]) * p.grad) + h["weight_decay"] * p
            s["m"] = h["beta2"] * m + (1 - h["beta2"]) * p.grad
            p.copy_(p - h["lr"] * update)


REFERENCES = {**TORCH, "nadamw": NAdamWByHand, "lion": LionByHand}
VARIED = {"lr": 0.03, "momentum": 0.8, "weight_decay": 0.05, "beta1": 0.85, "beta2": 0.97, "alpha": 0.93, "eps": 1e-6}


def start(seed: int, trials: int | None = None) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    lead = () if trials is None else (trials,)
    return {n: torch.randn(*lead, *shape, generator=g, dtype=torch.float64) for n, shape in SHAPES.items()}


def gradient(params: dict[str, Tensor], t: int, noise_shapes: dict[str, tuple] = SHAPES) -> dict[str, Tensor]:
    """Noise that does not depend on the trial plus a pull to zero that does."""
    g = torch.Generator().manual_seed(1000 + t)
    return {n: torch.randn(*noise_shapes[n], generator=g, dtype=torch.float64) + 0.3 * p for n, p in params.items()}


def run(transform: Transform, params: dict[str, Tensor], hyper: dict, steps: int = STEPS) -> list[dict[str, Tensor]]:
    state, path = transform.init(params), []
    for t in range(1, steps + 1):
        params, state = transform.update(params, gradient(params, t), state, hyper, t)
        path.append(params)
    return path


def settings(name: str) -> list[dict]:
    defaults = OPTIMIZERS[name].defaults()
    return [defaults, {key: VARIED.get(key, value) for key, value in defaults.items()}]


def test_registry_and_catalogue_have_the_same_rows() -> None:
    assert set(RULES) == set(OPTIMIZERS) == set(REFERENCES)


@pytest.mark.parametrize("varied", [0, 1], ids=["defaults", "varied"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_step_equals_the_reference(name: str, varied: int) -> None:
    hyper = settings(name)[varied]
    ours = run(build_transform(name), start(0), hyper)
    weights = [p.clone().requires_grad_() for p in start(0).values()]
    reference = REFERENCES[name](weights, hyper)
    for t in range(1, STEPS + 1):
        named = dict(zip(SHAPES, weights, strict=True))
        for p, g in zip(weights, gradient({n: w.detach() for n, w in named.items()}, t).values(), strict=True):
            p.grad = g
        reference.step()
        for p, mine in zip(weights, ours[t - 1].values(), strict=True):
            assert (p.detach() - mine).abs().max() <= 1e-9


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_seven_trials_at_once_equal_seven_single_runs(name: str) -> None:
    trials = 7
    hypers = [{k: v if k == "eps" else v * (1 - 0.03 * i) for k, v in settings(name)[1].items()} for i in range(trials)]
    together = {k: torch.tensor([h[k] for h in hypers], dtype=torch.float64) for k in hypers[0]}
    stacked = {n: torch.stack([p] * trials) for n, p in start(1).items()}
    path = run(build_transform(name), stacked, together)
    for i, hyper in enumerate(hypers):
        alone = run(build_transform(name), start(1), hyper)
        for step in (0, 5, STEPS - 1):
            for n in SHAPES:
                torch.testing.assert_close(path[step][n][i], alone[step][n], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_diverged_trial_leaves_its_neighbours_bit_identical(name: str) -> None:
    hyper = {k: torch.tensor([v] * 3, dtype=torch.float64) for k, v in settings(name)[1].items()}
    stacked = {n: torch.stack([p] * 3) for n, p in start(2).items()}
    calm = run(build_transform(name), stacked, hyper, steps=20)[-1]
    broken = {n: p.clone() for n, p in stacked.items()}
    broken["matrix"][1] = float("nan")
    after = run(build_transform(name), broken, hyper, steps=20)[-1]
    for n in SHAPES:
        assert torch.equal(calm[n][[0, 2]], after[n][[0, 2]])


@pytest.mark.parametrize("bad", [{"lr": 1e300}, {"lr": float("nan")}, {"weight_decay": 1e300}], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_absurd_hyperparameters_of_one_trial_leave_its_neighbours_bit_identical(name: str, bad: dict) -> None:
    hyper = {k: torch.tensor([v] * 3, dtype=torch.float64) for k, v in settings(name)[1].items()}
    stacked = {n: torch.stack([p] * 3) for n, p in start(2).items()}
    calm = run(build_transform(name), stacked, hyper, steps=20)[-1]
    for key, value in bad.items():
        hyper[key][1] = value
    after = run(build_transform(name), stacked, hyper, steps=20)[-1]
    for n in SHAPES:
        assert torch.equal(calm[n][[0, 2]], after[n][[0, 2]])


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_that_is_passed_in_changes(name: str, batched: bool) -> None:
    hyper = settings(name)[1]
    if batched:
        hyper = {k: torch.full((3,), v, dtype=torch.float64) for k, v in hyper.items()}
    transform, params = build_transform(name), start(6, 3 if batched else None)
    params, state = transform.update(params, gradient(params, 1), transform.init(params), hyper, 1)
    passed = params, gradient(params, 2), state, hyper
    before = copy.deepcopy(passed)
    transform.update(*passed, 2)
    torch.testing.assert_close(passed, before, rtol=0, atol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_memory_is_what_the_catalogue_says(name: str) -> None:
    params = start(0)
    state = build_transform(name).init(params)
    weights = sum(p.numel() for p in params.values())
    held = sum(tensor.numel() for tensors in state.values() for tensor in tensors.values())
    assert held == OPTIMIZERS[name].state_per_weight * weights


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scalars_and_kernels_are_weights_like_any_other(name: str) -> None:
    hyper = settings(name)[1]
    wide, flat = torch.randn(2, 3, 3, 3, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    g_wide, g_flat = torch.randn_like(wide), torch.randn_like(flat)
    stacked = {k: torch.tensor([v, 0.9 * v], dtype=torch.float64) for k, v in hyper.items()}
    transform = build_transform(name)
    together = {"kernel": torch.stack([wide, wide]), "scalar": flat}
    new, _ = transform.update(
        together, {"kernel": torch.stack([g_wide, g_wide]), "scalar": g_flat}, transform.init(together), stacked, 1
    )
    for k in range(2):
        alone = {"kernel": wide, "scalar": flat[k]}
        own = {key: float(value[k]) for key, value in stacked.items()}
        single, _ = transform.update(alone, {"kernel": g_wide, "scalar": g_flat[k]}, transform.init(alone), own, 1)
        for n in alone:
            torch.testing.assert_close(new[n][k], single[n], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_keeps_the_digits_of_one_minus_beta(name: str) -> None:
    hyper = {**settings(name)[1], **({"beta2": 0.9999} if "beta2" in settings(name)[1] else {})}
    exact = run(build_transform(name), {n: torch.stack([p] * 2) for n, p in start(7).items()}, hyper, steps=1)[-1]
    transform = build_transform(name)
    small = {n: torch.stack([p] * 2).float() for n, p in start(7).items()}
    grads = {n: g.float() for n, g in gradient({n: torch.stack([p] * 2) for n, p in start(7).items()}, 1).items()}
    stacked = {k: torch.tensor([v, v], dtype=torch.float64) for k, v in hyper.items()}
    rounded, _ = transform.update(small, grads, transform.init(small), stacked, 1)
    for n in SHAPES:
        assert rounded[n].dtype == torch.float32
        torch.testing.assert_close(rounded[n].double(), exact[n], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad", "nadamw", "lion", "rmsprop", "adagrad"])
def test_methods_without_a_gradient_scale_do_not_see_the_scale_of_the_loss(name: str) -> None:
    hyper = {**settings(name)[0], "weight_decay": 0.0} | ({"eps": 0.0} if name != "lion" else {})
    ends = []
    for scale in (1.0, 1024.0):
        transform, params = build_transform(name), start(8)
        state = transform.init(params)
        for t in range(1, 21):
            grads = {n: scale * g for n, g in gradient(start(8), t).items()}
            params, state = transform.update(params, grads, state, hyper, t)
        ends.append(params)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_that_do_not_decay_are_spared(name: str) -> None:
    hyper = settings(name)[1]
    spared = run(build_transform(name, lambda n: n == "matrix"), start(3), hyper)[-1]
    assert torch.equal(
        spared["vector"], run(build_transform(name), start(3), {**hyper, "weight_decay": 0.0})[-1]["vector"]
    )
    assert torch.equal(spared["matrix"], run(build_transform(name), start(3), hyper)[-1]["matrix"])


def test_identities() -> None:
    adam = settings("adam")[1]
    plain = {**adam, "weight_decay": 0.0}
    same = [
        (run(build_transform("adamw"), start(4), plain), run(build_transform("adam"), start(4), plain)),
        (
            run(build_transform("nesterov"), start(4), {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}),
            run(build_transform("sgd"), start(4), {"lr": 0.1, "weight_decay": 0.0}),
        ),
    ]
    for a, b in same:
        for n in SHAPES:
            torch.testing.assert_close(a[-1][n], b[-1][n], rtol=0, atol=1e-12)


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1e9])
def test_clipping_equals_torch_and_is_per_trial(max_norm: float) -> None:
    grads = start(5)
    weights = [torch.zeros_like(g).requires_grad_() for g in grads.values()]
    for w, g in zip(weights, grads.values(), strict=True):
        w.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(weights, max_norm)
    stacked = {n: torch.stack([g, g]) for n, g in grads.items()}
    batched = clip_by_global_norm(stacked, torch.tensor([max_norm, float("inf")], dtype=torch.float64), batched=True)
    for w, n, single in zip(weights, grads, clip_by_global_norm(grads, max_norm, batched=False).values(), strict=True):
        torch.testing.assert_close(w.grad, single, rtol=0, atol=1e-14)
        torch.testing.assert_close(w.grad, batched[n][0], rtol=0, atol=1e-14)
        assert torch.equal(batched[n][1], grads[n])
