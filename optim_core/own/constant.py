"""What an answer that has learned nothing looks like: one output for every row, from the training targets alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from optim_core.own.kinds import Reading
from optim_core.own.losses import IGNORED


def constant_answer(reading: Reading, metric: str, seen: Any) -> Callable[[Any], Tensor] | None:
    """Targets of a batch → outputs that the loss and the metric read like the module's; None where targets mean nothing known.

    Codes: the most frequent, and for losses and the perplexity the shares of each (of a class that is never seen the loss is
    infinite; a token counts as seen at least once). Columns of yes and no: the same for each column. Numbers: the mean.
    ``seen``: all training targets.
    """
    loss, kind = reading.loss, reading.kind
    if loss is None or kind == "other" or not isinstance(seen, Tensor):
        return None
    by_shares = metric in ("loss", "log_loss", "perplexity")
    if kind in ("classes", "tokens"):
        codes = (seen[:, 1:] if loss.shifted else seen).flatten().long()
        shares = torch.bincount(codes[codes != IGNORED], minlength=reading.classes).double()
        if kind == "tokens":
            # A rare token may well be absent, and would make the whole answer infinitely bad.
            shares = shares.clamp(min=1)
        shares = shares / shares.sum()
        answer = shares.log() if by_shares else F.one_hot(shares.argmax(), reading.classes).double()
        axis = loss.class_axis if kind == "tokens" else -1

        def of_codes(targets: Tensor) -> Tensor:
            shape = targets.shape[:1] if kind == "classes" else targets.shape
            return answer.expand(*shape, -1).movedim(-1, axis)

        return of_codes
    mean = seen.double().mean(0)
    if kind in ("binary", "labels"):
        mean = mean.logit() if by_shares else torch.where(mean > 0.5, 1.0, -1.0).double()
    return lambda targets: mean.expand(targets.shape)
