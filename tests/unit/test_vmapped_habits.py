"""One by one, later steps leave out what the first ones showed to be needless, and notice where it is needed after all."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.own_models import OWN
from optim_core.vmapped import Looped, Streams, habits, looped, one_trial
from optim_core.vmapped.streams import Marks, marks_known
from tests.unit.own_awkward import AWKWARD
from tests.unit.vmapped_runs import SEEDS, in_form, stacked

K, STEPS = 3, 9
DRAWS: dict[str, Callable[[], Any]] = {
    "python": lambda: random.random(),
    "python_gauss": lambda: random.gauss(0.0, 1.0),
    "numpy": lambda: np.random.rand(),
    "numpy_pairs": lambda: float(np.random.randn()) + float(np.random.randn()),
    "torch": lambda: float(torch.rand(())),
    "unknown_to_us": lambda: float(torch.empty(()).log_normal_()),
    "dropout": lambda: F.dropout(torch.ones(4), 0.5)[0],
}


class Late(nn.Module):
    """Draws for batches of positive numbers only; has a buffer that moves."""

    def __init__(self, draw: Callable[[], Any]) -> None:
        super().__init__()
        self.layer, self.norm, self._draw = nn.Linear(4, 3), nn.BatchNorm1d(3), draw

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.layer(x))
        return y * (1.0 + self._draw()) if float(x.mean()) > 0 else y


def square(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean() + model(batch).mean()


def batches() -> list[Tensor]:
    x = [torch.rand(5, 4, generator=torch.Generator().manual_seed(i)) for i in range(STEPS)]
    return [-one if i < 6 else one for i, one in enumerate(x)]


def made(make: Callable[[], nn.Module]) -> list[nn.Module]:
    found = []
    for seed in range(K):
        torch.manual_seed(seed)
        found.append(make())
    return found


def one_by_one(models: list[nn.Module], loss_of: Any, given: list[Tensor]) -> tuple[Looped, list[Tensor], dict, dict]:
    """A form's losses, slots and buffers of steps that leave the weights as they are."""
    weights, buffers = stacked(models)
    form, slots = Looped(models[0], loss_of), {n: torch.zeros_like(w) for n, w in weights.items()}
    losses = [
        form.losses(weights, buffers, batch, slots, shared=True, seeds=SEEDS[:K], step=i)
        for i, batch in enumerate(given)
    ]
    return form, losses, slots, buffers


@pytest.mark.parametrize("name", DRAWS)
def test_marks_see_every_stream_move_and_lead_back(name: str) -> None:
    assert marks_known()
    np.random.rand()
    before, marks = Streams(), Marks()
    assert not marks.moved()
    DRAWS[name]()
    assert marks.moved()
    marks.restore()
    assert not marks.moved()
    assert before.moved() == ""


@pytest.mark.parametrize("name", DRAWS)
def test_who_begins_to_draw_late_draws_what_it_would_have_drawn_from_the_start(name: str) -> None:
    expected = made(lambda: Late(DRAWS[name]))
    wanted = []
    for i, batch in enumerate(batches()):
        row = []
        for k, model in enumerate(expected):
            with one_trial(SEEDS[k], i):
                row.append(square(model, batch))
        wanted.append(torch.stack(row).detach())
    models = made(lambda: Late(DRAWS[name]))
    before = Streams()
    form, losses, _, buffers = one_by_one(models, square, batches())
    assert before.moved() == ""
    assert form._habits.known
    assert form._habits.uses_streams
    for found, one in zip(losses, wanted, strict=True):
        assert torch.equal(found, one)
    for name_of, b in buffers.items():
        assert torch.equal(b, torch.stack([dict(m.named_buffers())[name_of] for m in expected]))


def test_who_never_draws_needs_no_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [-x.abs() for x in batches()]
    taken = []
    monkeypatch.setattr(looped, "streams_kept", lambda: taken.append(1) or _real())
    one_by_one(made(lambda: Late(random.random)), square, given)
    assert len(taken) == habits.WATCHED


_real = looped.streams_kept


@pytest.mark.parametrize(
    "name", ["skip_mlp", "gpt", "lstm_tagger", "vae", "encoder", "branch_on_batch", "sampler", "counter"]
)
def test_what_is_left_out_changes_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {**OWN, **AWKWARD}[name]
    found, weights, _ = in_form(own, lambda skeleton, build: Looped(skeleton, own.loss, build), steps=8)
    monkeypatch.setattr(habits, "WATCHED", 100)
    watched, expected, _ = in_form(own, lambda skeleton, build: Looped(skeleton, own.loss, build), steps=8)
    assert torch.equal(found, watched)
    for key, w in weights.items():
        assert torch.equal(w, expected[key])


class Counts(nn.Module):
    """Keeps a number in Python, and draws late."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) * (self.calls + (random.random() if self.calls > 6 else 0.0))


def test_who_keeps_anything_in_python_takes_no_step_twice() -> None:
    form, _, _, _ = one_by_one(made(Counts), lambda m, x: m(x).mean(), batches())
    assert form._habits.keeps
    assert [one.module.calls for one in form._alone] == [STEPS] * K


class Writes(nn.Module):
    """Writes into its input, from batches of positive numbers on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if float(x.mean()) > 0:
            x += 1.0
        return self.layer(x)


def test_who_writes_into_its_input_late_disturbs_nobody() -> None:
    given = batches()
    kept = [x.clone() for x in given]
    models = made(Writes)
    _, losses, _, _ = one_by_one(models, lambda m, x: m(x).mean(), given)
    assert all(map(torch.equal, given, kept))
    for found, batch in zip(losses, kept, strict=True):
        assert torch.equal(found, torch.stack([m(batch.clone()).mean().detach() for m in models]))
