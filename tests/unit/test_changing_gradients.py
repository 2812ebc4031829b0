"""Which weights have a gradient changes from step to step: each is trained as if it were alone, whoever else is there."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn

from optim_core import build_optimizer
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms import transform_optimizer
from optim_core.transforms.arena import Arena
from optim_core.transforms.registry import BUILDERS, build_transform

SHAPES = [(4, 3), (3,), (5, 4), (4,), (2, 2), ()]
ALONE = [
    name for name, row in OPTIMIZERS.items() if row.kind == "gradient" and row.couples == "nothing" and name != "sam"
]
# What shrinks or moves with the steps of all is not a weight's own.
OF_THE_MODEL = {"prodigy", "swats"}


def patterns(steps: int, seed: int = 0) -> list[list[bool]]:
    """Whether each weight has a gradient; at first all of them, so that all have begun."""
    rng = random.Random(seed)
    return [[True] * len(SHAPES)] + [[rng.random() < 0.6 for _ in SHAPES] for _ in range(steps - 1)]


def in_turn(steps: int) -> list[list[bool]]:
    """Two sets of weights with a gradient that take turns, one of them twice in a row."""
    odd, even = [i % 2 == 1 or i == 0 for i in range(len(SHAPES))], [i % 2 == 0 for i in range(len(SHAPES))]
    return [[True] * len(SHAPES)] + [odd if step % 3 else even for step in range(steps - 1)]


PATTERNS = {"random": patterns, "in turn": in_turn}


def weights(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def gradient(step: int, i: int, like: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 * step + i)
    return torch.randn(like.shape, generator=generator).to(like.dtype)


def give(step: int, own: list[nn.Parameter], pattern: list[bool]) -> None:
    """The step's gradients, None where a weight has none."""
    for i, (p, used) in enumerate(zip(own, pattern, strict=True)):
        p.grad = gradient(step, i, p) if used else None


@pytest.mark.parametrize("pattern_of", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in ALONE if name not in OF_THE_MODEL])
def test_each_weight_is_trained_as_if_it_were_alone(name: str, dtype: torch.dtype, pattern_of: str) -> None:
    together, apart = weights(dtype), weights(dtype)
    optimizer = build_optimizer(name, together)
    optimizers = [build_optimizer(name, [p]) for p in apart]
    for step, pattern in enumerate(PATTERNS[pattern_of](14)):
        give(step, together, pattern)
        give(step, apart, pattern)
        optimizer.step()
        for own, used in zip(optimizers, pattern, strict=True):
            if used:
                own.step()
        if step == 6:
            # What has been gathered is of these weights, not of those that somebody goes on with.
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, q in zip(together, apart, strict=True):
        assert torch.allclose(p, q, rtol=1e-5, atol=1e-6), (name, tuple(p.shape))
        a, b = optimizer.state[p], next(one for one, w in zip(optimizers, apart, strict=True) if w is q).state[q]
        assert a.keys() == b.keys()
        assert float(a["step"]) == float(b["step"])


@pytest.mark.parametrize("pattern_of", PATTERNS)
@pytest.mark.parametrize("name", ["sgd", "adamw", "lion"])
@pytest.mark.parametrize("change", ["precision", "entry", "cleared", "replaced", "storage", "step"])
def test_what_was_known_of_a_weight_is_forgotten_when_it_changes(name: str, change: str, pattern_of: str) -> None:
    own = weights()
    optimizer, plain = build_optimizer(name, own), weights()
    reference = build_optimizer(name, plain)
    for step, pattern in enumerate(PATTERNS[pattern_of](12)):
        # The reference gathers everything anew each time.
        reference._known.keep([])
        reference._forget()
        if step == 5:
            for side in (own, plain):
                of = optimizer if side is own else reference
                if change == "precision":
                    side[0].data = side[0].data.to(torch.bfloat16)
                elif change == "entry":
                    for key, value in of.state[side[0]].items():
                        of.state[side[0]][key] = value * 0 if key != "step" else value
                elif change == "step":
                    of.state[side[0]]["step"] = torch.tensor(2.0)
                elif change == "cleared":
                    of.state[side[0]].clear()
                elif change == "replaced":
                    side[0] = nn.Parameter(torch.ones(SHAPES[0]))
                    of.param_groups[0]["params"][0] = side[0]
                else:
                    side[0].data = torch.ones(SHAPES[0][::-1]).T
        give(step, own, pattern)
        give(step, plain, pattern)
        optimizer.step()
        reference.step()
        for p, q in zip(own, plain, strict=True):
            assert torch.equal(p, q), (step, tuple(p.shape))


def test_what_is_no_longer_trained_is_not_held() -> None:
    own = weights()
    optimizer = build_optimizer("adamw", own)
    for step, pattern in enumerate(patterns(4)):
        give(step, own, pattern)
        optimizer.step()
    optimizer.param_groups[0]["params"] = optimizer.param_groups[0]["params"][1:]
    optimizer.step()
    held = {id(one._p) for one in optimizer._known._known.values()}
    assert held <= {id(p) for group in optimizer.param_groups for p in group["params"]}


def test_sets_of_weights_that_take_turns_are_gathered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = 0

    class Counted(Arena):
        def __init__(self, *given: object) -> None:
            nonlocal built
            built += 1
            super().__init__(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(transform_optimizer, "Arena", Counted)
    own = weights()
    optimizer = build_optimizer("adamw", own)
    for step, pattern in enumerate(in_turn(60)):
        give(step, own, pattern)
        optimizer.step()
    # All of them; each of the two; and again once those of one set are of two ages.
    assert built <= 5


def test_methods_that_do_not_count_steps_say_so() -> None:
    """And only those: the same state and gradients give the same step whatever its number."""
    for name in BUILDERS:
        transform, hyper = build_transform(name), {**OPTIMIZERS[name].defaults(), "base_lr": 0.1, "lr": 0.1}
        found = []
        for t in (2, 3, 40):
            params = {"w": torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)}
            state = transform.init({"w": params["w"].clone()}, [hyper])
            grads = {"w": torch.linspace(1, 3, 12, dtype=torch.float64).reshape(4, 3).sin()}
            for first in (1, t):
                params, state = transform.update(params, grads, state, [hyper], first)
            found.append(params["w"])
        same = all(torch.equal(found[0], other) for other in found[1:])
        assert not transform.timeless or same, name
