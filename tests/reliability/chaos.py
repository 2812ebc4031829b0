"""Strikes a running cluster every few seconds while clients ask for studies, and checks the history that it leaves.

    python -m tests.reliability.chaos --minutes 3 --out report.json

Prints a report as one JSON document; exit status 1 when a rule was broken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.cli_support import answer_of, tiny_spec, whichopt, write_spec
from tests.reliability import history
from tests.reliability.clients import Clients
from tests.reliability.cluster import QUICK, REAL, Cluster, Pace
from tests.reliability.strikes import STRIKES

EVERY_S = 4.0
# When nothing is struck any more, every study ends. A busy machine may take long to train them.
SETTLE_S = 1200.0
SPECS = {label: tiny_spec(training={"steps": 200}, seed=seed) for label, seed in (("one", 1), ("two", 2))}


@dataclass
class Report:
    """What was done, what came of it, and every rule that was broken."""

    minutes: float
    strikes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "minutes": self.minutes, "strikes": sum(self.strikes.values()), "by_strike": dict(sorted(self.strikes.items())),
            "skipped": dict(self.skipped), **self.figures, "violations": self.violations,
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()},
        }  # fmt: skip


def undisturbed(folder: Path) -> dict[str, dict[str, Any]]:
    """The answer to each spec where nothing goes wrong, from a command of its own."""
    answers = {}
    for label, spec in SPECS.items():
        place = folder / f"alone-{label}"
        place.mkdir()
        answers[label] = answer_of(whichopt(place, "recommend", write_spec(place, spec), "--json"))
    return answers


def strike_on(
    cluster: Cluster, report: Report, draw: random.Random, every_s: float, only: str, say: Callable[[str], None]
) -> None:
    """Strike until it is time to stop: each kind with ``only`` in its name once in a random order, then again in another."""
    until = time.monotonic() + 60 * report.minutes
    kinds = [name for name in STRIKES if only in name]
    order: list[str] = []
    while time.monotonic() < until:
        time.sleep(draw.uniform(every_s / 2, 1.5 * every_s))
        order = order or draw.sample(kinds, len(kinds))
        name = order.pop()
        began = time.monotonic()
        try:
            told = STRIKES[name](cluster, draw)
        except Exception as error:
            # What another strike left behind was not there in time.
            told = f"{type(error).__name__}: {error}"
        if told is not None and told.startswith("VIOLATION "):
            report.violations.append(told.removeprefix("VIOLATION "))
        elif told is not None:
            report.skipped[name] += 1
            say(f"{name} was not possible: {told}")
            continue
        report.strikes[name] += 1
        say(f"{name} ({time.monotonic() - began:.1f} s)")


def watch_parts(cluster: Cluster, report: Report, stop: threading.Event) -> None:
    """No part ends by itself, whatever is away."""
    while not stop.wait(0.5):
        for part in cluster.parts:
            starts = part.starts
            if not part.alive and not stop.wait(5.0) and not part.alive and part.starts == starts:
                report.violations.append(f"R6: {part.name} ended by itself: {part.log.read_text()[-500:]}")
                part.start()


def settle(clients: Clients, say: Callable[[str], None]) -> float:
    """Wait until every study has ended; the seconds that it took."""
    began = time.monotonic()
    clients.no_more.set()
    while not clients.idle() and time.monotonic() - began < SETTLE_S:
        time.sleep(0.5)
    say(f"settled after {time.monotonic() - began:.1f} s, idle: {clients.idle()}")
    return time.monotonic() - began


def examine(cluster: Cluster, clients: Clients, answers: Mapping[str, dict[str, Any]], report: Report) -> None:
    """Read everything once, apply the rules, and count."""
    database = cluster.database
    first = history.read(database, calls=clients.calls, streamed=clients.streamed)
    expected = {study["name"]: answers[study["name"].rsplit(" ", 1)[1]] for study in first.studies}
    found = history.read(database, calls=clients.calls, streamed=clients.streamed, undisturbed=expected)
    report.violations += [*clients.wrong, *history.violations(found)]
    events = [event for told in found.events.values() for event in told]
    back = sorted(_claimed_again(found, cluster))
    report.figures |= {
        "calls": dict(Counter(call.outcome for call in clients.calls)),
        "answers": {f"{method} {status}": times for (method, status), times in sorted(clients.answers.items())},
        "slowest_s": {method: round(seconds, 2) for method, seconds in clients.slowest.items()},
        "studies": dict(Counter(study["state"] for study in found.studies)),
        "resumed": clients.resumed,
        "units": len(found.units),
        "results": sum(event["type"] == "trial.done" for event in events),
        "attempts": dict(sorted(Counter(str(unit["attempts"]) for unit in found.units).items())),
        "requeued": dict(Counter(e["data"]["code"] for e in events if e["type"] == "unit.requeued")),
        "claims": sum(unit["fence"] for unit in found.units),
        "streamed_events": sum(len(ids) for ids in clients.streamed.values()),
        "claimed_again_s": {
            "count": len(back),
            "median": round(back[len(back) // 2], 2) if back else None,
            "p99": round(back[min(len(back) - 1, int(0.99 * len(back)))], 2) if back else None,
        },
    }


def _claimed_again(found: history.History, cluster: Cluster) -> list[float]:
    """Of each unit whose worker was killed, seconds until another held it. One that was committed at that moment has none."""
    waits = []
    for study_id, key, at in cluster.lost:
        claims = [e["at"] for e in found.events[study_id] if e["type"] == "unit.started" and e["data"]["unit"] == key]
        waits += [min(later) - at] if (later := [claim for claim in claims if claim > at]) else []
    return waits


def run(
    minutes: float,
    seed: int,
    count: int,
    keep: Path | None = None,
    *,
    every_s: float = EVERY_S,
    only: str = "",
    pace: Pace = QUICK,
) -> Report:
    """The whole run. ``keep``: where logs of the parts are copied."""
    report, draw, began = Report(minutes), random.Random(seed), time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="whichopt-chaos-") as name:
        folder = Path(name)
        answers = undisturbed(folder)
        say("the undisturbed answers are known")
        with Cluster(folder, pace=pace) as cluster:
            clients = Clients(cluster.address, cluster.key, SPECS, count)
            stop = threading.Event()
            watcher = threading.Thread(target=watch_parts, args=(cluster, report, stop), daemon=True)
            watcher.start()
            try:
                strike_on(cluster, report, draw, every_s, only, say)
                cluster.postgres.start()
                cluster.redis.start()
                report.figures["settled_s"] = round(settle(clients, say), 1)
            finally:
                stop.set()
                watcher.join()
                clients.close()
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    for part in cluster.parts:
                        shutil.copy(part.log, keep)
            examine(cluster, clients, answers, report)
            for part in cluster.parts:
                if "Traceback (most recent call last)" in part.log.read_text(errors="replace"):
                    report.figures.setdefault("tracebacks_in", []).append(part.name)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--out", type=Path, help="store the report there, too")
    parser.add_argument("--logs", type=Path, help="a folder for the logs of all parts")
    parser.add_argument("--every", type=float, default=EVERY_S, help="seconds from one strike to the next, on average")
    parser.add_argument("--only", default="", help="strikes with this in their name")
    parser.add_argument("--real", action="store_true", help="with the leases of the service, not with short ones")
    arguments = parser.parse_args()
    pace = REAL if arguments.real else QUICK
    report = run(
        arguments.minutes,
        arguments.seed,
        arguments.clients,
        arguments.logs,
        every_s=arguments.every,
        only=arguments.only,
        pace=pace,
    ).document()
    told = json.dumps(report, indent=1)
    if arguments.out is not None:
        arguments.out.write_text(told + "\n")
    print(told)
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
