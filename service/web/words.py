"""Numbers, times and names as a person reads them; sentences are the answer's own. Pure functions, used by templates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from optim_core.spec.metrics import SHORT_METRICS
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.recommendation import Decide, Effect, ReferenceModel, Score

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
READING_ORDER = ["lr", "momentum", "alpha", "beta1", "beta2", "eps", "weight_decay", "train", "validation", "test"]
STATUS_WORDS = {
    "checking": "reading its data",
    "queued": "waiting for a worker",
    "running": "running",
    "paused": "paused",
    "cancelled": "cancelled",
    "completed": "completed",
    "failed": "failed",
}
VERDICT_WORDS = {"better": "better", "no_difference": "no difference", "inconclusive": "inconclusive"}
REASON_WORDS = {
    "not_enough_search": "not enough search",
    "noise": "noise",
    "metric_degenerate": "the metric cannot carry a verdict here",
}
VERSUS_WORDS = {"adamw_tuned": "AdamW at its best", "adamw_default": "AdamW at its defaults"}
STAGE_WORDS = {
    "checking": "reading its data",
    "probe": "measuring the first steps",
    "queued": "waiting for a worker",
    "portfolio": "trying known-good settings",
    "search": "searching",
    "screen": "screening the best",
    "confirm": "confirming on fresh seeds",
}


def optimizer_title(name: str | None) -> str:
    """``adamw`` → ``AdamW``; a name outside the catalogue stays as it is."""
    if name is None:
        return DASH
    return OPTIMIZERS[name].title if name in OPTIMIZERS else name


def metric_name(name: str | None) -> str:
    return DASH if name is None else SHORT_METRICS.get(name, name)


def number(value: float | bool | str | None, digits: int = 4) -> str:
    """``digits`` significant digits, a true minus sign, powers of ten only where they shorten; ``–`` for None."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return value
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{int(float(value)):,}" if 0 <= int(exponent) < 9 else f"{mantissa}e{int(exponent)}"
    return text.replace("-", MINUS)


def score(value: float | None) -> str:
    """A metric with a fixed number of decimals for its size, so that columns line up."""
    if value is None:
        return DASH
    size = abs(value)
    decimals = 4 if size < 10 else 3 if size < 100 else 2 if size < 1000 else 1
    return number(value) if size >= 1e7 or 0 < size < 1e-3 else f"{value:,.{decimals}f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """A difference: always with its sign."""
    if value is None:
        return DASH
    text = score(value)
    return text if text.startswith(MINUS) or value == 0 else f"+{text}"


def percent(value: float | None, decimals: int = 0) -> str:
    return DASH if value is None else f"{100 * value:.{decimals}f} %"


def probability(value: float | None) -> str:
    """A probability that is never shown as certainty; None: nothing may be concluded."""
    if value is None:
        return "too few runs to say"
    return "> 99.9 %" if value > 0.999 else "< 0.1 %" if value < 0.001 else percent(value, 1)


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``41 s``, ``3 min 20 s``, ``2 h 05 min``, ``3 d 4 h``."""
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def rough_duration(seconds: float) -> str:
    """``41 s``, ``2 min``: for what is only known about."""
    return duration(seconds).removesuffix(" 00 s")


def thousands(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"


def count(n: int, noun: str) -> str:
    """``1 run``, ``1,797 rows``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def iso_time(epoch_s: float | None) -> str:
    """UTC in ISO 8601, for ``<time datetime>``."""
    return "" if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")


def clock_time(epoch_s: float | None) -> str:
    """UTC for people; the page turns it into local time where scripts run."""
    return DASH if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def ordered(values: dict[str, Any]) -> list[tuple[str, Any]]:
    """Hyperparameters or splits in the order in which people name them; documents keep theirs by alphabet."""
    return sorted(values.items(), key=lambda item: READING_ORDER.index(item[0]) if item[0] in READING_ORDER else 99)


def settings_text(values: dict[str, float | bool]) -> str:
    """``lr 0.003, beta1 0.9``. What is 0 is off and left out."""
    return ", ".join(f"{key} {number(value)}" for key, value in ordered(values) if value != 0)


def schedule_text(schedule: dict[str, str | float]) -> str:
    """``cosine (end factor 0.01, warmup fraction 0.05)``; parameters at 0 say nothing and are left out."""
    rest = [f"{k.replace('_', ' ')} {number(v)}" for k, v in schedule.items() if k != "name" and v != 0]
    return f"{str(schedule['name']).replace('_', ' ')}" + (f" ({', '.join(rest)})" if rest else "")


def effect_numbers(effect: Effect) -> str:
    """``+0.0082 [+0.0025, +0.0139]``: the difference and its interval, as the answer has them."""
    low, high = effect.ci95
    return f"{signed(effect.difference)} [{signed(low)}, {signed(high)}]"


def interval(bounds: tuple[float, float]) -> str:
    """``[0.9781, 0.9885]``."""
    return f"[{score(bounds[0])}, {score(bounds[1])}]"


def score_numbers(found: Score | ReferenceModel) -> str:
    """``0.9841 [0.9781, 0.9885]``."""
    return f"{score(found.mean)} {interval(found.ci95)}"


def runs_text(found: Score, folds: int, each: str) -> str:
    """``10 runs (5 folds × 2 seeds), 1,797 rows``: what a score was measured on."""
    seeds = count(found.seeds, "seed")
    shape = f"{folds} folds × {seeds}" if folds > 1 else seeds
    rows = f", {count(found.rows, each)}" if found.rows else ""
    return f"{count(found.runs, 'run')} ({shape}){rows}"


def decide_pairs(decide: Decide) -> list[tuple[str, str]]:
    """(what, how much) that would decide an inconclusive verdict; what would not is left out."""
    found = [
        ("a budget on this machine of about", None if decide.seconds is None else rough_duration(decide.seconds)),
        ("a budget in trials of about", None if decide.trials is None else thousands(decide.trials)),
        ("seeds of each in all", None if decide.seeds is None else thousands(decide.seeds)),
        ("rows in all", None if decide.rows is None else thousands(decide.rows)),
    ]
    return [(what, text) for what, text in found if text is not None]
