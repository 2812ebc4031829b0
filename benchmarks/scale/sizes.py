"""Pages and lists over a million trials: how long a server takes for them. Rows are made in the database."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psycopg

from benchmarks.percentiles import milliseconds
from benchmarks.scale.devices import task
from benchmarks.served import served
from optim_core.spec.curves import packed
from optim_core.spec.trial import CurvePoint
from service.db import Database
from service.operations import studies as operations

STUDIES, TRIALS_EACH, POINTS_EACH, PACK = 10, 100_000, 100, 50
# Different ones.
CURVES = 50
# Beside them, small ones for the list.
SMALL = 1000
REQUESTS = 40


def measure(url: str, trials_each: int = TRIALS_EACH, points_each: int = POINTS_EACH) -> dict[str, Any]:
    """Fill the database, start a server, ask for everything that people look at."""
    database = Database(url)
    ids = [operations.create_study(database, task(seed=i, trials=100_000).spec).id for i in range(STUDIES)]
    for i in range(SMALL):
        operations.create_study(database, task(seed=1000 + i, trials=50).spec)
    database.dispose()
    begun = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        for study_id in ids:
            _fill(connection, study_id, trials_each, points_each)
        connection.execute("ANALYZE")
        counted = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[arg-type,index]
            for table in ("study", "unit", "trial", "curve", "event")
        }
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()[0]  # type: ignore[index]
    filled = time.monotonic() - begun
    with tempfile.TemporaryDirectory() as folder:
        given = {"WHICHOPT_DATABASE_URL": url, "WHICHOPT_LOG_LEVEL": "ERROR", "WHICHOPT_READS_PER_MINUTE": "100000"}
        with served(Path(folder), "--no-worker", **given) as (address, _):
            key = (Path(folder) / "key").read_text().strip()
            asked = _ask(address, key, ids, trials_each * 3 // 4)
    return {
        "rows": counted, "points": STUDIES * trials_each * points_each,
        "database_bytes": size, "filled_s": round(filled, 1), "requests": asked,
        "load_average": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def _fill(connection: psycopg.Connection[Any], study_id: str, trials: int, points: int) -> None:
    """Trials that have ended with their curves and events, in units of 50; of units only what pages need."""
    known = connection.execute("SELECT coalesce(max(id), 0), extract(epoch FROM now()) FROM unit").fetchone()
    assert known is not None
    base, now = int(known[0]), float(known[1])
    configuration = {
        "optimizer": "adamw", "schedule": {"name": "cosine", "warmup_fraction": 0.1}, "techniques": {},
        "hyperparameters": {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01},
    }  # fmt: skip
    values = {
        "study": study_id, "units": trials // PACK, "trials": trials, "pack": PACK, "base": base,
        "now": now, "configuration": json.dumps(configuration), "spec": json.dumps({"trials": []}),
        "curves": _curves(points), "kinds": CURVES,
    }  # fmt: skip
    for statement in _STATEMENTS:
        connection.execute(statement, values)


def _curves(points: int) -> list[bytes]:
    """Curves with noise, which no database can store in less than they are."""
    draw = random.Random(0)
    return [
        packed(
            CurvePoint(
                step=1600 * p // points, **{name: 1.0 / p + draw.random() for name in ("train_loss", "loss", "value")}
            )
            for p in range(1, points + 1)
        )
        for _ in range(CURVES)
    ]


# Results are a fixed shuffle of the numbers: ordered by metric is not ordered by number.
_STATEMENTS = (
    """INSERT INTO unit (id, study_id, key, kind, rung, horizon, state, spec, attempts, fence, spent_s, step, created_at,
           claimed_at, leased_at, finished_at)
       SELECT %(base)s + i, %(study)s, 'g' || i, 'train', 0, 1600, 'done', %(spec)s, 1, 1, 0, 1600, %(now)s, %(now)s, %(now)s,
           %(now)s FROM generate_series(1, %(units)s) i""",
    """INSERT INTO trial (study_id, number, optimizer, configuration, seed, stage, origin, state, rung, unit_id, objective,
           metric, loss, steps)
       SELECT %(study)s, n, (ARRAY['adamw', 'lion', 'muon', 'rmsprop', 'nesterov'])[1 + n %% 5], %(configuration)s, n,
           'search', 'model', 'completed', 0, %(base)s + 1 + n / %(pack)s, m, m, m, 1600
       FROM (SELECT n, 1 + (n * 7919 %% %(trials)s)::float8 / %(trials)s AS m FROM generate_series(0, %(trials)s - 1) n) t""",
    """INSERT INTO curve (unit_id, number, points)
       SELECT %(base)s + 1 + n / %(pack)s, n, (%(curves)s::bytea[])[1 + n %% %(kinds)s]
       FROM generate_series(0, %(trials)s - 1) n""",
    """INSERT INTO event (study_id, id, type, data, at)
       SELECT %(study)s, n + 2, 'trial.done', json_build_object('number', n, 'optimizer', 'adamw', 'stage', 'search', 'state',
           'completed', 'rung', 0, 'metric', 1.5), %(now)s FROM generate_series(0, %(trials)s - 1) n""",
    """UPDATE study SET state = 'running', started_at = %(now)s, trials_planned = %(trials)s, trials_done = %(trials)s,
           event_seq = %(trials)s + 1, planned_seq = result_seq, best_objective = 1, best_value = 1, best_optimizer = 'lion',
           metric = 'loss', direction = 'minimize' WHERE id = %(study)s""",
    "SELECT setval(pg_get_serial_sequence('unit', 'id'), %(base)s + %(units)s)",
)


def _ask(address: str, key: str, ids: list[str], number: int) -> dict[str, Any]:
    """Milliseconds of each address, by the client's clock on the same machine; what a server does once is ``first_ms``."""
    one = ids[0]
    paths = {
        "list of studies": "/", "list of studies, API": "/v1/studies?limit=50", "study, API": f"/v1/studies/{one}",
        "study page": f"/studies/{one}", "study page, live": f"/studies/{one}/live",
        "trials by number": f"/v1/studies/{one}/trials?limit=50",
        "trials, best first": f"/v1/studies/{one}/trials?limit=50&sort=metric",
        "trials of one optimizer, best first": f"/v1/studies/{one}/trials?limit=50&sort=metric&optimizer=muon",
        "a trial with its curve": f"/v1/studies/{one}/trials/{number}",
    }  # fmt: skip
    found: dict[str, Any] = {}
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        for name, path in paths.items():
            times = []
            for _ in range(REQUESTS + 1):
                begun = time.perf_counter()
                answer = client.get(path)
                times.append(1000 * (time.perf_counter() - begun))
                if answer.status_code != 200:
                    raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")
            found[name] = {"first_ms": round(times[0], 1), "bytes": len(answer.content), **milliseconds(times[1:])}
    return found
