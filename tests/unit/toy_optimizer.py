"""A pytest plugin that adds an optimizer, ``toy``, to the catalogue before any test is collected.

It is exactly what a contributor adds: a row, a function with its line in the registry, a reference.
"""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.spec.optimizers import OPTIMIZERS, OptimizerInfo
from optim_core.spec.optimizers.info import MOMENTUM, coupled, lr
from optim_core.transforms.arithmetic import Array, add_ratio_
from optim_core.transforms.base import Own, Scalar
from optim_core.transforms.decay import with_l2
from optim_core.transforms.lift import elementwise, zeros
from optim_core.transforms.momentum import sgd_numbers
from optim_core.transforms.registry import BUILDERS
from tests.unit.oracle_case import ByHand, Case
from tests.unit.oracles import CASES

ROW = OptimizerInfo(
    name="toy",
    title="Toy",
    formula="b = μb + g;  p −= lr·b/(1 + |b|)",
    hyperparameters=(lr(0.05, 1e-5, 3.0, "a step is never longer than lr"), MOMENTUM, coupled()),
    state_per_weight=1,
    step_cost=1.5,
    simplicity=2,
    weight_decay="coupled",
    reference="invented for this test",
    wins_when="a test wants a method that nobody knows",
    pitfalls="nobody should train with it",
)


def toy(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """b = μb + g; p −= lr·b/(1 + |b|)."""
    b = s["buffer"].mul_(n["mu"]).add_(with_l2(p, g, n))
    add_ratio_(p, b, b.abs().add_(1), n["down"])


def toy_by_hand(p, g, s, h, t):
    s["b"] = h["momentum"] * s.get("b", 0) + g + h["weight_decay"] * p
    p.sub_(h["lr"] * s["b"] / (1 + s["b"].abs()))


RULE = elementwise(zeros("buffer"), sgd_numbers, toy)
REFERENCE = Case(lambda p, h: ByHand(p, h, toy_by_hand))


def pytest_configure() -> None:
    OPTIMIZERS._rows["toy"] = ROW
    BUILDERS["toy"] = RULE
    CASES["toy"] = REFERENCE
