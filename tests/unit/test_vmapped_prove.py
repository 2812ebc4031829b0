"""What the proof finds, says and leaves as it was; batches of any nesting; torch's private names."""

from __future__ import annotations

import random
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from benchmarks.own_models import OWN, Own, classify, rows_and_classes
from optim_core.vmapped import Looped, Vmapped, prove, torch_private
from optim_core.vmapped.batch_tree import of_trial, tensors_of, with_tensors
from optim_core.vmapped.python_state import PythonState
from tests.unit.own_awkward import AWKWARD, Net
from tests.unit.vmapped_runs import built, proof_of


def test_the_proof_says_what_it_found() -> None:
    proof = proof_of(OWN["skip_mlp"])
    assert proof.equal
    assert proof.own_batches
    assert not proof.widened
    assert proof.reason == proof.own_batches_reason == ""
    assert proof.dtype == torch.float64
    assert 0.0 <= proof.error < 1e-12
    model = built(OWN["skip_mlp"], 0)
    assert isinstance(proof.form(model, classify), Vmapped)


def test_where_lengths_differ_between_trials_only_shared_batches_go_at_once() -> None:
    proof = proof_of(OWN["lstm_tagger"])
    assert proof.equal
    assert not proof.own_batches
    assert "trials" in proof.own_batches_reason
    model = built(OWN["lstm_tagger"], 0)
    assert isinstance(proof.form(model, OWN["lstm_tagger"].loss), Vmapped)
    assert isinstance(proof.form(model, OWN["lstm_tagger"].loss, shared=False), Looped)


def test_streams_and_batches_stay_as_they_were() -> None:
    own = AWKWARD["python_random"]
    batches = own.batches()
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state(), [b[0].clone() for b in batches]
    prove(lambda seed: built(own, seed), own.loss, batches)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert all(torch.equal(b[0], kept) for b, kept in zip(batches, before[3], strict=True))


class Casts(Net):
    """Calculates in float32, whatever it is given."""

    def forward(self, x):
        h = torch.relu(self.fc1(x)).float()
        return F.linear(h, self.fc2.weight.float(), self.fc2.bias.float())


class OnlyFloat32(Net):
    def forward(self, x):
        return super().forward(x) + torch.ones(4, dtype=torch.float32) @ torch.eye(4, dtype=self.fc1.weight.dtype)


@pytest.mark.parametrize("make", [Casts, OnlyFloat32])
def test_narrower_floats_are_noticed(make: Any) -> None:
    proof = proof_of(Own(make, rows_and_classes(12, 4), classify))
    assert proof.equal, proof.reason
    assert proof.dtype == torch.float32


def half_precision(model: nn.Module, batch: Any) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return classify(model, batch)


def test_autocast_is_proven_in_the_model_s_own_precision() -> None:
    assert proof_of(Own(Net, rows_and_classes(12, 4), half_precision)).equal

    class OnlyThere(Net):
        """Reaches a weight behind our back, but only where autocast casts."""

        def __init__(self):
            super().__init__()
            self.hidden = [self.fc2.weight]

        def forward(self, x):
            h = self.fc1(x)
            return F.linear(h, self.hidden[0]) if h.dtype == torch.bfloat16 else self.fc2(h)

    proof = proof_of(Own(OnlyThere, rows_and_classes(12, 4), half_precision))
    assert not proof.equal
    assert not proof.own_batches
    assert "otherwise K at a time" in proof.reason


def test_a_model_that_needs_all_rows_gets_them() -> None:
    class Whole(Net):
        def forward(self, x):
            return super().forward(x.view(2, 4, 12).flatten(0, 1))

    assert proof_of(Own(Whole, rows_and_classes(12, 4), classify)).equal


def test_evaluation_is_proven_too() -> None:
    class Differs(Net):
        """In evaluation it reaches for the weights that it was made with."""

        def __init__(self):
            super().__init__()
            self.first = [p.detach().clone() for p in self.parameters()]

        def forward(self, x):
            return super().forward(x) if self.training else F.linear(x, self.first[0].to(x.dtype))

    own = Own(Differs, rows_and_classes(12, 4), classify)
    batches = own.batches()[:2]
    assert prove(lambda seed: built(own, seed), classify, batches).equal
    good = prove(lambda seed: built(OWN["skip_mlp"], seed), classify, batches, outputs_of=lambda m, b: m(b[0]))
    assert good.equal
    found = prove(lambda seed: built(own, seed), classify, batches, outputs_of=lambda m, b: m(b[0]))
    assert not found.equal
    assert "evaluates otherwise" in found.reason


