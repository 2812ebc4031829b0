"""A cheap proof, on a few rows and steps, that a module trains K at a time as it does alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.vmapped import torch_private
from optim_core.vmapped.alone import one_trial
from optim_core.vmapped.batch_tree import rebuilt, tensors_of, with_tensors
from optim_core.vmapped.compare import TOLERANCE, Difference, compared, same_bits
from optim_core.vmapped.flat_steps import FlatSteps, Recordings
from optim_core.vmapped.form import LossOf, ModuleForm, OutputsOf, Refused, Weights, is_out_of_memory
from optim_core.vmapped.looped import EVALUATION_SEED, EVALUATION_STEP, Looped
from optim_core.vmapped.python_state import unlike
from optim_core.vmapped.reference import Course, form_course, plain_course, stacked
from optim_core.vmapped.streams import streams_kept
from optim_core.vmapped.vmapped import Vmapped, reason_of

STEPS = 3
ROWS = 4
OWN_STEPS = 2
SPOILED = 1
# For a step in the module's own precision, which a proof in float64 says nothing of: autocast does not touch float64.
_ROUGHLY = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Proof:
    """What was found.

    ``equal``: K at a time is what plain runs are; else ``reason`` says why not, in a line for people. ``widened``: only with
    memory of its own for each trial (``Vmapped``). ``own_batches``: also when each trial has batches of its own, else
    ``own_batches_reason``. ``unused``: weights that no loss used; ``state``: what the module keeps in Python from step to step.
    ``error``: the largest relative difference; ``dtype``: the narrowest floats that the proof went through.
    """

    equal: bool
    reason: str = ""
    widened: bool = False
    own_batches: bool = False
    own_batches_reason: str = ""
    unused: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    error: float = 0.0
    dtype: torch.dtype = torch.float64

    def form(
        self,
        skeleton: nn.Module,
        loss_of: LossOf,
        build: Callable[[int], nn.Module] | None = None,
        *,
        shared: bool = True,
        recordings: Recordings | None = None,
    ) -> ModuleForm:
        """The form that the proof allows. ``shared``: whether trials will see the same batches; ``build``: as in ``Looped``;
        ``recordings``: what steps are to be replayed from, where they can be.
        """
        if self.equal and (shared or self.own_batches):
            if recordings is not None:
                return FlatSteps(skeleton, loss_of, recordings, widened=self.widened, build=build)
            return Vmapped(skeleton, loss_of, widened=self.widened, build=build)
        return Looped(skeleton, loss_of, build)


def prove(
    skeleton_of: Callable[[int], nn.Module],
    loss_of: LossOf,
    batches: Sequence[Any],
    seeds: Sequence[int] = (1, 2, 3),
    outputs_of: OutputsOf | None = None,
) -> Proof:
    """Train three trials for three steps, plainly and K at a time, and compare everything.

    ``skeleton_of(seed)``: a new module; ``batches``: at least one, with samples first; a few rows of each are used where the
    module takes so few, in float64 where it takes that. The random streams stay where they are. Raises what the person's own
    code raises when it trains plainly, and ``Refused`` for a module that not even one by one trains as it does plainly.
    """
    with streams_kept():
        case = _case(skeleton_of, loss_of, batches, seeds)
        case.check_one_by_one()
        found = case.proof(outputs_of)
        reason = _differs_as_given(skeleton_of, loss_of, batches, seeds, found) if found.equal else ""
        return replace(found, equal=False, own_batches=False, reason=reason) if reason else found


class _Case:
    """The module with the rows and the precision at which it can be trained plainly."""

    def __init__(
        self,
        skeleton_of: Callable[[int], nn.Module],
        loss_of: LossOf,
        batches: Sequence[Any],
        seeds: Sequence[int],
        dtype: torch.dtype | None,
        steps: int = STEPS,
    ) -> None:
        self._build, self.loss_of, self._seeds = _in(skeleton_of, dtype), loss_of, seeds
        self._batches = [batches[t % len(batches)] for t in range(steps)]
        modules = [self._build(seed) for seed in seeds]
        self._constants = unlike(modules[0], modules[1]) if len(modules) > 1 else []
        self._start = stacked(modules)
        self._trained = [name for name, p in modules[0].named_parameters() if p.requires_grad]
        self._plain = plain_course(modules, loss_of, self._batches, seeds)
        # What is trained and compared from here on has the weights of the start put in.
        self._skeleton = modules[0]
        self._one_by_one = Looped(self._skeleton, loss_of, self._build)
        found = {w.dtype for w in self._start[0].values()} | {self._plain.lowest, self._plain.moments[0].losses.dtype}
        lowest = [d for d in (torch.bfloat16, torch.float16, torch.float32) if d in found]
        self.dtype = lowest[0] if lowest else torch.float64

    def check_one_by_one(self) -> None:
        """That a trial trains on a row of the stacked weights as it does on its own."""
        difference = compared(self._looped(), self._plain, TOLERANCE[self.dtype])
        if difference.too_large:
            raise Refused(f"the model does not train the same on a copy of itself: {difference.what}")

    def differs(self, widened: bool) -> str:
        """What differs K at a time, measured roughly; empty for nothing."""
        form = Vmapped(self._skeleton, self.loss_of, widened=widened)
        try:
            difference = compared(self._at_once(form, self._batches), self._plain, _ROUGHLY[self.dtype])
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return reason_of(error)
        return f"it trains otherwise K at a time: {difference.what}" if difference.too_large else ""

    def proof(self, outputs_of: OutputsOf | None) -> Proof:
        """The answer of the first way that is equal, or why none is."""
        facts: dict[str, Any] = {"unused": self._unused(), "state": tuple(self._plain.state), "dtype": self.dtype}
        obstacle = self._obstacle()
        if obstacle:
            return Proof(False, obstacle, **facts)
        first = Proof(False)
        for widened in (False, True):
            found = self._attempt(widened, outputs_of, facts)
            if found.equal:
                return found
            first = first if widened else found
        return first

    def _obstacle(self) -> str:
        """What excludes K at a time before it is tried."""
        gone = torch_private.missing()
        if gone:
            return f"this release of torch has no {gone}"
        if self._plain.state:
            return f"it keeps {_listed(self._plain.state)} from step to step"
        if self._constants:
            return f"it holds {_listed(self._constants)}, which differs from seed to seed but is neither a weight nor a buffer"
        if self._plain.writes:
            return f"its forward writes into its weights ({_listed(self._plain.writes)})"
        return ""

    def _attempt(self, widened: bool, outputs_of: OutputsOf | None, facts: dict[str, Any]) -> Proof:
        form = Vmapped(self._skeleton, self.loss_of, widened=widened)
        try:
            course = self._at_once(form, self._batches)
            difference = compared(course, self._plain, TOLERANCE[self.dtype])
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return Proof(False, reason_of(error), widened, **facts)
        if difference.too_large:
            return Proof(False, f"it trains otherwise K at a time: {difference.what}", widened, **facts)
        if not self._neighbours_apart(form, course):
            return Proof(False, "a trial that has diverged changes its neighbours", widened, **facts)
        if outputs_of is not None and not self._evaluates(form, outputs_of):
            return Proof(False, "it evaluates otherwise K at a time", widened, **facts)
        own = self._own_batches(form)
        return Proof(True, "", widened, not own, own, error=difference.largest, **facts)

    def _neighbours_apart(self, form: Vmapped, course: Course) -> bool:
        """Whether a trial full of NaN leaves every bit of the others. One that raises is caught when it happens."""
        weights = {name: w.clone() for name, w in self._start[0].items()}
        for w in weights.values():
            if w.is_floating_point():
                w[SPOILED] = torch.nan
        try:
            spoiled = self._at_once(form, self._batches[:1], start=(weights, self._start[1]))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return True
        others = [k for k in range(len(self._seeds)) if k != SPOILED]
        return same_bits(spoiled.moments[0], course.moments[0], others)

    def _own_batches(self, form: Vmapped) -> str:
        """Why trials with batches of their own cannot train at once; empty when they can."""
        own = [_rolled(batch, len(self._seeds)) for batch in self._batches[:OWN_STEPS]]
        try:
            course = self._at_once(form, own, shared=False)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return reason_of(error)
        difference = compared(course, self._looped(own, shared=False), TOLERANCE[self.dtype])
        return difference.what if difference.too_large else ""

    def _evaluates(self, form: Vmapped, outputs_of: OutputsOf) -> bool:
        given = (outputs_of, *self._start, self._batches[0])
        try:
            found = tensors_of(form.outputs_at_once(*given, shared=True))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # It is evaluated one by one then.
            return True
        wanted: list[list[Tensor]] = []
        for seed in self._seeds:
            module = self._build(seed).eval()
            with torch.no_grad(), one_trial(EVALUATION_SEED, EVALUATION_STEP):
                wanted.append(tensors_of(outputs_of(module, rebuilt(self._batches[0], torch.clone))))
        columns = [torch.stack(column) for column in zip(*wanted, strict=True)]
        tolerance = TOLERANCE[self.dtype]
        return all(not Difference.of("outputs", a, b, tolerance).too_large for a, b in zip(found, columns, strict=True))

    def _at_once(
        self,
        form: Vmapped,
        batches: Sequence[Any],
        *,
        shared: bool = True,
        start: tuple[Weights, Weights] | None = None,
    ) -> Course:
        begin = start or self._start
        return form_course(form.at_once, form, begin, self._trained, batches, self._seeds, shared=shared)

    def _looped(self, batches: Sequence[Any] | None = None, *, shared: bool = True) -> Course:
        form, given = self._one_by_one, self._batches if batches is None else batches
        return form_course(form.losses, form, self._start, self._trained, given, self._seeds, shared=shared)

    def _unused(self) -> tuple[str, ...]:
        """Weights without a gradient in every step of every trial."""
        steps = [moment.unused for moment in self._plain.moments]
        return tuple(n for n in self._trained if all(n in one and bool(one[n].all()) for one in steps))


def _case(
    skeleton_of: Callable[[int], nn.Module], loss_of: LossOf, batches: Sequence[Any], seeds: Sequence[int]
) -> _Case:
    """The first of few rows in float64, all rows in float64, few and all rows in the module's own precision that trains."""
    few = [_few(batch) for batch in batches]
    attempts: Iterator[tuple[Sequence[Any], torch.dtype | None]] = iter(
        ((few, torch.float64), (batches, torch.float64), (few, None), (batches, None))
    )
    error: Exception | None = None
    for rows, dtype in attempts:
        cast = rows if dtype is None else [_as(batch, dtype) for batch in rows]
        try:
            return _Case(skeleton_of, loss_of, cast, seeds, dtype)
        except Exception as raised:
            if is_out_of_memory(raised):
                raise
            error = raised
    assert error is not None
    raise error


