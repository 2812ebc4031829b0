"""``python -m benchmarks.scale``: measure, store, draw docs/scale.md, say which goals are met."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.device import RESULTS, device, device_slug
from benchmarks.scale import cluster, goals, open_loop, page, plans, server, simulated, sizes
from benchmarks.scale.devices import task

# Real seconds of a full training where a PostgreSQL is asked: short for one study, so that it ends; longer for claims, which
# then come as often as in a cluster of a few hundred workers.
ONE = cluster.Asked(workers=64, full_s=10.0, seconds=420.0, chunk_s=5.0, best_width=4)
ONE_BUDGET = {"seconds": 30 * ONE.full_s}
MANY = cluster.Asked(
    workers=256, full_s=60.0, seconds=420.0, chunk_s=20.0, best_width=4, joins=(90.0, 100.0, 110.0, 120.0)
)
LOOPS = (8, 64, 256)


def one_in_postgres(url: str) -> dict[str, Any]:
    """One study on 64 workers, until it has its answer."""
    return cluster.run(url, ONE, [task(**ONE_BUDGET)])


def many_in_postgres(url: str) -> dict[str, Any]:
    """A hundred studies on 256 workers, none of which ends."""
    return cluster.run(url, MANY, simulated.of_projects())


def loops_in_postgres(url: str) -> list[dict[str, Any]]:
    """Claims without anything between them."""
    studies = [task(seed=i, project=f"loop{i % 10}", trials=1000) for i in range(20)]
    return [cluster.closed_loop(url, clients, 15.0, studies) for clients in LOOPS]


def claims_in_postgres(url: str) -> dict[str, Any]:
    """Claims as often as 256 workers make them whose units take half a minute."""
    return open_loop.run(url, 256, 30.0, 120.0, simulated.of_projects())


ALONE: dict[str, Callable[[], Any]] = {
    "one_study": simulated.one_study, "widths": simulated.widths, "many_studies": simulated.many_studies,
    "joining": simulated.joining, "slow_worker": simulated.slow_worker, "deaths": simulated.deaths, "plans": plans.cost,
}  # fmt: skip
IN_POSTGRES: dict[str, Callable[[str], Any]] = {
    "cluster_one": one_in_postgres, "cluster_many": many_in_postgres, "closed_loop": loops_in_postgres,
    "open_loop": claims_in_postgres,
    "sizes": sizes.measure,
}  # fmt: skip


def main() -> int:
    """0 where every goal that was measured is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*ALONE, *IN_POSTGRES], help="these parts; others stay as stored")
    parser.add_argument("--sizes", action="store_true", help="also a million trials (4 GiB of disk, some minutes)")
    parser.add_argument("--url", help="maintenance database of a PostgreSQL; none: one of its own")
    parser.add_argument("--out", help="a file, or auto: by the name of the device; then docs/scale.md is drawn, too")
    asked = parser.parse_args()
    wanted = (
        asked.only if asked.only is not None else [p for p in (*ALONE, *IN_POSTGRES) if p != "sizes" or asked.sizes]
    )
    where = device("psycopg", "sqlalchemy", "optuna")
    out = RESULTS / f"scale-{device_slug(where)}.json" if asked.out == "auto" else asked.out and Path(asked.out)
    document: dict[str, Any] = json.loads(out.read_text()) if out and out.exists() else {"parts": {}}
    document |= {"device": where, "date": time.strftime("%Y-%m-%d", time.gmtime())}

    def keep(name: str, found: Any, begun: float) -> None:
        document["parts"][name] = found
        took = time.monotonic() - begun
        print(f"{name}: {took:.0f} s, load average {os.getloadavg()[0]:.1f}: {json.dumps(found)[:400]}", flush=True)
        if out:
            out.write_text(json.dumps(document, indent=1) + "\n")

    for name in wanted:
        if name in ALONE:
            begun = time.monotonic()
            keep(name, ALONE[name](), begun)
    if any(name in IN_POSTGRES for name in wanted):
        with server.postgres(asked.url) as maintenance:
            for name in wanted:
                if name in IN_POSTGRES:
                    begun = time.monotonic()
                    with server.fresh(maintenance, f"whichopt_scale_{name}") as url:
                        found = IN_POSTGRES[name](url)
                    keep(name, found, begun)
    rows = goals.rows(document["parts"])
    for row in rows:
        print(f"{'met   ' if row.met else 'MISSED'}  {row.what} ({row.how}): {row.figure}, goal {row.wanted}")
    if out and asked.out == "auto":
        page.draw(document, out.name)
    return int(not all(row.met for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
