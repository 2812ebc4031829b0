"""Whether what a database tells of its studies can have happened: the rules H1 to H10 that no fault may break.

``read`` takes everything once; each rule looks at that and returns what it found wrong, a sentence each.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select

from optim_core.spec.states import STUDY_ENDED, STUDY_TRANSITIONS, TRIAL_ENDED, UNIT_ENDED, StudyState, UnitState
from service.db import Database
from service.db.base import Base
from service.db.models import (
    Checkpoint,
    Curve,
    Delivery,
    Event,
    IdempotencyKey,
    StoredArtifact,
    StoredRecommendation,
    Study,
    Trial,
    Unit,
)
from service.operations.artifact_folder import ArtifactFolder
from tests.e2e.cli_support import timeless

Row = Mapping[str, Any]
# Ends of claims that leave an event. A unit that was released leaves none.
_TAKEN_BACK = "unit.requeued"
# Sums of floats in another order.
_CLOSE = 1e-6
# By which the clock of a machine may be set back.
_SET_BACK_S = 1.0


@dataclass(frozen=True)
class Call:
    """What a client knows of one POST of a study: its Idempotency-Key, the study's name, and how it ended.

    ``unknown``: the connection broke, so it may have been done or not.
    """

    key: str
    name: str
    outcome: Literal["ok", "fail", "unknown"]
    study_id: str | None = None


@dataclass(frozen=True)
class History:
    """Everything that is stored, read at one time, and what clients saw. ``events``: of each study, by their ids.

    ``streamed``: ids of events in the order in which a client got them, of each study that one listened to.
    """

    studies: Sequence[Row]
    units: Sequence[Row]
    trials: Sequence[Row]
    events: Mapping[str, Sequence[Row]]
    keys: Mapping[str, str]
    answers: Mapping[str, dict[str, Any]]
    deliveries: Sequence[Row]
    artifacts: Sequence[Row]
    leftovers: Sequence[str] = ()
    folder: Path | None = None
    calls: Sequence[Call] = ()
    streamed: Mapping[str, Sequence[int]] = field(default_factory=dict)
    undisturbed: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def read(
    database: Database,
    *,
    folder: Path | None = None,
    calls: Sequence[Call] = (),
    streamed: Mapping[str, Sequence[int]] | None = None,
    undisturbed: Mapping[str, dict[str, Any]] | None = None,
) -> History:
    """The history of a database that nothing works on any more.

    ``folder``: of uploaded files. ``undisturbed``: of each study's name, the answer that it has where nothing goes wrong.
    """
    with database.read() as session:

        def rows(table: type[Base]) -> list[Row]:
            columns = [
                column for column in table.__table__.columns if column.name not in ("data", "points") or table is Event
            ]
            return [dict(row) for row in session.execute(select(*columns)).mappings()]

        events: dict[str, list[Row]] = defaultdict(list)
        for event in sorted(rows(Event), key=lambda row: (row["study_id"], row["id"])):
            events[event["study_id"]].append(event)
        units = rows(Unit)
        ended = {unit["id"]: unit["key"] for unit in units if unit["state"] == UnitState.DONE}
        leftovers = [f"a checkpoint of {ended[r['unit_id']]}" for r in rows(Checkpoint) if r["unit_id"] in ended]
        known = {unit["id"] for unit in units}
        leftovers += [f"a curve of unit {r['unit_id']}" for r in rows(Curve) if r["unit_id"] not in known]
        return History(
            studies=rows(Study), units=units, trials=rows(Trial), events=events, leftovers=leftovers,
            keys={row["key"]: row["study_id"] for row in rows(IdempotencyKey)},
            answers={row["study_id"]: row["document"] for row in rows(StoredRecommendation)},
            deliveries=rows(Delivery), artifacts=rows(StoredArtifact), folder=folder, calls=calls,
            streamed=streamed or {}, undisturbed=undisturbed or {},
        )  # fmt: skip


def violations(history: History) -> list[str]:
    """What breaks a rule, each sentence after the rule's name; empty for a history that can have happened."""
    return [f"{rule}: {said}" for rule, check in RULES.items() for said in check(history)]


def _h1(history: History) -> Iterator[str]:
    """What was acknowledged exists, exactly once."""
    names, ids = Counter(study["name"] for study in history.studies), {study["id"] for study in history.studies}
    for call in history.calls:
        if call.outcome != "ok":
            continue
        if call.study_id not in ids:
            yield f"{call.name} was acknowledged as {call.study_id}, which does not exist"
        if names[call.name] != 1:
            yield f"{call.name} was acknowledged and exists {names[call.name]} times"
        if history.keys.get(call.key) != call.study_id:
            yield f"the key {call.key} of {call.name} leads to {history.keys.get(call.key)}, not to {call.study_id}"


