"""What both forms promise beside equal numbers: company, unused weights, errors, evaluation, batches of one's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from benchmarks.own_models import OWN, Own, classify, rows_and_classes
from optim_core.vmapped import Looped, Refused, Vmapped, one_trial, prove
from optim_core.vmapped.batch_tree import rebuilt
from tests.unit.own_awkward import AWKWARD, Net, RunningScale
from tests.unit.vmapped_runs import SEEDS, built, cast, in_form, proof_of, stacked

FORMS = [Looped, Vmapped]


class Trials:
    """A few trials of one model, and one call of a form's ``losses``."""

    def __init__(self, own: Own, form: Any, count: int = 3, **options: Any) -> None:
        self.own = own
        self.weights, self.buffers = stacked([built(own, k) for k in range(count)])
        self.form = form(built(own, 0), own.loss, **options)
        trained = [n for n, p in built(own, 0).named_parameters() if p.requires_grad]
        self.slots = {n: torch.full_like(self.weights[n], 7.0) for n in trained}
        self.count = count

    def losses(self, batch: Any = None, *, shared: bool = True, step: int = 0) -> Tensor:
        batch = cast(self.own.batches()[0]) if batch is None else batch
        return self.form.losses(
            self.weights, self.buffers, batch, self.slots, shared=shared, seeds=SEEDS[: self.count], step=step
        )


@pytest.mark.parametrize("name", ["skip_mlp", "gpt", "lstm_tagger", "vae", "encoder", "sampler", "feature_noise"])
def test_a_trial_does_not_depend_on_its_company(name: str) -> None:
    own = {**OWN, **AWKWARD}[name]

    def make(skeleton: nn.Module, _: Any) -> Vmapped:
        return Vmapped(skeleton, own.loss, widened=own.widened)

    together, _, form = in_form(own, make, steps=4)
    assert form.one_by_one == 0
    for company in ([2], [4, 2], [0, 3, 2]):
        losses, _, _ = in_form(own, make, company, steps=4)
        torch.testing.assert_close(losses[-1], together[2], rtol=1e-11, atol=1e-11)
    looped, _, _ = in_form(own, lambda skeleton, _: Looped(skeleton, own.loss), [1, 2], steps=4)
    torch.testing.assert_close(looped[1], together[2], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_weights_that_no_loss_uses_are_reported_and_their_slots_zero(form: Any) -> None:
    trials = Trials(OWN["branch_on_batch"], form)
    x, y = cast(OWN["branch_on_batch"].batches()[0])
    trials.losses((x.abs(), y))
    assert {n: m.tolist() for n, m in trials.form.unused.items()} == dict.fromkeys(
        ("cold.weight", "cold.bias"), [True] * 3
    )
    assert not trials.slots["cold.weight"].any()
    trials.losses((-x.abs(), y))
    assert set(trials.form.unused) == {"warm.weight", "warm.bias"}


def test_a_weight_that_some_trials_use_is_reported_by_trial() -> None:
    own = AWKWARD["hard_experts"]
    trials = Trials(own, Looped)
    x, y = cast(own.batches()[0])
    # One row, and so one expert for each trial.
    trials.losses((x[:1], y[:1]))
    everyone = torch.zeros(3, dtype=torch.bool)
    used = torch.stack([~trials.form.unused.get(f"experts.{i}.bias", everyone) for i in range(5)])
    assert used.sum(0).tolist() == [1, 1, 1]
    for i in range(5):
        for k in range(3):
            assert bool(trials.slots[f"experts.{i}.bias"][k].any()) == bool(used[i, k])


def test_a_step_that_is_refused_is_done_one_by_one() -> None:
    own = Own(RunningScaleThatAsks, rows_and_classes(12, 4), classify)
    wanted, found = Trials(own, Looped), Trials(own, Vmapped)
    for step in range(3):
        torch.testing.assert_close(found.losses(step=step), wanted.losses(step=step), rtol=1e-12, atol=1e-12)
        for name, b in wanted.buffers.items():
            torch.testing.assert_close(found.buffers[name], b, rtol=1e-12, atol=1e-12)
        for name, slot in wanted.slots.items():
            torch.testing.assert_close(found.slots[name], slot, rtol=1e-12, atol=1e-12)
    assert found.form.one_by_one == 1
    assert "differs between trials" in found.form.refusal


class RunningScaleThatAsks(RunningScale):
    """Asks for a value after its buffers have moved, in the second step."""

    def forward(self, x):
        y = super().forward(x)
        return y * 1.0 if int(self.seen) != 2 or float(y.detach().sum()) > 0 else y * 2.0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["skip_mlp", "resnet", "gpt", "lstm_tagger", "two_inputs", "encoder", "cells"])
