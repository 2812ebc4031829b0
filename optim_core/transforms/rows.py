"""Methods that torch has a fused kernel for, applied to each trial's row: one pass over memory instead of one per operation.

The kernels take plain numbers, so K trials are K calls; on a CPU that still wins by a factor of two to three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optim_core.transforms.base import Hypers, Scalar, is_any

Numbers = Mapping[str, float]


class RowsMethod(NamedTuple):
    """``keys``: the state that the kernel changes, as the transform of that name calls it. ``decoupled``: how weight decay
    acts. ``step(p, g, state, t, lr, n)``: one kernel call; tensors in lists of one, ``t`` a float32 scalar tensor, ``n`` the
    hyperparameters.
    """

    keys: tuple[str, ...]
    decoupled: bool
    step: Callable[[list[Tensor], list[Tensor], list[list[Tensor]], list[Tensor], float, Numbers], Any]


def _adam(kernel: Any, *, largest: bool = False) -> Callable[..., Any]:
    def step(p: list[Tensor], g: list[Tensor], s: list[list[Tensor]], t: list[Tensor], lr: float, n: Numbers) -> None:
        kernel(
            p, g, s[0], s[1], s[2] if largest else [], t, lr=lr, beta1=n["beta1"], beta2=n["beta2"],
            weight_decay=n["weight_decay"], eps=n["eps"], amsgrad=largest, maximize=False,
        )  # fmt: skip

    return step


def _sgd(*, nesterov: bool = False) -> Callable[..., Any]:
    def step(p: list[Tensor], g: list[Tensor], s: list[list[Tensor]], t: list[Tensor], lr: float, n: Numbers) -> None:
        del t
        # The buffer starts at zero, so the first step needs no case of its own.
        torch._fused_sgd_(
            p, g, s[0] if s else [], weight_decay=n["weight_decay"], momentum=n.get("momentum", 0.0), lr=lr,
            dampening=0.0, nesterov=nesterov, maximize=False, is_first_step=False,
        )  # fmt: skip

    return step


METHODS: dict[str, RowsMethod] = {
    "adam": RowsMethod(("mean", "square"), False, _adam(torch._fused_adam_)),
    "adamw": RowsMethod(("mean", "square"), True, _adam(torch._fused_adam_)),
    "amsgrad": RowsMethod(("mean", "square", "highest"), False, _adam(torch._fused_adam_, largest=True)),
    "sgd": RowsMethod((), False, _sgd()),
    "momentum": RowsMethod(("buffer",), False, _sgd()),
    "nesterov": RowsMethod(("buffer",), False, _sgd(nesterov=True)),
}


class _Row(NamedTuple):
    p: list[Tensor]
    g: list[Tensor]
    state: list[list[Tensor]]
    numbers: Numbers


class Rows:
    """The update of K trials with ``METHODS[name]``, whose weights, gradients and state are rows (K, n) of one piece each.

    ``groups``: (columns, index into ``hypers``) of weights that differ in nothing but weight decay. Numbers other than lr stay
    as they are from step to step.
    """

    def __init__(
        self,
        name: str,
        params: Tensor,
        gradients: Tensor,
        state: Sequence[Tensor],
        groups: Sequence[tuple[slice, int]],
        hypers: Hypers,
    ) -> None:
        method = METHODS[name]
        self._step, self._decoupled = method.step, method.decoupled
        self._t = torch.zeros((), dtype=torch.float32)
        constants = {key: v for key, v in hypers[groups[0][1]].items() if key not in ("lr", "base_lr")}
        # Decay is done for all trials at once: the kernel knows one number for a whole row.
        constants["weight_decay"] = 0.0
        lists = {key: _list(v, len(params)) for key, v in constants.items()}
        self._rows = [
            _Row([params[k]], [gradients[k]], [[s[k]] for s in state], {key: v[k] for key, v in lists.items()})
            for k in range(len(params))
        ]
        decays = [(columns, hypers[index]["weight_decay"]) for columns, index in groups]
        self._decays = [
            (params[:, columns], gradients[:, columns], torch.as_tensor(wd, dtype=torch.float64).view(-1, 1))
            for columns, wd in decays
            if is_any(wd)
        ]

    def update_(self, lr: Tensor, t: int) -> None:
        """Step ``t``, from 1, with learning rates (K,)."""
        self._t.fill_(t)
        steps, step = [self._t], self._step
        for p, g, decay in self._decays:
            if self._decoupled:
                p.mul_((1 - lr.unsqueeze(1) * decay).to(p.dtype))
            else:
                g.addcmul_(p, decay.to(p.dtype))
        for row, rate in zip(self._rows, lr.tolist(), strict=True):
            step(row.p, row.g, row.state, steps, rate, row.numbers)


def _list(value: Scalar, k: int) -> list[float]:
    return value.tolist() if isinstance(value, Tensor) else [float(value)] * k
