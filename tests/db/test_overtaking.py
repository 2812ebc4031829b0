"""Who has nothing to do goes on with the unit of a much slower worker; and one planner at a time."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import update

from optim_core.spec.space import default_configuration
from optim_core.spec.states import UnitState
from optim_core.spec.trial import UnitKind
from service.db import Database
from service.db.models import DeviceUse, Unit
from service.operations import access, overtaking, planning, queue, studies
from service.operations.overtaking import (
    FRESH_DEARER,
    LATEST,
    LONGEST_ASIDE_S,
    Pack,
    aside_s,
    is_slow,
    stands_aside,
    usual_s,
)
from tests.db.support import claim, make_result, make_spec, make_unit, planner_turn, study_with_units


def aged(database: Database, unit_id: int, seconds: float, **values: object) -> None:
    """Let a unit have been claimed so much earlier."""
    with database.write() as session:
        moved = {"claimed_at": Unit.claimed_at - seconds, "leased_at": Unit.leased_at - seconds, **values}
        session.execute(update(Unit).where(Unit.id == unit_id).values(moved))


def with_history(database: Database, seconds: float = 60.0) -> str:
    """A study of which four units took so long each, and one waits."""
    study_id = study_with_units(database, [make_unit(f"u{i}", [2 * i, 2 * i + 1]) for i in range(5)])
    for _ in range(4):
        found = claim(database)
        aged(database, found.unit_id, seconds)
        assert queue.complete_unit(database, found.unit_id, found.token, make_result(found.unit))
    return study_id


def test_a_unit_of_a_much_slower_worker_is_gone_on_with_and_the_fence_decides(database: Database) -> None:
    study_id = with_history(database)
    slow = queue.claim_unit(database, "slow", 60.0)
    assert slow is not None
    assert queue.save_checkpoint(database, slow.unit_id, slow.token, b"a tenth")
    assert queue.claim_unit(database, "idle", 60.0) is None, "it has just begun"
    aged(database, slow.unit_id, 40.0, step=10)
    assert queue.claim_unit(database, "slow", 60.0) is None, "nobody overtakes himself"
    other = queue.claim_unit(database, "idle", 60.0, study_id)
    assert other is not None
    assert (other.unit_id, other.checkpoint, other.attempt) == (slow.unit_id, b"a tenth", 2)
    # Whoever held it learns so at whatever it does next, and writes nothing.
    assert queue.heartbeat(database, slow.unit_id, slow.token, 60.0) == "lost"
    assert not queue.save_checkpoint(database, slow.unit_id, slow.token, b"late")
    assert not queue.complete_unit(database, slow.unit_id, slow.token, make_result(slow.unit))
    assert queue.complete_unit(database, other.unit_id, other.token, make_result(other.unit))
    assert studies.get_study(database, study_id).progress.trials_done == 10
    with database.read() as session:
        used = sum(row.seconds for row in session.query(DeviceUse))
    assert used == pytest.approx(4 * 60 + 40, abs=20), "what the slow one had was used all the same"


def test_a_unit_is_overtaken_once_unless_it_comes_further(database: Database) -> None:
    with_history(database)
    assert queue.claim_unit(database, "a", 600.0) is not None
    for last, name in ((None, "b"), ("b", "c")):
        held = UnitState.LEASED
        with database.read() as session:
            (unit,) = session.query(Unit).filter(Unit.state == held)
        aged(database, unit.id, 1000.0)
        found = queue.claim_unit(database, name, 600.0)
        assert (found is None) == (last is not None)
    # Another checkpoint: all workers have become slow, and each brings it further.
    assert queue.save_checkpoint(database, unit.id, unit.fence, b"more")
    assert queue.claim_unit(database, "c", 600.0) is not None


def test_a_pack_of_dearer_optimizers_is_not_taken_from_a_healthy_worker(database: Database) -> None:
    dear = make_unit("dear", [100])
    configuration = default_configuration("soap")
    dear = dear.model_copy(update={"trials": [dear.trials[0].model_copy(update={"configuration": configuration})]})
    study_id = study_with_units(database, [*(make_unit(f"u{i}", [i]) for i in range(3)), dear])
    for _ in range(3):
        found = claim(database)
        aged(database, found.unit_id, 60.0)
        assert queue.complete_unit(database, found.unit_id, found.token, make_result(found.unit))
    held = queue.claim_unit(database, "holder", 600.0)
    assert held is not None
    aged(database, held.unit_id, 400.0, step=30)
    assert queue.claim_unit(database, "idle", 60.0) is None
    # A plain one would be.
    assert queue.complete_unit(database, held.unit_id, held.token, make_result(held.unit))
    planning.apply_plan(database, study_id, [make_unit("plain", [200])], "test")
    held = queue.claim_unit(database, "holder", 600.0)
    assert held is not None
    aged(database, held.unit_id, 400.0, step=30)
    assert queue.claim_unit(database, "idle", 60.0) is not None


@pytest.mark.parametrize("why", ["fast enough", "nothing to compare with", "study paused", "another's turn"])
def test_others_keep_their_units(database: Database, why: str) -> None:
    study_id = with_history(database)
    held = queue.claim_unit(database, "holder", 600.0)
    assert held is not None
    aged(database, held.unit_id, 100.0, step=60 if why == "fast enough" else 0)
    if why != "fast enough":
        aged(database, held.unit_id, 100.0)
    if why == "nothing to compare with":
        with database.write() as session:
            session.execute(update(Unit).where(Unit.state == UnitState.DONE).values(kind="probe"))
    if why == "study paused":
        studies.pause_study(database, study_id)
    if why == "another's turn":
        access.set_quota(database, "other")
        study_with_units(database.of("other"), [make_unit("other", [0])])
    found = queue.claim_unit(database, "idle", 60.0)
    assert (found is None) == (why != "another's turn")
    assert found is None or found.study_id != study_id


def test_it_comes_before_other_units_of_its_study(database: Database) -> None:
    study_id = with_history(database)
    planning.apply_plan(database, study_id, [make_unit("next", [20])], "test")
    held = queue.claim_unit(database, "holder", 600.0)
    assert held is not None
    aged(database, held.unit_id, 50.0, step=5)
    claims = [queue.claim_unit(database, name, 60.0) for name in ("a", "b", "c")]
    assert [one and one.unit.key for one in claims] == ["u4", "next", None]


def test_whoever_was_overtaken_takes_what_is_waited_for_least_and_leaves_the_last_to_others(database: Database) -> None:
    study_id = study_with_units(database, [make_unit(f"u{i}", [i]) for i in range(4)])
    queue.worker_seen(database, "other")
    queue.worker_seen(database, "slow")
    slow = queue.claim_unit(database, "slow", 60.0, study_id, slow=True)
    other = queue.claim_unit(database, "other", 60.0, study_id)
    assert slow is not None
    assert other is not None
    assert (slow.unit.key, other.unit.key) == ("u3", "u0")
    assert queue.complete_unit(database, slow.unit_id, slow.token, make_result(slow.unit))
    assert queue.claim_unit(database, "slow", 60.0, slow=True) is None, "the other begins both before it could end one"
    # It is alone.
    queue.worker_gone(database, "other")
    found = queue.claim_unit(database, "slow", 60.0, slow=True)
    assert found is not None
    assert found.unit.key == "u2"


def test_a_slow_worker_overtakes_nobody(database: Database) -> None:
    with_history(database)
    held = queue.claim_unit(database, "holder", 600.0)
    assert held is not None
    aged(database, held.unit_id, 1000.0)
    assert queue.claim_unit(database, "slow", 60.0, slow=True) is None
    assert queue.claim_unit(database, "idle", 60.0) is not None


def test_it_stands_aside_longer_each_time() -> None:
    assert [aside_s(times) for times in range(4)] == [60.0, 120.0, 240.0, 480.0]
    assert aside_s(2000) == LONGEST_ASIDE_S
    assert stands_aside(6, 3)
    assert not stands_aside(7, 3)
    assert not stands_aside(1, 0), "nobody else would train it"


def test_of_two_that_overtake_at_once_one_does(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with_history(database)
    held = queue.claim_unit(database, "holder", 600.0)
    assert held is not None
    aged(database, held.unit_id, 1000.0)
    with database.read() as session:
        seen = overtaking.slow_unit(session, "x", None)
    assert seen is not None
    assert seen.unit_id == held.unit_id
    assert queue.claim_unit(database, "x", 60.0) is not None
    monkeypatch.setattr(overtaking, "slow_unit", lambda *_: seen)
    assert queue.claim_unit(database, "y", 60.0) is None


def _packs(
    seconds: list[float], wide: int = 10, kind: UnitKind = "train", rung: int = 0, horizon: int = 100
) -> list[Pack]:
    return [Pack(kind, rung, horizon, ["adamw"] * wide, s) for s in seconds]


def test_what_is_usual() -> None:
    [ten], [forty], [five] = _packs([0.0]), _packs([0.0], 40), _packs([0.0], 5)
    assert usual_s(ten, []) is None
    assert usual_s(ten, _packs([60.0, 50.0, 400.0])) == 60.0
    assert usual_s(forty, _packs([60.0] * 3)) == 240.0, "a wider pack may take as much longer"
    assert usual_s(five, _packs([60.0] * 3)) == 60.0, "a narrower one no less"
    assert usual_s(ten, _packs([60.0] * LATEST) + _packs([10.0] * 9)) == 60.0, "the latest"
    [soap] = [Pack("train", 0, 100, ["soap"])]
    assert usual_s(soap, _packs([60.0])) is None, "none of them was as dear"


def test_what_is_usual_of_the_first_of_a_kind_follows_from_its_steps() -> None:
    [longer] = _packs([0.0], rung=1, horizon=400)
    assert usual_s(longer, _packs([60.0])) == 240.0
    assert usual_s(longer, _packs([60.0]) + _packs([100.0], rung=1, horizon=400)) == 100.0, (
        "unless there is one of them"
    )
    [screened] = _packs([0.0], kind="screen", horizon=400)
    assert usual_s(screened, _packs([60.0])) == 240.0 * FRESH_DEARER, "fresh seeds take longer than a search"
    assert usual_s(screened, _packs([100.0], kind="confirm", rung=1, horizon=400)) == 100.0
    assert usual_s(longer, _packs([60.0], kind="probe")) is None, "a probe trains nothing"
    assert usual_s(_packs([0.0], kind="probe")[0], _packs([60.0])) is None


def test_what_is_slow() -> None:
    assert not is_slow(19.0, 0.0, 1.0), "it may read data still"
    assert not is_slow(39.0, 0.01, 120.0)
    assert is_slow(41.0, 0.1, 120.0)
    assert not is_slow(41.0, 0.2, 120.0)
    assert not is_slow(350.0, 0.0, 120.0), "nothing is known of how far it has come"
    assert is_slow(361.0, 0.0, 120.0)


def test_a_checkpoint_forgets_earlier_attempts(database: Database) -> None:
    """Where workers die every few minutes, a unit of an hour meets more than three deaths."""
    study_with_units(database, [make_unit("u", [0])])
    for attempt in range(6):
        found = claim(database, lease_s=60.0)
        assert queue.save_checkpoint(database, found.unit_id, found.token, str(attempt).encode())
        with database.write() as session:
            session.execute(update(Unit).values(lease_until=Unit.lease_until - 1000.0))
        assert queue.sweep(database).requeued == [found.unit_id]
    # Without coming further it has three.
    for left in (True, False):
        claim(database, lease_s=60.0)
        with database.write() as session:
            session.execute(update(Unit).values(lease_until=Unit.lease_until - 1000.0))
        assert bool(queue.sweep(database).requeued) == left


def test_one_worker_of_several_plans_and_is_not_waited_for_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = study_with_units(database, [make_unit("u", [0])])
    for name in ("a", "b"):
        queue.worker_seen(database, name)
    assert planning.active_studies(database) == {study_id: True}
    with planner_turn(database, study_id) as turn:
        assert turn is not None
        assert planning.active_studies(database) == {study_id: False}
        with planner_turn(database, study_id) as second:
            assert second is None
        assert turn.wait()
    found = claim(database)
    assert queue.complete_unit(database, found.unit_id, found.token, make_result(found.unit))
    assert planning.active_studies(database) == {study_id: True}
    # A planner that died.
    monkeypatch.setattr(planning, "PLAN_LEASE_S", -1.0)
    assert planning.begin_one(database, [study_id]) == study_id
    with planner_turn(database, study_id) as turn:
        assert turn is not None
        assert turn.wait()


def test_workers_of_a_cluster_plan_each_another_study(database: Database) -> None:
    for name in ("a", "b"):
        queue.worker_seen(database, name)
    specs = [make_spec(seed).model_copy(update={"priority": seed}) for seed in range(5)]
    ids = [studies.create_study(database, one).id for one in specs]
    waiting = [study_id for study_id, waits in planning.active_studies(database).items() if waits]
    assert waiting == ids[::-1], "the highest priority first"
    taken: list[str | None] = []

    def begin() -> None:
        while (study_id := planning.begin_one(database, ids)) is not None:
            taken.append(study_id)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, taken)) == sorted(ids), "each once"
    assert planning.active_studies(database) == dict.fromkeys(waiting, False)
    with planning.turn_of(database, ids[0]) as turn:
        assert turn is not None
    # Nothing was decided, and nothing is new, but nothing runs either.
    assert planning.begin_one(database, ids) == ids[0]
