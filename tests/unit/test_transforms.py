"""Every optimizer against a trusted reference, batched against single, and the identities of the field."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from torch import Tensor

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.optimizers.wrappers import WRAPPERS
from optim_core.transforms.arithmetic import cube_root
from optim_core.transforms.base import TRIAL, Layout, Transform
from optim_core.transforms.bundle import Bundle
from optim_core.transforms.clip import clip_by_global_norm
from optim_core.transforms.muon import orthogonalise
from optim_core.transforms.registry import BUILDERS, build_transform
from tests.unit.oracles import CASES

SHAPES = {"matrix": (4, 3), "vector": (5,)}
STEPS = 60
VARIED = {"lr": 0.03, "momentum": 0.8, "weight_decay": 0.05, "beta1": 0.85, "beta2": 0.97, "alpha": 0.93, "eps": 1e-6}
# Every method that works on gradients, and some that go around others than AdamW.
METHODS = [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"]
METHODS += ["lookahead(momentum)", "cautious(lion)", "sam(momentum)", "cautious(sgd)", "sam(lookahead(adam))"]


def start(seed: int, trials: int | None = None, shapes: dict = SHAPES) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    lead = () if trials is None else (trials,)
    return {n: torch.randn(*lead, *shape, generator=g, dtype=torch.float64) for n, shape in shapes.items()}


def gradient(params: dict[str, Tensor], t: int, shapes: dict = SHAPES) -> dict[str, Tensor]:
    """Noise that does not depend on the trial plus a pull to zero that does."""
    g = torch.Generator().manual_seed(1000 + t)
    return {n: torch.randn(*shapes[n], generator=g, dtype=torch.float64) + 0.3 * p for n, p in params.items()}


def with_base(hyper: dict) -> dict:
    return {"base_lr": hyper["lr"], **hyper}


def run(
    transform: Transform, params: dict[str, Tensor], hyper: dict, steps: int = STEPS, shapes: dict = SHAPES
) -> list[dict[str, Tensor]]:
    hypers = [with_base(hyper)]
    state, path = transform.init(params, hypers), []
    for t in range(1, steps + 1):
        grads = gradient(params, t, shapes)
        if transform.perturb is not None:
            grads = gradient(transform.perturb(params, grads, hypers), t, shapes)
        params, state = transform.update(params, grads, state, hypers, t)
        path.append(params)
    return path


def settings(name: str) -> list[dict]:
    """Defaults, and a variation; counts and switches stay as they are."""
    defaults = OPTIMIZERS[name].defaults()
    return [defaults, {key: VARIED.get(key, value) for key, value in defaults.items()}]


def test_registry_and_catalogue_have_the_same_rows() -> None:
    assert set(BUILDERS) | set(WRAPPERS) == {n for n, row in OPTIMIZERS.items() if row.kind == "gradient"}
    assert set(CASES) >= set(BUILDERS) | set(WRAPPERS)


@pytest.mark.parametrize("name", METHODS)
def test_capabilities_are_as_the_catalogue_says(name: str) -> None:
    row, transform = OPTIMIZERS[name], build_transform(name)
    assert transform.answers_elsewhere is row.answers_elsewhere
    assert (transform.perturb is not None) is (row.gradients == 2)
    assert transform.shape_free is (row.couples in ("nothing", "model"))


def oracle_settings() -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for name, case in CASES.items():
        base = settings(name)[: 2 if case.defaults else 0]
        rows += [(name, h) for h in base] + [(name, {**settings(name)[1], **more}) for more in case.varied]
    return rows


ORACLES = oracle_settings()


@pytest.fixture
def _double() -> Iterator[None]:
    """Some libraries keep scalars in the default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_double")
@pytest.mark.filterwarnings("ignore:This overload")
@pytest.mark.parametrize(("name", "hyper"), ORACLES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(ORACLES)])
def test_every_step_equals_the_reference(name: str, hyper: dict) -> None:
    case = CASES[name]
    ours = run(build_transform(name), start(0, shapes=case.shapes), hyper, shapes=case.shapes)
    weights = [p.clone().requires_grad_() for p in start(0, shapes=case.shapes).values()]
    reference = case.make(weights, hyper)

    def put_gradients(t: int) -> None:
        named = {n: w.detach() for n, w in zip(case.shapes, weights, strict=True)}
        for p, g in zip(weights, gradient(named, t, case.shapes).values(), strict=True):
            p.grad = g

    for t in range(1, STEPS + 1):
        put_gradients(t)
        two_gradients = build_transform(name).perturb is not None
        reference.step(lambda t=t: put_gradients(t)) if two_gradients else reference.step()
        for p, mine in zip(weights, ours[t - 1].values(), strict=True):
            assert (p.detach() - mine).abs().max() <= case.tolerance, t
    assert all((a != b).any() for a, b in zip(ours[-1].values(), start(0, shapes=case.shapes).values(), strict=True))


