"""What a study claims, as plain values, and when two studies contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optim_core.recommend.evidence import evidence
from optim_core.recommend.recommender import tried_of
from optim_core.recommend.verdict import judge
from optim_core.spec.trial import Configuration, StudyView


@dataclass(frozen=True)
class Pair:
    """A rival's confirmed configuration over tuned AdamW, positive is better; ``enough``: tried enough for a claim."""

    optimizer: str
    mean: float
    low: float
    high: float
    enough: bool
    configuration: Configuration


@dataclass(frozen=True)
class Claims:
    """``recommended``: the optimizer. ``winner``: the one that is called better, None when nobody is. ``lacks``: what AdamW's
    tuning lacked. ``gain``: of the recommended one over default AdamW."""

    verdict: str
    reason: str | None
    recommended: str
    winner: str | None
    lacks: str | None
    margin: float
    gain: float
    pairs: list[Pair]
    tuned: Configuration

    def document(self) -> dict[str, Any]:
        """For files: without configurations."""
        values = asdict(self)
        del values["tuned"]
        for pair in values["pairs"]:
            del pair["configuration"]
        return values


def claims_of(view: StudyView) -> Claims:
    """Of a study that has ended."""
    found, tried = evidence(view), tried_of(view)
    assert found is not None
    judged = judge(found, tried, view.spec)
    return Claims(
        verdict=judged.verdict,
        reason=judged.reason,
        recommended=judged.recommended.optimizer,
        winner=judged.recommended.optimizer if judged.verdict == "better" else None,
        lacks=tried["adamw"].lacks,
        margin=judged.margin,
        gain=judged.gain.mean,
        pairs=[
            Pair(one.optimizer, d.mean, d.low, d.high, tried[one.optimizer].enough and d.claimable, one.configuration)
            for one, d in judged.against_tuned
        ],
        tuned=judged.tuned.configuration,
    )


def contradictions(studies: Sequence[Claims]) -> list[tuple[int, int, str]]:
    """(study that calls an optimizer better, study whose answer cannot be true as well, the optimizer).

    It cannot where it has the optimizer's interval below 0, or says ``no_difference`` of it, which means by no more than the
    margin, though the first one's interval lies above the margin.
    """
    return [
        (i, j, pair.optimizer)
        for i, one, pair in _won(studies)
        for j, other in enumerate(studies)
        for denied in other.pairs
        if denied.optimizer == pair.optimizer
        and denied.enough
        and (denied.high < 0 or (other.verdict == "no_difference" and pair.low > other.margin))
    ]


def opposed(studies: Sequence[Claims]) -> int:
    """Pairs of studies of which one calls an optimizer better and the other says ``no_difference`` of it. Both may be right: a
    difference of less than the margin is more than none."""
    return sum(
        other.verdict == "no_difference" and any(d.optimizer == pair.optimizer and d.enough for d in other.pairs)
        for _, _, pair in _won(studies)
        for other in studies
    )


def _won(studies: Sequence[Claims]) -> list[tuple[int, Claims, Pair]]:
    return [(i, one, pair) for i, one in enumerate(studies) for pair in one.pairs if pair.optimizer == one.winner]
