"""What trains the copies of a person's module, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

# By the names of ``named_parameters()`` or ``named_buffers()`` of the module, (K, *shape).
Weights = dict[str, Tensor]
# The person's forward and loss on one batch: a scalar.
LossOf = Callable[[nn.Module, Any], Tensor]
# The person's forward: tensors, in any nesting of tuples, lists and dicts.
OutputsOf = Callable[[nn.Module, Any], Any]


class Refused(RuntimeError):
    """This module, or this step of it, cannot be trained K at a time. The message says why, in a line for people."""


class ModuleForm(Protocol):
    """Forward and backward of K trials of one module.

    A batch is any nesting of tuples, lists, dicts and the like, with tensors that have the samples first; what is no tensor is
    the same for all trials. After ``losses``:

    - ``unused``: name → (K,) bools, of weights that the loss of some trial did not use. torch's optimizers leave those alone
      (their gradient is None), while a gradient of zeros still decays and moves them. Their slots hold zeros.
    - ``errors``: trial → what its own code raised. Its loss and its gradients are NaN: it has diverged. What all trials raise
      at the same place is an error of the person's code, and is raised.
    """

    unused: dict[str, Tensor]
    errors: dict[int, Exception]

    def losses(
        self,
        weights: Weights,
        buffers: Weights,
        batch: Any,
        slots: Weights,
        *,
        shared: bool,
        seeds: Sequence[int],
        step: int,
        scales: Tensor | None = None,
    ) -> Tensor:
        """(K,) losses in training mode. ``slots``: by name of each weight that is trained, (K, *shape), where its gradient is
        written; ``buffers`` are updated in place. ``shared``: all trials see ``batch``, else its tensors have a leading axis
        of trials. What is random follows from each trial's seed and the step alone. ``scales``: (K,), what each trial's
        gradients are multiplied by on their way back, so that 16-bit ones do not vanish; the losses are not.
        """
        ...

    def outputs(
        self,
        outputs_of: OutputsOf,
        weights: Weights,
        buffers: Weights,
        batch: Any,
        *,
        shared: bool,
        seeds: Sequence[int] | None = None,
    ) -> Any:
        """What ``outputs_of`` gives in evaluation mode, each tensor with a leading axis of trials. Nothing changes, and what is
        random is the same at every call. ``seeds``: the trials', where ``losses`` has not been called yet.
        """
        ...

    def keep(self, trials: Sequence[int]) -> None:
        """From now on there are these trials, in this order: what modules keep in Python goes with them."""
        ...


def names_error(error: BaseException) -> str:
    """The error in one line."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: no fault of a trial, and trying again another way would not help."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "not enough memory" in str(error)
