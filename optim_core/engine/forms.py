"""Which form of training is fastest for a problem on this device: a short measurement, made once in a study's probe.

Units carry the form that the probe chose, so everything after it is repeatable.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch

from optim_core.engine.pack import PackRunner
from optim_core.spec.keys import derive_seed
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Form, TrialParams
from optim_core.tasks.build import Problem

Mode = Literal["auto", "batched", "sequential"]
LARGEST_PACK = 64
DEFAULT_WIDTH = 16
# Multiples of the block of trials whose images lie side by side: the width then never changes a trial's last bit.
WIDTHS = (8, 16, 32, 64)
WARM_STEPS, FEWEST_STEPS, MOST_STEPS = 2, 3, 30
# Seconds of timed steps for one form, each time it is its turn.
PATIENCE_S = 0.05
# Another width wins by this factor, another way of training only by the second: rounding would differ between two runs
# that choose differently.
MARGIN, CLEARLY = 1.05, 1.15
# Times that another way of training has to win again.
TURNS = 3
# Forms slower than the fastest by this factor are measured once.
TOO_SLOW = 1.3
# A step's calls take about a thousandth of a second; in a step of so many seconds nobody notices them.
LONG_STEP = 0.03
ALONE = Form(engine="sequential", width=1)


class Measured(NamedTuple):
    """The chosen form, seconds of a step of one trial in it, and the same for trials one after the other."""

    form: Form
    trial_step_s: float
    alone_s: float


def default_form(problem: Problem, mode: Mode = "auto") -> Form:
    """What is good nearly everywhere: rules for stacked layers, in parts that fit a cache. A GPU takes all trials at once."""
    if mode == "sequential" or (mode == "auto" and not problem.batchable[0]):
        return ALONE
    if problem.device.type == "cuda":
        return Form(engine="batched", width=LARGEST_PACK)
    return Form(engine="batched", width=DEFAULT_WIDTH)


def candidates(problem: Problem, largest: int) -> list[Form]:
    """Forms worth measuring, the usual one first."""
    usual = default_form(problem)
    if usual.engine == "sequential":
        return [usual]
    usual = usual.model_copy(update={"width": min(usual.width, largest)})
    if problem.device.type == "cuda":
        ways = [(vectorise, recorded) for vectorise in (False, True) for recorded in (False, True)]
        return [Form(engine="batched", width=largest, vectorise=v, recorded=r) for v, r in ways]
    widths = [w for w in WIDTHS if w <= largest] or [largest]
    stacked = [Form(engine="batched", width=w) for w in widths]
    vectorised = Form(engine="batched", width=usual.width, vectorise=True)
    return list(dict.fromkeys([usual, *stacked, vectorised]))


def fastest_form(problem: Problem, largest: int) -> Measured:
    """Measure the candidates for packs of up to ``largest`` trials. Raises what training raises."""
    usual, *others = candidates(problem, largest)
    forms = [ALONE, usual, *others] if usual != ALONE else [ALONE]
    seconds: dict[Form, float] = {}
    for form in forms:
        if not _too_wide(form, seconds):
            seconds[form] = _seconds_if_possible(problem, form)
    # And back, so that a slow moment of the machine hits none of the close ones alone.
    close = [form for form in seconds if seconds[form] <= TOO_SLOW * min(seconds.values())]
    for form in reversed(close if len(close) > 1 else []):
        seconds[form] = min(_seconds_if_possible(problem, form), seconds[form])
    best = usual
    for form in (other for other in others if other in seconds):
        if seconds[form] * (MARGIN if form.vectorise == best.vectorise else CLEARLY) < seconds[best]:
            best = form
    if seconds[ALONE] * CLEARLY < seconds[best]:
        best = ALONE
    if (best.engine, best.vectorise) != (usual.engine, usual.vectorise):
        best = _confirmed(problem, best, usual, seconds)
    return Measured(best, seconds[best], seconds[ALONE])


def _confirmed(problem: Problem, best: Form, usual: Form, seconds: dict[Form, float]) -> Form:
    """``best`` if it wins clearly side by side with the usual way too, which seldom loses: a slow moment may have hit that."""
    turns = [{form: _seconds_if_possible(problem, form) for form in (best, usual)} for _ in range(TURNS)]
    ratio = statistics.median(turn[best] / turn[usual] for turn in turns)
    for form in (best, usual):
        seconds[form] = min(seconds[form], *(turn[form] for turn in turns))
    return best if ratio * CLEARLY < 1 else usual


def _too_wide(form: Form, seconds: dict[Form, float]) -> bool:
    """Whether a narrower part takes so long that calls no longer matter: a wider one would only take longer to measure."""
    return any(
        f.engine == form.engine and f.vectorise == form.vectorise and f.width < form.width and s * f.width > LONG_STEP
        for f, s in seconds.items()
    )


def _seconds_if_possible(problem: Problem, form: Form) -> float:
    """``trial_seconds``; infinite where something in the network cannot be recorded, such as a wait for the GPU."""
    try:
        return trial_seconds(problem, form)
    except RuntimeError:
        if not form.recorded:
            raise
        return math.inf


def trial_seconds(problem: Problem, form: Form) -> float:
    """Fastest seconds of a step per trial, AdamW at its defaults, on one lane."""
    return min(step_seconds(problem, ["adamw"] * form.width, form, PATIENCE_S)) / form.width


def step_seconds(problem: Problem, optimizers: Sequence[str], form: Form, patience_s: float) -> list[float]:
    """Seconds of each of some steps of a pack of these optimizers: what others do on the machine only ever slows steps."""
    horizon = WARM_STEPS + MOST_STEPS
    runner = PackRunner(problem, probe_trials(problem, optimizers), horizon, form)
    runner.advance(0, WARM_STEPS)
    times: list[float] = []
    for step in range(WARM_STEPS, horizon):
        start = time.perf_counter()
        losses = runner.advance(step, step + 1)
        if losses.is_cuda:
            torch.cuda.synchronize(losses.device)
        times.append(time.perf_counter() - start)
        if len(times) >= FEWEST_STEPS and sum(times) > patience_s:
            break
    runner.outputs(problem.validation.x[: problem.batch_size])
    return times


def probe_trials(problem: Problem, optimizers: Sequence[str]) -> list[TrialParams]:
    """A trial of each optimizer at its defaults."""
    seed = derive_seed("probe", problem.spec.seed)
    return [
        TrialParams(
            number=i,
            configuration=default_configuration(name, problem.spec.search),
            seed=seed,
            stage="portfolio",
            origin="probe",
        )
        for i, name in enumerate(optimizers)
    ]
