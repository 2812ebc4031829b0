"""The catalogue of learning-rate schedules. Every schedule is a function of t/T, so it can be rescaled to any horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optim_core.spec.errors import SpecError


@dataclass(frozen=True)
class ScheduleParameter:
    """A parameter of a schedule. Range is closed; ``choices`` are what a search tries."""

    name: str
    default: float
    low: float
    high: float
    choices: tuple[float, ...] = ()


@dataclass(frozen=True)
class ScheduleInfo:
    """One row: ``formula`` gives the multiplier f(t), t = 0 … T−1 being the step about to be taken."""

    name: str
    title: str
    formula: str
    parameters: tuple[ScheduleParameter, ...]
    decays: bool
    reference: str


_WARMUP = ScheduleParameter("warmup_fraction", 0.0, 0.0, 0.5, (0.0, 0.05, 0.1))
_END = ScheduleParameter("end_factor", 0.0, 0.0, 1.0, (0.0, 0.01, 0.1))

SCHEDULES: dict[str, ScheduleInfo] = {
    row.name: row
    for row in (
        ScheduleInfo("constant", "Constant", "f = 1", (_WARMUP,), False, "torch.optim.lr_scheduler.LambdaLR"),
        ScheduleInfo(
            "cosine",
            "Cosine decay",
            "f = e + (1 − e)(1 + cos(π t/T))/2",
            (_WARMUP, _END),
            True,
            "Loshchilov & Hutter 2017, arXiv 1608.03983; torch CosineAnnealingLR",
        ),
        ScheduleInfo(
            "linear",
            "Linear decay",
            "f = 1 − (1 − e) t/T",
            (_WARMUP, _END),
            True,
            "torch LinearLR; arXiv 2310.07831",
        ),
        ScheduleInfo(
            "step",
            "Step decay",
            "f = γ^⌊t/S⌋, S = round(step_fraction · T)",
            (
                _WARMUP,
                ScheduleParameter("gamma", 0.1, 0.01, 1.0, (0.1, 0.2, 0.5)),
                ScheduleParameter("step_fraction", 1 / 3, 0.01, 1.0, (0.25, 1 / 3, 0.5)),
            ),
            True,
            "torch StepLR",
        ),
        ScheduleInfo(
            "one_cycle",
            "One-cycle",
            "cosine from 1/div to 1 over pct_start·T − 1 steps, cosine to 1/(div·final_div)",
            (
                ScheduleParameter("pct_start", 0.3, 0.01, 0.9, (0.1, 0.3, 0.5)),
                ScheduleParameter("div_factor", 25.0, 1.0, 1e4),
                ScheduleParameter("final_div_factor", 1e4, 1.0, 1e8),
            ),
            True,
            "Smith & Topin 2018, arXiv 1708.07120; torch OneCycleLR(cycle_momentum=False)",
        ),
    )
}


def complete_schedule(schedule: Mapping[str, str | float]) -> dict[str, str | float]:
    """The schedule with defaults filled in. Raises SpecError for an unknown name or key, or a value out of range."""
    name = schedule.get("name")
    if name not in SCHEDULES:
        raise SpecError(f"unknown schedule {name!r}", code="unknown_schedule")
    row = SCHEDULES[str(name)]
    known = {p.name: p for p in row.parameters}
    complete: dict[str, str | float] = {"name": row.name, **{p.name: p.default for p in row.parameters}}
    for key, value in schedule.items():
        if key == "name":
            continue
        if key not in known:
            raise SpecError(f"schedule {row.name} has no parameter {key!r}", code="unknown_field")
        if isinstance(value, str) or not known[key].low <= value <= known[key].high:
            low, high = known[key].low, known[key].high
            raise SpecError(f"schedule {row.name}: {key} must lie in [{low:g}, {high:g}]", code="number_out_of_range")
        complete[key] = float(value)
    return complete
