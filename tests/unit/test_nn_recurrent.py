"""GRU and LSTM written out: torch's own, alone and stacked."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.nn.init import initialise
from optim_core.nn.recurrent import GRU, LSTM, Recurrent
from optim_core.spec.problem import BuiltinDataset, CatalogueModel, StudySpec, Training
from optim_core.tasks import build_problem
from optim_core.tasks.models import make_networks
from optim_core.transforms.roles import roles_of

PAIRS: list[tuple[type[Recurrent], type[nn.RNNBase]]] = [(GRU, nn.GRU), (LSTM, nn.LSTM)]
TOLERANCE = {"atol": 1e-12, "rtol": 0.0}


def both(ours: type[Recurrent], theirs: type[nn.RNNBase], seed: int = 0) -> tuple[Recurrent, nn.RNNBase]:
    """The same weights in our cell and in torch's: 5 inputs, 7 states."""
    torch.manual_seed(seed)
    reference = theirs(5, 7, batch_first=True, dtype=torch.float64)
    mine = ours(5, 7).double()
    mine.load_state_dict(reference.state_dict())
    return mine, reference


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("steps", [1, 2, 11])
def test_outputs_and_gradients_are_torchs(ours: Any, theirs: Any, steps: int) -> None:
    mine, reference = both(ours, theirs)
    x = torch.randn(4, steps, 5, dtype=torch.float64)
    own, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    outputs, (expected, _) = mine(own), reference(other)
    torch.testing.assert_close(outputs, expected, **TOLERANCE)
    assert outputs.shape == (4, steps, 7)
    weighting = torch.randn_like(outputs)
    (outputs * weighting).sum().backward()
    (expected * weighting).sum().backward()
    torch.testing.assert_close(own.grad, other.grad, **TOLERANCE)
    theirs_by_name = dict(reference.named_parameters())
    assert [name for name, _ in mine.named_parameters()] == list(theirs_by_name)
    for name, p in mine.named_parameters():
        torch.testing.assert_close(p.grad, theirs_by_name[name].grad, msg=name, **TOLERANCE)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("shared", [True, False])
def test_stacked_cells_are_torchs_each_alone(ours: Any, theirs: Any, shared: bool) -> None:
    pairs = [both(ours, theirs, seed) for seed in range(3)]
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64)
    params, _ = torch.func.stack_module_state([mine for mine, _ in pairs])

    def forward(own: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(pairs[0][0], own, (x,))

    outputs = torch.vmap(forward, in_dims=(0, None if shared else 0))(params, x[0] if shared else x)
    outputs.square().sum().backward()
    for trial, (_, reference) in enumerate(pairs):
        expected = reference(x[0] if shared else x[trial])[0]
        torch.testing.assert_close(outputs[trial], expected, **TOLERANCE)
        expected.square().sum().backward()
        for name, p in reference.named_parameters():
            gradient = params[name].grad
            assert gradient is not None
            torch.testing.assert_close(gradient[trial], p.grad, **TOLERANCE)


def test_a_trial_full_of_nan_leaves_its_neighbours_bit_identical() -> None:
    cells = [both(GRU, nn.GRU, seed)[0] for seed in range(3)]
    params = {name: p.detach() for name, p in torch.func.stack_module_state(cells)[0].items()}
    x = torch.randn(4, 6, 5, dtype=torch.float64)

    def states(params: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.vmap(lambda own: torch.func.functional_call(cells[0], own, (x,)))(params)

    before = states(params)
    params["weight_hh_l0"][1] = math.nan
    after = states(params)
    assert after[1, :, 1:].isnan().all()
    for trial in (0, 2):
        assert torch.equal(before[trial], after[trial])


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_weights_start_as_torch_would_start_them(ours: Any, theirs: Any) -> None:
    mine, reference = ours(50, 64), theirs(50, 64)
    with torch.no_grad():
        initialise(mine, torch.Generator().manual_seed(0))
    for name, p in reference.named_parameters():
        own = dict(mine.named_parameters())[name]
        assert own.shape == p.shape
        assert own.abs().max().item() <= 1 / 8
        assert own.std().item() == pytest.approx(p.std().item(), rel=0.1)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_roles_of_the_weights(name: Any) -> None:
    roles = roles_of(next(make_networks(CatalogueModel(name=name), (6,), 3, [0], torch.float32, "cpu")))
    assert roles == {
        "0.weight": "embedding", "0.bias": "embedding", "1.weight_ih_l0": "matrix", "1.weight_hh_l0": "matrix",
        "1.bias_ih_l0": "vector", "1.bias_hh_l0": "vector", "3.weight": "head", "3.bias": "vector",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_images_are_read_row_by_row_and_can_be_learned(name: Any) -> None:
    dataset = BuiltinDataset(name="digits")
    problem = build_problem(StudySpec(model=CatalogueModel(name=name), dataset=dataset, training=Training(steps=150)))
    model = problem.make_model(0)
    cell = next(module for module in model.modules() if isinstance(module, Recurrent))
    assert cell.inputs == problem.feature_shape[2]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(problem.full_horizon):
        rows = torch.randint(len(problem.train.y), (problem.batch_size,), generator=generator)
        optimizer.zero_grad()
        problem.loss(model(problem.train.x[rows]), problem.train.y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        assert problem.evaluate(model(problem.validation.x), problem.validation.y)[1] > 0.85
