"""Rows and documents → what the templates show. No SQL, no HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from optim_core.spec.keys import canonical_json
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from optim_core.spec.recommendation import (
    Confirmed,
    Effect,
    LeagueRow,
    RateCost,
    Recommendation,
    ReferenceModel,
    Score,
)
from optim_core.spec.states import STUDY_ENDED, TrialState
from service.operations.views import StudyDetail, StudySummary, TrialView
from service.web import words
from service.web.bestsofar import OfOptimizer, Searched


@dataclass(frozen=True)
class Span:
    """An interval on a track: all numbers are percent of the track's width, for SVG attributes."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True)
class EffectPlot:
    """Where the effect, "no difference" and the equivalence margin lie on one track; ``better`` is right or left.

    ``side``: "ahead" when the whole interval is on the better side, "inside" when it lies within the margin, else "open".
    """

    span: Span
    zero: float
    margin_low: float
    margin_high: float
    better: str
    side: str


@dataclass(frozen=True)
class LeagueLine:
    """One optimizer of the league table. ``searched`` is of validation rows, ``confirmed`` of test rows.

    ``rank``: by the searched value, None without one. ``short``: the steps behind it, None at full length. ``span``: the
    confirmed interval, None without one. ``full_trials``: None while the study runs.
    """

    rank: int | None
    optimizer: str
    searched: float | None
    short: int | None
    confirmed: Confirmed | None
    span: Span | None
    trials: int
    full_trials: int | None
    lacks: str | None
    divergence_rate: float
    lr_width_decades: float | None
    lr_wrong_by_3: RateCost | None
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
    ahead = low > 0 if direction == "maximize" else high < 0
    inside = -effect.margin <= low and high <= effect.margin
    return EffectPlot(
        span=Span(place(low, bounds), place(effect.difference, bounds), place(high, bounds)),
        zero=place(0.0, bounds),
        margin_low=place(-effect.margin, bounds),
        margin_high=place(effect.margin, bounds),
        better="right" if direction == "maximize" else "left",
        side="ahead" if ahead else "inside" if inside else "open",
    )


def is_broken(score: Score | ReferenceModel) -> bool:
    """Whether every run diverged, so that the numbers are what others had at worst."""
    return isinstance(score, Score) and score.diverged == score.runs


def is_itself(answer: Recommendation, versus: str) -> bool:
    """Whether the recommended configuration is that baseline, so that there is no difference to draw."""
    chosen, base = answer.recommended, answer.baselines[versus]  # type: ignore[index]
    return chosen.optimizer == "adamw" and (chosen.hyperparameters, chosen.schedule) == (
        base.hyperparameters,
        base.schedule,
    )


def tuned_is_default(answer: Recommendation) -> bool:
    """Whether nothing better than AdamW's defaults was found for AdamW: both baselines are one configuration."""
    tuned, default = answer.baselines["adamw_tuned"], answer.baselines["adamw_default"]
    return (tuned.hyperparameters, tuned.schedule) == (default.hyperparameters, default.schedule)


def searched_short(row: LeagueRow, league: Sequence[LeagueRow]) -> bool:
    """Whether the searched value of ``row`` is of fewer than the full number of steps."""
    longest = max((r.searched_steps or 0 for r in league), default=0)
    return row.searched_steps is not None and (row.full_trials == 0 or row.searched_steps < longest)


def league_of_answer(answer: Recommendation) -> list[LeagueLine]:
    """The answer's league in its own order, that of the searched values."""
    ends = [x for r in answer.league if r.confirmed for x in (*r.confirmed.ci95, r.confirmed.mean)]
    bounds = track(ends) if ends else (0.0, 1.0)
    lines = [
        LeagueLine(
            rank=None,
            optimizer=row.optimizer,
            searched=row.searched,
            short=row.searched_steps if searched_short(row, answer.league) else None,
            confirmed=row.confirmed,
            span=None if row.confirmed is None else _span(row.confirmed, bounds),
            trials=row.trials,
            full_trials=row.full_trials,
            lacks=row.lacks,
            divergence_rate=row.divergence_rate,
            lr_width_decades=row.lr_width_decades,
            lr_wrong_by_3=row.lr_wrong_by_3,
            step_s=row.step_s,
            state_bytes=row.state_bytes_per_parameter,
            settings=words.settings_text(row.configuration.hyperparameters) if row.configuration else "",
        )
        for row in answer.league
    ]
    return _ranked(lines)


def _span(score: Confirmed, bounds: tuple[float, float]) -> Span:
    return Span(place(score.ci95[0], bounds), place(score.mean, bounds), place(score.ci95[1], bounds))


def league_so_far(optimizers: Sequence[str], searched: Searched, direction: str | None) -> list[LeagueLine]:
    """The league while the study runs: best searched value of each optimizer, nothing confirmed yet."""
    sign = -1.0 if direction == "maximize" else 1.0
    lines = []
    for name in optimizers:
        own = searched.optimizers.get(name, OfOptimizer(None, None, 0, 0))
        lines.append(
            LeagueLine(
                rank=None,
                optimizer=name,
                searched=own.greatest if direction == "maximize" else own.least,
                short=None,
                confirmed=None,
                span=None,
                trials=own.trials,
                full_trials=None,
                lacks=None,
                divergence_rate=own.diverged / own.trials if own.trials else 0.0,
                lr_width_decades=None,
                lr_wrong_by_3=None,
                step_s=None,
                state_bytes=OPTIMIZERS[name].state_bytes_per_parameter if name in OPTIMIZERS else 0.0,
                settings="",
            )
        )
    # At a tie AdamW first: nobody has beaten it.
    lines.sort(
        key=lambda r: (
            r.searched is None,
            0.0 if r.searched is None else sign * r.searched,
            r.optimizer != "adamw",
            r.optimizer,
        )
    )
    return _ranked(lines)


def _ranked(lines: Sequence[LeagueLine]) -> list[LeagueLine]:
    """The lines, best first, with their ranks: equal values share one, as in 1, 1, 3."""
    places: dict[float, int] = {}
    for i, line in enumerate(lines, start=1):
        if line.searched is not None:
            places.setdefault(line.searched, i)
    return [replace(line, rank=None if line.searched is None else places[line.searched]) for line in lines]


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
    """Why a trial was left out or ended early, if it was or did."""
    if trial.excluded is not None:
        return f"left out: {trial.excluded}"
    if trial.diverged_at_step is not None:
        return f"diverged at step {trial.diverged_at_step:,}"
    return "stopped early: others were ahead" if trial.state == TrialState.PRUNED else ""
