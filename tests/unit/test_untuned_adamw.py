"""No lead over an AdamW that is not at its best: how its search may have missed it, and what is claimed nevertheless."""

from __future__ import annotations

import pytest

from optim_core.recommend import wording
from optim_core.recommend.verdict import judge
from tests.unit.test_recommend import all_tried, constant, found, row, spec


def test_what_twice_the_search_may_bring_adamw_is_no_lead() -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "lion": 0.8}, 0.05)
    still = all_tried("lion", adamw=row("adamw", growth=0.25))
    judged = judge(evidence_, still, spec())
    assert 0 < judged.against_tuned[0][1].low < 0.25
    assert (judged.verdict, judged.reason) == ("inconclusive", "not_enough_search")
    assert "has not come to rest: its second half brought 0.25" in wording.summary(judged, evidence_, still, None)
    rested = judge(evidence_, all_tried("lion", adamw=row("adamw", growth=0.1)), spec())
    assert rested.verdict == "better"


def test_adamw_that_learns_nothing_is_no_adamw_at_its_best() -> None:
    answered = constant(1.0)
    evidence_ = found({"default": 1.0, "adamw": 1.0, "lion": 0.8}, 0.05, trivial=answered)
    judged = judge(evidence_, all_tried("lion"), spec())
    assert judged.stuck
    assert (judged.verdict, judged.reason) == ("inconclusive", "not_enough_search")
    assert "not shown to beat one answer for every row" in wording.summary(judged, evidence_, all_tried("lion"), None)
    learns = judge(
        found({"default": 1.2, "adamw": 0.9, "lion": 0.8}, 0.05, trivial=answered), all_tried("lion"), spec()
    )
    assert (learns.verdict, learns.stuck) == ("better", False)


def test_nobody_is_told_to_leave_a_better_default() -> None:
    judged = judge(found({"default": 0.9, "adamw": 1.0, "lion": 1.2}, 0.05), all_tried("lion"), spec())
    assert judged.recommended is judged.default
    assert judged.gain.mean == 0
    assert "at its defaults" in wording.headline(judged, all_tried("lion"))


def test_a_default_that_stands_in_for_a_failed_choice_is_no_tuned_adamw() -> None:
    evidence_ = found({"default": 0.9, "adamw": 1.0, "lion": 0.8}, 0.05)
    judged = judge(evidence_, all_tried("lion"), spec())
    assert (judged.verdict, judged.reason) == ("inconclusive", "not_enough_search")
    assert judged.recommended is judged.default
    assert "did worse than its defaults" in wording.summary(judged, evidence_, all_tried("lion"), None)


def test_a_lead_far_beyond_what_the_search_misjudged_is_a_lead() -> None:
    evidence_ = found({"default": 0.9, "adamw": 1.0, "lion": 0.5}, 0.05)
    judged = judge(evidence_, all_tried("lion"), spec())
    assert judged.misjudged == pytest.approx(0.1, abs=0.02)
    assert (judged.verdict, judged.recommended.optimizer) == ("better", "lion")
    assert judged.tuned is judged.default
    assert judged.effect.mean == pytest.approx(0.4, abs=0.02)


def test_the_winner_is_not_among_those_that_nothing_is_claimed_about() -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "lion": 0.8, "sgd": 1.1}, 0.05)
    lacking = {n: row(n, lacks="its best learning rate is the lowest tried", edge="low") for n in ("lion", "sgd")}
    rows = all_tried("lion", "sgd", **lacking)
    judged = judge(evidence_, rows, spec())
    assert judged.verdict == "better"
    assert judged.unclaimed == ("sgd",)
    said = wording.notes(judged, evidence_, rows, None, 5.0)
    assert "Not tried enough, so nothing is claimed about SGD." in said
    assert any("of Lion is the lowest tried: lower ones may do better still" in note for note in said)
