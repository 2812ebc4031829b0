"""Methods that torch has a fused kernel for, applied to each trial's row: one pass over memory instead of one per operation.

The kernels take plain numbers, so K trials are K calls; on a CPU that still wins by a factor of two to three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from optim_core.transforms.base import Hypers, Scalar, State
from optim_core.transforms.kernels import KERNELS, Kernel, Numbers

# Those of them that take K trials' rows.
METHODS: dict[str, Kernel] = {
    name: KERNELS[name] for name in ("adam", "adamw", "amsgrad", "sgd", "momentum", "nesterov")
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
                # Weight decay has been done, for all trials at once.
                step(row.p, row.g, row.state, steps, rate, 0.0, row.numbers)


def _list(value: Scalar, k: int) -> list[float]:
    return value.tolist() if isinstance(value, Tensor) else [float(value)] * k