def _h2(history: History) -> Iterator[str]:
    """What may have been done was done once or not at all, and every answer to its repetition names the same study."""
    names, given = Counter(study["name"] for study in history.studies), defaultdict(set)
    for call in history.calls:
        if call.outcome == "unknown" and names[call.name] > 1:
            yield f"{call.name}, of unknown outcome, exists {names[call.name]} times"
        if call.study_id is not None:
            given[call.key].add(call.study_id)
    for key, ids in given.items():
        if len(ids) > 1:
            yield f"the key {key} was answered with {sorted(ids)}"
    asked = {call.name for call in history.calls if call.outcome != "fail"}
    for name in names if history.calls else ():
        if name not in asked:
            yield f"{name} exists, and nobody asked for it"


def _h3(history: History) -> Iterator[str]:
    """A trial has one result a rung, a unit is committed once, and a fence rises with each claim."""
    for study in history.studies:
        told = _of(history, study)
        results = Counter((e["data"]["number"], e["data"]["rung"]) for e in told if e["type"] == "trial.done")
        for (number, rung), times in results.items():
            if times > 1:
                yield f"trial {number} has {times} results on rung {rung}"
        commits = Counter(e["data"]["unit"] for e in told if e["type"] == "unit.done")
        claims = Counter(e["data"]["unit"] for e in told if e["type"] == "unit.started")
        for unit in _units(history, study):
            done = unit["state"] == UnitState.DONE
            if commits[unit["key"]] != done:
                yield f"{unit['key']} is {unit['state']} and was committed {commits[unit['key']]} times"
            if claims[unit["key"]] != unit["fence"]:
                yield f"{unit['key']} was claimed {claims[unit['key']]} times, its fence is {unit['fence']}"


def _h4(history: History) -> Iterator[str]:
    """A unit is claimed when nobody holds it: after it was taken back, or released, which burns no attempt."""
    for study in history.studies:
        attempt: dict[str, int] = {}
        taken_back: dict[str, bool] = {}
        at = 0.0
        for event in _of(history, study):
            if event["at"] < at - _SET_BACK_S:
                yield f"event {event['id']} of {study['id']} lies before the one before it"
            at = event["at"]
            unit = event["data"].get("unit")
            if event["type"] == "unit.started":
                now, before = event["data"]["attempt"], attempt.get(unit)
                if before is not None and now > before and not taken_back.get(unit):
                    yield f"{unit} was claimed for attempt {now} while attempt {before} held it"
                attempt[unit], taken_back[unit] = now, False
            elif event["type"] in (_TAKEN_BACK, "unit.done"):
                if taken_back.get(unit, True):
                    yield f"{unit}: {event['type']}, and nobody held it"
                taken_back[unit] = True
            elif event["type"] == "study.state" and event["data"]["state"] in (StudyState.QUEUED, StudyState.FAILED):
                # A failed unit waits again with all its attempts when its study goes on.
                attempt.clear()


def _h5(history: History) -> Iterator[str]:
    """States change as the tables say, events say how, and what has ended looks so."""
    for study in history.studies:
        states = [StudyState(e["data"]["state"]) for e in _of(history, study) if e["type"] == "study.state"]
        for before, after in pairwise(states):
            if after not in STUDY_TRANSITIONS[before]:
                yield f"{study['id']} went from {before} to {after}"
        if not states or states[-1] != study["state"]:
            yield f"{study['id']} is {study['state']}, its last event says {states[-1:]}"
        if (study["finished_at"] is not None) != (study["state"] in STUDY_ENDED):
            yield f"{study['id']} is {study['state']} and has finished_at {study['finished_at']}"
        if (study["id"] in history.answers) != (study["state"] == StudyState.COMPLETED):
            yield f"{study['id']} is {study['state']}, and has an answer or not"
        ends = sum(state in STUDY_ENDED for state in states)
        for hook, told in Counter(r["webhook_id"] for r in history.deliveries if r["study_id"] == study["id"]).items():
            if told != ends:
                yield f"{study['id']} ended {ends} times, and {hook} is told of {told}"
        yield from _looks(history, study)


def _looks(history: History, study: Row) -> Iterator[str]:
    for unit in _units(history, study):
        if (unit["result"] is not None) != (unit["state"] == UnitState.DONE):
            yield f"{unit['key']} is {unit['state']}, and has a result or not"
        if (unit["lease_until"] is not None) != (unit["state"] == UnitState.LEASED):
            yield f"{unit['key']} is {unit['state']} and leased until {unit['lease_until']}"
    for trial in history.trials if study["state"] == StudyState.COMPLETED else ():
        if trial["study_id"] == study["id"] and trial["state"] not in TRIAL_ENDED:
            yield f"trial {trial['number']} is {trial['state']} in a completed study"


