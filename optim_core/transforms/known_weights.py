"""What was found out about a weight when it was gathered, so that it need not be found out again.

Which weights have a gradient may change from step to step (layers that are left out, experts that nobody asks): then weights
are gathered anew, and most of them are as they were.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Size, Tensor

from optim_core.transforms.base import TRIAL
from optim_core.transforms.kept_state import MODEL_STEP, SHOWN, STEP, TRAINED
from optim_core.transforms.working_form import WorkingForm

# Of weights with one of these nothing is remembered here: numbers of the model, and weights that show their answer.
_OTHERS = {MODEL_STEP, TRAINED, SHOWN}


class Known:
    """One weight and what is remembered of it. ``opened``: its state by entry, in the form in which it is worked on."""

    __slots__ = ("_contiguous", "_device", "_dtype", "_entries", "_own", "_p", "_shape", "form", "kept", "opened")

    def __init__(self, p: Tensor, own: dict[str, Any], form: WorkingForm) -> None:
        self._p, self._own, self.form = p, own, form
        self._shape: Size = p.shape
        self._dtype, self._device, self._contiguous = p.dtype, p.device, p.is_contiguous()
        # The counter is written at every gathering; what it holds is read anew.
        self._entries = [(key, value) for key, value in own.items() if key != STEP]
        self.opened = {key: form.opened(value) for key, value in self._entries}
        self.kept = tuple(sorted(own))

    def still(self, p: Tensor, own: dict[str, Any]) -> bool:
        """Whether all is as it was: the same objects, of the same shape, precision and layout."""
        return (
            self._p is p
            and self._own is own
            and p.dtype == self._dtype
            and p.device == self._device
            and p.shape == self._shape
            and p.is_contiguous() == self._contiguous
            and len(own) == len(self.kept)
            and all(own.get(key) is value for key, value in self._entries)
        )


class KnownWeights:
    """Of the weights of one optimizer that keep nothing but moments of their own; others are looked at each time."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}

    def find(self, p: Tensor, own: dict[str, Any]) -> Known | None:
        """What is known of ``p``, if it still holds."""
        found = self._known.get(id(p))
        return found if found is not None and found.still(p, own) else None

    def learn(self, p: Tensor, own: dict[str, Any], form: WorkingForm) -> None:
        """Note what was gathered."""
        if STEP in own and not any(key in _OTHERS or key.startswith(f"{TRIAL}.") for key in own):
            self._known[id(p)] = Known(p, own, form)

    def keep(self, weights: Iterable[Tensor]) -> None:
        """Forget all but these: what is no longer trained is not held."""
        wanted = set(map(id, weights))
        for key in self._known.keys() - wanted:
            del self._known[key]
