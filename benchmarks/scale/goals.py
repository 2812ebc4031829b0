"""The goals, and what was found for each: one list for the terminal, the stored document and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.scale.plans import MARKS

BUSY_ONE, BUSY_MANY, JAIN, JOIN_S, CLAIM_MS = 0.85, 0.95, 0.95, 120.0, 50.0
SLOW, LOST_S, FLAT, PAGE_MS = 0.15, 120.0, 2.0, 300.0

# Why goals are missed.
ENDS = (
    "A full training is a twelfth of what the search takes. Before it the first two generations, which know nothing yet, have "
    "three units; after it come screening (12 units) and two looks (10 units each), which wait for each other: four times a "
    "full training with a sixth of the workers or less. The longer the search, the less this counts"
)
SLOWLY = (
    "A slow worker is known as such only after a third of the usual time, and nobody knows what is usual before something has "
    "been trained: where it gets the probe, that takes ten times as long, and the first generation waits for another unit's end"
)
EVENTS = (
    "A study's page reads all ends of its trials from its events, once in each process, and looks at all of them again at "
    "each request"
)


def _loaded(run: Mapping[str, Any]) -> str:
    load = " to ".join(str(one) for one in run["load_average"])
    return (
        f"All workers' own time is spent on two cores (load average {load}), in four processes whose threads wait for each "
        "other's plans: all units begin, and end, at the same time. The simulation has a processor for each worker"
    )


@dataclass(frozen=True)
class Row:
    """``found`` and ``goal`` in the same unit; ``how``: where it was measured; ``why``: said where it is missed."""

    what: str
    how: str
    found: float
    goal: float
    sense: Literal["at least", "at most"]
    unit: str = ""
    why: str = ""

    @property
    def met(self) -> bool:
        return self.found >= self.goal if self.sense == "at least" else self.found <= self.goal

    @property
    def figure(self) -> str:
        """For people."""
        return _shown(self.found, self.unit)

    @property
    def wanted(self) -> str:
        """For people."""
        return f"{self.sense} {_shown(self.goal, self.unit)}"


def _shown(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.2f} %"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def rows(parts: Mapping[str, Any]) -> list[Row]:
    """Of the parts that were measured."""
    found: list[Row] = []
    simulated, real = "simulated", "PostgreSQL"
    if "one_study" in parts:
        one = parts["one_study"]
        found += [
            Row("one study in the time of 30 full trainings, 64 workers: busy", simulated, one["hour"]["busy"], BUSY_ONE,
                "at least", "%"),
            Row("one study of 10,000 trials on 64 workers: busy", simulated, one["trials"]["busy"], BUSY_ONE, "at least", "%",
                ENDS),
        ]  # fmt: skip
    if "many_studies" in parts:
        many = parts["many_studies"]
        found += [
            Row("100 studies on 256 workers: busy", simulated, many["busy"], BUSY_MANY, "at least", "%"),
            Row("100 studies of 10 projects: Jain's index", simulated, many["jain"], JAIN, "at least"),
        ]
    if "joining" in parts:
        found.append(
            Row("a worker that joins trains after, longest", simulated, parts["joining"]["longest_s"], JOIN_S, "at most", "s")
        )  # fmt: skip
    if "slow_worker" in parts:
        slow = parts["slow_worker"]
        found += [
            Row(
                "one worker of 64 ten times slower: longer study",
                simulated,
                slow["median_cost"],
                SLOW,
                "at most",
                "%",
                SLOWLY,
            ),
            Row("the same where it gets the probe", simulated, slow["cost"], SLOW, "at most", "%", SLOWLY),
        ]
    if "deaths" in parts:
        died = parts["deaths"]
        found += [
            Row("a worker's death: training lost, longest", simulated, died["longest_lost_s"], LOST_S, "at most", "s"),
            Row("studies that failed by deaths", simulated, len(died["failures"]), 0, "at most"),
        ]
    if "plans" in parts:
        marks = parts["plans"]["by_trials"]
        flat = marks[-1]["turn_ms"] / marks[1]["turn_ms"]
        what = f"a plan's cost of a new trial at {marks[-1]['trials']:,} trials over that at {MARKS[1]:,}"
        found.append(Row(what, "one core", round(flat, 2), FLAT, "at most", "times"))
    if "cluster_one" in parts:
        found.append(
            Row("one study on 64 workers: busy", real, parts["cluster_one"]["busy"], BUSY_ONE, "at least", "%")
        )
    if "cluster_many" in parts:
        many = parts["cluster_many"]
        why = _loaded(many)
        came = f"{many['joining']['worked']} of {many['joining']['joined']} workers that joined trained after, longest"
        found += [
            Row("100 studies on 256 workers: busy", real, many["busy"], BUSY_MANY, "at least", "%", why),
            Row("the same in the second half", real, many["busy_later"], BUSY_MANY, "at least", "%", why),
            Row("100 studies of 10 projects: Jain's index", real, many["jain"], JAIN, "at least", "", why),
            Row(came, real, max(many["joining"]["waits_s"]), JOIN_S, "at most", "s"),
        ]  # fmt: skip
    if "open_loop" in parts:
        often = parts["open_loop"]
        what = f"{often['workers']} workers whose units take {often['unit_s']:g} s: a claim, p99"
        found.append(Row(what, real, often["claim"]["p99_ms"], CLAIM_MS, "at most", "ms"))
    if "sizes" in parts:
        asked = parts["sizes"]["requests"]
        name = max(asked, key=lambda one: asked[one]["p95_ms"])
        million = parts["sizes"]["rows"]["trial"]
        what = f"{million:,} trials: the slowest page or list ({name}), p95"
        found.append(Row(what, real, asked[name]["p95_ms"], PAGE_MS, "at most", "ms", EVENTS))
    return found
