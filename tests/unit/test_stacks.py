"""A stack of matrices, such as the weights of experts, trains as its matrices would by themselves."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from optim_core.spec.optimizers import OPTIMIZERS, Role
from optim_core.transforms import bundle
from optim_core.transforms.base import TRIAL, Layout, State
from optim_core.transforms.registry import BUILDERS, build_transform
from optim_core.transforms.torch_adapter import build_optimizer
from tests.unit.test_transforms import with_base

# Prodigy's one rate for the whole model adds its weights up in another order.
METHODS = [*(name for name in BUILDERS if name != "prodigy"), "cautious(muon)", "lookahead(soap)", "sam(psgd_kron)"]
FOR_MATRICES = [name for name, row in OPTIMIZERS.items() if row.couples == "matrix"]
E, A, B = 3, 5, 4


def experts(seed: int = 0) -> Tensor:
    return torch.randn(E, A, B, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(
    name: str, params: Mapping[str, Tensor], role: Role, techniques: Mapping[str, float], *, batched: bool = False
) -> tuple[dict[str, Tensor], State]:
    """Weights and state after 24 steps; ``batched``: of trials along the first axis, each with the defaults."""
    hyper = with_base({**OPTIMIZERS[name].defaults(), **techniques})
    if batched:
        k = len(next(iter(params.values())))
        hyper = {key: torch.full((k,), float(value), dtype=torch.float64) for key, value in hyper.items()}
    transform = build_transform(name, Layout(batched, roles=dict.fromkeys(params, role)), list(techniques))
    found, state = dict(params), transform.init(dict(params), [hyper])
    for t in range(1, 25):
        grads = {key: torch.sin(3 * x + t) + x for key, x in found.items()}
        found, state = transform.update(found, grads, state, [hyper], t)
    return found, state


@pytest.mark.parametrize("techniques", [{}, {"agc": 0.01, "centralize": 1.0}], ids=["plain", "techniques"])
@pytest.mark.parametrize("name", METHODS)
def test_a_stack_trains_as_its_matrices_by_themselves(name: str, techniques: Mapping[str, float]) -> None:
    whole, state = trained(name, {"w": experts()}, "stack", techniques)
    alone, kept = trained(name, {str(i): x.clone() for i, x in enumerate(experts())}, "matrix", techniques)
    torch.testing.assert_close(whole["w"], torch.stack(list(alone.values())), rtol=0, atol=1e-12)
    numbers = sum(x["w"].numel() for key, x in state.items() if key != TRIAL)
    assert numbers == sum(x.numel() for key, xs in kept.items() if key != TRIAL for x in xs.values())
    if not OPTIMIZERS[name].trial_numbers:
        assert numbers == OPTIMIZERS[name].numbers_of((E, A, B), "stack")


@pytest.mark.parametrize("name", METHODS)
def test_trials_of_a_stack_are_single_runs_wherever_they_lie_in_memory(name: str) -> None:
    block = torch.zeros(2, 2 * E * A * B, dtype=torch.float64)
    both = block[:, : E * A * B].unflatten(1, (E, A, B))
    both.copy_(torch.stack([experts(1), 2 * experts(2)]))
    batched, _ = trained(name, {"w": both}, "stack", {}, batched=True)
    for i, start in enumerate((experts(1), 2 * experts(2))):
        torch.testing.assert_close(batched["w"][i], trained(name, {"w": start}, "stack", {})[0]["w"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", FOR_MATRICES)
def test_a_strided_block_of_trials_is_changed_in_place(name: str) -> None:
    hyper = {k: torch.full((2,), float(v), dtype=torch.float64) for k, v in OPTIMIZERS[name].defaults().items()}
    hyper["base_lr"] = hyper["lr"]
    starts, ends = torch.stack([experts(1), experts(2)]), []
    for own in (starts.clone(), torch.cat([starts, starts], 1)[:, :E]):
        transform = build_transform(name, Layout(batched=True, roles={"w": "stack"}))
        state = transform.init({"w": own}, [hyper])
        for t in (1, 2, 3):
            transform.update_({"w": own}, {"w": torch.sin(own + t)}, state, [hyper], t)
        ends.append(own)
    assert not torch.equal(ends[0], starts)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)


class Experts(nn.Module):
    """E layers in one weight, multiplied at once."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(experts())

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.up.mT)


@pytest.mark.parametrize("name", FOR_MATRICES)
def test_the_torch_face_trains_experts_as_separate_layers(name: str) -> None:
    model = Experts()
    apart = nn.ParameterList([x.clone() for x in model.up.detach()])
    one = build_optimizer(name, model, roles={"up": "stack"}, lr=0.01, weight_decay=0.1)
    other = build_optimizer(name, [{"params": list(apart), "role": "matrix"}], lr=0.01, weight_decay=0.1)
    x = torch.randn(E, 7, B, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for _ in range(12):
        for optimizer, outputs in (
            (one, model(x)),
            (other, torch.stack([a @ w.mT for a, w in zip(x, apart, strict=True)])),
        ):
            optimizer.zero_grad()
            outputs.sin().square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(model.up, torch.stack(list(apart)), rtol=0, atol=1e-9)
    again = build_optimizer(name, Experts(), roles={"up": "stack"}, lr=0.01, weight_decay=0.1)
    again.load_state_dict(one.state_dict())


# So many numbers, with what is remembered of them, are those of more than two matrices and fewer than three.
TWO_AT_A_TIME = {"adafactor": 200, "soap": 600, "muon": 90, "apollo_mini": 200, "psgd_kron": 400, "adamp": 300}


@pytest.mark.parametrize("name", TWO_AT_A_TIME)
def test_weights_of_one_shape_are_stacked_in_parts_and_train_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained_with(most: int) -> tuple[list[Tensor], list[int]]:
        monkeypatch.setattr(bundle, "MOST_STACKED_CPU", most)
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(6, 6, bias=False, dtype=torch.float64) for _ in range(7)])
        sizes: list[int] = []
        stacked = torch.stack
        monkeypatch.setattr(torch, "stack", lambda x, *rest: sizes.append(len(x)) or stacked(x, *rest))
        optimizer = build_optimizer(name, model)
        for step in range(12):
            for i, p in enumerate(model.parameters()):
                p.grad = torch.sin(p.detach() * (i + 2) + step)
            optimizer.step()
        monkeypatch.setattr(torch, "stack", stacked)
        return [p.detach() for p in model.parameters()], sizes

    (whole, sizes), (parts, smaller), (single, none) = (
        trained_with(most) for most in (1 << 18, TWO_AT_A_TIME[name], 1)
    )
    assert max(sizes) >= 5
    assert max(smaller) == 2
    assert max(none, default=0) <= 1
    for a, b, c in zip(whole, parts, single, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-10)
        torch.testing.assert_close(c, a, rtol=0, atol=1e-10)
