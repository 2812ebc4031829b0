"""A budget as people write it: ``40s``, ``5m``, ``200 trials``, or a time and trials separated by a comma."""

from __future__ import annotations

import re
from typing import Any

from optim_core.spec.errors import SpecError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_TRIALS = re.compile(r"(\d+)\s*trials?")


def parse_budget(text: str) -> dict[str, Any]:
    """The budget's fields. Raises SpecError ``invalid_budget`` at ``/budget``."""
    budget: dict[str, Any] = {}
    for part in text.split(","):
        part = part.strip().lower()
        if match := _TIME.fullmatch(part):
            budget["seconds"] = float(match[1]) * _SECONDS[match[2]]
        elif match := _TRIALS.fullmatch(part):
            budget["trials"] = int(match[1])
        else:
            near = _near(part)
            hint = "" if near is None else f"; did you mean {near}?"
            message = f"{part[:80]!r} is neither a time such as 40s or 5m nor a count such as '200 trials'{hint}"
            raise SpecError(message, code="invalid_budget", pointer="/budget")
    return budget


def _near(part: str) -> str | None:
    """What a number without a unit, or with its name written out, was to mean: ``60`` and ``60 sec`` are ``60s``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)[a-z]*", part)
    return None if match is None else f"{match[1]}{match[2] or 's'}"
