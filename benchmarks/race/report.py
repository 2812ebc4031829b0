"""From the lines of a race to its tables: regret at each wall-clock, ranks, wins over random search, time to quality."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.race import journal, standing
from benchmarks.race.space import DEFAULT
from benchmarks.race.tools import OURS, TOOLS
from benchmarks.race.workloads import WORKLOADS

RANDOM = "random"
# No peers: what one has without a tool, and we.
_NO_PEER = {"adamw", OURS}


def build(work: Path, where: dict[str, Any]) -> dict[str, Any]:
    """Everything that was raced and judged in ``work``, as one JSON document; ``rows`` are raw."""
    scores = journal.scores(work)
    raced = []
    for row in journal.rows(work / journal.ANSWERS):
        judged = scores.get((journal.folder_name(row["workload"], row["repeat"]), row["source"]))
        if judged is not None:
            raced.append({**row, "metric": WORKLOADS[row["workload"]].metric, "scores": judged})
    _regret(raced, scores)
    clocks = sorted({row["seconds"] for row in raced if row["tool"] != OURS} or {row["seconds"] for row in raced})
    return {
        "device": where,
        "clocks": {f"{clock:g}": _clock(raced, clock) for clock in clocks},
        "versus_random": [found for clock in clocks for found in _versus_random(raced, clock)],
        "speed": {f"{clock:g}": _speed(raced, clock) for clock in clocks},
        "rows": raced,
    }


def _race(row: dict[str, Any]) -> tuple[str, int]:
    return row["workload"], row["repeat"]


def _regret(raced: list[dict[str, Any]], scores: dict[tuple[str, str], list[float]]) -> None:
    """Write ``mean`` and ``regret`` into each row: from the best of all tools and wall-clocks on its workload."""
    for race in {_race(row) for row in raced}:
        rows = [row for row in raced if _race(row) == race]
        metric = rows[0]["metric"]
        for row in rows:
            row["mean"] = fmean(row["scores"])
        best = max((row["mean"] for row in rows), key=lambda mean: standing.sign(metric) * mean)
        worst = min((row["mean"] for row in rows), key=lambda mean: standing.sign(metric) * mean)
        default = scores.get((journal.folder_name(*race), DEFAULT))
        start = fmean(default) if default else worst
        found = standing.regrets(metric, {str(i): row["mean"] for i, row in enumerate(rows)}, start, best)
        for i, row in enumerate(rows):
            row["regret"] = found[str(i)]


def _clock(raced: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Tool → median and worst regret, mean rank, runs without an answer, median wall-clock, at one wall-clock."""
    rows = [row for row in raced if row["seconds"] == seconds]
    places: dict[str, list[float]] = {}
    for race in {_race(row) for row in rows}:
        for name, rank in standing.ranks({r["tool"]: r["regret"] for r in rows if _race(r) == race}).items():
            places.setdefault(name, []).append(rank)
    table = {}
    for name in sorted(places, key=lambda name: median(r["regret"] for r in rows if r["tool"] == name)):
        own = [row for row in rows if row["tool"] == name]
        table[name] = {
            "workloads": len(own),
            "median_regret": median(row["regret"] for row in own),
            "worst_regret": max(row["regret"] for row in own),
            "mean_rank": fmean(places[name]),
            "no_answer": sum(not row["answered"] for row in own),
            "median_wall_s": median(row["wall_s"] for row in own),
            "processor_share": _share(own),
        }
    return table


def _share(rows: list[dict[str, Any]]) -> float | None:
    """Median of processor seconds over those that the cores had, where known: a tool that works all the time has about 1."""
    known = [row["cpu_s"] / (row["wall_s"] * row["cores"]) for row in rows if row["cpu_s"] is not None]
    return median(known) if known else None


def _pairs(raced: list[dict[str, Any]], seconds: float) -> list[dict[str, dict[str, Any]]]:
    """Tool → row, for each workload at one wall-clock."""
    rows = [row for row in raced if row["seconds"] == seconds]
    return [{r["tool"]: r for r in rows if _race(r) == race} for race in dict.fromkeys(_race(row) for row in rows)]


