"""docs/scale.md and its plots, drawn from the stored figures and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.scale import goals
from benchmarks.scale.svg import chart

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, PLOTS = "scale.md", "scale"


def draw(document: Mapping[str, Any], name: str, folder: Path = DOCS) -> None:
    """Write the page and its plots. ``name``: of the file with the figures."""
    for path, text in files(document, name).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def files(document: Mapping[str, Any], name: str) -> dict[str, str]:
    """Path below ``docs`` → what stands in it."""
    parts = document["parts"]
    return {PAGE: _page(document, parts, name), **{f"{PLOTS}/{key}.svg": text for key, text in _plots(parts).items()}}


def _plots(parts: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    if "one_study" in parts:
        one = parts["one_study"]
        lines = {
            f"{named}": [(one[key]["wall_s"] * (i + 0.5) / len(busy), b) for i, b in enumerate(busy)]
            for key, named in (("hour", "an hour"), ("trials", "10,000 trials"))
            for busy in (one[key]["busy_by_time"],)
        }
        found["one-study"] = chart(
            "One study on 64 workers", "seconds", "share of workers that train", lines, goal=goals.BUSY_ONE, top=1.0
        )
    if "widths" in parts:
        points = [(row["workers"], row["busy"]) for row in parts["widths"]]
        found["workers"] = chart(
            "One study of half an hour",
            "workers",
            "busy",
            {"busy": points},
            goal=goals.BUSY_ONE,
            logarithmic=True,
            top=1.0,
        )
    if "plans" in parts:
        marks = parts["plans"]["by_trials"]
        lines = {
            "plan()": [(row["trials"], row["plan_ms"]) for row in marks],
            "a whole turn": [(row["trials"], row["turn_ms"]) for row in marks],
            "with idle turns": [(row["trials"], row["with_idle_turns_ms"]) for row in marks],
        }
        found["plans"] = chart("Planning a new trial", "trials so far", "ms of a core", lines, logarithmic=True)
    if "cluster_one" in parts:
        one = parts["cluster_one"]
        busy = one["busy_by_time"]
        points = [(one["wall_s"] * (i + 0.5) / len(busy), b) for i, b in enumerate(busy)]
        found["one-study-postgresql"] = chart(
            "One study, 64 threads, PostgreSQL", "seconds", "share of workers that train", {"busy": points},
            goal=goals.BUSY_ONE, top=1.0,
        )  # fmt: skip
    return found


def _page(document: Mapping[str, Any], parts: Mapping[str, Any], name: str) -> str:
    where = document["device"]
    lines = [
        "# Scale, measured",
        "",
        f"Drawn by `make bench-scale` from `benchmarks/results/{name}`; do not edit. {where['cpu']}, {where['cores']} cores, "
        f"{where['system']}, Python {where['python']}, {document['date']}.",
        "",
        "Nothing is trained here: units take as long as a model of devices says (a full training of a pack of up to "
        "16 trials: two minutes). *Simulated*: the product's planner and the rules of its queue with a clock of their own; it "
        "repeats exactly. *PostgreSQL*: the product's own workers, claims, plans, heartbeats and commits against a real "
        "server, all on these cores. Busy is the training that counted over workers × the time that the study existed; "
        "planning, claims, commits, waiting and what is trained again after a death are not.",
        "",
        "| what | where | found | goal | met |",
        "|---|---|---|---|---|",
        *(
            f"| {row.what} | {row.how} | {row.figure} | {row.wanted} | {'yes' if row.met else '**no**'} |"
            for row in goals.rows(parts)
        ),
        "",
    ]
    titles = {
        "one-study": "One study on 64 workers over time",
        "workers": "One study of half an hour on more and more workers (packs of four)",
        "plans": "What a new trial costs a planner",
        "one-study-postgresql": "One study, PostgreSQL, over time",
    }
    for key in _plots(parts):
        lines += [f"![{titles[key]}]({PLOTS}/{key}.svg)", ""]
    lines += _tables(parts)
    missed = [row for row in goals.rows(parts) if not row.met]
    if missed:
        lines += ["## What is missed, and why", ""]
        lines += [f"- {row.what} ({row.how}): {row.figure}, goal {row.wanted}. {row.why}." for row in missed]
    return "\n".join(lines).rstrip() + "\n"


def _tables(parts: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    if "slow_worker" in parts and "deaths" in parts and "joining" in parts:
        slow, died, came = parts["slow_worker"], parts["deaths"], parts["joining"]
        lines += [
            "## Workers that are slow, die or join (simulated)",
            "",
            f"- One of 64 workers ten times slower, in {len(slow['one_slow_s'])} places: the study takes "
            f"{_list(slow['one_slow_s'])} s, "
            f"{slow['even_s']:.0f} s without; median {100 * slow['median_cost']:.1f} % longer.",
            f"- Speeds between one and three: {slow['mixed_s']:.0f} s where even sharing would take "
            f"{slow['mixed_ideal_s']:.0f} s.",
            f"- Deaths every {died['mtbf_s']:.0f} s of each worker: {died['deaths_in_a_unit']} in a unit, in "
            f"{died['studies']} studies of which {len(died['failures'])} failed; {died['mean_lost_s']} s of training lost each "
            f"on average. The studies took {_list(died['walls_s'])} s.",
            f"- {came['joined']} workers that joined trained after {came['median_s']} s (median), "
            f"{came['longest_s']} s (longest).",
            "",
        ]
    if "cluster_many" in parts:
        lines += ["## Claims, commits and plans (PostgreSQL)", "", *_calls(parts), ""]
    if "sizes" in parts:
        sizes = parts["sizes"]
        counted = ", ".join(f"{n:,} in `{table}`" for table, n in sizes["rows"].items())
        lines += [
            "## A million trials",
            "",
            f"Rows: {counted}; {sizes['points']:,} points in the curves; {sizes['database_bytes'] / 2**30:.1f} GiB. "
            f"By a client on the same machine, one at a time; "
            f"load average {sizes['load_average']}.",
            "",
            "| asked | first | p50 | p95 | bytes |",
            "|---|---|---|---|---|",
            *(
                f"| {name} | {row['first_ms']:,.0f} ms | {row['p50_ms']:,.0f} ms | {row['p95_ms']:,.0f} ms | "
                f"{row['bytes']:,} |"
                for name, row in sizes["requests"].items()
            ),
            "",
        ]
    return lines


def _calls(parts: Mapping[str, Any]) -> list[str]:
    lines = ["| run | call | n | p50 | p99 | load average |", "|---|---|---|---|---|---|"]
    named = {"cluster_one": "one study, 64 workers", "cluster_many": "100 studies, 256 workers"}
    for key, name in named.items():
        if key not in parts:
            continue
        run = parts[key]
        load = " → ".join(str(one) for one in run["load_average"])
        calls = [(call, call) for call in ("claim", "commit", "plan")]
        calls += [(f"{call}_later", f"{call}, second half") for call, _ in calls if f"{call}_later" in run]
        for stored, call in calls:
            row = run[stored]
            if row["n"] > 1:
                lines.append(
                    f"| {name}, {run['full_training_s']:.0f} s a full training | {call} | {row['n']} | "
                    f"{row['p50_ms']:,.1f} ms | {row['p99_ms']:,.1f} ms | {load} |"
                )
    for run in parts.get("closed_loop", []):
        lines.append(
            f"| no training, {run['clients']} threads in a closed loop: {run['claims_per_s']} claims/s | claim | "
            f"{run['claim']['n']} | {run['claim']['p50_ms']:,.1f} ms | {run['claim']['p99_ms']:,.1f} ms | "
            f"{run['load_average']} |"
        )
    if "open_loop" in parts:
        run = parts["open_loop"]
        claim = run["claim"]
        what = f"{run['workers']} workers whose units take {run['unit_s']:g} s, in {run['processes']} processes of one thread"
        lines.append(
            f"| no training, {what} | claim | {claim['n']} | {claim['p50_ms']:,.1f} ms | {claim['p99_ms']:,.1f} ms | "
            f"{run['load_average']} |"
        )
    return lines


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values)
