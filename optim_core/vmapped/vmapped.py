"""Trials K at a time; a step that cannot be done so is done one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.vmapped import torch_private as private
from optim_core.vmapped.alone import plain_checkpoints
from optim_core.vmapped.batch_tree import tensors_of, with_tensors
from optim_core.vmapped.binding import Binding
from optim_core.vmapped.draws import Draws
from optim_core.vmapped.form import LossOf, OutputsOf, Refused, Weights, is_out_of_memory, names_error
from optim_core.vmapped.looped import EVALUATION_SEED, EVALUATION_STEP, Looped, evaluating, scalar
from optim_core.vmapped.stacked_mode import StackedMode
from optim_core.vmapped.streams import streams_kept


class Vmapped:
    """See ``form.ModuleForm``. Only for a module that ``prove`` found equal: the module's Python code runs once for all.

    ``widened``: as in ``Proof``; ``build``: as in ``Looped``. ``one_by_one`` counts the steps that were, ``refusal`` says why
    the last one was.
    """

    def __init__(
        self,
        skeleton: nn.Module,
        loss_of: LossOf,
        *,
        widened: bool = False,
        build: Callable[[int], nn.Module] | None = None,
    ) -> None:
        self._binding = Binding(skeleton)
        self._loss_of, self._widened = loss_of, widened
        self._looped = Looped(skeleton, loss_of, build)
        self.unused: dict[str, Tensor] = {}
        self.errors: dict[int, Exception] = {}
        self.one_by_one = 0
        self.refusal = ""

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
        """See ``form.ModuleForm``."""
        before = {name: b.clone() for name, b in buffers.items()}
        versions = [private.version(w) for w in weights.values()]
        try:
            return self.at_once(weights, buffers, batch, slots, shared=shared, seeds=seeds, step=step, scales=scales)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if versions != [private.version(w) for w in weights.values()]:
                raise Refused("its forward writes into its weights, in a step that has to be done again") from error
            self._refused(error)
        for name, b in before.items():
            buffers[name].copy_(b)
        found = self._looped.losses(
            weights, buffers, batch, slots, shared=shared, seeds=seeds, step=step, scales=scales
        )
        self.unused, self.errors = self._looped.unused, self._looped.errors
        return found

    def at_once(
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
        """``losses``, or whatever error it meets: buffers and slots may then hold anything."""
        draws = Draws(seeds, step, next(iter(weights.values())).device)
        self._binding.train()
        with streams_kept() as streams:
            losses, gradients, replaced = self._step(weights, buffers, batch, draws, shared, scales)
            _check_streams(streams)
        self._take(gradients, slots, replaced, buffers)
        return losses

    def _step(
        self, weights: Weights, buffers: Weights, batch: Any, draws: Draws, shared: bool, scales: Tensor | None
    ) -> tuple[Tensor, Sequence[Tensor | None], Weights]:
        """Losses, a gradient for each trained weight, and the buffers that the module put in place of its own."""
        trained = set(self._binding.trained)
        leaves = {name: w.detach().requires_grad_(name in trained) for name, w in weights.items()}
        with torch.enable_grad():
            losses, replaced = self._run(self._scalar_loss, leaves, buffers, batch, draws, shared)
            back = torch.ones_like(losses) if scales is None else scales.to(losses.dtype)
            gradients = torch.autograd.grad(
                losses, [leaves[name] for name in self._binding.trained], back, allow_unused=True
            )
        return losses.detach(), gradients, replaced

    @torch.no_grad()
    def _take(self, gradients: Sequence[Tensor | None], slots: Weights, replaced: Weights, buffers: Weights) -> None:
        """Write what a step gave to where it belongs."""
        for name, x in replaced.items():
            if x.shape != buffers[name].shape:
                raise Refused(f"its forward changes the shape of the buffer {name}")
            buffers[name].copy_(x)
        self._write(gradients, slots)
        self.errors = {}

    def keep(self, trials: Sequence[int]) -> None:
        """See ``form.ModuleForm``."""
        self._looped.keep(trials)

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
        """See ``form.ModuleForm``."""
        try:
            return self.outputs_at_once(outputs_of, weights, buffers, batch, shared=shared)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._refused(error)
        return self._looped.outputs(outputs_of, weights, buffers, batch, shared=shared, seeds=seeds)

    def outputs_at_once(
        self, outputs_of: OutputsOf, weights: Weights, buffers: Weights, batch: Any, *, shared: bool
    ) -> Any:
        """``outputs``, or whatever error it meets. Nothing has changed then."""
        trees: list[Any] = []

        def flat(module: nn.Module, inputs: Any) -> list[Tensor]:
            trees.append(outputs_of(module, inputs))
            return tensors_of(trees[0])

        count = len(next(iter(weights.values())))
        draws = Draws([EVALUATION_SEED] * count, EVALUATION_STEP, next(iter(weights.values())).device)
        # Evaluation may write into buffers, so it gets others.
        own = {name: b.clone() for name, b in buffers.items()}
        with torch.no_grad(), evaluating(self._binding.module), streams_kept() as streams:
            found, _ = self._run(flat, {n: w.detach() for n, w in weights.items()}, own, batch, draws, shared)
            _check_streams(streams)
        return with_tensors(trees[0], found)

    def _scalar_loss(self, module: nn.Module, batch: Any) -> Tensor:
        return scalar(self._loss_of(module, batch))

    def _run(
        self,
        function: Callable[[nn.Module, Any], Any],
        weights: Weights,
        buffers: Weights,
        batch: Any,
        draws: Draws,
        shared: bool,
    ) -> tuple[Any, Weights]:
        """What ``function`` gives for each trial, and the buffers that the module put in place of its own."""
        binding, module = self._binding, self._binding.module
        # A module may write into its input.
        inputs = [x.clone() for x in tensors_of(batch)]
        names: list[str] = []

        def one(ws: list[Tensor], bs: list[Tensor], xs: list[Tensor]) -> tuple[Any, list[Tensor]]:
            own = dict(zip(weights, ws, strict=True)), dict(zip(buffers, bs, strict=True))
            with StackedMode(draws, draws.count, widened=self._widened):
                result, replaced = binding.call(*own, lambda: function(module, with_tensors(batch, xs)))
            names.extend(replaced)
            return result, list(replaced.values())

        trials, batches = 0, None if shared else 0
        given = (list(weights.values()), [b.detach() for b in buffers.values()], inputs)
        dims = tuple([axis] * len(part) for axis, part in zip((trials, trials, batches), given, strict=True))
        with plain_checkpoints(), private.loops_unreported():
            result, replaced = torch.func.vmap(one, in_dims=dims, randomness="error")(*given)
        return result, dict(zip(names, replaced, strict=True))

    def _write(self, gradients: Sequence[Tensor | None], slots: Weights) -> None:
        self.unused = {}
        into: list[Tensor] = []
        values: list[Tensor] = []
        for name, gradient in zip(self._binding.trained, gradients, strict=True):
            slot = slots[name]
            if gradient is None:
                slot.zero_()
                self.unused[name] = torch.ones(len(slot), dtype=torch.bool, device=slot.device)
            else:
                into.append(slot)
                values.append(gradient)
        private.copy_all_(into, values)

    def _refused(self, error: Exception) -> None:
        self.one_by_one += 1
        self.refusal = reason_of(error)


def _check_streams(streams: Any) -> None:
    moved = streams.moved()
    if moved:
        raise Refused(f"its forward draws from {moved}, which trials would share")


# What torch says → what a person may be told.
_MEANINGS = (
    (".item()", "its forward reads a tensor's value (.item()), which differs between trials"),
    ("data-dependent control flow", "its forward decides by a tensor's value"),
    ("data-dependent expression", "its forward decides by a tensor's value"),
    ("FakeTensor", "its forward takes lengths or sizes from a tensor's values"),
    ("dynamic shape", "its forward makes tensors whose shape depends on values (a mask as an index)"),
    ("nonzero", "its forward makes tensors whose shape depends on values (a mask as an index)"),
    ("setup_context", "it has an autograd.Function of its own that vmap cannot run"),
    ("generate_vmap_rule", "it has an autograd.Function of its own that vmap cannot run"),
    ("called random operation", "it draws random numbers in a way that only works for one trial"),
    ("inplace arithmetic", "its forward writes what depends on weights into memory that trials share"),
    ("numpy", "its forward leaves torch (.numpy())"),
    ("Cannot access data pointer", "its forward leaves torch (.numpy())"),
    ("Tensor.requires_grad_()", "it takes gradients inside its loss, or turns them on and off"),
    ("accessing `data`", "its forward reaches behind autograd (.data)"),
)


def reason_of(error: Exception) -> str:
    """Why the module was refused, in a line for people. An error that says where it was raised has what it was as its cause."""
    for one in (error, error.__cause__):
        if isinstance(one, Refused):
            return str(one)
    text = str(error)
    for sign, meaning in _MEANINGS:
        if sign in text:
            return meaning
    return names_error(error)
