"""A unit of many quanta under Celery, whose worker is killed in between, ends with the very result of an undisturbed run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import text

from optim_core.spec.states import UnitState
from optim_core.spec.trial import UnitSpec
from optim_core.spec.validation import parse_spec
from service.db import Database
from service.db.models import Unit
from service.operations import planning, results, studies
from service.operations.queue import Claim
from tests.conftest import postgres_database
from tests.db.support import make_unit
from tests.e2e.cli_support import environment, tiny_spec
from tests.e2e.test_cluster import FAST, all_units, group_of, process, wait_for
from workers import training

pytestmark = pytest.mark.service
QUANTA = 20
SPEC = tiny_spec(training={"steps": QUANTA + 10})


def waiting(database: Database, seed: int) -> tuple[str, UnitSpec]:
    """A study with one long unit, on which no planner has anything to say."""
    study_id = studies.create_study(database, parse_spec({**SPEC, "seed": seed})).id
    unit = make_unit("long", [0, 1]).model_copy(update={"horizon": SPEC["training"]["steps"]})
    assert planning.apply_plan(database, study_id, [unit], "test") == 1
    with database.write() as session:
        session.execute(text("UPDATE study SET planned_seq = 1000"))
    return study_id, unit


def undisturbed(unit: UnitSpec, seed: int) -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        claim = Claim(0, f"alone-{seed}", parse_spec({**SPEC, "seed": seed}), unit, 1, 1, None)
        return timeless(results.document_of(training.train(claim, lambda *_: True, None), unit.kind))
    finally:
        torch.set_num_threads(threads)


def timeless(result: dict[str, Any] | None) -> dict[str, Any]:
    assert result is not None
    return {**result, "seconds": None}


@pytest.mark.timeout(600)
def test_twenty_quanta_and_a_kill_change_nothing(
    postgres_url: str, postgres_template: str, redis_url: str, tmp_path: Path
) -> None:
    with postgres_database(postgres_url, postgres_template) as url:
        database = Database(url)
        units = {seed: waiting(database, seed)[1] for seed in (1, 2, 3)}
        # Each study waits for another, also while the killed worker's lease lasts; a turn ends with its first chunk, one step.
        env = environment(
            tmp_path, WHICHOPT_DATABASE_URL=url, WHICHOPT_BROKER_URL=redis_url, WHICHOPT_QUANTUM_S="0.000001", **FAST
        )

        def trained() -> list[Unit]:
            return [unit for unit in all_units(database) if unit.key == "long"]

        with process(tmp_path, env, "worker", "--queue", "device"):
            held = wait_for(lambda: next((u for u in trained() if u.fence > 5 and u.state == "leased"), None), "turns")
            os.killpg(group_of(held), signal.SIGKILL)
        with process(tmp_path, env, "worker", "--queue", "device"):
            done = wait_for(
                lambda: [u for u in trained() if u.state == UnitState.DONE] if all(u.result for u in trained()) else None,
                "the results", 400,
            )  # fmt: skip
        assert len(done) == 3
        # The unit of the killed worker comes back when the others may have ended: then nobody takes turns with it.
        assert min(unit.fence for unit in done if unit.id != held.id) >= QUANTA
        assert next(unit.fence for unit in done if unit.id == held.id) > held.fence
        for unit, seed in zip(sorted(done, key=lambda u: u.id), units, strict=True):
            assert timeless(unit.result) == undisturbed(units[seed], seed)
