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
TRAINED: tuple[UnitKind, ...] = ("train", *FRESH)
# Their steps may cost so much more than those of a search: each seed has its own mini-batches, rows are scored one by one.
FRESH_DEARER = 2.0
# Whoever was overtaken stands aside for so long, twice as long each time until it has ended a unit again.
ASIDE_S, LONGEST_ASIDE_S = 60.0, 1800.0


@dataclass(frozen=True)
class Slow:
    """A unit to go on with, as its holder was seen to hold it."""

    unit_id: int
    study_id: str
    token: int
    leased_at: float


@dataclass(frozen=True)
class Pack:
    """What a unit trains; ``seconds``: that it took, where it has ended."""

    kind: UnitKind
    rung: int
    horizon: int
    optimizers: Sequence[str]
    seconds: float = 0.0


def alike(kind: UnitKind, rung: int) -> tuple[tuple[UnitKind, ...], int | None]:
    """(kinds, rung) of the units that take as long as one of this kind and rung; None: of any rung."""
    return (FRESH, None) if kind in FRESH else ((kind,), rung)


def usual_s(pack: Pack, ended: Sequence[Pack]) -> float | None:
    """Seconds that ``pack`` should take. ``ended``: last first; the latest that are alike count, where none is the latest that
    were trained at all, in proportion to their steps. None where none of them was as dear.
    """
    kinds, rung = alike(pack.kind, pack.rung)
    same = [one for one in ended if one.kind in kinds and rung in (None, one.rung)]
    if not same and pack.kind in TRAINED:
        same = [one for one in ended if one.kind in TRAINED]
    seconds = [_as_long_as(pack, one) for one in same[:LATEST] if no_cheaper(one.optimizers, pack.optimizers)]
    return statistics.median(seconds) if seconds else None


def _as_long_as(pack: Pack, ended: Pack) -> float:
    """Seconds of ``pack``, if a step of its trials costs what one of ``ended`` did."""
    # A wider pack takes longer at most in proportion; a narrower one may take as long.
    wider = max(1.0, len(pack.optimizers) / max(1, len(ended.optimizers)))
    dearer = FRESH_DEARER if pack.kind in FRESH and ended.kind not in FRESH else 1.0
    return ended.seconds * wider * dearer * pack.horizon / ended.horizon


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


def aside_s(times: int) -> float:
    """Seconds for which a worker stands aside that had been overtaken so many times in a row before."""
    return min(ASIDE_S * 2.0 ** min(times, 10), LONGEST_ASIDE_S)


def stands_aside(waiting: int, others: int) -> bool:
    """Whether a worker so slow had better leave what waits to the ``others``: they will have begun it before it could end one
    unit, and the next generation but one waits for all of them.
    """
    return waiting <= (SLOWER - 1) * others


def slow_unit(session: Session, worker_id: str, study_id: str | None) -> Slow | None:
    """The unit (of this study) that another worker has held for longest of those that are slow; takes no lock."""
    units = UnitRepository(session)
    known: dict[Any, list[Pack]] = {}
    for row in units.long_leased(LEAST_S, worker_id, study_id):
        like, share = (row.study_id, *alike(row.kind, row.rung)), row.step / row.horizon
        if like not in known:
            known[like] = _ended(units, *like)
        # However wide and dear it is: most units need not be read for this.
        least = usual_s(Pack(row.kind, row.rung, row.horizon, ()), known[like])
        if least is None or not is_slow(row.held_s, share, least):
            continue
        unit = units.get(row.id)
        if unit is None:
            continue
        usual = usual_s(Pack(row.kind, row.rung, row.horizon, _optimizers(unit.spec)), known[like])
        if usual is not None and is_slow(row.held_s, share, usual):
            return Slow(row.id, row.study_id, row.fence, row.leased_at)
    return None


def _ended(units: UnitRepository, study_id: str, kinds: tuple[UnitKind, ...], rung: int | None) -> list[Pack]:
    """The latest of these kinds (and this rung), last first; where there is none, of all that were trained."""
    rows = units.latest_done(study_id, kinds, rung, LATEST) or units.latest_done(study_id, TRAINED, None, LATEST)
    return [
        Pack(row.kind, row.rung, row.horizon, _optimizers(row.spec), (row.finished_at or 0.0) - (row.claimed_at or 0.0))
        for row in rows
    ]


def _optimizers(spec: dict[str, Any]) -> list[str]:
    return [trial["configuration"]["optimizer"] for trial in spec["trials"]]
