"""What the simulation of events (``events``) is asked: busy workers, fair shares, slow, new and dying workers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.scale.devices import Model, Task, stream, task
from benchmarks.scale.events import Cluster, efficiency, jain
from benchmarks.scale.parts import Device, Span, Study

WORKERS = 64
# An hour in which a full training takes two minutes; and a count of trials of the same model.
HOUR, TRIALS = {"seconds": 3600.0}, {"trials": 10_000}
# A narrower model for large clusters: a worker trains fewer trials, so that the planner's own time stays bearable here.
NARROW = Model(best_width=4, largest=16)
WIDTHS = (1, 4, 16, 64, 256, 1000)
HALF = {"seconds": 1800.0}
# Ten projects with a hundred studies; each asks for about as much.
STUDIES_OF = (1, 3, 5, 7, 9, 11, 13, 15, 17, 19)
PROJECT_TRIALS, LEAST_TRIALS = 12_000, 600
MTBF_S = 600.0
SLICES = 40


def one_study() -> dict[str, Any]:
    """One study on 64 workers: busy, in an hour and with a count of trials, and when."""
    found: dict[str, Any] = {}
    for name, budget in (("hour", HOUR), ("trials", TRIALS)):
        cluster = Cluster([Device()] * WORKERS, [task(**budget)]).run()
        study = cluster.studies[0]
        assert study.ended is not None
        assert study.failure is None, study.failure
        found[name] = {
            "budget": budget, "wall_s": round(study.ended, 1), "busy": round(efficiency(cluster), 4),
            "trials": sum(len(u.spec.trials) for u in study.units), "units": len(study.units),
            "busy_by_time": busy_by_time(cluster.spans, WORKERS, study.ended),
        }  # fmt: skip
    return found


def widths(workers: Sequence[int] = WIDTHS) -> list[dict[str, Any]]:
    """One study of half an hour on more and more workers."""
    found = []
    for n in workers:
        cluster = Cluster([Device()] * n, [task(model=NARROW, **HALF)]).run()
        study = cluster.studies[0]
        trials = sum(len(u.spec.trials) for u in study.units)
        found.append({"workers": n, "busy": round(efficiency(cluster), 4), "trials": trials})
    return found


def busy_by_time(spans: Sequence[Span], workers: int, end: float, begin: float = 0.0) -> list[float]:
    """Share of the workers that train, in even slices of the time."""
    width = (end - begin) / SLICES
    busy = [0.0] * SLICES
    for span in spans:
        first, last = int((span.begin - begin) / width), int((span.end - begin) / width)
        for i in range(max(0, first), min(SLICES - 1, last) + 1):
            low, high = begin + i * width, begin + (i + 1) * width
            busy[i] += max(0.0, min(span.end, high) - max(span.begin, low))
    return [round(one / (workers * width), 4) for one in busy]


def of_projects(seconds_each: Model | None = None) -> list[Task]:
    """A hundred studies of ten projects."""
    return [
        task(
            seed=100 * p + i, model=seconds_each, project=f"p{p}", trials=max(LEAST_TRIALS, PROJECT_TRIALS // studies)
        )
        for p, studies in enumerate(STUDIES_OF)
        for i in range(studies)
    ]  # fmt: skip


def many_studies(workers: int = 256, until: float = 2400.0) -> dict[str, Any]:
    """A hundred studies of ten projects on 256 workers; when one ends the project begins another."""

    def again(study: Study) -> Task:
        spec = study.task.spec
        return Task(spec.model_copy(update={"seed": spec.seed + 1000}), study.task.model, study.task.project)

    cluster = Cluster([Device()] * workers, of_projects(NARROW), until=until, renew=again).run()
    shares = {f"p{p}": 0.0 for p in range(len(STUDIES_OF))}
    full = wide = 0.0
    for span in cluster.spans:
        shares[span.project] += span.end - span.begin
    for study in cluster.studies:
        for unit in study.units:
            if unit.result is not None and unit.spec.trials:
                full += unit.result.seconds
                wide += unit.result.seconds * min(1.0, len(unit.spec.trials) / study.task.model.best_width)
    return {
        "workers": workers, "studies": len(cluster.studies), "seconds": until, "busy": round(efficiency(cluster), 4),
        "jain": round(jain(list(shares.values())), 4), "shares": {k: round(v) for k, v in shares.items()},
        "studies_of": list(STUDIES_OF), "width_used": round(wide / full, 4),
        "ended": sum(not s.active for s in cluster.studies),
    }  # fmt: skip


def joining(seed: int = 0) -> dict[str, Any]:
    """Workers that come while a study of 48 others searches: seconds until they train."""
    rng = stream("join", seed)
    devices = [Device()] * 48 + [Device(joins=rng.uniform(300.0, 2400.0)) for _ in range(16)]
    cluster = Cluster(devices, [task(**HOUR)]).run()
    waits = [w.first_work - w.device.joins for w in cluster.workers[48:] if w.first_work is not None]
    return {
        "joined": 16, "worked": len(waits), "median_s": round(statistics.median(waits), 2),
        "longest_s": round(max(waits), 2),
    }  # fmt: skip


def slow_worker() -> dict[str, Any]:
    """What one worker that takes ten times as long costs a study, and workers of speeds between one and three."""
    even = _wall([Device()] * WORKERS)
    # The first one gets the probe and the first generation, which nobody else's time can be compared with.
    walls = [_wall([Device(slow=10.0 if i == place else 1.0) for i in range(WORKERS)]) for place in (0, 21, 42)]
    one = max(walls)
    rng = stream("speeds")
    speeds = [3 ** rng.random() for _ in range(WORKERS)]
    mixed = Cluster([Device(slow=s) for s in speeds], [task(**TRIALS)]).run()
    ideal = even * WORKERS / sum(1 / s for s in speeds)
    return {
        "even_s": round(even, 1), "one_slow_s": [round(w, 1) for w in walls], "cost": round(one / even - 1, 4),
        "median_cost": round(statistics.median(walls) / even - 1, 4),
        "mixed_busy": round(efficiency(mixed), 4), "mixed_s": round(_ended(mixed), 1), "mixed_ideal_s": round(ideal, 1),
    }  # fmt: skip


def deaths(seeds: Sequence[int] = range(3)) -> dict[str, Any]:
    """Workers that die every ten minutes on average: what each death costs, and whether studies end all the same."""
    waste: list[float] = []
    walls, failures, dying = [], [], 0
    for seed in seeds:
        devices = [Device(mtbf_s=MTBF_S)] * WORKERS
        cluster = Cluster(devices, [task(seed=seed, **TRIALS)], seed=seed).run()
        waste += cluster.waste
        study = cluster.studies[0]
        dying += len(cluster.waste)
        if study.failure is None:
            walls.append(_ended(cluster))
        else:
            failures.append(study.failure[0])
    return {
        "mtbf_s": MTBF_S, "studies": len(list(seeds)), "deaths_in_a_unit": dying,
        "mean_lost_s": round(statistics.fmean(waste), 2), "longest_lost_s": round(max(waste), 2),
        "walls_s": [round(w, 1) for w in walls], "failures": failures,
    }  # fmt: skip


def _wall(devices: list[Device]) -> float:
    return _ended(Cluster(devices, [task(**TRIALS)]).run())


def _ended(cluster: Cluster) -> float:
    ended = cluster.studies[0].ended
    assert ended is not None
    return ended
