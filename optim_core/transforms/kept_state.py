"""What a method keeps of one weight: which entries, and of what shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Size, Tensor

from optim_core.spec.errors import SpecError
from optim_core.transforms.base import TRIAL, Hyper, Layout
from optim_core.transforms.registry import build_transform
from optim_core.transforms.roles import role_by_shape
from optim_core.transforms.working_form import WorkingForm

# Entries of a weight's state in torch's sense: its own steps, those of the model where a method counts them, and while the
# answer is in its place the trained weight and that answer.
STEP, MODEL_STEP, TRAINED, SHOWN = "step", "model_step", "trained_weights", "shown_weights"
_NOT_OF_THE_METHOD = (STEP, MODEL_STEP, TRAINED, SHOWN)


class Method:
    """One method with its techniques, asked what it keeps of one weight after another."""

    def __init__(self, name: str, techniques: Sequence[str], state_bits: int) -> None:
        self.name, self._techniques, self._bits = name, techniques, state_bits
        self._known: dict[Any, dict[str, Size]] = {}

    def kept(self, p: Tensor, role: Any, hyper: Hyper) -> dict[str, Size]:
        """Entry → shape, as they lie under ``p``. Nothing of that size is made."""
        asked = (p.shape, p.dtype, role, id(hyper))
        if asked not in self._known:
            form = WorkingForm(torch.empty(p.shape, dtype=p.dtype, device="meta"))
            layout = Layout(roles={} if role is None else {"weight": role})
            method = build_transform(self.name, layout, self._techniques, self._bits)
            state = method.init({"weight": form.working()}, [hyper])
            self._known[asked] = {k: form.closed(x["weight"]).shape for k, x in state.items() if k != TRIAL}
        return self._known[asked]

    def check_shapes(self, p: Tensor, own: Mapping[str, Any], role: Any, hyper: Hyper) -> None:
        """Raise SpecError where ``p`` is not the weight that ``own`` was kept of, or its gradient is not of its shape."""
        check_gradient(p)
        held = of_the_weight(own)
        if all(shape == p.shape for shape in held.values()):
            return
        kept = self.kept(p, role, hyper)
        for key, shape in held.items():
            if shape != kept.get(key, shape):
                message = (
                    f"a weight is {tuple(p.shape)}, for which {self.name} keeps {key} of {tuple(kept[key])}, "
                    f"and its state holds {key} of {tuple(shape)}: delete its entry in optimizer.state to begin anew"
                )
                raise SpecError(message, code="shape_mismatch")

    def check_entries(self, p: Tensor, own: Mapping[str, Any], role: Any, hyper: Hyper) -> None:
        """Raise SpecError where ``own``, saved elsewhere, is not what the method keeps of ``p`` in its role."""
        held = of_the_weight(own)
        if STEP not in own and not held:
            return
        kept = self.kept(p, role, hyper)
        role = role or role_by_shape(p)
        if held.keys() != kept.keys():
            message = (
                f"this state holds {_listed(held)} of a weight {tuple(p.shape)}, which is a {role} here, "
                f"for which {self.name} keeps {_listed(kept)}"
            )
            raise SpecError(message, code="other_weights")
        for key, shape in held.items():
            if shape != kept[key]:
                message = (
                    f"{key} was saved of another weight, as {tuple(shape)}, and the weight is {tuple(p.shape)}, a {role} "
                    f"here, for which {self.name} keeps {tuple(kept[key])}"
                )
                raise SpecError(message, code="other_weights")


def check_gradient(p: Tensor) -> None:
    """Raise SpecError where the gradient is not of its weight's shape."""
    if p.grad is not None and p.grad.shape != p.shape:
        message = f"a weight is {tuple(p.shape)}, and its gradient is {tuple(p.grad.shape)}"
        raise SpecError(message, code="shape_mismatch")


def _listed(entries: Mapping[str, Any]) -> str:
    return ", ".join(sorted(entries)) or "nothing"


def of_the_weight(own: Mapping[str, Any]) -> dict[str, Size]:
    """Shapes of what is kept of the weight alone, without counters and numbers of the run."""
    return {
        key: value.shape
        for key, value in own.items()
        if isinstance(value, Tensor) and key not in _NOT_OF_THE_METHOD and not key.startswith(f"{TRIAL}.")
    }
