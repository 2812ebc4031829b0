"""The loop around a runner: chunks, evaluation, curves, divergence, checkpoints. The same for both engines."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from optim_core.engine import checkpoint as checkpoints
from optim_core.engine.confirmed import packed_groups, packed_places, packed_rows, trivial_rows
from optim_core.engine.forms import Mode, default_form
from optim_core.engine.kinds import POINTS, judge_of, points_of
from optim_core.engine.pack import PackRunner
from optim_core.engine.plateau import reacts
from optim_core.engine.result import Chunk, Interrupted, OnChunk, keep_going, too_large
from optim_core.engine.runner import DivergenceWatch
from optim_core.spec.keys import content_hash
from optim_core.spec.numbers import LARGEST
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.trial import WORST_VALUE, CurvePoint, Form, Split, TrialResult, UnitResult, UnitSpec
from optim_core.tasks.task import Task

# The callback is asked at least about this often (seconds), so that a worker can stop or save within any long run.
PIECE_S = 2.0


def run_pack(
    problem: Task,
    unit: UnitSpec,
    *,
    mode: Mode = "auto",
    checkpoint: bytes | None = None,
    on_chunk: OnChunk = keep_going,
) -> UnitResult:
    """Train the unit's trials to its horizon and score them on its split.

    ``on_chunk`` is called after each of about ten evaluations and at least every few seconds; when it returns False,
    Interrupted is raised with a checkpoint, from which the same call continues bit for bit (same machine, same number of
    threads). A confirmation also keeps what each trial scored on each row (``confirmed``). Raises PackTooLarge when memory
    runs out, ValueError for a problem of another fold than the unit's.
    """
    if problem.fold != (unit.fold or 0):
        raise ValueError(f"unit {unit.key} wants fold {unit.fold} and was given the problem of fold {problem.fold}")
    form = unit.form if mode == "auto" and unit.form is not None else default_form(problem, mode)
    with too_large(len(unit.trials)):
        return _Run(problem, unit, form, checkpoint).to_the_end(on_chunk)


def make_runner(problem: Task, unit: UnitSpec, form: Form | Mode) -> PackRunner:
    """The runner of a unit's trials."""
    form = form if isinstance(form, Form) else default_form(problem, form)
    return PackRunner(problem, unit.trials, unit.horizon, form)


def gradient_steps(unit: UnitSpec, taken: Sequence[int]) -> int:
    """Steps that the unit's trials cost together, ``taken`` by each: one with two gradients counts twice."""
    cost = (OPTIMIZERS[trial.configuration.optimizer].gradients for trial in unit.trials)
    return round(sum(steps * each for steps, each in zip(taken, cost, strict=True)))


def evaluation_steps(horizon: int, points: int = POINTS) -> list[int]:
    """Evenly spread steps after which trials are evaluated, the last one included."""
    return sorted({max(1, round(horizon * i / points)) for i in range(1, points + 1)})


