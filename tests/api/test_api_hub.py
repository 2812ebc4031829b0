"""Those who wait for studies share one look at the database, hear at once, and cost nothing while nothing happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from time import monotonic
from typing import Any

import httpx2
import pytest

from optim_core.spec.validation import parse_spec
from service.api import asking, hub
from service.db import Database, DatabaseUnavailable
from service.operations import access, studies
from service.operations.access import OWNER, Caller
from service.operations.events import Head, events_after, look
from tests.api.api_support import make_client
from tests.own_key import AS_OWNER
from workers.embedded import serve_in_thread

LOOP = parse_spec({"model": {"kind": "external", "steps": 9}, "metric": "loss", "budget": {"trials": 5}})


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The studies of each look."""
    found: list[set[str]] = []

    def counting(database: Database, known: Any, limit: int) -> Any:
        found.append(set(known))
        return look(database, known, limit)

    monkeypatch.setattr(hub, "look", counting)
    return found


def ids(heard: hub.Heard | None) -> list[int]:
    assert heard is not None
    return [event.id for event in heard.events]


def test_many_who_wait_for_many_studies_share_each_look_and_all_hear_what_happens(
    database: Database, looks: list[set[str]]
) -> None:
    made = [studies.create_study(database, LOOP).id for _ in range(5)]

    async def run() -> None:
        mine = hub.Hub(database)
        with ExitStack() as stack:
            watches = {one: [stack.enter_context(mine.watch(one, OWNER)) for _ in range(20)] for one in made}
            last = {one: (await watches[one][0].heard(0)).head.last for one in made}  # type: ignore[union-attr]
            looks.clear()
            begun = monotonic()
            waiting = [asyncio.create_task(watch.heard(last[one])) for one in made[:2] for watch in watches[one]]
            await asyncio.to_thread(studies.pause_study, database, made[0])
            await asyncio.to_thread(studies.pause_study, database, made[1])
            for heard in await asyncio.gather(*waiting):
                assert ids(heard)[-1] > heard.since  # type: ignore[union-attr]
            # A look for each time that passed, not for each of a hundred that wait.
            assert len(looks) <= 2 + (monotonic() - begun) / hub.FIRST_S
        assert set().union(*looks) <= set(made)

    asyncio.run(run())
    assert not [one for one in threading.enumerate() if one.name == "hub" and one.join(20)]


def test_looks_become_rare_while_nothing_happens(
    database: Database, looks: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    study = studies.create_study(database, LOOP).id
    mine = hub.Hub(database)
    monkeypatch.setattr(hub, "thread", lambda *_: threading.Thread())  # its turns are ours
    monkeypatch.setattr(hub, "monotonic", lambda: now[0])

    async def run() -> None:
        with mine.watch(study, OWNER):
            at: list[float] = []
            topic = mine._topics[study]
            for _ in range(10):
                now[0] = max(now[0], topic.due)
                at.append(now[0])
                mine._look({study: topic})
            assert [b - a for a, b in pairwise(at)][-4:] == [hub.LAST_S] * 4
            studies.pause_study(database, study)
            now[0] = topic.due
            mine._look({study: topic})
            assert topic.due - now[0] <= hub.SOON_S

    asyncio.run(run())


def test_who_is_further_behind_than_what_is_kept_reads_by_itself(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "KEPT", 2)
    study = studies.create_study(database, LOOP).id

    async def run() -> None:
        with hub.Hub(database).watch(study, OWNER) as watch:
            first = await watch.heard(0)
            assert first is not None
            assert first.head is not None
            last = first.head.last
            for change in (studies.pause_study, studies.resume_study, studies.pause_study, studies.cancel_study):
                await asyncio.to_thread(change, database, study)
            while (heard := await watch.heard(last)) is not None and not heard.ended:
                last = heard.head.last if heard.head else last
            every = [event.id for event in events_after(database, study, 0)]
            assert (ids(heard), heard and heard.since) == (every[-2:], every[-3])

    asyncio.run(run())


def test_a_study_that_is_removed_ends_what_listens(database: Database) -> None:
    study = studies.create_study(database, LOOP).id

    async def run() -> None:
        with hub.Hub(database).watch(study, OWNER) as watch:
            first = await watch.heard(0)
            assert first is not None
            await asyncio.to_thread(studies.cancel_study, database, study)
            await asyncio.to_thread(studies.delete_study, database, study)
            while await watch.heard(10**6):
                pass
            assert await watch.heard(0) is None

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["key", "session"])
def test_a_revoked_key_ends_its_streams_and_no_others(database: Database, kind: Any) -> None:
    study = studies.create_study(database, LOOP).id
    keys = [access.create_key(database), access.create_key(database)]
    callers = [Caller("default", "read", key.id) for key in keys]
    if kind == "session":
        sessions = [access.open_session(database, caller) for caller in callers]
        callers = [found for one in sessions if (found := access.caller_of(database, one, "session"))]

    async def run() -> None:
        mine = hub.Hub(database)
        with mine.watch(study, callers[0]) as revoked, mine.watch(study, callers[1]) as valid:
            first = await valid.heard(0)
            assert first is not None
            assert first.head is not None
            waits = [asyncio.create_task(one.heard(first.head.last)) for one in (revoked, valid)]
            await asyncio.to_thread(access.revoke_key, database, keys[0].id)
            assert await asyncio.wait_for(waits[0], 20) is None
            assert not waits[1].done()
            waits[1].cancel()

    asyncio.run(run())


def test_while_the_database_is_away_they_wait_for_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.create_study(database, LOOP).id
    away = iter([True, False])
    monkeypatch.setattr(hub, "LAST_S", 0.05)

    def refusing(*arguments: Any) -> Any:
        if next(away, False):
            raise DatabaseUnavailable("database_unavailable", "away")
        return look(*arguments)

    monkeypatch.setattr(hub, "look", refusing)

    async def run() -> None:
        with hub.Hub(database).watch(study, OWNER) as watch:
            assert await asyncio.wait_for(watch.heard(0), 20)

    asyncio.run(run())


@pytest.fixture
def served(database: Database) -> Iterator[tuple[str, str]]:
    with serve_in_thread(make_client(database).app) as url:
        yield url, studies.create_study(database, LOOP).id


def test_a_wait_for_a_trial_looks_only_when_something_happened(
    served: tuple[str, str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, study = served
    asked: list[str] = []
    real = asking.asking.worth_asking
    monkeypatch.setattr(asking.asking, "worth_asking", lambda *given: (asked.append(given[1]), real(*given))[1])
    body = {"client_id": "a", "wait_s": 1.5}
    answer = httpx2.post(f"{url}/v1/studies/{study}/ask", json=body, headers=AS_OWNER, timeout=30).json()
    assert answer["trial"] is None
    assert len(asked) <= 3


def test_an_end_is_told_only_after_the_last_event(database: Database) -> None:
    study = studies.create_study(database, LOOP).id
    studies.cancel_study(database, study)
    last = events_after(database, study, 0)[-1].id
    (head, events), *_ = look(database, {study: Head(0, False)}, 1).values()
    assert (head, len(events)) == (Head(1, False), 1)
    (head, events), *_ = look(database, {study: Head(last - 1, False)}, 500).values()
    assert (head, len(events)) == (Head(last, True), 1)
