"""Which form of training is fastest for a problem on this device: a short measurement, made once in a study's probe.

Units carry the form that the probe chose, so everything after it is repeatable.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Literal, NamedTuple

import torch

from optim_core.engine.kinds import is_flat, may_be_flat, recordable, rules_know
from optim_core.engine.pack import PackRunner
from optim_core.engine.turns import Clock, fair_clock, ratios, take_turns, usual
from optim_core.spec.keys import derive_seed
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Form, TrialParams
from optim_core.tasks.task import Task
from optim_core.vmapped.flat_steps import CHECKS

Mode = Literal["auto", "batched", "sequential"]
LARGEST_PACK = 64
DEFAULT_WIDTH = 16
# Multiples of the block of trials whose images lie side by side: the width then never changes a trial's last bit.
WIDTHS = (8, 16, 32, 64)
# Steps of a form at a first look, rounds in which the close ones take turns, and at most of either.
FEWEST_FIRST, FEWEST_STEPS, MOST_STEPS = 2, 3, 30
HORIZON = 100
# Seconds of the first look at a form, of the turns, and of a mixed pack's steps.
FIRST_S, PATIENCE_S, PACK_S = 0.02, 0.15, 0.06
# Another width wins by this factor, another way of training only by the second: rounding would differ between two runs
# that choose differently.
MARGIN, CLEARLY = 1.05, 1.15
# Forms slower than the fastest by the first factor take no turns; a width slower than the narrower one by the second is the
# last.
TOO_SLOW, WIDER_COSTS = 1.3, 1.1
# A wider part than one whose step takes so many seconds is not measured: what is left to share does not show there.
LONG_STEP = 0.03
# Steps before flat ones are what they will be: they are recorded, and compared twice.
FLAT_WARM = CHECKS + 1
ALONE = Form(engine="sequential", width=1)


class Measured(NamedTuple):
    """The chosen form, seconds of a step of one trial in it, the same for trials one after the other, and how many trials
    a pack needs for that.
    """

    form: Form
    trial_step_s: float
    alone_s: float
    best_width: int


def default_form(problem: Task, mode: Mode = "auto") -> Form:
    """What is good nearly everywhere: rules for stacked layers, in parts that fit a cache. A GPU takes all trials at once."""
    if mode == "sequential" or (mode == "auto" and not problem.batchable[0]):
        return ALONE
    if problem.device.type == "cuda":
        return Form(engine="batched", width=LARGEST_PACK)
    return Form(engine="batched", width=DEFAULT_WIDTH)


def fastest_form(problem: Task, largest: int) -> Measured:
    """Measure the candidates for packs of up to ``largest`` trials. Raises what training raises."""
    trial_s = _measured(problem, largest)
    stacked = {form: s for form, s in trial_s.items() if form != ALONE}
    best = _usual(stacked) if stacked else ALONE
    for form, s in stacked.items():
        if s * (MARGIN if _way(form) == _way(best) else CLEARLY) < trial_s[best]:
            best = form
    if trial_s[ALONE] * CLEARLY < trial_s[best]:
        best = ALONE
    # Flat steps are measured in one width only.
    plain = best.model_copy(update={"flat": False})
    alike = {form.width: s for form, s in stacked.items() if best != ALONE and _way(form) == _way(plain)}
    # One by one, any pack will do; the narrowest that is ever measured still fills a unit of work.
    enough = [width for width, s in alike.items() if s <= MARGIN * min(alike.values())] or [min(WIDTHS[0], largest)]
    return Measured(best, trial_s[best], trial_s[ALONE], min(*enough, max(best.width, WIDTHS[0])))


def _measured(problem: Task, largest: int) -> dict[Form, float]:
    """Seconds of a step per trial of each form that is worth it."""
    if problem.device.type == "cuda":
        # Nobody disturbs a GPU, and its memory would not hold all forms at once.
        ways = [(vectorise, recorded) for vectorise in (False, True) for recorded in (False, True)]
        if not recordable(problem):
            ways = [(False, False)]
        forms = [Form(engine="batched", width=largest, vectorise=v, recorded=r) for v, r in ways]
        if may_be_flat(problem):
            forms.append(Form(engine="batched", width=largest, flat=True))
        seconds = {form: _seconds_if_possible(problem, form) for form in [ALONE, *forms]}
        return {form: s for form, s in seconds.items() if not form.flat or is_flat(problem)}
    contenders, first = {}, {}
    for form in [ALONE, *candidates(problem, largest)]:
        if not _too_wide(form, first):
            contenders[form] = contender = Contender(problem, form)
            first[form] = contender.trial_seconds(FIRST_S)
    if form := _flat_of(problem, first):
        contender = Contender(problem, form)
        seconds = contender.trial_seconds(FIRST_S)
        if is_flat(problem):
            contenders[form], first[form] = contender, seconds
    # The usual one among them: only what beats it in turns takes its place.
    kept = _usual([form for form in first if form != ALONE] or [ALONE])
    close = [form for form, s in first.items() if form == kept or s <= TOO_SLOW * min(first.values())]
    return first | side_by_side({form: contenders[form] for form in close}, fair_clock(problem.device))


def candidates(problem: Task, largest: int) -> list[Form]:
    """Stacked forms for a CPU, from the narrowest. Vectorised only where the rules for stacked layers do not know them all:
    where they do, they have always been faster.
    """
    if not problem.batchable[0]:
        return []
    forms = [Form(engine="batched", width=w) for w in WIDTHS if w <= largest] or [Form(engine="batched", width=largest)]
    if not rules_know(problem):
        forms.append(_usual(forms).model_copy(update={"vectorise": True}))
    return forms


def _flat_of(problem: Task, first: dict[Form, float]) -> Form | None:
    """The fastest form of those with short steps, flat: in long ones, what Python takes does not show."""
    short = {form: s for form, s in first.items() if form != ALONE and s * form.width <= LONG_STEP}
    if not short or not may_be_flat(problem):
        return None
    return min(short, key=lambda form: short[form]).model_copy(update={"flat": True})


def _usual(forms: Iterable[Form]) -> Form:
    """The one of the usual width by the rules for stacked layers, else the widest below it."""
    return max(forms, key=lambda f: (not f.vectorise, not f.recorded, not f.flat, f.width <= DEFAULT_WIDTH, f.width))


def _way(form: Form) -> tuple[bool, bool, bool]:
    return form.vectorise, form.recorded, form.flat


def _too_wide(form: Form, first: dict[Form, float]) -> bool:
    """Whether narrower parts say that a wider one is no faster: calls do not show in their steps any more, or the last
    doubling already cost.
    """
    narrower = [f for f in first if f != ALONE and _way(f) == _way(form) and f.width < form.width]
    if any(first[f] * f.width > LONG_STEP for f in narrower):
        return True
    return len(narrower) > 1 and first[narrower[-1]] > WIDER_COSTS * first[narrower[-2]]


def side_by_side(contenders: Mapping[Form, Contender], clock: Clock) -> dict[Form, float]:
    """Seconds of a step per trial, from steps in turn."""
    if len(contenders) < 2:
        return {}
    steps = {form: one.step for form, one in contenders.items()}
    times = take_turns(steps, patience_s=PATIENCE_S, fewest=FEWEST_STEPS, most=MOST_STEPS, clock=clock)
    reference = next(iter(contenders))
    level = usual(times[reference])
    return {form: level * ratio / form.width for form, ratio in ratios(times, reference).items()}


class Contender:
    """A pack of AdamW's trials at its defaults in a form, stepped by hand."""

    _warm = 1

    def __init__(self, problem: Task, form: Form) -> None:
        self._problem, self._width, self._at = problem, form.width, 0
        if form.flat:
            self._warm = FLAT_WARM
        self._runner = PackRunner(problem, probe_trials(problem, ["adamw"] * form.width), HORIZON, form)

    def step(self) -> None:
        """One step of all trials."""
        self._runner.advance(self._at, self._at + 1)
        self._at += 1
        if self._problem.device.type == "cuda":
            torch.cuda.synchronize(self._problem.device)

    def trial_seconds(self, patience_s: float) -> float:
        """Fastest seconds of a step per trial, after what warms up."""
        for _ in range(self._warm):
            self.step()
        clock = fair_clock(self._problem.device)
        times = take_turns({0: self.step}, patience_s=patience_s, fewest=FEWEST_FIRST, most=MOST_STEPS, clock=clock)
        return min(times[0]) / self._width


