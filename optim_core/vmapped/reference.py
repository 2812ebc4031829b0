"""Plain training of a few trials, written as a person would: what every form is measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from optim_core.vmapped.alone import one_trial
from optim_core.vmapped.batch_tree import rebuilt
from optim_core.vmapped.form import LossOf, ModuleForm, Weights
from optim_core.vmapped.looped import scalar
from optim_core.vmapped.python_state import PythonState

# Trials differ in their weights and in their rates.
RATE = 0.01
LOW = (torch.float32, torch.bfloat16, torch.float16)


@dataclass
class Moment:
    """What one step gave: (K,) losses, gradients, which weights went unused, and weights and buffers after it."""

    losses: Tensor
    gradients: Weights
    unused: dict[str, Tensor]
    weights: Weights
    buffers: Weights


@dataclass
class Course:
    """A few steps. ``state``: what Python keeps from step to step; ``writes``: weights that the forward itself writes into;
    ``lowest``: the narrowest floats that were seen on the way.
    """

    moments: list[Moment] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    lowest: torch.dtype = torch.float64


class _Notes(TorchFunctionMode):
    """Remembers which floats came out of torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.seen.add(result.dtype)
        return result


def stacked(modules: Sequence[nn.Module]) -> tuple[Weights, Weights]:
    """Weights and buffers of all, (K, *shape)."""
    weights = [dict(m.named_parameters()) for m in modules]
    buffers = [dict(m.named_buffers()) for m in modules]
    with torch.no_grad():
        return (
            {name: torch.stack([one[name] for one in weights]) for name in weights[0]},
            {name: torch.stack([one[name] for one in buffers]) for name in buffers[0]},
        )


def plain_course(modules: Sequence[nn.Module], loss_of: LossOf, batches: Sequence[Any], seeds: Sequence[int]) -> Course:
    """One step on each of ``batches``. The modules are trained in place."""
    course, notes = Course(), _Notes()
    first: PythonState | None = None
    for step, batch in enumerate(batches):
        losses: list[Tensor] = []
        gradients: list[dict[str, Tensor | None]] = []
        for k, module in enumerate(modules):
            module.train()
            own = rebuilt(batch, torch.clone)
            before = {name: p.detach().clone() for name, p in module.named_parameters()}
            with notes, one_trial(seeds[k], step):
                loss = scalar(loss_of(module, own))
            trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
            found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
            losses.append(loss.detach())
            gradients.append(dict(zip(trained, found, strict=True)))
            with torch.no_grad():
                course.writes += [n for n, p in module.named_parameters() if not _same(p, before[n])]
                for p, g in zip(trained.values(), found, strict=True):
                    if g is not None:
                        p -= RATE * (k + 1) * g
        course.moments.append(_moment(losses, gradients, modules))
        if first is None:
            first = PythonState(modules[0])
        else:
            course.state = first.changed(PythonState(modules[0]))
    course.writes = list(dict.fromkeys(course.writes))
    course.lowest = next((dtype for dtype in reversed(LOW) if dtype in notes.seen), torch.float64)
    return course


def form_course(
    losses: Callable[..., Tensor],
    form: ModuleForm,
    start: tuple[Weights, Weights],
    trained: Sequence[str],
    batches: Sequence[Any],
    seeds: Sequence[int],
    *,
    shared: bool = True,
) -> Course:
    """The same with a form, whose ``losses`` or ``at_once`` it is, from weights and buffers that are not touched."""
    weights, buffers = (_copy(one) for one in start)
    slots = {name: torch.full_like(weights[name], torch.nan) for name in trained}
    course = Course()
    for step, batch in enumerate(batches):
        before = _copy(weights)
        found = losses(weights, buffers, batch, slots, shared=shared, seeds=seeds, step=step)
        course.writes += [name for name, w in weights.items() if not _same(w, before[name])]
        with torch.no_grad():
            for name, slot in slots.items():
                rates = torch.arange(1, len(seeds) + 1, dtype=slot.dtype, device=slot.device) * RATE
                weights[name] -= rates.view(-1, *[1] * (slot.ndim - 1)) * slot
        course.moments.append(Moment(found, _copy(slots), dict(form.unused), _copy(weights), _copy(buffers)))
    return course


def _moment(losses: list[Tensor], gradients: list[dict[str, Tensor | None]], modules: Sequence[nn.Module]) -> Moment:
    unused: dict[str, Tensor] = {}
    together: Weights = {}
    shapes = dict(modules[0].named_parameters())
    for name in gradients[0]:
        column = [one[name] for one in gradients]
        missing = [g is None for g in column]
        if any(missing):
            unused[name] = torch.tensor(missing)
        together[name] = torch.stack([torch.zeros_like(shapes[name]) if g is None else g for g in column]).detach()
    return Moment(torch.stack(losses), together, unused, *stacked(modules))


def _copy(tensors: Weights) -> Weights:
    return {name: x.clone() for name, x in tensors.items()}


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all())