def _h6(history: History) -> Iterator[str]:
    """After the faults everything ends. The caller has waited as long as that may take."""
    for study in history.studies:
        if study["state"] not in (*STUDY_ENDED, StudyState.PAUSED):
            yield f"{study['id']} is still {study['state']}"
        if study["state"] in (StudyState.COMPLETED, StudyState.CANCELLED):
            for unit in _units(history, study):
                if unit["state"] not in UNIT_ENDED:
                    yield f"{unit['key']} is still {unit['state']} in a study that is {study['state']}"


def _h7(history: History) -> Iterator[str]:
    """Events count 1, 2, 3 …, as stored and as a client gets them."""
    for study in history.studies:
        ids = [event["id"] for event in _of(history, study)]
        if ids != list(range(1, study["event_seq"] + 1)):
            yield f"{study['id']} has events {_gaps(ids, study['event_seq'])} of {study['event_seq']}"
        seen = list(history.streamed.get(study["id"], ()))
        if seen != list(range(1, len(seen) + 1)):
            yield f"a client saw {seen} of {study['id']}"


def _h8(history: History) -> Iterator[str]:
    """Each file has its row, each row its file, and nothing is kept for what has ended."""
    yield from (f"{what} is left" for what in history.leftovers)
    if history.folder is None:
        return
    folder, expected = ArtifactFolder(history.folder), set()
    for row in history.artifacts:
        path = folder.path(row["sha256"], row["format"])
        expected.add(path)
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            yield f"the file of {row['name']} is missing or another"
    found = {path for path in history.folder.rglob("*") if path.is_file()} if history.folder.is_dir() else set()
    yield from (f"{path.relative_to(history.folder)} has no row" for path in found - expected)


def _h9(history: History) -> Iterator[str]:
    """What a study counts is what its trials and units add up to."""
    for study in history.studies:
        units = [unit for unit in _units(history, study) if unit["state"] == UnitState.DONE]
        trials = [trial for trial in history.trials if trial["study_id"] == study["id"]]
        steps = sum((unit["result"] or {}).get("train_steps", 0) for unit in units)
        device_s = sum(unit["finished_at"] - unit["claimed_at"] for unit in units)
        measured = [trial for trial in trials if trial["objective"] is not None]
        for what, counted, found in (
            ("trials_done", study["trials_done"], len(measured)),
            ("trials_planned", study["trials_planned"], len(trials)),
            ("confirm_done", study["confirm_done"], sum(t["stage"] in ("screen", "confirm") for t in measured)),
            ("train_steps", study["train_steps"], steps),
            ("device_s", study["device_s"], device_s),
        ):
            if abs(counted - found) > _CLOSE * max(1.0, abs(found)):
                yield f"{study['id']} counts {what} = {counted}, and it is {found}"


def _h10(history: History) -> Iterator[str]:
    """The answer is that of an undisturbed run, but for what depends on the clock."""
    for study in history.studies:
        expected, found = history.undisturbed.get(study["name"]), history.answers.get(study["id"])
        if expected is None:
            continue
        if found is None or timeless(found) != timeless(expected):
            yield f"{study['name']} is answered otherwise: {_difference(found, expected)}"


def _of(history: History, study: Row) -> Sequence[Row]:
    return history.events.get(study["id"], [])


def _units(history: History, study: Row) -> list[Row]:
    return [unit for unit in history.units if unit["study_id"] == study["id"]]


def _gaps(ids: Sequence[int], last: int) -> str:
    missing, extra = sorted(set(range(1, last + 1)) - set(ids)), sorted(set(ids) - set(range(1, last + 1)))
    return f"without {missing}, with {extra}"


def _difference(found: dict[str, Any] | None, expected: dict[str, Any]) -> str:
    if found is None:
        return "not at all"
    one, other = timeless(found), timeless(expected)
    return ", ".join(f"{key}: {one.get(key)!r} / {other.get(key)!r}" for key in other if one.get(key) != other[key])[
        :600
    ]


RULES: Mapping[str, Callable[[History], Iterator[str]]] = {
    "H1": _h1, "H2": _h2, "H3": _h3, "H4": _h4, "H5": _h5, "H6": _h6, "H7": _h7, "H8": _h8, "H9": _h9, "H10": _h10,
}  # fmt: skip
