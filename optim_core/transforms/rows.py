"""Methods that torch has a fused kernel for, applied to each trial's row: one pass over memory instead of one per operation.

The kernels take plain numbers, so K trials are K calls; on a CPU that still wins by a factor of two to three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optim_core.transforms.base import Hypers, Scalar, State

Numbers = Mapping[str, float]


class RowsMethod(NamedTuple):
    """``keys``: the state that the kernel changes, as the transform of that name calls it. ``step(p, g, state, t, lr, n)``:
    one kernel call for some weights of a trial; ``t`` float32 scalar tensors, ``n`` the hyperparameters. ``decoupled``:
    whether weight decay shrinks weights instead of adding to gradients.
    """

    keys: tuple[str, ...]
    step: Callable[[list[Tensor], list[Tensor], list[list[Tensor]], list[Tensor], float, Numbers], Any]
    decoupled: bool = False


def _adam(kernel: Any, *, largest: bool = False) -> Callable[..., Any]:
    def step(p: list[Tensor], g: list[Tensor], s: list[list[Tensor]], t: list[Tensor], lr: float, n: Numbers) -> None:
        kernel(
            p, g, s[0], s[1], s[2] if largest else [], t, lr=lr, beta1=n["beta1"], beta2=n["beta2"],
            weight_decay=0.0, eps=n["eps"], amsgrad=largest, maximize=False,
        )  # fmt: skip

    return step


def _sgd(*, nesterov: bool = False) -> Callable[..., Any]:
    def step(p: list[Tensor], g: list[Tensor], s: list[list[Tensor]], t: list[Tensor], lr: float, n: Numbers) -> None:
        del t
        # The buffer starts at zero, so the first step needs no case of its own.
        torch._fused_sgd_(
            p, g, s[0] if s else [], weight_decay=0.0, momentum=n.get("momentum", 0.0), lr=lr,
            dampening=0.0, nesterov=nesterov, maximize=False, is_first_step=False,
        )  # fmt: skip

    return step


METHODS: dict[str, RowsMethod] = {
    "adam": RowsMethod(("mean", "square"), _adam(torch._fused_adam_)),
    "adamw": RowsMethod(("mean", "square"), _adam(torch._fused_adam_), decoupled=True),
    "amsgrad": RowsMethod(("mean", "square", "highest"), _adam(torch._fused_adam_, largest=True)),
    "sgd": RowsMethod((), _sgd()),
    "momentum": RowsMethod(("buffer",), _sgd()),
    "nesterov": RowsMethod(("buffer",), _sgd(nesterov=True)),
}


class _Row(NamedTuple):
    p: list[Tensor]
    g: list[Tensor]
    state: list[list[Tensor]]
    numbers: Numbers


class _Span(NamedTuple):
    """Weights that share a learning rate: one call for each trial. ``group``: one of theirs."""

    group: int
    rows: list[_Row]
    t: list[Tensor]


class Rows:
    """The update of K trials with ``METHODS[name]``.

    ``params``, ``gradients`` and the entries of ``state``: (K, n) by name, changed in place; they stay the same tensors.
    ``index``: name → parameter group, an index into ``hypers``. Hyperparameters other than lr stay as they are from step to
    step. Weight decay is one operation for all trials, so that weights with it and without share the kernel call.
    """

    def __init__(
        self,
        name: str,
        params: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        hypers: Hypers,
        index: Mapping[str, int],
    ) -> None:
        method = METHODS[name]
        self._step, self._decoupled = method.step, method.decoupled
        self._t = torch.zeros((), dtype=torch.float32)
        together: dict[int, list[str]] = {}
        for key in params:
            together.setdefault(id(hypers[index[key]]["lr"]), []).append(key)
        self._spans = [
            self._span(keys, params, gradients, [state[key] for key in method.keys], index[keys[0]], hypers)
            for keys in together.values()
        ]
        self._decays: dict[int, tuple[Tensor, list[tuple[Tensor, Tensor]]]] = {}
        for key in params:
            decay = hypers[index[key]]["weight_decay"]
            if isinstance(decay, Tensor) and bool(decay.any()):
                _, own = self._decays.setdefault(index[key], (decay, []))
                own.append((params[key], gradients[key]))

    def _span(
        self,
        keys: list[str],
        params: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: list[dict[str, Tensor]],
        group: int,
        hypers: Hypers,
    ) -> _Span:
        k = len(params[keys[0]])
        lists = {name: _list(v, k) for name, v in hypers[group].items() if name not in ("lr", "base_lr")}
        rows = [
            _Row(
                [params[key][i] for key in keys],
                [gradients[key][i] for key in keys],
                [[own[key][i] for key in keys] for own in state],
                {name: v[i] for name, v in lists.items()},
            )
            for i in range(k)
        ]
        return _Span(group, rows, [self._t] * len(keys))

    def update_(self, hypers: Hypers, t: int) -> None:
        """Step ``t``, from 1, with the learning rates of ``hypers``, (K,)."""
        for group, (decay, own) in self._decays.items():
            share = 1 - hypers[group]["lr"] * decay if self._decoupled else decay
            share = share.to(own[0][0].dtype).unsqueeze(1)
            for p, g in own:
                if self._decoupled:
                    p.mul_(share)
                else:
                    g.addcmul_(p, share)
        self._t.fill_(t)
        step = self._step
        for span in self._spans:
            rates, steps = hypers[span.group]["lr"], span.t
            assert isinstance(rates, Tensor)
            for row, rate in zip(span.rows, rates.tolist(), strict=True):
                step(row.p, row.g, row.state, steps, rate, row.numbers)


def _list(value: Scalar, k: int) -> list[float]:
    return value.tolist() if isinstance(value, Tensor) else [float(value)] * k
