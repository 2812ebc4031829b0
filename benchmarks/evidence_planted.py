"""Whole studies of an oracle: all optimizers equal at their best rates, and one that is better by a known amount."""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.evidence_claims import Claims, claims_of
from benchmarks.evidence_oracle import MARGIN, RIVALS, USUAL, World, draw_world, report, spec_of
from benchmarks.evidence_play import play
from benchmarks.evidence_report import above

TRIALS = 60
MOST_BETTER = 0.05
# In margins: the planted one, an equal of AdamW, two that are worse. Negative: AdamW itself is the best.
PLANTED, OTHERS = (0.5, 1.0, 2.0, 4.0, -2.0), (0.0, -2.0, -5.0)
EQUALS = (("half", 100), ("usual", 200), ("double", 100))
LEVELS = {"half": 0.5, "usual": 1.0, "double": 2.0}


def equals(quick: bool, seed: int) -> dict[str, Any]:
    """Goal: ``better`` in at most 5 % of studies in which no optimizer is better than AdamW at its best."""
    print(f"\nEquals: studies of {TRIALS} trials in which all optimizers are equal at their best rates")
    rows, missed = [], []
    for level, count in (("usual", 8),) if quick else EQUALS:
        studies = [_study(world, seed) for world in _worlds(seed, (0.0,) * len(RIVALS), LEVELS[level], count)]
        found = {"noise": level, **_summary(studies)}
        print(f"  noise {level:8}{_said(found)}", flush=True)
        rows.append(found)
        if above(found["better"], count, MOST_BETTER, 2.0):
            missed.append(f"noise {level}: better in {found['better']} of {count} studies of equals")
    return {"rows": rows, "missed": missed}


def planted(quick: bool, seed: int) -> dict[str, Any]:
    """Goals: nobody is called better who is not; the planted one is never denied where it is ahead by two margins or more."""
    count = 4 if quick else 20
    print(f"\nPlanted: one rival ahead of AdamW by so many margins, one equal, two worse; {TRIALS} trials")
    rows, missed = [], []
    for ahead in (4.0, -2.0) if quick else PLANTED:
        margins = (ahead, *(o if ahead > 0 else min(o, ahead) for o in OTHERS))
        for level in ("usual",) if quick else LEVELS:
            studies = [_study(world, seed) for world in _worlds(seed + 1, margins, LEVELS[level], count)]
            found = {"ahead": ahead, "noise": level, **_summary(studies)}
            print(f"  ahead {ahead:4}, noise {level:8}{_said(found)}", flush=True)
            rows.append(found)
            where = f"ahead {ahead}, noise {level}"
            if found["reversed"]:
                missed.append(f"{where}: a worse one called better in {found['reversed']} of {count} studies")
            if ahead >= 2 and found["denied"]:
                missed.append(f"{where}: denied in {found['denied']} of {count} studies")
    return {"rows": rows, "missed": missed}


def _worlds(seed: int, margins: tuple[float, ...], factor: float, count: int) -> list[World]:
    return [draw_world(100_000 * seed + place, margins, USUAL.times(factor)) for place in range(count)]


def _study(world: World, seed: int) -> tuple[World, Claims]:
    return world, claims_of(play(spec_of(seed + world.seed, trials=TRIALS), report(), world.answer))


def _summary(studies: list[tuple[World, Claims]]) -> dict[str, Any]:
    """``recovered``: the best optimizer is called better. ``reversed``: one that is worse than AdamW, each at its best.
    ``untrue``: one whose configuration is no better than AdamW's. ``denied``: it is said that nothing beats AdamW, not even the
    one that does. ``short``: how far the tuned AdamW lies above AdamW's best, in margins, on average.
    """
    found: Counter[str] = Counter()
    covered = compared = 0
    short = 0.0
    for world, claims in studies:
        found[claims.reason or claims.verdict] += 1
        tuned = world.loss(claims.tuned)
        short += (tuned - world.floors["adamw"]) / MARGIN / len(studies)
        best = min(world.floors, key=lambda name: world.floors[name])
        for pair in claims.pairs:
            true = tuned - world.loss(pair.configuration)
            covered += pair.low <= true <= pair.high
            compared += 1
            if claims.winner == pair.optimizer:
                found["recovered"] += pair.optimizer == best and world.floors[best] < world.floors["adamw"]
                found["reversed"] += world.floors[pair.optimizer] > world.floors["adamw"]
                found["untrue"] += true <= 0
            ahead = world.floors["adamw"] - world.floors[pair.optimizer]
            found["denied"] += claims.verdict == "no_difference" and pair.enough and ahead > 1.5 * MARGIN
    names = ("better", "no_difference", "noise", "not_enough_search", "recovered", "reversed", "untrue", "denied")
    return {
        "studies": len(studies), **{name: found[name] for name in names}, "covered": covered / max(1, compared),
        "short": short,
    }  # fmt: skip


def _said(found: dict[str, Any]) -> str:
    verdicts = ", ".join(f"{name} {found[name]}" for name in ("better", "no_difference", "noise", "not_enough_search"))
    return (
        f"{found['studies']} studies: {verdicts}; recovered {found['recovered']}, reversed {found['reversed']}, "
        f"untrue {found['untrue']}, denied {found['denied']}; intervals cover {found['covered']:.3f}; "
        f"AdamW short of its best by {found['short']:.1f} margins"
    )