COUNTS = {
    "lookahead_k": 2,
    "precondition_frequency": 3,
    "t_alpha_beta3": 20,
    "t0": 5,
    "warmup_steps": 4,
    "projection_gap": 6,
}


def varied(name: str, i: int) -> dict[str, Any]:
    """The i-th of several settings that differ in every hyperparameter, switches and counts included."""
    hyper: dict[str, Any] = {}
    for row in OPTIMIZERS[name].hyperparameters:
        value = settings(name)[1][row.name]
        if row.sample_as == "flag":
            hyper[row.name] = i % 2 == 0
        elif row.name in COUNTS:
            hyper[row.name] = float(COUNTS[row.name] + i)
        elif row.sample_as == "one_minus":
            hyper[row.name] = 1 - (1 - value) * (1 + 0.1 * i)
        else:
            hyper[row.name] = value * (1 - 0.03 * i)
    return hyper


def stack(hypers: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {k: torch.tensor([float(h[k]) for h in hypers], dtype=torch.float64) for k in hypers[0]}


BATCHED = Layout(batched=True)


@pytest.mark.parametrize("name", METHODS)
def test_seven_trials_at_once_equal_seven_single_runs(name: str) -> None:
    hypers = [varied(name, i) for i in range(7)]
    stacked = {n: torch.stack([p] * 7) for n, p in start(1).items()}
    path = run(build_transform(name, BATCHED), stacked, stack(hypers))
    for i, hyper in enumerate(hypers):
        alone = run(build_transform(name), start(1), hyper)
        for step in (0, 5, STEPS - 1):
            for n in SHAPES:
                torch.testing.assert_close(path[step][n][i], alone[step][n], rtol=0, atol=1e-9)


def three(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return stack([varied(name, 0)] * 3), {n: torch.stack([p] * 3) for n, p in start(2).items()}


@pytest.mark.parametrize("name", METHODS)
def test_a_diverged_trial_leaves_its_neighbours_bit_identical(name: str) -> None:
    hyper, stacked = three(name)
    calm = run(build_transform(name, BATCHED), stacked, hyper, steps=20)[-1]
    broken = {n: p.clone() for n, p in stacked.items()}
    broken["matrix"][1] = float("nan")
    after = run(build_transform(name, BATCHED), broken, hyper, steps=20)[-1]
    for n in SHAPES:
        assert torch.equal(calm[n][[0, 2]], after[n][[0, 2]])
    assert not bool(after["matrix"][1].isfinite().any())


@pytest.mark.parametrize("bad", [{"lr": 1e300}, {"lr": float("nan")}, {"weight_decay": 1e300}], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_absurd_hyperparameters_of_one_trial_leave_its_neighbours_bit_identical(name: str, bad: dict) -> None:
    hyper, stacked = three(name)
    calm = run(build_transform(name, BATCHED), stacked, hyper, steps=20)[-1]
    for key, value in bad.items():
        hyper[key][1] = value
    after = run(build_transform(name, BATCHED), stacked, hyper, steps=20)[-1]
    for n in SHAPES:
        assert torch.equal(calm[n][[0, 2]], after[n][[0, 2]])


@pytest.mark.parametrize("layout", [Layout(), BATCHED], ids=["single", "batched"])
@pytest.mark.parametrize("name", METHODS)
def test_nothing_that_is_passed_in_changes(name: str, layout: Layout) -> None:
    hyper = with_base(stack([varied(name, 0)] * 3) if layout.batched else varied(name, 0))
    transform, params = build_transform(name, layout), start(6, 3 if layout.batched else None)
    params, state = transform.update(params, gradient(params, 1), transform.init(params, [hyper]), [hyper], 1)
    passed = params, gradient(params, 2), state, [hyper]
    before = copy.deepcopy(passed)
    transform.update(*passed, 2)
    torch.testing.assert_close(passed, before, rtol=0, atol=0)


@pytest.mark.parametrize("trials", [None, 3], ids=["single", "batched"])
@pytest.mark.parametrize("name", METHODS)
def test_memory_is_what_the_catalogue_says(name: str, trials: int | None) -> None:
    layout = Layout(batched=trials is not None)
    shapes = {"matrix": (4, 3), "vector": (5,), "kernel": (3, 2, 3, 3)}
    params = start(0, trials, shapes)
    hyper = OPTIMIZERS[name].defaults()
    hypers = [with_base(stack([hyper] * trials) if trials else hyper)]
    transform = build_transform(name, layout)
    states = [transform.init(params, hypers)]
    states.append(transform.update(params, gradient(params, 1, shapes), states[0], hypers, 1)[1])
    row, count = OPTIMIZERS[name], trials or 1
    own = Layout()
    expected = sum(row.numbers_of(s, own.role(n, torch.empty(s))) for n, s in shapes.items())
    for state in states:
        held = sum(x.numel() for key, tensors in state.items() if key != TRIAL for x in tensors.values())
        assert held == expected * count
        assert sum(x.numel() for x in state.get(TRIAL, {}).values()) == row.trial_numbers * count


@pytest.mark.parametrize("name", METHODS)
def test_state_saved_and_loaded_mid_run_changes_nothing(name: str, tmp_path) -> None:
    hypers = [with_base(stack([varied(name, i) for i in range(2)]))]
    transform, params = build_transform(name, BATCHED), start(9, 2)
    state = transform.init(params, hypers)
    ends = []
    for t in range(1, 41):
        params, state = transform.update(params, gradient(params, t), state, hypers, t)
        if t == 20:
            torch.save((params, state), tmp_path / "run")
    ends.append(params)
    params, state = torch.load(tmp_path / "run", weights_only=True)
    for t in range(21, 41):
        params, state = build_transform(name, BATCHED).update(params, gradient(params, t), state, hypers, t)
    ends.append(params)
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in SHAPES)


@pytest.mark.parametrize("name", METHODS)
def test_scalars_and_kernels_are_weights_like_any_other(name: str) -> None:
    hypers = [varied(name, 0), varied(name, 2)]
    g = torch.Generator().manual_seed(0)
    wide, flat = (torch.randn(2, *s, dtype=torch.float64, generator=g) for s in ((3, 3, 3, 3), ()))
    g_wide, g_flat = (torch.randn(2, *s, dtype=torch.float64, generator=g) for s in ((3, 3, 3, 3), ()))

    def two_steps(layout: Layout, params: dict, grads: dict, hyper: dict) -> dict[str, Tensor]:
        transform = build_transform(name, layout)
        state = transform.init(params, [with_base(hyper)])
        for t in (1, 2):
            params, state = transform.update(params, grads, state, [with_base(hyper)], t)
        return params

    new = two_steps(BATCHED, {"kernel": wide, "scalar": flat}, {"kernel": g_wide, "scalar": g_flat}, stack(hypers))
    for k in range(2):
        alone = {"kernel": wide[k], "scalar": flat[k]}
        single = two_steps(Layout(), alone, {"kernel": g_wide[k], "scalar": g_flat[k]}, hypers[k])
        for n in alone:
            torch.testing.assert_close(new[n][k], single[n], rtol=0, atol=1e-10)


# Differences of nearly equal numbers, or products in half precision: these lose digits by construction.
LOSES_DIGITS = {"muon", "cautious(sgd)", "cautious(lion)", "cautious", "soap", "shampoo", "adabelief"}


@pytest.mark.parametrize("name", [n for n in METHODS if n not in LOSES_DIGITS])
def test_float32_keeps_the_digits_of_one_minus_beta(name: str) -> None:
    hyper = {**settings(name)[1], **({"beta2": 0.9999} if "beta2" in settings(name)[1] else {})}
    stacked, hypers = {n: torch.stack([p] * 2) for n, p in start(7).items()}, [with_base(stack([hyper] * 2))]
    grads = gradient(stacked, 1)
    transform, ends = build_transform(name, BATCHED), []
    for dtype in (torch.float64, torch.float32):
        small = {n: p.to(dtype) for n, p in stacked.items()}
        moved, _ = transform.update(
            small, {n: g.to(dtype) for n, g in grads.items()}, transform.init(small, hypers), hypers, 1
        )
        assert all(p.dtype == dtype for p in moved.values())
        ends.append(moved)
    for n in SHAPES:
        torch.testing.assert_close(ends[1][n].double(), ends[0][n], rtol=1e-5, atol=1e-6)


SCALE_FREE = ["adam", "adamw", "amsgrad", "nadamw", "nadam", "adamax", "lion", "signum", "rmsprop", "adagrad", "muon",
              "laprop", "schedule_free_adamw", "cautious", "rprop",
              "novograd", "stable_adamw", "adam_mini"]  # fmt: skip


@pytest.mark.parametrize("name", SCALE_FREE)
def test_methods_without_a_gradient_scale_do_not_see_the_scale_of_the_loss(name: str) -> None:
    hyper = with_base({**settings(name)[0], "weight_decay": 0.0, "eps": 0.0})
    ends = []
    for scale in (1.0, 1024.0):
        transform, params = build_transform(name), start(8)
        state = transform.init(params, [hyper])
        for t in range(1, 21):
            grads = {n: scale * g for n, g in gradient(start(8), t).items()}
            params, state = transform.update(params, grads, state, [hyper], t)
        ends.append(params)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-9)


# The others have one number for all weights, so groups cannot be apart.
APART = [n for n in METHODS if OPTIMIZERS[n].couples != "model" and not n.startswith("sam")]


@pytest.mark.parametrize("name", APART)
def test_groups_have_hyperparameters_of_their_own(name: str) -> None:
    hypers = [with_base(settings(name)[1]), with_base({**settings(name)[1], "weight_decay": 0.0, "lr": 0.007})]
    transform, params = build_transform(name, Layout(groups={"vector": 1})), start(3)
    state = transform.init(params, hypers)
    for t in range(1, 21):
        params, state = transform.update(params, gradient(params, t), state, hypers, t)
    for n, hyper in zip(("matrix", "vector"), hypers, strict=True):
        assert torch.equal(params[n], run(build_transform(name), start(3), hyper, steps=20)[-1][n])


def end(name: str, hyper: dict, steps: int = STEPS) -> dict[str, Tensor]:
    return run(build_transform(name), start(4), {**settings(name)[1], **hyper}, steps)[-1]


def same(a: dict[str, Tensor], b: dict[str, Tensor], atol: float = 1e-12) -> None:
    for n in SHAPES:
        torch.testing.assert_close(a[n], b[n], rtol=0, atol=atol)


@given(seed=st.integers(0, 1000), lr=st.floats(1e-4, 0.05), mu=st.floats(0.1, 0.99), wd=st.floats(0, 0.1))
@settings_of(max_examples=15, deadline=None)
def test_identities(seed: int, lr: float, mu: float, wd: float) -> None:
    bare = {"lr": lr, "weight_decay": 0.0}
    decays = {"lr": lr, "weight_decay": wd}
    same(end("adamw", bare), end("adam", bare))
    same(end("nesterov", {**decays, "momentum": 0.0}), end("sgd", decays))
    same(end("momentum", {**decays, "momentum": mu}), end("heavy_ball", {**decays, "momentum": mu}), 1e-9)
    same(
        end("momentum", {**decays, "momentum": mu}),
        end("momentum_ema", {"lr": lr / (1 - mu), "momentum": mu, "weight_decay": wd}),
        1e-8,
    )
    for base in ("adamw", "momentum"):
        same(end(f"lookahead({base})", {**decays, "lookahead_alpha": 1.0}), end(base, decays))
        same(end(f"sam({base})", {**decays, "rho": 0.0}), end(base, decays))
    same(end("lion", {**bare, "beta1": mu, "beta2": mu}), end("signum", {**bare, "momentum": mu}))
    # At a huge ε Adam with lr = a·ε is the mean gradient, corrected for its start.
    far = end("adam", {"lr": lr * 1e8, "eps": 1e8, "beta1": mu, "weight_decay": 0.0}, 1)
    same(far, end("sgd", bare, 1), 1e-6)
    same(
        end("rmsprop", {**bare, "alpha": 0.0, "eps": 0.0, "momentum": 0.0}),
        end("signum", {**bare, "momentum": 0.0}),
        1e-9,
    )


def test_amsgrad_is_adam_while_the_second_moment_grows() -> None:
    hyper = {**settings("adam")[1], "weight_decay": 0.0}
    growing = [{n: (1.3**t) * torch.ones_like(p) for n, p in start(0).items()} for t in range(1, 21)]
    ends = []
    for name in ("adam", "amsgrad"):
        transform, params = build_transform(name), start(0)
        state = transform.init(params, [hyper])
        for t, grads in enumerate(growing, 1):
            params, state = transform.update(params, grads, state, [hyper], t)
        ends.append(params)
    same(*ends)


def test_schedule_free_without_interpolation_answers_with_the_plain_average() -> None:
    hyper = with_base({"lr": 0.05, "momentum": 1e-12, "weight_decay": 0.0})
    transform, params = build_transform("schedule_free_sgd"), start(0)
    state = transform.init(params, [hyper])
    iterates = []
    for t in range(1, 31):
        params, state = transform.update(params, gradient(params, t), state, [hyper], t)
        iterates.append(state["z"]["matrix"])
    answer = transform.answer(params, state, [hyper])["matrix"]
    torch.testing.assert_close(answer, torch.stack(iterates).mean(0), rtol=0, atol=1e-3)


def rotation(size: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=g, dtype=torch.float64))[0]