def test_a_neighbour_full_of_nan_changes_no_bit(form: Any, name: str) -> None:
    own = {**OWN, **AWKWARD}[name]
    healthy, spoiled = Trials(own, form), Trials(own, form)
    for w in spoiled.weights.values():
        w[1] = torch.nan
    before, after = healthy.losses(), spoiled.losses()
    assert getattr(spoiled.form, "one_by_one", 0) == 0
    assert after[1].isnan()
    for k in (0, 2):
        assert torch.equal(before[k], after[k])
        for name, slot in healthy.slots.items():
            assert torch.equal(slot[k], spoiled.slots[name][k])
        for name, b in healthy.buffers.items():
            assert torch.equal(b[k], spoiled.buffers[name][k])


class Checked(Net):
    def forward(self, x):
        h = super().forward(x)
        if not torch.isfinite(h).all():
            raise FloatingPointError("the network has blown up")
        return h


@pytest.mark.parametrize("form", FORMS)
def test_a_trial_whose_own_code_raises_has_diverged(form: Any) -> None:
    trials = Trials(Own(Checked, rows_and_classes(12, 4), classify), form)
    alone = Trials(trials.own, Looped)
    wanted = alone.losses()
    trials.weights["fc1.weight"][1] = torch.inf
    losses = trials.losses()
    assert losses[1].isnan()
    assert trials.slots["fc1.weight"][1].isnan().all()
    assert list(trials.form.errors) == [1]
    assert "blown up" in str(trials.form.errors[1])
    torch.testing.assert_close(losses[[0, 2]], wanted[[0, 2]], rtol=1e-12, atol=1e-12)
    trials.weights["fc1.weight"][1] = 0.0
    trials.losses()
    assert not trials.form.errors


@pytest.mark.parametrize("form", FORMS)
def test_a_single_trial_that_has_diverged_is_no_error_of_the_person(form: Any) -> None:
    trials = Trials(Own(Checked, rows_and_classes(12, 4), classify), form, count=1)
    for large in (torch.nan, 1e308):
        trials.weights["fc2.weight"][0, 0] = large
        assert trials.losses().isnan().all()


class Renormed(Net):
    """Writes into a weight, and then does what cannot be done at once."""

    def forward(self, x):
        with torch.no_grad():
            self.fc2.weight.mul_(0.5)
        h = super().forward(x)
        return h * h.detach().norm().item()


def test_a_step_that_wrote_into_weights_is_not_done_twice() -> None:
    trials = Trials(Own(Renormed, rows_and_classes(12, 4), classify), Vmapped)
    with pytest.raises(Refused, match="writes into its weights"):
        trials.losses()


class Wrong(Net):
    def forward(self, x):
        return super().forward(x[:, :5])


@pytest.mark.parametrize("form", FORMS)
def test_what_all_trials_raise_is_raised(form: Any) -> None:
    own = Own(Wrong, rows_and_classes(12, 4), classify)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Trials(own, form).losses()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        proof_of(own)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", [lambda m, b: m(b[0]), lambda m, b: 1.0, lambda m, b: None])
def test_a_loss_that_is_no_number_is_named(form: Any, loss: Any) -> None:
    with pytest.raises(TypeError, match="the loss must be one number as a tensor, but it is a"):
        Trials(Own(Net, rows_and_classes(12, 4), loss), form).losses()