def _seconds_if_possible(problem: Task, form: Form) -> float:
    """``trial_seconds``; infinite where something in the network cannot be recorded, such as a wait for the GPU."""
    try:
        return trial_seconds(problem, form)
    except RuntimeError:
        if not form.recorded:
            raise
        return math.inf


def trial_seconds(problem: Task, form: Form) -> float:
    """Fastest seconds of a step per trial, AdamW at its defaults."""
    return Contender(problem, form).trial_seconds(PATIENCE_S)


def pack_seconds(problem: Task, optimizers: Sequence[str], form: Form) -> float:
    """Mean seconds, as they pass, of a step of a pack of these optimizers: what a budget will buy depends on who else computes
    here, which the quickest steps do not show.
    """
    runner = PackRunner(problem, probe_trials(problem, optimizers), HORIZON, form)
    runner.advance(0, 1)
    at, times = 1, []
    while at < MOST_STEPS and (sum(times) < PACK_S or at < 2):
        started = time.perf_counter()
        losses = runner.advance(at, at + 1)
        if losses.is_cuda:
            torch.cuda.synchronize(losses.device)
        times.append(time.perf_counter() - started)
        at += 1
    runner.outputs(problem.example())
    return mean(times)


def probe_trials(problem: Task, optimizers: Sequence[str]) -> list[TrialParams]:
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
