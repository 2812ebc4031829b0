"""A person's model by seed: made by their function or class, or copied from their module and started afresh."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from optim_core.own.streams import seeded
from optim_core.own.user_code import user_code
from optim_core.spec.errors import SpecError
from optim_core.spec.keys import derive_seed
from optim_core.tasks.fine_tune import StartWeights
from optim_core.vmapped import copied

POINTER = "/model"
# What a function or class may ask of the data.
OFFERED = ("in_features", "classes")


@dataclass
class Models:
    """``source``: a module, or what makes one. ``offered``: see ``OFFERED``; what the data does not say is left out.

    ``first_call``: puts a batch through a module whose layers take their sizes from it. ``start``: weights to start from.
    """

    source: Any
    offered: Mapping[str, int]
    first_call: Callable[[nn.Module], Any]
    device: torch.device
    dtype: torch.dtype
    start: StartWeights | None = None
    _last: weakref.ref | None = field(default=None, init=False)

    def make(self, seed: int) -> nn.Module:
        """In training mode, on the device, real numbers in ``dtype``; global random streams stay where they are.

        Raises SpecError for what is no module, UserCodeError from their code.
        """
        with seeded(derive_seed("model", seed)):
            model = self._copied() if isinstance(self.source, nn.Module) else self._made()
            _refuse_complex(model)
            model = model.to(self.device, self.dtype)
            if any(is_lazy(each) for each in (*model.parameters(), *model.buffers())):
                with torch.no_grad():
                    self.first_call(model)
            if self.start is not None:
                self.start.put_into(model)
        return model.train()

    @property
    def said(self) -> str | None:
        """What the seeds of a study vary, where it is not the whole start."""
        if not isinstance(self.source, nn.Module):
            return None
        if fresh_layers(self.source) is None:
            return "The model keeps the weights that it came with: fresh seeds vary only data order and dropout."
        return (
            "The model's layers are started afresh for each seed (reset_parameters), frozen ones excepted; give a function "
            "that makes the model if it has to start from the weights that it came with."
        )

    def _copied(self) -> nn.Module:
        with user_code("copying the model"):
            model = copied(self.source)
        with user_code("in reset_parameters"):
            for reset in fresh_layers(model) or []:
                reset()
        return model

    def _made(self) -> nn.Module:
        arguments = self._arguments()
        with user_code("making the model"):
            model = self.source(**arguments)
        if not isinstance(model, nn.Module):
            message = f"the model's function gives a {type(model).__name__}, not a torch.nn.Module"
            raise SpecError(message, code="not_a_model", pointer=POINTER)
        if self._last is not None and self._last() is model:
            message = "the model's function gives the same module each time; trials need one each: make it inside the function"
            raise SpecError(message, code="not_a_model", pointer=POINTER)
        self._last = weakref.ref(model)
        return model

    def _arguments(self) -> dict[str, int]:
        if not callable(self.source):
            message = f"the model is a {type(self.source).__name__}; give a torch.nn.Module, its class or a function"
            raise SpecError(message, code="not_a_model", pointer=POINTER)
        try:
            parameters = inspect.signature(self.source).parameters.values()
        except (TypeError, ValueError):
            return {}
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        arguments = {p.name: self.offered[p.name] for p in named if p.name in self.offered}
        missing = [p.name for p in named if p.default is p.empty and p.name not in arguments]
        missing += [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
        if missing:
            unknown = [name for name in missing if name in OFFERED]
            why = (
                f"the data does not say {' and '.join(unknown)}"
                if unknown
                else f"there is no value for {', '.join(missing)}"
            )
            message = f"the model cannot be made: {why}; give defaults (in_features and classes come from the data)"
            raise SpecError(message, code="model_arguments", pointer=POINTER)
        return arguments


def _refuse_complex(model: nn.Module) -> None:
    name = next((name for name, p in model.named_parameters() if p.is_complex()), None)
    if name is not None:
        message = (
            f"{name} is complex: studies train real weights (write it as two, or tune in your own loop: "
            "optim_core.build_optimizer takes complex ones)"
        )
        raise SpecError(message, code="unsupported_dtype", pointer=POINTER)


def fresh_layers(model: nn.Module) -> list[Callable[[], None]] | None:
    """What starts each layer afresh that has weights of its own and any of them to train; None unless all can."""
    found = []
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if not any(p.requires_grad for p in own):
            continue
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if not callable(reset):
            return None
        found.append(reset)
    return found


def widest_layer(model: nn.Module, call: Callable[[nn.Module], Any], rows: int) -> int:
    """The most values that any module of ``model`` gives for a row, from one call with so many rows."""
    sizes = [1]

    def see(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            sizes.append(-(-output.numel() // rows))

    handles = [module.register_forward_hook(see) for module in model.modules()]
    try:
        with torch.no_grad():
            call(model)
    finally:
        for handle in handles:
            handle.remove()
    return max(sizes)
