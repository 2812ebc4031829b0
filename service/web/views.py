"""Rows and documents → what the templates show. No SQL, no HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from optim_core.spec.keys import canonical_json
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from optim_core.spec.recommendation import Effect, Recommendation
from optim_core.spec.states import STUDY_ENDED, TrialState
from service.operations.views import StudyDetail, StudySummary, TrialView
from service.web import words
from service.web.bestsofar import Finish


@dataclass(frozen=True)
class Span:
    """An interval on a track: all numbers are percent of the track's width, for SVG attributes."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True)
class EffectPlot:
    """Where the effect, "no difference" and the equivalence margin lie on one track; ``better`` is right or left."""

    span: Span
    zero: float
    margin_low: float
    margin_high: float
    better: str


@dataclass(frozen=True)
class LeagueLine:
    """One optimizer of the league table. ``rank`` is None without a value. ``span`` is None without an interval."""

    rank: int | None
    optimizer: str
    value: float | None
    confirmed: bool
    ci95: tuple[float, float] | None
    span: Span | None
    trials: int
    divergence_rate: float
    lr_width_decades: float | None
    step_s: float | None
    state_bytes: float
    settings: str


@dataclass(frozen=True)
class TrialQuery:
    """Which trials the table shows. ``cursor`` is the server's own, from the page before."""

    sort: str = "number"
    optimizer: str | None = None
    state: str | None = None
    cursor: str | None = None

    def link(self, **changes: Any) -> str:
        """The query string with ``changes``; a changed order or filter starts again on the first page."""
        values = {"sort": self.sort, "optimizer": self.optimizer, "state": self.state, "cursor": None, **changes}
        return "?" + urlencode({k: v for k, v in values.items() if v})


def track(values: Sequence[float], pad: float = 0.08) -> tuple[float, float]:
    """(low, high) that holds all ``values`` with a margin, never of zero width."""
    low, high = min(values), max(values)
    # A narrower track would vanish in rounding.
    width = max(high - low, 1e-9 * abs(low), 1e-9 * abs(high), 1e-300)
    return low - pad * width, high + pad * width


def place(value: float, bounds: tuple[float, float]) -> float:
    """``value`` in percent of the track, one decimal."""
    return round(100 * (value - bounds[0]) / (bounds[1] - bounds[0]), 1)


def effect_plot(effect: Effect, direction: str) -> EffectPlot:
    bounds = track([*effect.ci95, effect.difference, 0.0, effect.margin, -effect.margin])
    low, high = effect.ci95
    return EffectPlot(
        span=Span(place(low, bounds), place(effect.difference, bounds), place(high, bounds)),
        zero=place(0.0, bounds),
        margin_low=place(-effect.margin, bounds),
        margin_high=place(effect.margin, bounds),
        better="right" if direction == "maximize" else "left",
    )


def _sorted_league(lines: list[LeagueLine], direction: str | None) -> list[LeagueLine]:
    sign = -1.0 if direction == "maximize" else 1.0
    key = lambda r: (r.value is None, not r.confirmed, 0.0 if r.value is None else sign * r.value, r.optimizer)  # noqa: E731
    ordered = sorted(lines, key=key)
    return [
        LeagueLine(**{**line.__dict__, "rank": None if line.value is None else i})
        for i, line in enumerate(ordered, start=1)
    ]


def league_of_answer(answer: Recommendation) -> list[LeagueLine]:
    """Confirmed optimizers first, then by their searched value."""
    marks = [x for r in answer.league if r.ci95 is not None for x in (*r.ci95, r.best or r.ci95[0])]
    bounds = track(marks) if marks else (0.0, 1.0)
    lines = []
    for row in answer.league:
        span = None
        if row.ci95 is not None and row.best is not None:
            span = Span(place(row.ci95[0], bounds), place(row.best, bounds), place(row.ci95[1], bounds))
        lines.append(
            LeagueLine(
                rank=None,
                optimizer=row.optimizer,
                value=row.best,
                confirmed=row.confirmed,
                ci95=row.ci95,
                span=span,
                trials=row.trials,
                divergence_rate=row.divergence_rate,
                lr_width_decades=row.lr_width_decades,
                step_s=row.step_s,
                state_bytes=row.state_bytes_per_parameter,
                settings=words.settings_text(row.configuration.hyperparameters) if row.configuration else "",
            )
        )
    return _sorted_league(lines, answer.metric.direction)


def league_so_far(optimizers: Sequence[str], finishes: Sequence[Finish], direction: str | None) -> list[LeagueLine]:
    """The league while the study runs: best searched value of each optimizer, nothing confirmed yet."""
    best_of = max if direction == "maximize" else min
    lines = []
    for name in optimizers:
        own = [f for f in finishes if f.optimizer == name]
        values = [f.metric for f in own if f.metric is not None]
        trials = {f.number for f in own}
        diverged = {f.number for f in own if f.metric is None}
        lines.append(
            LeagueLine(
                rank=None,
                optimizer=name,
                value=best_of(values) if values else None,
                confirmed=False,
                ci95=None,
                span=None,
                trials=len(trials),
                divergence_rate=len(diverged) / len(trials) if trials else 0.0,
                lr_width_decades=None,
                step_s=None,
                state_bytes=OPTIMIZERS[name].state_bytes_per_parameter if name in OPTIMIZERS else 0.0,
                settings="",
            )
        )
    return _sorted_league(lines, direction)


def competing(study: StudyDetail) -> list[str]:
    """Names of the optimizers that compete in this study."""
    return StudySpec.model_validate_json(canonical_json(study.spec)).search.included()


def ended(study: StudySummary) -> bool:
    return study.status in STUDY_ENDED


def title_of(study: StudySummary) -> str:
    """The name a person gave, else what the study is about."""
    return study.name or f"{study.model} on {study.dataset}"


def trial_settings(trial: TrialView) -> str:
    return words.settings_text(trial.configuration["hyperparameters"])


def trial_notes(trial: TrialView) -> str:
    """Why a trial ended early, if it did."""
    if trial.diverged_at_step is not None:
        return f"diverged at step {trial.diverged_at_step:,}"
    return "stopped early: others were ahead" if trial.state == TrialState.PRUNED else ""
