"""Texts that look like times and are none that is understood: whoever shuffles their rows should know."""

from __future__ import annotations

import re

import numpy as np

from optim_core.data.date_shapes import is_zone, month_called
from optim_core.data.text import show
from optim_core.data.texts import Texts

_SAMPLE, _MOST = 50, 0.8
_WORDS_OF_TIME = re.compile(
    r"(?:mon|tue|tues|wed|thu|thur|thurs|fri|sat|sun|monday|tuesday|wednesday|thursday|friday|saturday|sunday|am|pm|a|p|m|t|h|min"
    r"|s|w|q|kw|cw|at|um|uhr|st|nd|rd|th|week|day|year|quarter|de|of)"
)
_YEAR, _CLOCK = re.compile(r"(?:19|20)\d\d"), re.compile(r"(?<!\d)([01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?!\d)")
# Of a month, and of a year beside nothing else but a clock.
_LAST_DAY, _LAST_OF_YEAR = 31, 366


def unread_times(name: str, text: Texts) -> str:
    """A warning where most of ``text`` that are mostly different look like times; else nothing."""
    some = text.distinct[np.unique(np.linspace(0, len(text.distinct) - 1, _SAMPLE).astype(int))]
    if np.mean([_looks_like_a_time(value) for value in some]) < _MOST:
        return ""
    return (
        f"Warning unread_times: {show(name)} looks like times that are not understood ({show(some[0])}): the rows may be in "
        "the order of time, and --split time is not possible by it; written as 2019-01-31 12:00 or as numbers it is."
    )


def _looks_like_a_time(value: str) -> bool:
    """A year or the name of a month beside at least one other part, or a clock beside two; and no words but those of times."""
    words = re.findall(r"[^\W\d_]+", value.lower())
    months = [word for word in words if month_called(word)]
    if any(not (_WORDS_OF_TIME.fullmatch(word) or is_zone(word)) for word in words if word not in months):
        return False
    clock = _CLOCK.search(value)
    # A fraction of a second may be long.
    rest = value if clock is None else value[: clock.start()] + re.sub(r"^[.,]\d+", "", value[clock.end() :])
    parts = re.findall(r"\d+", rest)
    years = [part for part in parts if _YEAR.fullmatch(part)]
    last = _LAST_OF_YEAR if len(parts) == len(years) + 1 else _LAST_DAY
    if any(len(part) > len(str(last)) or int(part) > last for part in parts if part not in years) or len(years) > 1:
        return False
    return bool(parts) and (clock is not None or (len(parts) + len(months) > 1 and bool(years or months)))