def _differs_as_given(
    skeleton_of: Callable[[int], nn.Module],
    loss_of: LossOf,
    batches: Sequence[Any],
    seeds: Sequence[int],
    proof: Proof,
) -> str:
    """One step in the module's own precision: what differs. Where it does not train so plainly, the caller's first step will
    say why.
    """
    for rows in (_few(batches[0]), batches[0]):
        try:
            case = _Case(skeleton_of, loss_of, [rows], seeds, None, steps=1)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            continue
        return case.differs(proof.widened)
    return ""


def _in(skeleton_of: Callable[[int], nn.Module], dtype: torch.dtype | None) -> Callable[[int], nn.Module]:
    return skeleton_of if dtype is None else lambda seed: skeleton_of(seed).to(dtype)


def _as(batch: Any, dtype: torch.dtype) -> Any:
    return rebuilt(batch, lambda x: x.to(dtype) if x.is_floating_point() else x)


def _few(batch: Any) -> Any:
    """The first rows of every tensor that has as many as most."""
    tensors = tensors_of(batch)
    counts = [len(x) for x in tensors if x.ndim]
    if not counts:
        return batch
    rows = max(set(counts), key=counts.count)
    return with_tensors(batch, [x[:ROWS] if x.ndim and len(x) == rows else x for x in tensors])


def _rolled(batch: Any, count: int) -> Any:
    """A batch for each trial: the same rows in another order, (K, rows, …)."""
    return rebuilt(batch, lambda x: torch.stack([x.roll(k, 0) if x.ndim else x for k in range(count)]))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
