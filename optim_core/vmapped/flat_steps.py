"""Trials K at a time, each step a flat list of operations recorded once: none of the person's Python, no vmap, no autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from optim_core.vmapped import torch_private as private
from optim_core.vmapped.batch_tree import signature, tensors_of, with_tensors
from optim_core.vmapped.compare import TOLERANCE, Difference
from optim_core.vmapped.draws import Draws, StartedDraws
from optim_core.vmapped.flat_graph import FlatGraph, recorded
from optim_core.vmapped.form import LossOf, Refused, Weights, is_out_of_memory
from optim_core.vmapped.surroundings import Seen, changed, looking
from optim_core.vmapped.vmapped import Vmapped, reason_of

# Steps, each with other weights and another batch, that are taken both ways and compared before a recording is trusted.
CHECKS = 2
# Recordings that are made; steps of further shapes run as they are.
MOST = 16


class Recording:
    """A step of one shape. ``graph``: none where ``reason`` says why there is none; ``checks``: how often it was compared."""

    def __init__(self, reason: str = "") -> None:
        self.graph: FlatGraph | None = None
        self.reason, self.checks = reason, 0
        # What the step puts in place of buffers, and what surrounds the person's functions.
        self.replaced: list[str] = []
        self.seen: Seen = {}

    @property
    def is_trusted(self) -> bool:
        return self.graph is not None and self.checks >= CHECKS

    def refuse(self, reason: str) -> None:
        """Never to be replayed."""
        self.graph, self.reason = None, reason


class Recordings:
    """Those of one module and loss, for whoever trains copies of it."""

    def __init__(self) -> None:
        self.made: dict[Any, Recording] = {}
        self._layouts: dict[Any, int] = {}

    def layout(self, state: Sequence[Tensor]) -> int:
        """A number for how these lie in memory, which is a part of what is recorded."""
        layout = tuple((x.shape, x.stride(), x.storage_offset(), x.dtype, x.device) for x in state)
        return self._layouts.setdefault(layout, len(self._layouts))

    @property
    def any_trusted(self) -> bool:
        """Whether steps of any shape are replayed."""
        return any(one.is_trusted for one in self.made.values())

    @property
    def reason(self) -> str:
        """Why the last step that is not replayed is not; empty where all are."""
        return next((one.reason for one in reversed(self.made.values()) if one.reason), "")


class FlatSteps(Vmapped):
    """See ``form.ModuleForm``; ``widened`` and ``build`` as in ``Vmapped``, whose steps are those that are recorded.

    A step of a new shape runs as there and is recorded twice, without values. Where both recordings are the same, word for
    word, and give what the step itself gave, and again with the next batch and weights, they replace it from then on. Any other
    step runs as in ``Vmapped``.
    """

    def __init__(
        self,
        skeleton: nn.Module,
        loss_of: LossOf,
        recordings: Recordings,
        *,
        widened: bool = False,
        build: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__(skeleton, loss_of, widened=widened, build=build)
        self._recordings = recordings
        self.replayed = 0
        self._laid_out: tuple[list[Tensor], int] = [], -1

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
        """See ``Vmapped.at_once``."""
        state = [weights[name] for name in self._binding.weights] + [buffers[name] for name in self._binding.buffers]
        shape = signature(batch)
        key = (self._layout(state), shape, shared, scales is None)
        recording = self._recordings.made.get(key)
        if recording is None and shape is not None and len(self._recordings.made) < MOST:
            recording = self._recordings.made[key] = Recording()
        draws = Draws(seeds, step, state[0].device)
        given_scales = [] if scales is None else [scales]
        inputs = [*state, draws.start, *given_scales, *tensors_of(batch)]
        if recording is not None and recording.graph is not None and recording.is_trusted:
            self.replayed += 1
            losses, gradients, replaced = self._of(recording, recording.graph.run(inputs))
            self._take(gradients, slots, replaced, buffers)
            return losses
        take = partial(
            super().at_once, weights, buffers, batch, slots, shared=shared, seeds=seeds, step=step, scales=scales
        )
        if recording is None or recording.reason:
            return take()
        before = [x.clone() for x in inputs[len(weights) : len(state)]]
        try:
            # First the step itself, so that whatever the person's code makes once and keeps is made of real tensors.
            with looking() as seen:
                losses = take()
        except Exception as error:
            recording.refuse(reason_of(error))
            raise
        try:
            given = [*inputs[: len(weights)], *before, *inputs[len(state) :]]
            self._check(
                recording, seen, lambda: self._record(recording, given, batch, shared, scaled=scales is not None),
                lambda: self._compare(recording, given, losses, slots, buffers),
            )  # fmt: skip
        except Exception as error:
            if is_out_of_memory(error):
                raise
            recording.refuse(reason_of(error))
        return losses

    @staticmethod
    def _check(recording: Recording, seen: Seen, record: Callable[[], FlatGraph], compare: Callable[[], None]) -> None:
        """Record what is not yet, and compare with the step that was just taken. Raises whatever speaks against it."""
        if recording.graph is not None:
            if moved := changed(recording.seen, seen):
                raise Refused(f"what its functions see beside it changes from step to step ({moved[0]})")
            compare()
            return
        recording.seen = seen
        spare = record()
        try:
            compare()
        except Exception:
            recording.graph = spare
            compare()

    def _layout(self, state: list[Tensor]) -> int:
        """See ``Recordings.layout``. Mostly these are the tensors of the last step."""
        last, layout = self._laid_out
        if len(last) != len(state) or any(a is not b for a, b in zip(last, state, strict=True)):
            layout = self._recordings.layout(state)
            self._laid_out = state, layout
        return layout

    def _record(
        self, recording: Recording, inputs: list[Tensor], batch: Any, shared: bool, *, scaled: bool
    ) -> FlatGraph:
        """Record the step, to be called directly; returns the same, called in the general way."""
        names = self._binding.weights, self._binding.buffers
        ends = len(names[0]), len(names[0]) + len(names[1])

        def whole(*flat: Tensor) -> list[Tensor | None]:
            weights = dict(zip(names[0], flat[: ends[0]], strict=True))
            buffers = dict(zip(names[1], flat[ends[0] : ends[1]], strict=True))
            draws, *rest = flat[ends[1] :]
            scales, rest = (rest[0], rest[1:]) if scaled else (None, rest)
            given = with_tensors(batch, rest)
            losses, gradients, replaced = self._step(weights, buffers, given, StartedDraws(draws), shared, scales)
            recording.replaced = list(replaced)
            return [losses, *gradients, *(x.detach() for x in replaced.values())]

        graphs = [recorded(whole, inputs) for _ in range(2)]
        if not graphs[0].same_as(graphs[1]):
            raise Refused("its steps are not the same operations each time")
        recording.graph, spare = graphs
        recording.graph.call_directly()
        return spare

    def _of(self, recording: Recording, found: list[Any]) -> tuple[Tensor, list[Tensor | None], Weights]:
        """Losses, gradients and buffers in place of others."""
        last = 1 + len(self._binding.trained)
        return found[0], found[1:last], dict(zip(recording.replaced, found[last:], strict=True))

    def _compare(
        self, recording: Recording, inputs: list[Tensor], losses: Tensor, slots: Weights, buffers: Weights
    ) -> None:
        """Replay the step that was just taken. Raises ``Refused`` where anything differs."""
        graph = recording.graph
        assert graph is not None
        first = len(self._binding.weights)
        own = [x.clone() for x in inputs[first : first + len(self._binding.buffers)]]
        given = [*inputs[:first], *own, *inputs[first + len(own) :]]
        versions = [private.version(x) for x in inputs[:first]]
        found, gradients, replaced = self._of(recording, graph.run(given))
        after = {**dict(zip(self._binding.buffers, own, strict=True)), **replaced}
        pairs = [("losses", found, losses), *(("buffers", x, buffers[name]) for name, x in after.items())]
        for name, gradient in zip(self._binding.trained, gradients, strict=True):
            if (gradient is None) != (name in self.unused):
                raise Refused(f"{name} is not used in every step")
            if gradient is not None:
                pairs.append(("gradients", gradient, slots[name]))
        for what, mine, wanted in pairs:
            difference = Difference.of(what, mine.to(wanted.dtype), wanted, TOLERANCE.get(wanted.dtype, 0.0))
            if difference.too_large:
                raise Refused(f"replayed, {difference.what}")
        if versions != [private.version(x) for x in inputs[:first]]:
            raise Refused("its forward writes into its weights")
        recording.checks += 1