class _Run:
    def __init__(self, problem: Task, unit: UnitSpec, form: Form, checkpoint: bytes | None) -> None:
        self.problem, self.unit, self.form = problem, unit, form
        self.judge = judge_of(problem)
        self.runner = make_runner(problem, unit, form)
        self.reacts = any(reacts(trial.configuration) for trial in unit.trials)
        self.watch = DivergenceWatch(len(unit.trials))
        self.curves: list[list[CurvePoint]] = [[] for _ in unit.trials]
        self.step, self.seconds_before = 0, 0.0
        self.piece = 1
        # Of trials that have left the pack: after which step.
        self.left: dict[int, int] = {}
        # Batch losses since the last evaluation, (K, n) each.
        self.recent: list[Tensor] = []
        self.fingerprint = content_hash(
            [unit.model_dump(mode="json"), form.engine, problem.data_hash, str(problem.dtype)]
        )
        self.started = time.monotonic()
        stored = checkpoints.load(checkpoint, self.fingerprint) if checkpoint else None
        if stored is not None:
            self._restore(stored)

    def to_the_end(self, on_chunk: OnChunk) -> UnitResult:
        for goal in evaluation_steps(self.unit.horizon, points_of(self.problem, self.unit.horizon)):
            if goal <= self.step:
                continue
            while self.step < goal:
                self._advance(min(goal, self.step + self.piece))
                if self.step < goal:
                    self._ask(on_chunk, [])
            points = self._evaluate(torch.cat(self.recent, dim=1))
            self.recent = []
            self._ask(on_chunk, points)
        return self._result()

    def _advance(self, goal: int) -> None:
        """Take the steps up to ``goal``, and size the next piece by how long they took."""
        started, first = time.monotonic(), self.step
        losses = self.runner.advance(first, goal)
        self.watch.see(losses, first)
        self.recent.append(losses)
        self.step = goal
        per_step = max((time.monotonic() - started) / (goal - first), 1e-6)
        self.piece = max(1, min(int(PIECE_S / per_step), 10 * self.piece))

    def _ask(self, on_chunk: OnChunk, points: list[tuple[int, CurvePoint]]) -> None:
        going_on = on_chunk(Chunk(self.step, self.unit.horizon, points, self._checkpoint))
        if not going_on and self.step < self.unit.horizon:
            raise Interrupted(self._checkpoint())

    def _evaluate(self, batch_losses: Tensor) -> list[tuple[int, CurvePoint]]:
        loss, value = self._score(self.unit.split)
        self.watch.mark(~((loss.abs() <= LARGEST) & (value.abs() <= LARGEST)), self.step)
        if self.reacts:
            self._tell_schedules(loss)
        columns = (batch_losses.double().mean(1).tolist(), loss.tolist(), value.tolist(), self.watch.at.tolist())
        points = []
        for i, (train, held_out, metric, broken) in enumerate(zip(*columns, strict=True)):
            numbers = (train, held_out, metric) if broken < 0 else (None, None, None)
            point = CurvePoint(step=self.step, train_loss=numbers[0], loss=numbers[1], value=numbers[2])
            self.curves[i].append(point)
            points.append((self.unit.trials[i].number, point))
        self._let_go()
        return points

    def _let_go(self) -> None:
        """Trials that have diverged leave the pack."""
        gone = [i for i, broken in enumerate(self.watch.at.tolist()) if broken >= 0 and i not in self.left]
        if gone:
            self.runner.release(gone)
            self.left.update(dict.fromkeys(gone, self.step))

    def _tell_schedules(self, loss: Tensor) -> None:
        """Schedules react to the validation split, whatever the trial is scored on."""
        if self.unit.split != "validation":
            loss, _ = self._score("validation")
        self.runner.observe(loss)

    def _score(self, split: Split) -> tuple[Tensor, Tensor]:
        return self.judge.score(split, self.runner.outputs, len(self.unit.trials))

    def _result(self) -> UnitResult:
        given, diverged_at = self.unit.trials, self.watch.at.tolist()
        taken = [self.left.get(i, self.unit.horizon) for i in range(len(given))]
        rows, targets, weights, places, trivial, groups = [{} for _ in given], {}, {}, {}, {}, None
        if self.unit.kind == "confirm":
            ended = [i for i, broken in enumerate(diverged_at) if broken < 0]
            rows, targets, weights = packed_rows(self.judge, given, ended, self.runner.outputs)
            trivial, groups = trivial_rows(self.judge), packed_groups(self.judge)
            places = packed_places(self.judge)
        trials = []
        for trial, curve, broken, own, steps in zip(given, self.curves, diverged_at, rows, taken, strict=True):
            last, diverged = curve[-1], broken >= 0
            objective = WORST_VALUE
            if not diverged:
                objective = self.problem.objective(_number(last.value), _number(last.loss))
            trials.append(
                TrialResult(
                    number=trial.number,
                    objective=objective,
                    metric=last.value,
                    loss=last.loss,
                    diverged_at_step=broken if diverged else None,
                    steps=steps,
                    curve=curve,
                    rows=own,
                )
            )
        return UnitResult(
            trials=trials,
            targets=targets,
            weights=weights,
            places=places,
            trivial=trivial,
            groups=groups,
            seconds=self.seconds_before + time.monotonic() - self.started,
            train_steps=gradient_steps(self.unit, taken),
            device=device_name(self.problem.device),
            engine=self.form.engine,
        )

    def _checkpoint(self) -> bytes:
        curves = [
            [[p.step, _number(p.train_loss), _number(p.loss), _number(p.value)] for p in curve] for curve in self.curves
        ]
        state: dict[str, Any] = {
            "step": self.step,
            "seconds": self.seconds_before + time.monotonic() - self.started,
            "limit": self.watch.limit,
            "diverged_at": self.watch.at,
            "recent": self.recent,
            "curves": torch.tensor(curves, dtype=torch.float64),
            "left": torch.tensor(list(self.left.items()), dtype=torch.long).reshape(-1, 2),
            "runner": self.runner.state(),
        }
        return checkpoints.dump(self.fingerprint, state)

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.seconds_before = state["step"], state["seconds"]
        self.watch.limit, self.watch.at = state["limit"], state["diverged_at"]
        self.recent = list(state["recent"])
        self.curves = [
            [
                CurvePoint(step=int(s), train_loss=_none(train), loss=_none(loss), value=_none(value))
                for s, train, loss, value in curve
            ]
            for curve in state["curves"].tolist()
        ]
        self.runner.restore(state["runner"])
        self.left = dict(state["left"].tolist())


def device_name(device: torch.device) -> str:
    """``cpu × 2 threads``, or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu × {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _none(value: float) -> float | None:
    return None if math.isnan(value) else value
