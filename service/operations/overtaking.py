"""A free worker goes on with the unit of a much slower one, from its last checkpoint, before it begins another of that study.

The next generation but one waits for the last unit of a generation, whoever trains it. Whoever held it learns at its next
write that the fence has risen, as after a lease that ran out. A unit is overtaken once; again only after another checkpoint,
so that it comes further each time, however slow everything has become.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.trial import UnitKind
from service.db.repositories import UnitRepository

# A worker is slower than others where a unit will take so many times as long as theirs did.
SLOWER = 3.0
# What a unit has come to is looked at after this share of the usual time, and not before so many seconds: reading data and
# starting come first.
SOON, LEAST_S = 1 / 3, 20.0
# The usual time is that of the latest units that are alike and whose optimizers are no cheaper: else a pack of SOAP would be
# taken from one healthy worker after the other. One is enough: the first generations have no more.
LATEST = 8
# What trains fresh seeds over the full horizon.
FRESH: tuple[UnitKind, ...] = ("screen", "confirm")


@dataclass(frozen=True)
class Slow:
    """A unit to go on with, as its holder was seen to hold it."""

    unit_id: int
    study_id: str
    token: int
    leased_at: float


def alike(kind: UnitKind, rung: int) -> tuple[tuple[UnitKind, ...], int | None]:
    """(kinds, rung) of the units that take as long as one of this kind and rung; None: of any rung."""
    return (FRESH, None) if kind in FRESH else ((kind,), rung)


def usual_s(trials: int, ended: Sequence[tuple[float, int]]) -> float | None:
    """Seconds that a pack of so many trials should take; ``ended``: (seconds, trials) of packs of the same horizon."""
    if not ended:
        return None
    # A wider pack takes longer at most in proportion; a narrower one may take as long.
    return statistics.median(seconds * max(1.0, trials / max(1, wide)) for seconds, wide in ended)


def no_cheaper(optimizers: Sequence[str], than: Sequence[str]) -> bool:
    """Whether the dearest step of a pack of these optimizers costs as much as that of another pack, or more."""
    return all(mine >= other for mine, other in zip(_dearest(optimizers), _dearest(than), strict=True))


def _dearest(optimizers: Sequence[str]) -> tuple[float, float]:
    rows = [OPTIMIZERS[name] for name in optimizers]
    return max((row.gradients for row in rows), default=0.0), max((row.step_cost for row in rows), default=0.0)


def is_slow(held_s: float, share: float, usual: float) -> bool:
    """Whether a unit that came to ``share`` of its steps in ``held_s`` seconds is in the hands of a much slower worker."""
    if held_s < max(LEAST_S, SOON * usual):
        return False
    return (held_s / share if share > 0 else held_s) >= SLOWER * usual


def slow_unit(session: Session, worker_id: str, study_id: str | None) -> Slow | None:
    """The unit (of this study) that another worker has held for longest of those that are slow; takes no lock."""
    units = UnitRepository(session)
    known: dict[Any, Sequence[Any]] = {}
    for row in units.long_leased(LEAST_S, worker_id, study_id):
        like, held_s, share = (row.study_id, *alike(row.kind, row.rung)), row.held_s, row.step / row.horizon
        if like not in known:
            known[like] = units.latest_done(*like, LATEST)
        # However wide and dear it is: most units need not be read for this.
        least = usual_s(0, [_taken(one) for one in known[like]])
        if least is None or not is_slow(held_s, share, least):
            continue
        unit = units.get(row.id)
        if unit is None:
            continue
        mine = _optimizers(unit.spec)
        usual = usual_s(len(mine), [_taken(one) for one in known[like] if no_cheaper(_optimizers(one.spec), mine)])
        if usual is not None and is_slow(held_s, share, usual):
            return Slow(row.id, row.study_id, row.fence, row.leased_at)
    return None


def _optimizers(spec: dict[str, Any]) -> list[str]:
    return [trial["configuration"]["optimizer"] for trial in spec["trials"]]


def _taken(row: Row[Any]) -> tuple[float, int]:
    return (row.finished_at or 0.0) - (row.claimed_at or 0.0), len(row.spec["trials"])
