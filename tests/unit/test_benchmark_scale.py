"""The simulated cluster keeps what is known of it without running it, repeats exactly, and its page is what the figures say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.device import RESULTS
from benchmarks.scale import goals, page
from benchmarks.scale.devices import Model, task
from benchmarks.scale.events import Cluster, efficiency, jain
from benchmarks.scale.parts import Costs, Device, Rules
from benchmarks.scale.simulated import busy_by_time
from benchmarks.scale.svg import chart
from optim_core.search import Finish, Plan
from optim_core.spec.states import UnitState
from optim_core.spec.trial import StudyView, UnitSpec

FREE = Costs(claim_s=0.0, plan_s=0.0, new_trial_s=0.0, poll_s=0.0, save_s=0.0)
MODEL = Model(full_s=100.0)


def independent(count: int, horizon: int = 160):
    """A planner that wants ``count`` units at once, of a tenth of a full training each, and then is done."""
    units = [
        UnitSpec(key=f"u{i}", kind="train", rung=0, horizon=horizon, split="validation", trials=TRIALS[:4])
        for i in range(count)
    ]

    def plan(view: StudyView) -> Plan | Finish | None:
        if not view.units:
            return Plan(units, "")
        return Finish() if all(u.state == UnitState.DONE for u in view.units) else None

    return plan


def cluster(devices: list[Device], **options) -> Cluster:
    return Cluster(devices, [task(trials=100, model=MODEL)], costs=FREE, **options)


@pytest.fixture(autouse=True)
def _trials() -> None:
    if not TRIALS:
        found = Cluster([Device()], [task(trials=12, model=MODEL)], costs=FREE).run()
        TRIALS.extend(t for u in found.studies[0].units for t in u.spec.trials)


TRIALS: list = []


@pytest.mark.parametrize(("workers", "units", "busy"), [(4, 40, 1.0), (4, 41, 41 / 44), (7, 3, 3 / 7)])
def test_equal_workers_and_independent_units_are_busy_but_for_the_tail(
    monkeypatch: pytest.MonkeyPatch, workers: int, units: int, busy: float
) -> None:
    monkeypatch.setattr("benchmarks.scale.events.plan", independent(units))
    found = cluster([Device()] * workers).run()
    assert found.studies[0].ended == pytest.approx(10.0 * math.ceil(units / workers))
    assert efficiency(found) == pytest.approx(busy)
    assert sum(busy_by_time(found.spans, workers, found.now)) / 40 == pytest.approx(busy, abs=1e-3)


def test_a_worker_is_counted_from_its_joining_on_and_what_is_no_training_is_not_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.scale.events.plan", independent(8))
    found = cluster([Device(), Device(joins=40.0)]).run()
    assert found.studies[0].ended == pytest.approx(60.0)
    assert [w.alive_s for w in found.workers] == pytest.approx([60.0, 20.0])
    assert efficiency(found) == pytest.approx(1.0)
    slow = Cluster([Device()], [task(trials=100, model=MODEL)], costs=Costs(2.5, 0.0, 0.0, 0.0, 0.0)).run()
    assert efficiency(slow) == pytest.approx(0.8)


def test_a_death_loses_what_no_checkpoint_has_and_what_is_done_again_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.scale.events.plan", independent(1, horizon=16_000))
    found = cluster([Device(mtbf_s=300.0)], seed=1, rules=Rules(max_attempts=100)).run()
    assert found.waste
    assert max(found.waste) <= 10.0
    assert found.workers[0].busy_s == pytest.approx(1000.0), "the unit once, however often parts of it ran"
    assert found.workers[0].alive_s >= 1000.0 + sum(found.waste)


def test_a_slow_worker_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scale.events.plan", independent(4, horizon=1600))
    found = cluster([Device(slow=10.0), Device()]).run()
    # Three units of the fast one, then the slow one's from its checkpoint on: it had come to a third.
    assert found.studies[0].ended == pytest.approx(100.0 * 3 + 70.0, abs=12.0)


def test_a_run_repeats_exactly() -> None:
    devices = [Device(mtbf_s=400.0), Device(slow=2.0), Device(joins=90.0), *[Device()] * 3]

    def run() -> Cluster:
        return Cluster(devices, [task(trials=150, model=MODEL, project=p) for p in "ab"], seed=3).run()

    one, two = run(), run()
    assert one.spans == two.spans
    assert one.waste == two.waste
    assert [s.units for s in one.studies] == [s.units for s in two.studies]
    assert all(s.failure is None for s in one.studies)
    assert jain([s.trained_s for s in one.studies]) > 0.9


def test_jain() -> None:
    assert jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)


def test_a_chart_is_the_same_text_each_time_and_escaped() -> None:
    lines = {"a<b": [(1.0, 0.5), (10.0, 0.7)]}
    drawn = chart("t & u", "x", "y", lines, goal=0.6, logarithmic=True)
    assert drawn == chart("t & u", "x", "y", lines, goal=0.6, logarithmic=True)
    assert "a&lt;b" in drawn
    assert "t &amp; u" in drawn


@pytest.mark.parametrize("stored", sorted(RESULTS.glob("scale-*.json")), ids=lambda path: path.name)
def test_the_page_is_what_the_stored_figures_draw(stored: Path) -> None:
    document = json.loads(stored.read_text())
    assert goals.rows(document["parts"])
    drawn = page.files(document, stored.name)
    if f"benchmarks/results/{stored.name}" not in (page.DOCS / page.PAGE).read_text():
        pytest.skip("the page shows another device")
    for path, text in drawn.items():
        assert (page.DOCS / path).read_text() == text, f"{path}: run make bench-scale, or --only with no part"
    assert {p.name for p in (page.DOCS / page.PLOTS).iterdir()} == {Path(p).name for p in drawn if p.endswith(".svg")}
