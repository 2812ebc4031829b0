"""Flat steps: the same numbers as the steps that they were recorded from, to the last bit; what cannot be recorded is not."""

from __future__ import annotations

import gc
import itertools
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from benchmarks.own_models import OWN, Own, classify, rows_and_classes
from optim_core.engine.memory import LiveBytes
from optim_core.vmapped import FlatSteps, Recordings, Refused, Vmapped, surroundings, torch_private
from optim_core.vmapped.batch_tree import signature
from optim_core.vmapped.flat_graph import recorded
from optim_core.vmapped.flat_steps import CHECKS, MOST
from optim_core.vmapped.surroundings import changed, looking
from tests.unit.own_awkward import AWKWARD, Net
from tests.unit.vmapped_runs import SEEDS, STEPS, built, cast, in_form, stacked

HERE = {name: own for name, own in {**OWN, **AWKWARD}.items() if own.at_once}
# What asks for values of the batch, of the lengths in it, or of a buffer.
ASKING = {
    "lstm_tagger": "from a tensor's values",
    "gru_tagger": "from a tensor's values",
    "rnn_tagger": "from a tensor's values",
    "branch_on_batch": "decides by a tensor's value",
    "sampler": "decides by a tensor's value",
    "three_d": "decides by a tensor's value",
}


def both(own: Own, steps: int = STEPS) -> tuple[FlatSteps, Recordings]:
    """The trials in both forms, found equal bit for bit."""
    recordings = Recordings()
    wanted, tensors, _ = in_form(
        own, lambda s, build: Vmapped(s, own.loss, widened=own.widened, build=build), steps=steps
    )

    def make(skeleton: nn.Module, build: Any) -> FlatSteps:
        return FlatSteps(skeleton, own.loss, recordings, widened=own.widened, build=build)

    losses, found, form = in_form(own, make, steps=steps)
    assert isinstance(form, FlatSteps)
    assert torch.equal(losses, wanted)
    for name, x in tensors.items():
        assert torch.equal(found[name], x), name
    return form, recordings


