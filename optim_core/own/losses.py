"""Losses by name and a person's own, from what a module gives and what it should give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.own.outputs import main_output, own_loss
from optim_core.own.user_code import calling_user_code
from optim_core.spec.errors import SpecError

LOSSES = ("cross_entropy", "mse", "l1", "smooth_l1", "huber", "bce", "nll")
# Targets that count for nothing, as in torch.
IGNORED = -100
_OF_CODES = frozenset({"cross_entropy", "nll"})
_PLAIN: dict[str, Callable[..., Tensor]] = {
    "mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss, "huber": F.huber_loss,
    "bce": F.binary_cross_entropy_with_logits,
}  # fmt: skip
# torch's own, as people pass them: the same losses, of which those by name know every row's share.
_KNOWN: dict[Any, str] = {
    F.cross_entropy: "cross_entropy", F.mse_loss: "mse", F.l1_loss: "l1", F.smooth_l1_loss: "smooth_l1",
    F.huber_loss: "huber", nn.HuberLoss: "huber",
    F.binary_cross_entropy_with_logits: "bce", F.nll_loss: "nll", nn.CrossEntropyLoss: "cross_entropy",
    nn.MSELoss: "mse", nn.L1Loss: "l1", nn.SmoothL1Loss: "smooth_l1", nn.BCEWithLogitsLoss: "bce", nn.NLLLoss: "nll",
}  # fmt: skip


@dataclass(frozen=True)
class NamedLoss:
    """One of ``LOSSES`` on the main output. ``class_axis``: where the classes lie when targets are codes, 1 or −1.

    ``shifted``: position t predicts the target of position t + 1, as language models of some libraries do it.
    """

    name: str
    class_axis: int = -1
    shifted: bool = False

    def __call__(self, outputs: Any, targets: Any, smoothing: float | Tensor | None = None) -> Tensor:
        """The mean over all targets that count, (). ``smoothing``: of labels, for cross-entropy of class codes."""
        scores, goal = self.fitted(outputs, targets)
        if self.name not in _OF_CODES:
            return _PLAIN[self.name](scores, goal)
        if goal.is_floating_point():
            return F.cross_entropy(scores, goal, label_smoothing=float(smoothing or 0.0))
        flat, codes = scores.flatten(0, -2), goal.flatten()
        if self.name == "nll":
            return F.nll_loss(flat, codes)
        if not isinstance(smoothing, Tensor):
            return F.cross_entropy(flat, codes, label_smoothing=smoothing or 0.0)
        logs, counts = flat.log_softmax(-1), codes != IGNORED
        hit = logs.gather(-1, codes.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        each = -((1 - smoothing) * hit + smoothing * logs.mean(-1))
        return torch.where(counts, each, 0).sum() / counts.sum()

    def rows(self, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
        """(n,) float64 sums over each row's targets, and how many of them count; the loss is the one over the other."""
        scores, goal = self.fitted(outputs, targets)
        if self.name in _OF_CODES and not goal.is_floating_point():
            logs = scores if self.name == "nll" else (scores.double() if goal.ndim == 1 else scores).log_softmax(-1)
            hit = logs.gather(-1, goal.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            counts = goal != IGNORED
            each = torch.where(counts, -hit.double(), 0.0)
        elif self.name == "cross_entropy":
            each = -(goal.double() * scores.double().log_softmax(-1)).sum(-1)
            counts = torch.ones_like(each)
        else:
            each = _PLAIN[self.name](scores.double(), goal.double(), reduction="none")
            counts = torch.ones_like(each)
        return each.reshape(len(each), -1).sum(1), counts.reshape(len(each), -1).sum(1, dtype=torch.float64)

    def fitted(self, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
        """Scores and targets that belong together: classes last beside codes, else of one shape. Nothing is broadcast."""
        scores = main_output(outputs)
        if not (isinstance(scores, Tensor) and isinstance(targets, Tensor)):
            raise _unfit(self.name, scores, targets)
        if self.name in _OF_CODES:
            if targets.is_floating_point() and targets.shape != scores.shape:
                raise _unfit(self.name, scores, targets)
            if not targets.is_floating_point():
                scores = scores.movedim(self.class_axis, -1)
                if targets.ndim == 2 and scores.ndim == 2 and targets.shape[1] == 1:
                    targets = targets.squeeze(1)
                if targets.shape != scores.shape[:-1]:
                    raise _unfit(self.name, scores, targets)
                targets = targets.long()
                return (scores[:, :-1], targets[:, 1:]) if self.shifted else (scores, targets)
            return scores, targets
        if _without_ones(scores) != _without_ones(targets):
            raise _unfit(self.name, scores, targets)
        return scores, targets.reshape(scores.shape).to(scores.dtype)


@dataclass(frozen=True)
class FunctionLoss:
    """A person's ``function(outputs, targets)`` → ()."""

    function: Callable[[Any, Any], Any]
    name: str = "function"

    def __call__(self, outputs: Any, targets: Any, smoothing: float | Tensor | None = None) -> Tensor:
        """Raises what the function raises, and SpecError for anything but one number."""
        loss = self.function(outputs, targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            message = f"the loss gives {found}; give one number as a tensor, such as the mean over the batch"
            raise SpecError(message, code="invalid_loss", pointer="/loss")
        return loss.reshape(())


@dataclass(frozen=True)
class OutputLoss:
    """The loss that the module has worked out itself."""

    name: str = "own"

    def __call__(self, outputs: Any, targets: Any, smoothing: float | Tensor | None = None) -> Tensor:
        """Raises SpecError where there is none."""
        loss = own_loss(outputs)
        if loss is None:
            message = "the model gives no loss this time; give loss: a name or a function of outputs and targets"
            raise SpecError(message, code="invalid_loss", pointer="/loss")
        return loss


Loss = NamedLoss | FunctionLoss | OutputLoss


def find_loss(loss: Any, outputs: Any, targets: Any, shown: Any = None) -> tuple[Loss, str]:
    """The loss for a person's wish (a name, a function, None) and how it was found, as half a sentence.

    ``outputs``, ``targets``: of a small batch. ``shown``: the targets of more samples, for what values there are. Raises
    SpecError, and UserCodeError from their function.
    """
    shown = targets if shown is None else shown
    known = _known(loss)
    if known is not None:
        found = named(known, outputs, targets)
        _check_codes(found, outputs, targets, shown)
        return found, "as asked"
    if loss is not None and not callable(loss):
        message = f"unknown loss {loss!r}; choose one of {', '.join(LOSSES)}, or give a function of outputs and targets"
        raise SpecError(message, code="unknown_name", pointer="/loss")
    if loss is None and own_loss(outputs) is not None:
        return OutputLoss(), "the model's own"
    if loss is not None:
        function = FunctionLoss(loss)
        with calling_user_code():
            function(outputs, targets)
        return function, "a function of yours"
    found, why = _inferred(outputs, targets, shown)
    _check_codes(found, outputs, targets, shown)
    return found, why


def named(name: str, outputs: Any, targets: Any) -> NamedLoss:
    """The loss of that name for outputs and targets like these. Raises SpecError unless their shapes fit."""
    scores = main_output(outputs)
    axis = -1
    if name in _OF_CODES and scores is not None and isinstance(targets, Tensor) and scores.ndim > 2:
        first = scores.shape[:1] + scores.shape[2:] == targets.shape
        last = scores.shape[:-1] == targets.shape
        # Where both would fit: sequences have their classes last, images first.
        axis = 1 if first and not (last and scores.ndim == 3) else -1
    loss = NamedLoss(name, axis)
    loss.fitted(outputs, targets)
    return loss


def _known(loss: Any) -> str | None:
    """The name of a loss that is given by name or as torch's own with nothing changed."""
    if isinstance(loss, str):
        return loss if loss in LOSSES else None
    if not isinstance(loss, nn.Module):
        return next((name for function, name in _KNOWN.items() if function is loss), None)
    name = _KNOWN.get(type(loss))
    usual = type(loss)() if name is not None else None
    if usual is None or any(buffer is not None for buffer in loss.buffers()):
        return None
    options = ("reduction", "ignore_index", "label_smoothing", "beta", "delta")
    return name if all(getattr(loss, o, None) == getattr(usual, o, None) for o in options) else None


def _inferred(outputs: Any, targets: Any, shown: Any) -> tuple[NamedLoss, str]:
    scores = main_output(outputs)
    if not (isinstance(scores, Tensor) and isinstance(targets, Tensor)):
        found = "several targets" if isinstance(targets, dict | tuple) else "no tensor"
        message = f"no loss is given, and none follows from {found}; give loss: a function of outputs and targets"
        raise SpecError(message, code="loss_required", pointer="/loss")
    if not targets.is_floating_point():
        one = _without_ones(scores) == _without_ones(targets)
        if one:
            binary = bool(((shown == 0) | (shown == 1)).all())
            why = "one score for targets of 0 and 1" if binary else "one number for targets that are whole numbers"
            return named("bce" if binary else "mse", outputs, targets), why
        return named("cross_entropy", outputs, targets), "targets are class codes"
    columns = targets.ndim >= 2 and targets.shape[1] >= 2
    if columns and scores.shape == targets.shape and bool(((shown == 0) | (shown == 1)).all()):
        return named("bce", outputs, targets), "every target is 0 or 1, in several columns"
    return named("mse", outputs, targets), "targets are numbers"


def _check_codes(loss: NamedLoss, outputs: Any, targets: Any, shown: Tensor) -> None:
    if loss.name not in _OF_CODES or targets.is_floating_point():
        return
    classes = loss.fitted(outputs, targets)[0].shape[-1]
    counted = shown[shown != IGNORED]
    low, high = (int(counted.min()), int(counted.max())) if counted.numel() else (0, 0)
    if low < 0 or high >= classes:
        message = f"class codes run from {low} to {high}, and the model gives {classes} scores"
        raise SpecError(message, code="shape_mismatch", pointer="/model")


def _without_ones(tensor: Tensor) -> tuple[int, ...]:
    return (*tensor.shape[:1], *(size for size in tensor.shape[1:] if size != 1))


def _unfit(name: str, scores: Any, targets: Any) -> SpecError:
    shapes = [
        str(tuple(t.shape)) if isinstance(t, Tensor) else ("nothing" if t is None else f"a {type(t).__name__}")
        for t in (scores, targets)
    ]
    message = f"{name} does not fit outputs of shape {shapes[0]} and targets of shape {shapes[1]}"
    return SpecError(message, code="shape_mismatch", pointer="/loss")
