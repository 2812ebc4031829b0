"""A person's own metric, function(outputs, targets) → a number, which is known only for many rows together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optim_core.own.jackknife import pseudo_values
from optim_core.own.outputs import like, without_numbers
from optim_core.own.trees import leaves, map_tree
from optim_core.own.user_code import user_code
from optim_core.spec.errors import SpecError

# Outputs of one trial that are kept for it, and of all trials at a time, in bytes.
MOST_OF_A_TRIAL = 2**30
MOST_KEPT = 2**30


@dataclass(frozen=True)
class OwnMetric:
    """``function``: outputs as the module gives them and targets as the data has them, of all rows, on the CPU.

    ``maximise``: larger is better. ``example``: outputs, whose class those that are put together get.
    """

    function: Callable[[Any, Any], Any]
    maximise: bool
    example: Any
    classes: int = 0

    @property
    def name(self) -> str:
        """As row scores are read: ``score`` is larger the better, ``error`` smaller."""
        return "score" if self.maximise else "error"

    @property
    def shown(self) -> str:
        """As a person calls it."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def of(self, outputs: Any, targets: Any) -> dict[str, Any]:
        """All that may be asked for; see ``measures.Measure``."""
        return {"outputs": without_numbers(outputs)}

    def bytes_of(self, rows: int) -> int:
        """What so many rows' outputs of one trial take."""
        return sum(t.nbytes * rows // max(1, len(t)) for t in leaves(without_numbers(self.example)))

    def check(self, rows: int) -> None:
        """Raises SpecError where outputs of so many rows cannot be kept or lie otherwise than samples first."""
        size = self.bytes_of(rows)
        if size > MOST_OF_A_TRIAL:
            message = (
                f"the metric {self.shown} wants all outputs together, which are {size / 2**30:.1f} GB a trial: let the model "
                "give less in evaluation mode, or take loss, accuracy or perplexity, which are summed up on the way"
            )
            raise SpecError(message, code="metric_too_large", pointer="/metric")
        if len({len(t) for t in leaves(without_numbers(self.example))}) != 1:
            message = f"the metric {self.shown} needs outputs with the samples first, as many in each tensor"
            raise SpecError(message, code="shape_mismatch", pointer="/metric")

    def value(self, outputs: Any, targets: Any) -> float:
        """Of trees of all rows. Raises UserCodeError, and SpecError for what is no number."""
        with user_code("in the metric"):
            found = self.function(like(outputs, self.example), targets)
        try:
            return float(found)
        except (TypeError, ValueError, RuntimeError):
            kind = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            message = f"the metric {self.shown} gives {kind}; give one number"
            raise SpecError(message, code="invalid_metric", pointer="/metric") from None

    def rows(self, outputs: Any, targets: Any) -> np.ndarray | None:
        """(blocks,) float32 pseudo-values, see ``jackknife``; None where a block's is not finite."""
        count = len(next(leaves(outputs)))

        def of_rows(rows: Tensor) -> float:
            return self.value(*(map_tree(lambda t: t[rows], tree) for tree in (outputs, targets)))

        values = pseudo_values(of_rows, count)
        most = float(torch.finfo(torch.float32).max)
        return values.clip(-most, most).astype(np.float32) if all(map(math.isfinite, values)) else None