@pytest.mark.parametrize(("name", "follows"), [("muon", True), ("shampoo", True), ("adamw", False), ("sgd", True)])
def test_matrix_methods_follow_a_change_of_basis(name: str, follows: bool) -> None:
    left, right = rotation(4, 1), rotation(3, 2)
    hyper = with_base({**OPTIMIZERS[name].defaults(), "lr": 0.01} | ({"grafting": False} if name == "shampoo" else {}))
    ends = []
    for a, b in ((torch.eye(4).double(), torch.eye(3).double()), (left, right)):
        transform, params = build_transform(name), {"matrix": a @ start(0)["matrix"] @ b}
        state = transform.init(params, [hyper])
        for t in range(1, 21):
            grads = {"matrix": a @ gradient(start(0), t)["matrix"] @ b}
            params, state = transform.update(params, grads, state, [hyper], t)
        ends.append(a.mT @ params["matrix"] @ b.mT)
    distance = float((ends[0] - ends[1]).abs().max())
    assert distance < 1e-8 if follows else distance > 1e-3


def test_orthogonal_steps_have_singular_values_near_one() -> None:
    for shape in ((7, 4), (4, 7), (3, 5, 5)):
        values = torch.linalg.svdvals(orthogonalise(start(0, shapes={"m": shape})["m"]))
        assert float(values.min()) > 0.3
        assert float(values.max()) < 1.3