@pytest.fixture(autouse=True)
def _nothing_is_logged() -> Iterator[None]:
    """pytest's handler keeps what torch logs of its compiler: installed code that remembers, as a person's might."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", HERE)
def test_a_model_trains_the_same_to_the_last_bit(name: str) -> None:
    # torch's compiler, once it was used in a process, turns the checks of distributions off for good.
    torch.distributions.Distribution.set_default_validate_args(True)
    streams = torch.get_rng_state()
    form, recordings = both(HERE[name])
    assert torch.equal(torch.get_rng_state(), streams)
    assert form.one_by_one == 0
    # Two shapes: the last batch of the three is shorter.
    assert len(recordings.made) == 2
    if name in ASKING:
        assert form.replayed == 0
        assert ASKING[name] in recordings.reason
    else:
        assert form.replayed == STEPS - 2 * CHECKS, recordings.reason
        assert recordings.any_trusted
        assert recordings.reason == ""


class Steps:
    """A few trials of one model in flat steps, with the batch of the first shape unless told otherwise."""

    def __init__(self, own: Own, recordings: Recordings | None = None, count: int = 3) -> None:
        self.own, self.recordings = own, recordings or Recordings()
        self.weights, self.buffers = stacked([built(own, k) for k in range(count)])
        self.form = FlatSteps(built(own, 0), own.loss, self.recordings, widened=own.widened)
        self.plain = Vmapped(built(own, 0), own.loss, widened=own.widened)
        self.slots = {n: torch.full_like(w, 7.0) for n, w in self.weights.items()}
        self.seeds, self.batch = SEEDS[:count], cast(own.batches()[0])

    def losses(self, step: int = 0, batch: Any = None, form: Any = None) -> Tensor:
        given = self.batch if batch is None else batch
        how = {"shared": True, "seeds": self.seeds, "step": step}
        return (form or self.form).losses(self.weights, self.buffers, given, self.slots, **how)

    def warm(self) -> Steps:
        for step in range(CHECKS):
            self.losses(step)
        assert self.recordings.any_trusted, self.recordings.reason
        return self


@pytest.mark.parametrize("name", ["skip_mlp", "resnet", "gpt", "two_inputs", "cells"])
def test_a_neighbour_full_of_nan_changes_no_bit(name: str) -> None:
    steps = Steps(HERE[name]).warm()
    buffers = {n: b.clone() for n, b in steps.buffers.items()}
    before, slots = steps.losses(5), {n: g.clone() for n, g in steps.slots.items()}
    for n, b in buffers.items():
        steps.buffers[n].copy_(b)
    for w in steps.weights.values():
        w[1] = torch.nan
    after = steps.losses(5)
    assert (steps.form.replayed, steps.form.one_by_one) == (2, 0)
    assert after[1].isnan()
    for k in (0, 2):
        assert torch.equal(before[k], after[k])
        assert all(torch.equal(g[k], steps.slots[n][k]) for n, g in slots.items())


def test_what_an_operation_raises_goes_one_by_one() -> None:
    # Binary cross-entropy wants probabilities, which NaN is not.
    steps = Steps(OWN["vae"]).warm()
    steps.weights["mu.weight"][1] = torch.nan
    losses = steps.losses(7)
    assert list(steps.form.errors) == [1]
    assert losses[1].isnan()
    assert torch.equal(losses.isnan(), torch.tensor([False, True, False]))
    assert steps.form.one_by_one == 1


def test_an_index_that_is_out_of_range_does_not_find_the_neighbour_s_row() -> None:
    steps = Steps(OWN["gpt"]).warm()
    tokens, targets = cast(OWN["gpt"].batches()[0])
    tokens[0, 0] = 21
    with pytest.raises(IndexError, match="out of range"):
        steps.losses(3, (tokens, targets))
    with pytest.raises(IndexError, match="out of range"):
        steps.losses(3, (tokens, targets), steps.plain)


def test_each_number_of_trials_and_each_layout_has_a_recording_of_its_own() -> None:
    recordings = Recordings()
    for count in (2, 3):
        Steps(OWN["skip_mlp"], recordings, count).warm()
    assert len(recordings.made) == 2
    steps = Steps(OWN["skip_mlp"], recordings).warm()
    assert steps.form.replayed == CHECKS
    w = steps.weights["head.weight"]
    steps.weights["head.weight"] = torch.stack([w, w], 1)[:, 1]
    assert torch.equal(steps.losses(3), steps.losses(3, form=steps.plain))
    assert len(recordings.made) == 3


def test_few_shapes_are_recorded_and_the_rest_run_as_they_are() -> None:
    steps = Steps(Own(Net, rows_and_classes(12, 4), classify))
    for rows in range(1, MOST + 3):
        batch = cast(steps.own.batch(rows, torch.Generator().manual_seed(rows)))
        for step in range(CHECKS + 1):
            assert torch.equal(steps.losses(step, batch), steps.losses(step, batch, steps.plain))
    assert len(steps.recordings.made) == MOST
    assert steps.form.replayed == MOST


def test_what_is_no_tensor_is_a_part_of_the_shape() -> None:
    x = torch.zeros(2, 3)
    assert signature({"x": x, "n": 1}) == signature({"x": x + 1, "n": 1})
    others: list[Any] = [{"x": x, "n": 2}, {"x": x, "n": True}, {"x": x.mT, "n": 1}, {"x": x.double(), "n": 1}, [x, 1]]
    assert len({signature(one) for one in others} | {signature({"x": x, "n": 1})}) == 6
    assert signature((x, object())) is None

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1]) * (batch[2] if isinstance(batch[2], float) else 1.0)

    steps = Steps(Own(Net, rows_and_classes(12, 4), loss))
    x, y = steps.batch
    for weight in (1.0, 2.0, object()):
        for step in range(CHECKS + 1):
            found = steps.losses(step, (x, y, weight))
            assert torch.equal(found, steps.losses(step, (x, y, weight), steps.plain))
    assert steps.form.replayed == 2


def counting_list() -> Any:
    calls = [0]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls[0] += 1
        return classify(model, batch) * (1.0 if calls[0] < 8 else 2.0)

    return loss


def counting_variable() -> Any:
    calls = 0

    def loss(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return classify(model, batch) * (1.0 if calls < 8 else 2.0)

    return loss


_GLOBAL = {"calls": 0}


def counting_global() -> Any:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        _GLOBAL["calls"] = _GLOBAL["calls"] + 1
        return classify(model, batch) * (1.0 if _GLOBAL["calls"] < 8 else 2.0)

    _GLOBAL["calls"] = 0
    return loss


class CountingLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        self.calls += 1
        return classify(model, batch) * (1.0 if self.calls < 8 else 2.0)


def counting_iterator() -> Any:
    numbers = itertools.count()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return classify(model, batch) * (1.0 if next(numbers) < 8 else 2.0)

    return loss


def annealing() -> Any:
    weights = itertools.cycle([1.0, 0.5, 0.25, 0.75, 0.1])

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return classify(model, batch) * next(weights)

    return loss


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (counting_list, "(calls)"), (counting_variable, "(calls)"), (counting_global, "(_GLOBAL)"), (CountingLoss, "(self)"),
        (counting_iterator, "(numbers)"), (annealing, "not the same operations"),
    ],
)  # fmt: skip
def test_a_loss_that_counts_goes_on_counting(make: Any, reason: str) -> None:
    steps = Steps(Own(Net, rows_and_classes(12, 4), make()))
    for step in range(12):
        steps.losses(step)
    assert steps.form.replayed == 0
    assert reason in steps.recordings.reason
    assert steps.form.one_by_one == 0


def test_surroundings_are_compared_by_what_they_hold() -> None:
    def view(state: Any) -> Any:
        def function() -> Any:
            return state

        with looking() as seen:
            function()
        return seen

    kept: dict[str, Any] = {"list": [1], "tensor": torch.zeros(2), "set": {1}, "deep": [[{"n": 1}]]}
    before = view(kept)
    assert changed(before, before) == []
    again = dict(before)
    for (code, name), look in view(kept).items():
        again[code, name] = look
    assert changed(before, again) == []
    for act in (lambda: kept["list"].append(2), lambda: kept["set"].add(2), lambda: kept.update(new=1)):
        first = view(kept)
        act()
        assert changed(first, view(kept)) == ["state"]
    kept["tensor"] = torch.ones(2)
    assert changed(view(kept), view(kept)) == []


@pytest.mark.parametrize(
    "function",
    [
        lambda x: [x[x > 0].sum()], lambda x: [x.nonzero()], lambda x: [x * x.sum().item()], lambda x: [torch.rand_like(x)],
        lambda x: [x.repeat_interleave(x.long())], lambda x: [torch.as_tensor(x.numpy())], lambda x: [x * x.tolist()[0]],
        lambda x: [x if x.sum() > 0 else -x], lambda x: [torch.zeros(int(x[0]))],
    ],
)  # fmt: skip
def test_nothing_recorded_depends_on_a_value(function: Any) -> None:
    with pytest.raises(Exception, match=r"value|random|data|numpy"):
        recorded(function, [torch.ones(3)])


def test_what_has_no_effect_is_left_out_and_what_is_written_stays() -> None:
    def function(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
        _ = x.sin()
        y.add_(1)
        return [x.detach().cos() + torch.arange(3)]

    graph = recorded(function, [torch.zeros(3), torch.zeros(3), torch.zeros(3)])
    assert "sin" not in graph.text
    assert "detach" not in graph.text
    x, y, z = torch.rand(3), torch.zeros(3), torch.zeros(3)
    graph.call_directly()
    assert torch.equal(graph.run([x, y, z])[0], x.cos() + torch.arange(3))
    assert torch.equal(y, torch.ones(3))


def test_other_constants_make_another_recording() -> None:
    def plus(c: Tensor) -> Any:
        return recorded(lambda x: [x + c], [torch.zeros(3)])

    graphs = [plus(c) for c in (torch.ones(3), torch.ones(3), torch.zeros(3))]
    assert graphs[0].same_as(graphs[1])
    assert not graphs[0].same_as(graphs[2])
    assert not graphs[0].same_as(recorded(lambda x: [x + 1], [torch.zeros(3)]))


@pytest.mark.parametrize("name", ["resnet", "gpt", "vae"])
def test_flat_steps_need_no_more_memory(name: str) -> None:
    steps = Steps(OWN[name]).warm()
    peaks = []
    for form in (steps.plain, steps.form):
        with LiveBytes() as live:
            steps.losses(5, form=form)
        peaks.append(live.peak)
    assert peaks[1] <= 1.05 * peaks[0]


def test_without_a_recorder_steps_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch_private.recorder() is not None
    monkeypatch.setattr(torch_private, "recorder", lambda: None)
    steps = Steps(OWN["vae"])
    for step in range(CHECKS + 1):
        assert torch.equal(steps.losses(step), steps.losses(step, form=steps.plain))
    assert steps.form.replayed == 0
    assert "no make_fx" in steps.recordings.reason
    with pytest.raises(Refused, match="no make_fx"):
        recorded(lambda x: [x], [torch.zeros(1)])


def test_an_operation_that_cannot_be_called_directly_is_called_in_the_general_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(graph: Any) -> None:
        graph._run = lambda *inputs: 1 / 0

    monkeypatch.setattr("optim_core.vmapped.flat_graph.FlatGraph.call_directly", wrong)
    steps = Steps(OWN["vae"]).warm()
    assert torch.equal(steps.losses(5), steps.losses(5, form=steps.plain))
    assert steps.form.replayed == 1


def test_a_recording_that_gives_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(OWN["vae"])
    steps.losses(0)
    (recording,) = steps.recordings.made.values()
    assert recording.graph is not None
    right = recording.graph._run
    recording.graph._run = lambda *inputs: [x * 1.001 if x.is_floating_point() else x for x in right(*inputs)]
    steps.losses(1)
    assert "replayed, losses differ by 1e-03" in recording.reason
    steps.losses(2)
    assert steps.form.replayed == 0


def test_what_the_garbage_collector_calls_is_no_part_of_a_step() -> None:
    collected: list[str] = []

    def remember(phase: str, _info: dict[str, int]) -> None:
        collected.append(phase)

    def forward() -> None:
        gc.collect()

    gc.callbacks.append(remember)
    try:
        with looking() as first:
            forward()
        with looking() as second:
            forward()
    finally:
        gc.callbacks.remove(remember)
    assert collected
    assert not changed(first, second)


class Unfriendly:
    """What cannot be looked at: it says nothing of itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError("not now")


def theirs(one: object, other: object, count: int) -> int:
    return count


def test_what_cannot_be_looked_at_breaks_no_step() -> None:
    gone = weakref.proxy(type("Gone", (), {})())
    held = type("Held", (), {})()
    held.gone = gone
    for awkward in (gone, held, Unfriendly(), [Unfriendly()]):
        with surroundings.looking() as before:
            assert theirs(awkward, 1, 3) == 3
        with surroundings.looking() as after:
            assert theirs(awkward, 1, 4) == 4
        # It is blind for that, and for nothing else.
        assert surroundings.changed(before, after) == ["count"]
