"""The database of an earlier version, left by a killed worker in the middle of a study, goes on under today's code.

``frozen/0010.json`` holds the rows that the code of revision 0010 left: a study with units done, leased and queued, and the
checkpoint of the one that was being trained when its process was killed.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, Table, insert, text

from optim_core.spec.curves import unpacked
from optim_core.spec.states import StudyState, UnitState
from service.db import Database, migrate
from service.db.engine import make_migration_engine
from service.db.models import Curve, Unit
from service.operations import events, studies
from service.settings import Settings
from tests.reliability.history import Call, read, violations
from tests.servers import wait_until
from workers.local import LocalProcess

FROZEN = Path(__file__).parent / "frozen"
# Of the frozen study: the unit that was being trained.
LEASED = 3


def thaw(url: str, revision: str) -> str:
    """Fill a database of that revision with the rows that its code left; the study's id."""
    migrate.upgrade(url, revision)
    rows = json.loads((FROZEN / f"{revision}.json").read_text())
    engine = make_migration_engine(url)
    with engine.begin() as connection:
        for name, stored in rows.items():
            if name in ("alembic_version", "project"):  # made by the migrations
                continue
            table = Table(name, MetaData(), autoload_with=connection)
            connection.execute(insert(table), [{key: _value(one) for key, one in row.items()} for row in stored])
        # Whoever held the unit is dead, and whatever the clock of this machine says, its lease is over.
        connection.execute(text("UPDATE unit SET lease_until = 1 WHERE state = 'leased'"))
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT setval(pg_get_serial_sequence('unit', 'id'), max(id)) FROM unit"))
    engine.dispose()
    return rows["study"][0]["id"]


def _value(stored: Any) -> Any:
    return base64.b64decode(stored["base64"]) if isinstance(stored, dict) and set(stored) == {"base64"} else stored


@pytest.mark.timeout(1200)
def test_a_study_of_an_earlier_version_is_migrated_under_a_worker_which_ends_it(
    empty_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = thaw(empty_url, "0010")
    settings = Settings(
        data_dir=tmp_path, database_url=empty_url, lease_s=600.0, heartbeat_s=15.0, sweep_s=0.5, poll_s=0.05
    )
    database = Database(empty_url)
    worker = LocalProcess(settings)
    try:
        worker.go(study)
        # It cannot work on this schema, and waits for one that it can work on.
        said = ""

        def waits() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return '"message": "waiting"' in said or not worker.alive()

        wait_until(waits, "a worker that waits", 300)
        assert worker.alive()
        database.migrate()
        database.check_schema()

        def ended() -> bool:
            return not worker.alive() or studies.get_study(database, study).status == StudyState.COMPLETED

        wait_until(ended, "the answer", 900)
        assert worker.alive()
    finally:
        worker.stop()
    calls = [Call("frozen", "frozen", "ok", study)]
    assert violations(read(database, calls=calls)) == []
    told = events.events_after(database, study, 0, limit=5000)
    [again] = [e for e in told if e.type == "unit.requeued"]
    assert again.data["code"] == "worker_lost"
    with database.read() as session:
        curve = session.get(Curve, (2, 0))
        assert curve is not None
        points = unpacked(curve.points)
        assert [point.step for point in points] == list(range(6, 61, 6))
        assert (points[0].train_loss, points[0].loss, points[0].value) == (
            2.479442596435547, 2.418318253196776, 0.181058495821727,
        )  # fmt: skip
        unit = session.get(Unit, LEASED)
        assert unit is not None
        assert (unit.state, unit.attempts, unit.fence) == (UnitState.DONE, 2, 2)
        # What was trained before was not trained again, and its time counts.
        assert unit.spent_s > 0
    database.dispose()