def test_reasons_are_lines_for_people() -> None:
    for own in AWKWARD.values():
        if own.at_once:
            continue
        reason = proof_of(own).reason
        assert reason
        assert "\n" not in reason
        assert len(reason) < 200


def test_python_state_is_compared_by_what_it_holds() -> None:
    class Holder(Net):
        def __init__(self):
            super().__init__()
            self.queue: list[Any] = [torch.zeros(2)]
            self.stats: dict[str, Any] = {"n": 1, "mean": np.zeros(2)}
            self.generator = torch.Generator()
            self.rng = np.random.default_rng(0)
            self.python = random.Random(0)
            self.names = {"a"}
            self.shared = [self.fc1.weight]

    def change(name: str, act: Any) -> list[str]:
        module = Holder()
        before = PythonState(module)
        with torch.no_grad():
            act(module)
        return before.changed(PythonState(module))

    nothing: list[Any] = [
        lambda m: None,
        lambda m: m(torch.zeros(2, 12)),
        lambda m: m.fc1.weight.add_(1),
        lambda m: m.eval(),
    ]
    for act in nothing:
        assert change("", act) == []
    acts: dict[str, Any] = {
        "queue": lambda m: m.queue.append(1),
        "stats": lambda m: m.stats.update(n=2),
        "generator": lambda m: torch.rand(1, generator=m.generator),
        "rng": lambda m: m.rng.random(),
        "python": lambda m: m.python.random(),
        "names": lambda m: m.names.add("b"),
        "new": lambda m: setattr(m, "new", 1),
        "fc1.seen": lambda m: setattr(m.fc1, "seen", torch.zeros(1)),
    }
    for name, act in acts.items():
        assert change(name, act) == [name]
    assert change("queue", lambda m: m.queue[0].add_(1)) == ["queue"]
    assert change("stats", lambda m: m.stats["mean"].__iadd__(1)) == ["stats"]
    assert change("queue", lambda m: m.queue.__setitem__(0, torch.zeros(2))) == ["queue"]


Pair = namedtuple("Pair", "x y")


@dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    name: str


class Encoding(UserDict):
    """As tokenizers give: a mapping whose entries are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "data":
            raise AttributeError(name)
        return self.data[name]


def test_batches_keep_their_nesting() -> None:
    a, b, c = torch.zeros(2, 3), torch.ones(2), torch.arange(2)
    trees: list[Any] = [
        a,
        (a, b, c),
        [a, (b, [c])],
        {"x": a, "more": {"y": b, "z": c}, "text": "same"},
        OrderedDict(x=a, y=(b, c)),
        Pair(a, [b, c]),
        Sample(a, "name"),
        Encoding({"input_ids": a, "labels": b}),
        MappingProxyType({"x": a}),
        (None, 3, "a", a),
    ]
    for tree in trees:
        tensors = tensors_of(tree)
        assert tensors[0] is a
        changed = with_tensors(tree, [x + 1 for x in tensors])
        assert isinstance(changed, type(tree)) or isinstance(tree, MappingProxyType)
        assert torch.equal(tensors_of(changed)[0], a + 1)
        assert tensors_of(tree)[0] is a
    assert with_tensors(trees[3], [a, b, c])["text"] == "same"
    assert with_tensors(trees[6], [b]).name == "name"
    assert torch.equal(with_tensors(trees[7], [b, a]).input_ids, b)
    own = of_trial({"x": torch.arange(6).view(3, 2)}, 1, shared=False)["x"]
    assert own.tolist() == [2, 3]


def test_packed_sequences_in_batches() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.zeros(1, 2)])
    assert torch.equal(of_trial(packed, 0, shared=True).data, packed.data)


def test_torch_has_every_private_name() -> None:
    assert torch_private.missing() == ""
    assert torch.__version__.startswith(torch_private.TESTED)


def test_without_a_private_name_everything_trains_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torch_private._FOUND, "wrapped", None)
    assert torch_private.missing() == "torch._C._functorch._add_batch_dim"
    proof = proof_of(OWN["skip_mlp"])
    assert not proof.equal
    assert proof.reason == "this release of torch has no torch._C._functorch._add_batch_dim"
    assert isinstance(proof.form(built(OWN["skip_mlp"], 0), classify), Looped)
    monkeypatch.setitem(torch_private._FOUND, "current_level", None)
    assert torch_private.current_level() == 0
    assert torch_private._found("torch._C._functorch", "gone") is None
    assert torch_private._found("torch._nowhere", "gone") is None
