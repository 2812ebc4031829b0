"""A pack in parts: trials that fit the cache together train together, and parts share the machine's cores.

A part takes all its steps of a chunk before the next one starts, so weights, state and activations of its trials stay in
the cache. Parts never wait for each other inside a chunk; with several cores each runs on one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from optim_core.engine.allocator import keep_freed_memory
from optim_core.engine.batched import BatchedRunner
from optim_core.engine.direct import DirectRunner
from optim_core.engine.kinds import lanes, widest_part
from optim_core.engine.precision import full_precision
from optim_core.engine.runner import Runner
from optim_core.engine.sequential import SequentialRunner
from optim_core.engine.updates.company import company_of
from optim_core.minimizers.registry import MINIMIZERS
from optim_core.spec.trial import Form, TrialParams
from optim_core.tasks.build import Problem
from optim_core.tasks.task import Task
from optim_core.transforms.torch_private import tree_map

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Part:
    rows: list[int]
    runner: Runner


class PackRunner:
    """See ``runner.Runner``. ``form``: how parts are trained and how many trials a part has at most."""

    def __init__(self, problem: Task, trials: Sequence[TrialParams], horizon: int, form: Form) -> None:
        keep_freed_memory()
        full_precision()
        self._problem, self._horizon, self._form = problem, horizon, form
        self._trials = list(trials)
        self._gone: set[int] = set()
        self._company = company_of(self._trials, on_cpu=problem.device.type == "cpu")
        self._parts = [self._part(rows) for rows in self._rows(range(len(trials)))]

    def _rows(self, places: Sequence[int]) -> list[list[int]]:
        """Places in the pack, cut into parts. Neighbours share an optimizer where they can; minimizers stay together."""
        direct = [i for i in places if self._optimizer(i) in MINIMIZERS]
        others = sorted((i for i in places if i not in set(direct)), key=lambda i: (self._optimizer(i), i))
        # Of about one size: a part of one trial is another kind of arithmetic, to the last bit.
        count = self._needed(len(others))
        borders = [len(others) * i // count for i in range(count + 1)] if others else []
        cuts = [others[first:last] for first, last in pairwise(borders)]
        return [*cuts, *([direct] if direct else [])]

    def _needed(self, trials: int) -> int:
        """Parts for so many trials: no wider than the form's, and one for every lane."""
        return max(math.ceil(trials / widest_part(self._problem, self._form)), min(trials, lanes(self._problem)))

    def _optimizer(self, place: int) -> str:
        return self._trials[place].configuration.optimizer

    def _part(self, rows: list[int]) -> _Part:
        trials = [self._trials[i] for i in rows]
        if isinstance(self._problem, Problem):
            if trials[0].configuration.optimizer in MINIMIZERS:
                return _Part(rows, DirectRunner(self._problem, trials))
            if self._form.engine == "sequential":
                return _Part(rows, SequentialRunner(self._problem, trials, self._horizon))
        return _Part(rows, BatchedRunner(self._problem, trials, self._horizon, self._form, self._company))

    def advance(self, first: int, last: int) -> Tensor:
        return self._join(self._each(lambda part: part.runner.advance(first, last)))

    def outputs(self, batch: Any) -> Any:
        found = self._each(lambda part: part.runner.outputs(batch))
        return tree_map(lambda *tensors: self._join(tensors), *found)

    def observe(self, losses: Tensor) -> None:
        for part in self._parts:
            part.runner.observe(losses[part.rows])

    def state(self) -> list[dict[str, Any] | None]:
        found = self._held()
        return [None if i in self._gone else found[i] for i in range(len(self._trials))]

    def _held(self) -> dict[int, dict[str, Any]]:
        return {row: state for part in self._parts for row, state in zip(part.rows, part.runner.state(), strict=True)}

    def restore(self, states: Sequence[dict[str, Any] | None]) -> None:
        """``states`` as ``state`` gave them: None for trials that were let go."""
        self.release([i for i, state in enumerate(states) if state is None])
        held = self._held()
        for part in self._parts:
            part.runner.restore([states[i] or held[i] for i in part.rows])

    def weights(self) -> dict[str, Tensor]:
        found = [part.runner.weights() for part in self._parts]
        return {name: self._join([weights[name] for weights in found]) for name in found[0]}

    def release(self, places: Sequence[int]) -> None:
        """Let trials go: their rows are NaN from now on, and what is left of their parts trains on. One always stays.

        Where fewer parts can hold all that are left, trials join others in full parts. A part in which one trial would stay
        alone keeps another with it: alone it would be another kind of arithmetic, to the last bit.
        """
        gone = self._gone | set(places)
        left = [i for i in range(len(self._trials)) if i not in gone]
        if not left:
            return
        cuts = [[row for row in part.rows if row not in gone] for part in self._parts]
        stacked = [rows for rows in cuts if rows and self._optimizer(rows[0]) not in MINIMIZERS]
        if self._needed(sum(map(len, stacked))) < len(stacked):
            cuts = self._rows(left)
        held, of_row = self._held(), {row: part for part in self._parts for row in part.rows}
        parts = []
        for rows in filter(None, cuts):
            part = of_row[rows[0]]
            if rows != part.rows and len(rows) > 1:
                part = self._part(rows)
                part.runner.restore([held[row] for row in rows])
            parts.append(part)
        self._parts, self._gone = parts, gone

    def _join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Rows of the parts in the order of the pack."""
        first = tensors[0]
        if not self._gone and self._parts[0].rows == list(range(len(self._trials))):
            return first
        # Outputs may be class codes: those of trials that were let go mean nothing, as everything of theirs.
        nothing = torch.nan if first.is_floating_point() or first.is_complex() else 0
        joined = first.new_full((len(self._trials), *first.shape[1:]), nothing)
        for part, tensor in zip(self._parts, tensors, strict=True):
            joined[part.rows] = tensor.to(joined.device)
        if self._gone:
            joined[list(self._gone)] = nothing
        return joined

    def _each(self, work: Callable[[_Part], Result]) -> list[Result]:
        wide = lanes(self._problem)
        if wide == 1 or len(self._parts) == 1:
            return [work(part) for part in self._parts]
        try:
            with ThreadPoolExecutor(wide, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return list(pool.map(work, self._parts))
        finally:
            # What a lane sets is also the default of threads to come.
            torch.set_num_threads(wide)