def _versus_random(raced: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """Whichopt against random search, workload by workload."""
    found = []
    for by_tool in _pairs(raced, seconds):
        if OURS in by_tool and RANDOM in by_tool:
            ours, theirs = by_tool[OURS], by_tool[RANDOM]
            result = standing.compare(ours["metric"], ours["scores"], theirs["scores"])
            found.append(
                {
                    "workload": ours["workload"], "repeat": ours["repeat"], "seconds": seconds,
                    "difference": result.difference, "ci95": [result.low, result.high], "margin": result.margin,
                    "outcome": result.outcome,
                }
            )  # fmt: skip
    return found


def _speed(raced: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """How much sooner Whichopt has what the best peer has after ``seconds``: by workload, and the median."""
    found: dict[str, float | None] = {}
    for by_tool in _pairs(raced, seconds):
        peers = [row for name, row in by_tool.items() if name not in _NO_PEER]
        if not peers:
            continue
        race, metric = _race(peers[0]), peers[0]["metric"]
        goal = max((row["mean"] for row in peers), key=lambda mean: standing.sign(metric) * mean)
        own = [row for row in raced if row["tool"] == OURS and _race(row) == race]
        ours = {row["seconds"]: row["mean"] for row in own if row["answered"]}
        if own:
            found[journal.folder_name(*race)] = standing.speedup(metric, ours, goal, seconds)
    return {"by_workload": found, "median": standing.middle(list(found.values()))}


def markdown(found: dict[str, Any]) -> str:
    """The tables for people."""
    lines = [f"{found['device']['cpu']}, torch {found['device']['torch']}"]
    for clock, table in found["clocks"].items():
        lines += [
            "",
            f"After {clock} s",
            "",
            "| tool | median regret | worst | mean rank | no answer | wall s | processor |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, row in table.items():
            share = "" if row["processor_share"] is None else f"{row['processor_share']:.0%}"
            lines.append(
                f"| {name} | {row['median_regret']:.2f} | {row['worst_regret']:.2f} | {row['mean_rank']:.1f} "
                f"| {row['no_answer']} of {row['workloads']} | {row['median_wall_s']:.1f} | {share} |"
            )
        lines += ["", _random_line(found["versus_random"], clock), _speed_line(found["speed"][clock], clock)]
    lines += ["", *_by_workload(found["rows"])]
    return "\n".join(lines)


def _random_line(rows: list[dict[str, Any]], clock: str) -> str:
    own = [row for row in rows if f"{row['seconds']:g}" == clock]
    count = {name: sum(row["outcome"] == name for row in own) for name in ("win", "tie", "loss")}
    lost = ", ".join(
        f"{r['workload']} {r['difference']:.4g} [{r['ci95'][0]:.4g}, {r['ci95'][1]:.4g}]"
        for r in own
        if r["outcome"] == "loss"
    )
    told = f"Whichopt against random search: {count['win']} better, {count['tie']} equal, {count['loss']} worse"
    return f"{told}: {lost}" if lost else told


def _speed_line(row: dict[str, Any], clock: str) -> str:
    reached = [value for value in row["by_workload"].values() if value is not None]
    middle = "not reached" if row["median"] is None else f"{row['median']:.1f} times sooner"
    return f"What the best peer has after {clock} s: {middle} (median; reached on {len(reached)} of {len(row['by_workload'])})"


def _by_workload(rows: list[dict[str, Any]]) -> list[str]:
    """A table of means: a line a workload and wall-clock, a column a tool."""
    names = [name for name in TOOLS if any(row["tool"] == name for row in rows)]
    lines = [f"| workload | s | {' | '.join(names)} |", "|" + "---|" * (len(names) + 2)]
    for key in dict.fromkeys((*_race(row), row["seconds"]) for row in rows):
        own = {row["tool"]: row for row in rows if (*_race(row), row["seconds"]) == key}
        cells = [
            f"{own[name]['mean']:.4g}{'' if own[name]['answered'] else '*'}" if name in own else "" for name in names
        ]
        lines.append(f"| {journal.folder_name(key[0], key[1])} | {key[2]:g} | {' | '.join(cells)} |")
    return [*lines, "", "*: no answer in time; counted as AdamW(1e-3)"]


def dumps(found: dict[str, Any]) -> str:
    """As stored: a line a raw row."""
    head = {key: value for key, value in found.items() if key != "rows"}
    rows = ",\n".join("  " + json.dumps(row) for row in found["rows"])
    return json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n' + rows + "\n ]\n}\n"