@pytest.mark.parametrize("form", FORMS)
def test_memory_that_runs_out_is_passed_on(form: Any) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")

    with pytest.raises(RuntimeError, match="not enough memory"):
        Trials(Own(Net, rows_and_classes(12, 4), loss), form).losses()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name",
    ["skip_mlp", "resnet", "gpt", "two_inputs", "vae", "branch_on_batch", "encoder", "heads", "attentive", "sampler"],
)
def test_trials_may_have_batches_of_their_own(form: Any, name: str) -> None:
    own = {**OWN, **AWKWARD}[name]
    options = {"widened": own.widened} if form is Vmapped else {}
    trials, single = Trials(own, form, **options), Trials(own, Looped)
    batch = cast(own.batches()[0])
    each = [rebuilt(batch, lambda x, k=k: x.roll(k, 0)) for k in range(3)]
    together = rebuilt(batch, lambda x: torch.stack([x.roll(k, 0) for k in range(3)]))
    losses = trials.losses(together, shared=False)
    assert getattr(trials.form, "one_by_one", 0) == 0
    for k in range(3):
        torch.testing.assert_close(losses[k], single.losses(each[k])[k], rtol=1e-11, atol=1e-11)
        for n, slot in single.slots.items():
            torch.testing.assert_close(trials.slots[n][k], slot[k], rtol=1e-10, atol=1e-11)


def outputs_of(name: str) -> Any:
    if name == "two_inputs":
        return lambda m, b: {"price": m(**b["inputs"]), "note": "same"}
    return lambda m, b: (m(b[0]), [m(b[0]).argmax(-1)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["skip_mlp", "resnet", "two_inputs", "buffer_assigned", "encoder", "counter", "three_d"]
)
def test_outputs_are_those_of_evaluation_and_change_nothing(form: Any, name: str) -> None:
    own = {**OWN, **AWKWARD}[name]
    trials = Trials(own, form)
    trials.losses()
    before = copy.deepcopy((trials.weights, trials.buffers))
    state = torch.get_rng_state()
    batch = cast(own.batches()[1])
    found = trials.form.outputs(outputs_of(name), trials.weights, trials.buffers, batch, shared=True)
    assert torch.equal(state, torch.get_rng_state())
    for kept, now in zip(before, (trials.weights, trials.buffers), strict=True):
        assert all(torch.equal(kept[n], now[n]) for n in now)
    for k in range(3):
        model = built(own, 0).eval()
        model.load_state_dict({n: x[k] for n, x in {**trials.weights, **trials.buffers}.items()}, strict=False)
        if name == "counter":
            model.calls = 1
        with torch.no_grad():
            wanted = outputs_of(name)(model, cast(batch))
        if isinstance(found, dict):
            assert found["note"] == "same"
            torch.testing.assert_close(found["price"][k], wanted["price"], rtol=1e-11, atol=1e-11)
        else:
            assert name == "counter" or torch.equal(found[1][0][k], wanted[1][0])
            if name != "counter":
                torch.testing.assert_close(found[0][k], wanted[0], rtol=1e-11, atol=1e-11)


def test_outputs_that_are_random_are_the_same_each_time() -> None:
    own = OWN["vae"]
    found = []
    for form in FORMS:
        trials = Trials(own, form)
        for _ in range(2):
            x = cast(own.batches()[0])
            found.append(trials.form.outputs(lambda m, b: m(b)[0], trials.weights, trials.buffers, x, shared=True))
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=1e-12, atol=1e-12)


def test_training_flags_are_put_back() -> None:
    class PartFrozen(Net):
        def train(self, mode=True):
            super().train(mode)
            self.fc1.eval()
            return self

    trials = Trials(Own(PartFrozen, rows_and_classes(12, 4), classify), Vmapped)
    skeleton = trials.form._binding.module
    trials.losses()
    trials.form.outputs(
        lambda m, b: m(b[0]), trials.weights, trials.buffers, cast(trials.own.batches()[0]), shared=True
    )
    assert skeleton.training
    assert not skeleton.fc1.training


def test_what_a_module_keeps_in_python_goes_with_its_trial() -> None:
    own = AWKWARD["memory"]
    trials, wanted = Trials(own, Looped), Trials(own, Looped)
    for one in (trials, wanted):
        one.losses()
    after = wanted.losses(step=1)
    places = [2, 0]
    trials.form.keep(places)
    weights, buffers, slots = ({n: x[places].clone() for n, x in s.items()} for s in (trials.weights, {}, trials.slots))
    batch = cast(own.batches()[0])
    found = trials.form.losses(weights, buffers, batch, slots, shared=True, seeds=[SEEDS[2], SEEDS[0]], step=1)
    torch.testing.assert_close(found, after[places], rtol=1e-12, atol=1e-12)
    vmapped = Trials(OWN["skip_mlp"], Vmapped)
    vmapped.form.keep([0])


