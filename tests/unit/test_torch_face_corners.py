"""What a faster path gets wrong first: few bits, memory that is not in a row, weights that are late, numbers of the model."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.complex_weights import check_complex
from optim_core.transforms.torch_adapter import build_optimizer

GRADIENT = [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"]
TORCHS = {
    "sgd": lambda p, **o: torch.optim.SGD(p, lr=0.05, foreach=False, **o),
    "momentum": lambda p, **o: torch.optim.SGD(p, lr=0.05, momentum=0.9, foreach=False, **o),
    "nesterov": lambda p, **o: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, foreach=False, **o),
    "adagrad": lambda p, **o: torch.optim.Adagrad(p, lr=0.05, foreach=False, **o),
    "adam": lambda p, **o: torch.optim.Adam(p, lr=0.05, foreach=False, **o),
    "adamw": lambda p, **o: torch.optim.AdamW(p, lr=0.05, weight_decay=0.0, foreach=False, **o),
    "amsgrad": lambda p, **o: torch.optim.Adam(p, lr=0.05, amsgrad=True, foreach=False, **o),
}
NATIVE = list(TORCHS)


def one(p: Tensor) -> nn.Parameter:
    return nn.Parameter(p)


def plain(name: str, *weights: nn.Parameter, **more: object) -> torch.optim.Optimizer:
    return build_optimizer(name, [{"params": list(weights), "weight_decay": 0.0}], lr=0.05, **more)  # type: ignore[arg-type]


def twice(closure_like: torch.optim.Optimizer) -> None:
    closure_like.step(lambda: torch.zeros(()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "right"), [("sgd", 0.8477), ("momentum", 0.7188), ("nesterov", 0.5977)])
def test_weights_of_sixteen_bits_move(name: str, right: float, dtype: torch.dtype) -> None:
    p = one(torch.ones(4, dtype=dtype))
    optimizer = plain(name, p)
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step()
    exact = {"sgd": 0.85, "momentum": 1 - 0.05 * (1 + 1.9 + 2.71), "nesterov": 1 - 0.05 * (1.9 + 2.71 + 3.439)}[name]
    assert p.tolist() == pytest.approx([exact] * 4, abs=3 * torch.finfo(dtype).eps)
    if dtype == torch.bfloat16:
        assert round(p.tolist()[0], 4) == right


@pytest.mark.parametrize("name", NATIVE)
def test_a_late_weight_and_a_strided_one_are_trained_as_by_torch(name: str) -> None:
    def weights() -> list[nn.Parameter]:
        torch.manual_seed(0)
        return [one(torch.randn(10, 5, 2)[..., 0]), one(torch.randn(3)), one(torch.randn(4, 4).t())]

    mine, theirs = weights(), weights()
    ours, torchs = plain(name, *mine), TORCHS[name](theirs)
    torch.manual_seed(1)
    for t in range(6):
        for a, b in zip(mine, theirs, strict=True):
            g = torch.randn(a.shape)
            a.grad, b.grad = g.clone(), g.clone()
        if t < 2:
            mine[1].grad = theirs[1].grad = None
        ours.step()
        torchs.step()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NATIVE)
def test_a_step_that_was_skipped_at_the_very_start_leaves_nothing_behind(name: str) -> None:
    p = one(torch.ones(7))
    optimizer, scaler = plain(name, p), torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.zeros(()))
    for g in (float("inf"), 4.0, 2.0):
        p.grad = torch.full_like(p, g)
        scaler.step(optimizer)
        scaler.update()
    right = one(torch.ones(7))
    torchs = TORCHS[name]([right])
    for g in (2.0, 1.0):
        right.grad = torch.full_like(right, g)
        torchs.step()
    torch.testing.assert_close(p, right, rtol=0, atol=1e-6)


def split_in_two() -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """One model in one precision, and the same numbers in two; a third weight has no gradient at first."""
    whole = [one(torch.ones(2, 2, dtype=torch.float64)) for _ in range(3)]
    mixed = [one(torch.ones(2, 2, dtype=dtype)) for dtype in (torch.float32, torch.bfloat16, torch.float64)]
    return whole, mixed


def with_gradients(weights: list[nn.Parameter], t: int) -> None:
    for i, p in enumerate(weights):
        p.grad = torch.full_like(p, 0.5 * (i + 1)) if i < 2 or t > 0 else None


@pytest.mark.parametrize("mixed", [False, True], ids=["one precision", "three precisions"])
def test_the_norm_that_is_clipped_is_that_of_the_model(mixed: bool) -> None:
    weights = split_in_two()[mixed]
    optimizer = build_optimizer("sgd", [{"params": weights}], lr=1.0, techniques={"clip_norm": 1.0})
    for t in range(2):
        with_gradients(weights, t)
        before = [p.detach().double().clone() for p in weights]
        optimizer.step()
        step = math.sqrt(
            sum(float((p.detach().double() - b).square().sum()) for p, b in zip(weights, before, strict=True))
        )
        assert step == pytest.approx(1.0, abs=2e-2 if mixed else 1e-5)


def test_sam_looks_at_one_point_at_distance_rho() -> None:
    weights = split_in_two()[1]
    optimizer = build_optimizer("sam(sgd)", [{"params": weights}], lr=0.0, rho=1.0)
    for t in range(2):
        seen: list[list[Tensor]] = []

        def closure(t: int = t, seen: list[list[Tensor]] = seen) -> Tensor:
            with_gradients(weights, t)
            seen.append([p.detach().double().clone() for p in weights])
            return torch.zeros(())

        optimizer.step(closure)
        moved = sum(float((a - b).square().sum()) for a, b in zip(*seen, strict=True))
        assert math.sqrt(moved) == pytest.approx(1.0, abs=2e-2)


@pytest.mark.parametrize(("name", "key"), [("prodigy", "d"), ("swats", "mean_rate")])
def test_what_a_method_works_out_for_the_model_is_one_number(name: str, key: str) -> None:
    ends = []
    for weights in split_in_two():
        # From 0, where steps of 1e-6 are not lost in eight bits.
        for p in weights:
            p.data.zero_()
        optimizer = build_optimizer(name, [{"params": weights}], weight_decay=0.0)
        for t in range(5):
            with_gradients(weights, t)
            optimizer.step()
        numbers = {float(optimizer.state[p][f"trial.{key}"]) for p in weights}
        assert len(numbers) == 1
        ends.append(numbers.pop())
    assert ends[1] == pytest.approx(ends[0], rel=2e-2)


def test_a_weight_that_only_joins_does_not_begin_the_model_anew() -> None:
    first, second = one(torch.zeros(3)), one(torch.zeros(3))
    optimizer = build_optimizer("prodigy", [{"params": [first, second]}], d_coef=100.0)
    for _ in range(8):
        first.grad = torch.ones(3)
        optimizer.step()
    reached = float(optimizer.state[first]["trial.d"])
    first.grad, second.grad = None, torch.ones(3)
    optimizer.step()
    assert float(optimizer.state[second]["trial.d"]) >= reached > 1e-6
    assert optimizer.state[second]["trial.d"] is optimizer.state[first]["trial.d"]


@pytest.mark.parametrize("name", GRADIENT)
def test_zero_gradients_in_half_precision_leave_finite_weights_and_float32_state(name: str) -> None:
    weights = [one(torch.ones(4, 3, dtype=torch.float16)), one(torch.ones(3, dtype=torch.float16))]
    optimizer = build_optimizer(name, weights)
    for _ in range(3):
        for p in weights:
            p.grad = torch.zeros_like(p)
        twice(optimizer)
    assert all(bool(p.isfinite().all()) for p in weights)
    kept = [v for own in optimizer.state.values() for v in own.values() if isinstance(v, Tensor) and v.ndim]
    assert {v.dtype for v in kept} <= {torch.float32}


def test_soap_sees_the_second_moment_of_channels_last_kernels() -> None:
    ends = []
    for memory in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        p = one(torch.randn(8, 4, 3, 3, dtype=torch.float64).contiguous(memory_format=memory))
        optimizer = build_optimizer("soap", [p], lr=0.05)
        for _ in range(12):
            p.grad = torch.randn(8, 4, 3, 3, dtype=torch.float64).contiguous(memory_format=memory)
            optimizer.step()
        assert float(optimizer.state[p]["square"].max()) > 0
        ends.append(p.detach().contiguous())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-9)


def takes_complex(name: str) -> bool:
    try:
        check_complex(name, (), [torch.zeros(1, dtype=torch.complex64)])
    except SpecError:
        return False
    return True


@pytest.mark.parametrize("name", [*GRADIENT, "lookahead(momentum)", "cautious(lion)", "sam(sgd)"])
def test_complex_weights_are_two_reals_or_refused(name: str) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3, 2), [torch.randn(4, 3, 2) for _ in range(5)]
    p = one(torch.view_as_complex(start.clone()))
    if not takes_complex(name):
        with pytest.raises(SpecError, match="complex"):
            build_optimizer(name, [p])
        return
    two = one(start.clone())
    mine, theirs = plain(name, p), plain(name, two)
    for g in gradients:
        p.grad, two.grad = torch.view_as_complex(g.clone()), g.clone()
        twice(mine)
        twice(theirs)
    torch.testing.assert_close(torch.view_as_real(p.detach()), two.detach(), rtol=0, atol=1e-6)
    assert all(v.shape == p.shape for v in mine.state[p].values() if v.ndim)


def test_only_methods_that_look_at_axes_refuse_complex_weights() -> None:
    refusing = {name for name in GRADIENT if not takes_complex(name)}
    by_shape = {"adafactor", "came", "adam_mini", "novograd", "adamp"}
    assert refusing == {"muon", "soap", "shampoo", "mars", "apollo_mini", "psgd_kron"} | by_shape
    with pytest.raises(SpecError, match="centralize"):
        build_optimizer("sgd", [one(torch.zeros(2, 2, dtype=torch.complex64))], techniques={"centralize": 1.0})
    optimizer = build_optimizer("muon", [one(torch.zeros(2, 2))])
    with pytest.raises(SpecError, match="complex"):
        optimizer.add_param_group({"params": [one(torch.zeros(2, dtype=torch.complex64))]})


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "momentum"])
def test_complex_weights_are_trained_as_by_torch(name: str) -> None:
    torch.manual_seed(0)
    start = torch.randn(5, dtype=torch.complex64)
    mine, theirs = one(start.clone()), one(start.clone())
    ours, torchs = plain(name, mine), TORCHS[name]([theirs])
    for _ in range(4):
        g = torch.randn(5, dtype=torch.complex64)
        # A gradient that is conjugated only when it is read, as autograd may leave it; torch itself refuses those.
        mine.grad, theirs.grad = g.conj_physical().conj(), g.clone()
        ours.step()
        torchs.step()
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "soap"])
def test_gradients_of_another_precision_than_their_weights_are_taken(name: str) -> None:
    ends = []
    for dtype in (torch.float32, torch.bfloat16):
        p = one(torch.ones(3, 2))
        p.grad_dtype = None
        optimizer = plain(name, p)
        for t in range(1, 4):
            p.grad = torch.full((3, 2), 0.5 * t, dtype=dtype)
            optimizer.step()
        ends.append(p.detach())
    assert torch.equal(*ends)


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "lion", "prodigy", "muon"])
def test_sharded_weights_are_trained_like_any(name: str, mesh: DeviceMesh) -> None:
    ends = []
    for sharded in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
        if sharded:
            fully_shard(model, mesh=mesh)
        optimizer = build_optimizer(name, model)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().mean().backward()
            optimizer.step()
        whole = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
        ends.append(nn.utils.parameters_to_vector(whole).detach())
    torch.testing.assert_close(*ends, rtol=0, atol=1e-6)


def test_minimizers_refuse_an_added_group_as_they_refuse_the_first() -> None:
    optimizer = build_optimizer("lbfgs", [one(torch.zeros(2))])
    with pytest.raises(SpecError, match="complex"):
        optimizer.add_param_group({"params": [one(torch.zeros(2, dtype=torch.complex64))]})


@pytest.mark.parametrize("shape", [(64, 16), (20, 30), (8, 3, 3, 3), (1, 7)])
def test_soap_takes_the_same_path_in_single_precision(shape: tuple[int, ...]) -> None:
    """Directions that no gradient has touched must not be told apart by rounding; the authors' method (damping 0) does that."""

    def trained(dtype: torch.dtype, damping: float) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(0)
        p = nn.Parameter((torch.randn(shape, generator=g, dtype=torch.float64) * 0.1).to(dtype))
        start = p.detach().clone()
        optimizer = build_optimizer("soap", [{"params": [p], "role": "matrix"}], damping=damping)
        for _ in range(30):
            p.grad = torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)
            optimizer.step()
        return p.detach().double(), (p.detach() - start).double()

    def apart(damping: float) -> float:
        (single, _), (double, way) = trained(torch.float32, damping), trained(torch.float64, damping)
        return float((single - double).norm() / way.norm())

    assert apart(1e-4) < 2e-4
    assert apart(0.0) > 0.05
