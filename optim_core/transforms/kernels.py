"""torch's fused kernels: one pass over memory instead of one per operation.

They read memory as it lies, so weights, gradients and state must all be contiguous and of one precision, float32 or
float64; in float16 and bfloat16 the CPU's round the momentum away. Callers see to both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from optim_core.transforms import torch_private as private

Numbers = Mapping[str, Any]
# (weights, gradients, state by key and weight, float32 step counters, lr, weight decay, hyperparameters), all in place.
Step = Callable[[list[Tensor], list[Tensor], list[list[Tensor]], list[Tensor], float, float, Numbers], Any]


# From so many numbers a weight on, a plain addition goes through memory faster than the kernel of SGD.
LARGE = 1 << 20


class Kernel(NamedTuple):
    """``keys``: the state that it changes, as the transform of that name calls it. ``devices``: where it exists.

    ``decoupled``: whether weight decay shrinks weights instead of adding to gradients. ``counts``: whether it reads steps.
    """

    keys: tuple[str, ...]
    step: Step
    devices: tuple[str, ...] = ("cpu", "cuda")
    decoupled: bool = False
    counts: bool = True


def _adam(kernel: Any, *, largest: bool = False) -> Step:
    def step(
        p: list[Tensor], g: list[Tensor], s: list[list[Tensor]], t: list[Tensor], lr: float, decay: float, n: Numbers
    ) -> None:
        kernel(
            p, g, s[0], s[1], s[2] if largest else [], t, lr=lr, beta1=n["beta1"], beta2=n["beta2"],
            weight_decay=decay, eps=n["eps"], amsgrad=largest, maximize=False,
        )  # fmt: skip

    return step


def _sgd(*, nesterov: bool = False) -> Step:
    def step(
        p: list[Tensor], g: list[Tensor], s: list[list[Tensor]], t: list[Tensor], lr: float, decay: float, n: Numbers
    ) -> None:
        del t
        momentum = n.get("momentum", 0.0)
        if not momentum and not decay and sum(map(Tensor.numel, p)) >= LARGE * len(p):
            private.foreach_add_(p, g, alpha=-lr)
            return
        # The buffer starts at zero, so the first step needs no case of its own. Without momentum there is none to read.
        private.fused_sgd_(
            p, g, s[0] if s and momentum else [], weight_decay=decay, momentum=momentum, lr=lr,
            dampening=0.0, nesterov=nesterov and momentum > 0, maximize=False, is_first_step=False,
        )  # fmt: skip

    return step


def _adagrad(
    p: list[Tensor], g: list[Tensor], s: list[list[Tensor]], t: list[Tensor], lr: float, decay: float, n: Numbers
) -> None:
    private.fused_adagrad_(
        p, g, s[0], t, lr=lr, lr_decay=n["lr_decay"], weight_decay=decay, eps=n["eps"], maximize=False
    )


KERNELS: dict[str, Kernel] = {
    "adam": Kernel(("mean", "square"), _adam(private.fused_adam_)),
    "adamw": Kernel(("mean", "square"), _adam(private.fused_adamw_), decoupled=True),
    "amsgrad": Kernel(("mean", "square", "highest"), _adam(private.fused_adam_, largest=True)),
    "sgd": Kernel((), _sgd(), counts=False),
    "momentum": Kernel(("buffer",), _sgd(), counts=False),
    "nesterov": Kernel(("buffer",), _sgd(nesterov=True), counts=False),
    "adagrad": Kernel(("sum",), _adagrad, devices=("cpu",)),
}
