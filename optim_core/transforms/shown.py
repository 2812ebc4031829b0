"""The answer in the place of the trained weights, and what somebody has put there meanwhile.

``train()`` brings the trained weights back. A weight that is not the answer that was shown was loaded, pruned or drawn anew
by a person, and is kept, as the authors' schedule-free optimizers keep it: it is the new trained point, and every other point
that the method keeps of it (``POINTS``) begins there. Moments and counters go on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optim_core.transforms.kept_state import SHOWN, TRAINED
from optim_core.transforms.techniques import AVERAGE
from optim_core.transforms.working_form import WorkingForm
from optim_core.transforms.wrappers import SLOW

# Points where a weight is or was: schedule-free's z, lookahead's slow weights, the mean of ASGD, EMA's and SWA's.
POINTS = ("z", SLOW, "average", AVERAGE)


def take_back(p: Tensor, own: dict[str, Any]) -> None:
    """Undo what ``eval`` did to one weight, with its entry ``own`` in the optimizer's state."""
    trained, shown = own.pop(TRAINED), own.pop(SHOWN, None)
    # A state saved by an earlier version does not hold what was shown.
    if shown is None or _same(p, shown):
        p.copy_(trained)
    elif not _same(p, trained):
        form = WorkingForm(p)
        for key in POINTS:
            if key in own:
                own[key] = form.closed(form.working().clone())


def _same(p: Tensor, other: Tensor) -> bool:
    """Whether a weight is what ``other`` is in its precision; NaN is NaN."""
    if p.shape != other.shape:
        return False
    other = other.to(p.device, p.dtype)
    return torch.equal(p, other) or bool(((p == other) | ((p != p) & (other != other))).all())