def test_what_a_module_draws_at_birth_is_its_seed_s() -> None:
    own = AWKWARD["fourier"]
    trials = Trials(own, lambda skeleton, loss: Looped(skeleton, loss, lambda seed: built(own, SEEDS.index(seed))))
    batch = cast(own.batches()[0])
    given = (lambda m, b: m(b[0]), trials.weights, trials.buffers, batch)
    found = trials.form.outputs(*given, shared=True, seeds=SEEDS[:3])
    for k in range(3):
        with torch.no_grad():
            torch.testing.assert_close(found[k], built(own, k)(batch[0]), rtol=1e-12, atol=1e-12)
    # Another trial comes to the first place.
    swapped = trials.form.losses(
        {n: w.flip(0) for n, w in trials.weights.items()},
        {},
        batch,
        trials.slots,
        shared=True,
        seeds=SEEDS[2::-1],
        step=0,
    )
    torch.testing.assert_close(swapped.flip(0), trials.losses(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_batch_stays_as_it_was(form: Any) -> None:
    trials = Trials(AWKWARD["writes_input"], form)
    batch = cast(trials.own.batches()[0])
    kept = batch[0].clone()
    trials.losses(batch)
    assert torch.equal(batch[0], kept)


def test_weights_with_gaps_between_trials() -> None:
    """The engine keeps weights in blocks, where a trial's row is longer than the weight."""
    for own in (OWN["skip_mlp"], OWN["resnet"], OWN["gpt"], OWN["gru_tagger"]):
        wanted, found = Trials(own, Looped), Trials(own, Vmapped)
        for store in (found.weights, found.slots, found.buffers):
            for n, x in store.items():
                block = x.new_full((len(x), x[0].numel() + 3), 5)
                store[n] = block[:, : x[0].numel()].as_strided(x.shape, (block.stride(0), *x.stride()[1:]))
                store[n].copy_(x)
        torch.testing.assert_close(found.losses(), wanted.losses(), rtol=1e-11, atol=1e-11)
        assert found.form.one_by_one == 0, found.form.refusal
        for a, b in ((found.slots, wanted.slots), (found.buffers, wanted.buffers)):
            for n in b:
                torch.testing.assert_close(a[n], b[n], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_other_weights_from_one_call_to_the_next(form: Any) -> None:
    trials = Trials(AWKWARD["buffer_written"], form)
    trials.losses()
    other = Trials(AWKWARD["buffer_written"], form)
    for mine, theirs in ((trials.weights, other.weights), (trials.buffers, other.buffers), (trials.slots, other.slots)):
        mine.update({n: x[1:2].clone() for n, x in theirs.items()})
    trials.count = 1
    wanted = other.losses()
    batch = cast(trials.own.batches()[0])
    found = trials.form.losses(trials.weights, trials.buffers, batch, trials.slots, shared=True, seeds=[101], step=0)
    torch.testing.assert_close(found[0], wanted[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(trials.buffers["scale"][0], other.buffers["scale"][1], rtol=1e-12, atol=1e-12)


def test_plain_code_in_between_is_left_alone() -> None:
    """Checkpoints of other code are checkpoints, and its random numbers are torch's."""
    from torch.utils.checkpoint import checkpoint

    with one_trial(1, 0):
        inside = F.dropout(torch.ones(1000))
    calls = []

    def piece(x: Tensor) -> Tensor:
        calls.append(1)
        return x.sin()

    x = torch.ones(3, requires_grad=True)
    checkpoint(piece, x, use_reentrant=False).sum().backward()
    checkpoint(piece, x, use_reentrant=True).sum().backward()
    assert len(calls) == 4
    torch.manual_seed(0)
    first = F.dropout(torch.ones(1000))
    torch.manual_seed(0)
    assert torch.equal(F.dropout(torch.ones(1000)), first)
    assert not torch.equal(first, inside)


def test_a_model_that_cannot_be_copied_faithfully_is_refused() -> None:
    """Two models that share a weight behind torch's back cannot be trained on rows of their own."""
    shared = nn.Linear(12, 12)

    class Outside(Net):
        def forward(self, x):
            with torch.no_grad():
                shared.weight.mul_(0.9)
            return super().forward(F.linear(x, shared.weight.to(x.dtype)))

    with pytest.raises(Refused, match="does not train the same"):
        prove(
            lambda seed: built(Own(Outside, rows_and_classes(12, 4), classify), seed),
            classify,
            OWN["skip_mlp"].batches(),
        )
