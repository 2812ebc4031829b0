"""The catalogue of learning-rate schedules. Every schedule is a function of t/T, so it can be rescaled to any horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optim_core.spec.errors import SpecError
from optim_core.spec.names import find_row, unknown_name
from optim_core.spec.numbers import plain_number


@dataclass(frozen=True)
class ScheduleParameter:
    """A parameter of a schedule. Range is closed; ``choices`` are what a search tries; ``whole`` refuses fractions."""

    name: str
    default: float
    low: float
    high: float
    choices: tuple[float, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class ScheduleInfo:
    """One row: ``formula`` gives the multiplier f(t), t = 0 … T−1 being the step about to be taken.

    ``decays``: at its defaults it ends at 0.15 or less. ``restarts``: it comes back up, so that two runs compare only at
    the ends of cycles. ``stateful``: it also depends on the losses seen, and f alone does not tell the learning rate.
    """

    name: str
    title: str
    formula: str
    parameters: tuple[ScheduleParameter, ...]
    decays: bool
    reference: str
    wins_when: str
    pitfalls: str
    restarts: bool = False
    stateful: bool = False

    @property
    def takes_warmup(self) -> bool:
        """Whether a linear warm-up may stand in front; a shape with a rise of its own takes none."""
        return any(p.name == "warmup_fraction" for p in self.parameters)


_WARMUP = ScheduleParameter("warmup_fraction", 0.0, 0.0, 0.5, (0.0, 0.05, 0.1))
_END = ScheduleParameter("end_factor", 0.0, 0.0, 1.0, (0.0, 0.01, 0.1))
_GAMMA = ScheduleParameter("gamma", 0.1, 0.01, 1.0, (0.1, 0.2, 0.5))
# A cycle is twice the rise, so each searched choice ends its last cycle with the run.
_CYCLE = (
    ScheduleParameter("low_factor", 0.1, 0.0, 1.0, (0.01, 0.1, 0.3)),
    ScheduleParameter("rise_fraction", 1 / 4, 0.01, 1.0, (1 / 8, 1 / 4, 1 / 2)),
)
_TRIANGLE = "ℓ + (1 − ℓ)·s·m; s rises 0 → 1 over rise_fraction · T steps and falls as long; "

SCHEDULES: dict[str, ScheduleInfo] = {
    row.name: row
    for row in (
        ScheduleInfo(
            "constant",
            "Constant",
            "f = 1",
            (_WARMUP,),
            False,
            "torch.optim.lr_scheduler.LambdaLR",
            "methods that decay by themselves, short runs without noise, runs whose end is not known",
            "with noisy gradients the loss stops at a floor set by the rate; torch's ConstantLR is not this: it starts "
            "at a third",
        ),
        ScheduleInfo(
            "cosine",
            "Cosine decay",
            "f = e + (1 − e)(1 + cos(π t/T))/2",
            (_WARMUP, _END),
            True,
            "Loshchilov & Hutter 2017, arXiv 1608.03983; torch CosineAnnealingLR",
            "the safe choice when the length of the run is known",
            "torch's rises again after T_max; a run cut short or prolonged loses what the end would have given",
        ),
        ScheduleInfo(
            "linear",
            "Linear decay",
            "f = 1 − (1 − e) t/T",
            (_WARMUP, _END),
            True,
            "torch LinearLR; arXiv 2310.07831",
            "as good as cosine or better on most tasks, with nothing to tune",
            "needs the length of the run; decays from the first step on, so a low rate stays too low",
        ),
        ScheduleInfo(
            "polynomial",
            "Polynomial decay",
            "f = e + (1 − e)(1 − t/T)^q",
            # Power 1 is the linear row, so the search leaves it out.
            (_WARMUP, ScheduleParameter("power", 2.0, 0.5, 5.0, (1.5, 2.0, 3.0)), _END),
            True,
            "Chen et al. 2017, arXiv 1606.00915; torch PolynomialLR (end_factor 0)",
            "a high power cools early: a high peak rate or little noise to average over",
            "a high power spends most of the run at rates too low to move",
        ),
        ScheduleInfo(
            "step",
            "Step decay",
            "f = γ^⌊t/S⌋, S = round(step_fraction · T)",
            (_WARMUP, _GAMMA, ScheduleParameter("step_fraction", 1 / 3, 0.01, 1.0, (0.25, 1 / 3, 0.5))),
            True,
            "Ge et al. 2019, arXiv 1904.12838; torch StepLR",
            "the classic for SGD with momentum on images",
            "the moments of the drops matter and must be guessed; usually behind cosine at the same cost",
        ),
        ScheduleInfo(
            "multistep",
            "Multi-step decay",
            "f = γ^(milestones ≤ t), milestones round(fraction · T)",
            (
                _WARMUP,
                ScheduleParameter("first_milestone", 0.5, 0.01, 1.0, (0.3, 0.5)),
                ScheduleParameter("second_milestone", 0.75, 0.01, 1.0, (0.75, 0.9)),
                _GAMMA,
            ),
            True,
            "He et al. 2016, arXiv 1512.03385; torch MultiStepLR",
            "published recipes for image networks trained with SGD and momentum",
            "what was best at one length is not at another: milestones are fractions here, epochs in papers",
        ),
        ScheduleInfo(
            "exponential",
            "Exponential decay",
            "f = e^(t/T), that is γ^t with γ = e^(1/T)",
            (_WARMUP, ScheduleParameter("end_factor", 0.01, 1e-6, 1.0, (1e-4, 1e-3, 1e-2, 0.1))),
            True,
            "Li, Zhuang & Orabona 2021, arXiv 2002.05273; torch ExponentialLR",
            "adapts to noise without knowing it; smooth tasks where the best rate spans decades",
            "γ per step means nothing without T, so the end is the parameter; a small end cools too early",
        ),
        ScheduleInfo(
            "sgdr",
            "Cosine with warm restarts",
            "cosine on t_c/T_c, T_0 = max(1, first_cycle · T), T_c = T_0 · cycle_factor^c",
            (
                _WARMUP,
                # Every searched pair ends its last cycle with the run: 1 + 2 + 4 sevenths, 1 + 2 thirds.
                ScheduleParameter("first_cycle", 1 / 7, 0.01, 1.0, (1 / 7, 1 / 3, 1.0)),
                ScheduleParameter("cycle_factor", 2.0, 1.0, 4.0, (1.0, 2.0), whole=True),
                _END,
            ),
            True,
            "Loshchilov & Hutter 2017, arXiv 1608.03983; torch CosineAnnealingWarmRestarts (whole cycle lengths)",
            "good models at the end of every cycle when the run may be stopped any time; snapshots to average",
            "just after a restart it looks bad: compare at ends of cycles; restarts upset methods that set their own rate",
            restarts=True,
        ),
        ScheduleInfo(
            "triangular",
            "Cyclic triangular",
            "f = " + _TRIANGLE + "m = 1",
            _CYCLE,
            True,
            "Smith 2017, arXiv 1506.01186; torch CyclicLR(mode='triangular', cycle_momentum=False)",
            "when the best rate is only known up to a range",
            "the last cycle must end with the run; torch's also cycles momentum unless told not to",
            restarts=True,
        ),
        ScheduleInfo(
            "triangular2",
            "Cyclic triangular, halving",
            "f = " + _TRIANGLE + "m = 2^−(cycles done)",
            _CYCLE,
            True,
            "Smith 2017, arXiv 1506.01186; torch CyclicLR(mode='triangular2', cycle_momentum=False)",
            "as triangular, with less to lose from a top rate that is too high",
            "with one cycle in the run it is plain triangular; torch's also cycles momentum unless told not to",
            restarts=True,
        ),
        ScheduleInfo(
            "exp_range",
            "Cyclic triangular, exponential",
            "f = " + _TRIANGLE + "m = d^(t/T)",
            (*_CYCLE, ScheduleParameter("decay_factor", 0.1, 1e-6, 1.0, (0.01, 0.1))),
            True,
            "Smith 2017, arXiv 1506.01186; torch CyclicLR(mode='exp_range', cycle_momentum=False), d = γ^T",
            "as triangular2, with the shrinking independent of the number of cycles",
            "even the first peak stays below lr, having decayed on the way up; torch's also cycles momentum unless told not to",
            restarts=True,
        ),
        ScheduleInfo(
            "one_cycle",
            "One-cycle",
            "cosine from 1/div to 1 over pct_start·T − 1 steps, cosine to 1/(div·final_div)",
            (
                ScheduleParameter("pct_start", 0.3, 0.01, 0.9, (0.1, 0.3, 0.5)),
                ScheduleParameter("div_factor", 25.0, 1.0, 1e4),
                ScheduleParameter("final_div_factor", 1e4, 1.0, 1e8),
                ScheduleParameter("three_phase", 0.0, 0.0, 1.0, (0.0, 1.0), whole=True),
            ),
            True,
            "Smith & Topin 2018, arXiv 1708.07120; torch OneCycleLR(cycle_momentum=False)",
            "short runs at a high peak rate, with no warm-up to choose",
            "torch's overwrites momentum and beta1 unless told not to, and fails after the last step; with three phases "
            "pct_start above 0.5 leaves the end out",
        ),
        ScheduleInfo(
            "wsd",
            "Warm-up, stable, decay",
            "f = 1, then 1 − x (sqrt_shape: 1 − √x) over the last decay_fraction · T steps",
            (
                _WARMUP,
                ScheduleParameter("decay_fraction", 0.2, 0.01, 1.0, (0.1, 0.2, 0.4)),
                ScheduleParameter("sqrt_shape", 0.0, 0.0, 1.0, (0.0, 1.0), whole=True),
            ),
            True,
            "Hu et al. 2024, arXiv 2404.06395; 1 − √x: Hägele et al. 2024, arXiv 2405.18392",
            "long runs whose end is open: many lengths branch from one trunk",
            "before the decay its loss looks worse than cosine's; only ends compare",
        ),
        ScheduleInfo(
            "hold_cosine",
            "Hold, then cosine",
            "f = 1 for t ≤ cT, then cosine from 1 to e",
            (_WARMUP, ScheduleParameter("hold_fraction", 0.5, 0.0, 1.0, (0.0, 0.5, 0.8)), _END),
            True,
            "Metz et al. 2020 (TaskSet), arXiv 2002.11887",
            "one family from constant over hold-and-decay to cosine, for a search that may choose",
            "hold_fraction 1 never decays; needs the length of the run",
        ),
        ScheduleInfo(
            "inverse_sqrt",
            "Inverse square root",
            "f = min((t + 1)/w, √(w/(t + 1))), w = max(1, round(rise_fraction · T))",
            (ScheduleParameter("rise_fraction", 0.1, 0.001, 1.0, (0.02, 0.05, 0.1)),),
            False,
            "Vaswani et al. 2017, arXiv 1706.03762",
            "transformers; after the rise it does not need the length of the run",
            "ends at √rise_fraction of the peak, too high to settle: a decay at the end improves it",
        ),
        ScheduleInfo(
            "inverse_time",
            "Inverse time",
            "f = 1/(1 + decay · t/T)",
            (_WARMUP, ScheduleParameter("decay", 10.0, 0.0, 1e4, (1.0, 10.0, 100.0))),
            True,
            "Robbins & Monro 1951; Bottou, Curtis & Nocedal 2018, arXiv 1606.04838; lr_decay of torch.optim.Adagrad",
            "noisy strongly convex tasks, where 1/t is the optimal rate",
            "too fast for networks: most of the run is spent at low rates",
        ),
        ScheduleInfo(
            "reduce_on_plateau",
            "Reduce on plateau",
            "f = γ^(plateaus so far): > patience evaluations without a validation loss < best − threshold·|best|",
            (
                _WARMUP,
                # torch refuses a factor of 1.
                ScheduleParameter("gamma", 0.1, 0.01, 0.99, (0.1, 0.5)),
                # A run of any length is evaluated about ten times, so torch's 10 would never fire.
                ScheduleParameter("patience", 2.0, 0.0, 1e4, (2.0, 4.0), whole=True),
                ScheduleParameter("cooldown", 0.0, 0.0, 1e4, whole=True),
                ScheduleParameter("threshold", 1e-4, 0.0, 0.5),
            ),
            False,
            "torch ReduceLROnPlateau; by hand in He et al. 2016, arXiv 1512.03385",
            "runs of unknown length with a smooth validation loss",
            "costs an evaluation each time and looks at the validation data; noise fires it early; may never decay in a "
            "short run",
            stateful=True,
        ),
    )
}


def list_schedules() -> list[str]:
    """Names of all learning-rate schedules.

    >>> "one_cycle" in optim_core.list_schedules()
    True
    """
    return list(SCHEDULES)


def find_schedule(name: str) -> ScheduleInfo:
    """What is known of the schedule ``name``: formula, parameters with defaults and ranges, source, when it wins.

        >>> row = optim_core.find_schedule("step")
        >>> {p.name: p.default for p in row.parameters}["gamma"]
        0.1

    Raises SpecError ``unknown_schedule``, with the name that may be meant.
    """
    return find_row("schedule", name, SCHEDULES)


def complete_schedule(schedule: Mapping[str, str | float]) -> dict[str, str | float]:
    """The schedule with defaults filled in. Raises SpecError for an unknown name or key, or a value out of range."""
    row = find_row("schedule", schedule.get("name"), SCHEDULES)
    known = {p.name: p for p in row.parameters}
    complete: dict[str, str | float] = {"name": row.name, **{p.name: p.default for p in row.parameters}}
    for key, value in schedule.items():
        if key == "name":
            continue
        if key not in known:
            raise SpecError(f"schedule {row.name}: {unknown_name('parameter', key, known)}", code="unknown_field")
        number, low, high = plain_number(value), known[key].low, known[key].high
        if number is None:
            raise SpecError(f"schedule {row.name}: {key} must be a number, not {value!r}", code="wrong_type")
        if not low <= number <= high:
            raise SpecError(f"schedule {row.name}: {key} must lie in [{low:g}, {high:g}]", code="number_out_of_range")
        if known[key].whole and number != int(number):
            raise SpecError(f"schedule {row.name}: {key} must be a whole number", code="number_out_of_range")
        complete[key] = number
    return complete
