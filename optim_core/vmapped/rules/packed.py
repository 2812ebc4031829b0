"""Packed sequences of K trials: lengths are the batch's, so the trial axis rides behind the features."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from optim_core.vmapped.rules.base import Rule, Trials
from optim_core.vmapped.torch_private import pack_padded, pad_packed


def pack(trials: Trials, input: Tensor, lengths: Tensor, batch_first: bool) -> Any:
    x, own = trials.raw(input)
    if not own or trials.raw(lengths)[1]:
        return NotImplemented
    data, sizes = pack_padded(x.movedim(0, -1), lengths, batch_first)
    return trials.wrap(data, data.ndim - 1), sizes


def unpack(
    trials: Trials, data: Tensor, batch_sizes: Tensor, batch_first: bool, padding_value: float, total_length: int
) -> Any:
    x, own = trials.raw(data)
    if not own or trials.raw(batch_sizes)[1]:
        return NotImplemented
    padded, lengths = pad_packed(x.movedim(0, -1), batch_sizes, batch_first, padding_value, total_length)
    return trials.wrap(padded, padded.ndim - 1), lengths


RULES: dict[Any, Rule] = {pack_padded: pack, pad_packed: unpack}