def test_loss_of_the_whole_is_no_method_for_gradients() -> None:
    with pytest.raises(SpecError, match="needs the loss itself"):
        build_transform("cma_es")
    with pytest.raises(SpecError, match="lookahead cannot go around lbfgs, which is a full-batch method"):
        build_transform("lookahead(lbfgs)")


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1e9])
def test_clipping_equals_torch_and_is_per_trial(max_norm: float) -> None:
    grads = start(5)
    weights = [torch.zeros_like(g).requires_grad_() for g in grads.values()]
    for w, g in zip(weights, grads.values(), strict=True):
        w.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(weights, max_norm)
    stacked = {n: torch.stack([g, g]) for n, g in grads.items()}
    batched = clip_by_global_norm(stacked, torch.tensor([max_norm, float("inf")], dtype=torch.float64), 1)
    for w, n, single in zip(weights, grads, clip_by_global_norm(grads, max_norm, 0).values(), strict=True):
        torch.testing.assert_close(w.grad, single, rtol=0, atol=1e-14)
        torch.testing.assert_close(w.grad, batched[n][0], rtol=0, atol=1e-14)
        assert torch.equal(batched[n][1], grads[n])


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 5e-7), (torch.float64, 2e-15)])
def test_a_cube_root_is_exact_and_the_same_wherever_a_number_lies(dtype: torch.dtype, near: float) -> None:
    x = torch.logspace(-35, 37, 1001, dtype=torch.float64).to(dtype)
    root = cube_root(x)
    right = torch.from_numpy(np.cbrt(x.double().numpy()))
    assert float((root.double() / right - 1).abs().max()) < near
    assert all(torch.equal(cube_root(x[i : i + 9])[0], root[i]) for i in range(50))
    assert float((cube_root(Bundle([x])).tensors[0].double() / right - 1).abs().max()) < 2 * near
    assert float(cube_root(torch.zeros(1, dtype=dtype))) == pytest.approx(1e-12)
