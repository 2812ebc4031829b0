"""The life of a study through REST and the SDK client."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from api_support import SPEC, CountingDispatcher, check_problem, make_client, studies_n

from optim_core.recommend import recommend
from optim_core.search import Finish, Plan, plan
from service.api import hub
from service.client import ApiError, Client, Unreachable
from service.db.repositories import StudyRepository
from service.dispatch.null import NullDispatcher
from service.operations import queue
from tests.db.support import planner_turn
from tests.e2e.cli_support import write_table
from tests.own_key import OWN_KEY

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from study_simulator import answer as simulated
from study_simulator import bowl


def finish(database, study_id: str) -> None:
    """Work the study off with an oracle in place of training."""
    while True:
        with planner_turn(database, study_id) as turn:
            assert turn is not None
            step = plan(turn.view)
            if isinstance(step, Finish):
                assert turn.finish(recommend(turn.view))
                return
            assert isinstance(step, Plan)
            turn.apply_plan(list(step.units), step.note)
        while (claim := queue.claim_unit(database, "w", 60, study_id=study_id)) is not None:
            result = simulated(claim.unit, bowl({}), 0.01)
            assert queue.complete_unit(database, claim.unit_id, claim.token, result)


def test_create_look_list_cancel_delete(database) -> None:
    dispatcher = CountingDispatcher()
    client = make_client(database, dispatcher)
    made = client.post("/v1/studies?wait=30", json={**SPEC, "name": "first"})
    assert made.status_code == 202
    path = made.headers["location"]
    assert path == f"/v1/studies/{made.json()['id']}"
    assert dispatcher.rung == ["control"]
    study = client.get(path).json()
    assert (study["status"], study["name"], study["model"], study["dataset"]) == ("queued", "first", "mlp", "iris")
    assert [s["id"] for s in client.get("/v1/studies").json()["items"]] == [study["id"]]
    check_problem(client.delete(path), 409, "study_running")
    check_problem(client.get(f"{path}/recommendation"), 409, "not_ready")
    check_problem(client.post(f"{path}/finish"), 409, "nothing_to_finish")
    assert client.post(f"{path}/pause").json()["status"] == "paused"
    assert client.post(f"{path}/resume").json()["status"] == "queued"
    check_problem(client.post(f"{path}/resume"), 409, "already_running")
    assert client.post(f"{path}/cancel").json()["status"] == "cancelled"
    assert client.post(f"{path}/finish").json()["status"] == "cancelled"
    assert client.delete(path).status_code == 204
    check_problem(client.get(path), 404, "study_not_found")
    assert studies_n(database) == 0


def test_a_finished_study_answers_and_streams_its_events(database) -> None:
    client = make_client(database)
    study_id = client.post("/v1/studies?wait=30", json=SPEC).json()["id"]
    finish(database, study_id)
    document = client.get(f"/v1/studies/{study_id}/recommendation").json()
    assert document["schema"] == "whichopt.recommendation/1"
    assert document["study"] == study_id
    trials = client.get(f"/v1/studies/{study_id}/trials?sort=metric&limit=500").json()["items"]
    values = [t["objective"] for t in trials if t["objective"] is not None]
    assert values == sorted(values)
    one = client.get(f"/v1/studies/{study_id}/trials/0").json()
    assert one["optimizer"] == "adamw"
    check_problem(client.get(f"/v1/studies/{study_id}/trials/9999"), 404, "trial_not_found")
    confirmed = next(trial for trial in trials if trial["stage"] == "confirm")
    assert confirmed["split"] == "test"
    assert client.get(f"/v1/studies/{study_id}/trials/{confirmed['number']}").json()["scores"] == confirmed["scores"]
    splits = client.get(f"/v1/studies/{study_id}/trials/{confirmed['number']}/rows").json()["splits"]
    assert {split: len(found["values"]) for split, found in splits.items()} == {
        split: found["rows"] for split, found in confirmed["scores"].items()
    }
    assert splits["validation"]["fold"] == (splits["test"]["fold"] + 1) % 5
    check_problem(client.get(f"/v1/studies/{study_id}/trials/9999/rows"), 404, "trial_not_found")
    text = client.get(f"/v1/studies/{study_id}/events").text
    ids = [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
    assert ids == list(range(1, len(ids) + 1))
    assert "event: recommendation" in text
    later = client.get(f"/v1/studies/{study_id}/events", headers={"Last-Event-ID": str(ids[-2])}).text
    assert [line for line in later.splitlines() if line.startswith("id: ")] == [f"id: {ids[-1]}"]
    check_problem(client.get(f"/v1/studies/{study_id}/events", headers={"Last-Event-ID": "x"}), 400, "invalid_event_id")
    # A browser that comes back after the end is told not to do so again (EventSource stops at 204), and the SDK ends.
    over = client.get(f"/v1/studies/{study_id}/events", headers={"Last-Event-ID": str(ids[-1])})
    assert (over.status_code, over.content) == (204, b"")
    with Client("http://testserver", OWN_KEY, transport=client._transport) as sdk:
        assert list(sdk.events(study_id, last_id=ids[-1])) == []


def test_lists_are_paged_without_gaps_or_repeats(database) -> None:
    client = make_client(database)
    made = [client.post("/v1/studies", json=SPEC).json()["id"] for _ in range(7)]
    seen, cursor = [], None
    while True:
        page = client.get("/v1/studies", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [s["id"] for s in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]
    check_problem(client.get("/v1/studies?cursor=nonsense"), 422, "invalid_cursor")
    for query in ("limit=0", "limit=-1", "limit=1000000000", "status=drop", "limit=x"):
        check_problem(client.get(f"/v1/studies?{query}"), 422, "invalid_parameter")


def test_one_idempotency_key_makes_one_study_even_at_once(database) -> None:
    client = make_client(database)
    answers = []

    def create() -> None:
        answers.append(client.post("/v1/studies", json=SPEC, headers={"Idempotency-Key": "k1"}))

    threads = [threading.Thread(target=create) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["id"] for a in answers}) == 1
    other = client.post("/v1/studies", json={**SPEC, "seed": 5}, headers={"Idempotency-Key": "k1"})
    check_problem(other, 422, "idempotency_key_reused")
    bad = client.post("/v1/studies", json=SPEC, headers={"Idempotency-Key": "k" * 300})
    check_problem(bad, 400, "invalid_idempotency_key")
    assert studies_n(database) == 1


def test_a_repeat_is_answered_when_the_file_is_gone(database, tmp_path: Path) -> None:
    dataset = {"kind": "file", "path": str(write_table(tmp_path / "table.csv")), "target": "price"}
    client = make_client(database, data_roots=[tmp_path])
    key = {"Idempotency-Key": "once"}
    first = client.post("/v1/studies?wait=30", json={**SPEC, "dataset": dataset}, headers=key)
    (tmp_path / "table.csv").unlink()
    again = client.post("/v1/studies?wait=30", json={**SPEC, "dataset": dataset}, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    check_problem(client.post("/v1/studies?wait=30", json={**SPEC, "dataset": dataset}), 422, "file_missing")
    reused = client.post("/v1/studies?wait=30", json={**SPEC, "seed": 9}, headers=key)
    check_problem(reused, 422, "idempotency_key_reused")


def test_edges_of_http(database) -> None:
    client = make_client(database)
    check_problem(client.get("/v1/nothing"), 404, "not_found")
    refused = client.put("/v1/studies")
    check_problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"]
    assert client.get("/openapi.json").json()["info"]["title"] == "Whichopt"
    assert client.get("/healthz").json() == {"status": "ok"}


def test_readiness_tells_what_is_missing(database) -> None:
    ready = make_client(database).get("/readyz").json()
    assert (ready["status"], ready["database"], ready["broker"], ready["workers"]) == ("ok", "ok", "ok", "none")
    away = make_client(database, CountingDispatcher(healthy=False)).get("/readyz")
    assert (away.status_code, away.json()["status"], away.json()["broker"]) == (200, "degraded", "away")
    assert make_client(database, CountingDispatcher(healthy=None)).get("/readyz").json()["broker"] == "none"
    assert NullDispatcher().healthy() is None


def test_a_study_that_waits_for_a_worker_that_is_not_there_is_no_ok(database) -> None:
    client = make_client(database)
    own_loop = {"model": {"kind": "external", "steps": 9}, "metric": "loss", "budget": {"trials": 5}}
    assert client.post("/v1/studies", json=own_loop).status_code == 202
    assert client.get("/readyz").json()["status"] == "ok"  # its clients train it
    study_id = client.post("/v1/studies", json=SPEC).json()["id"]
    waits = client.get("/readyz")
    assert (waits.status_code, waits.json()["status"], waits.json()["workers"]) == (200, "degraded", "none")
    assert waits.json()["queue"]["studies"] == 1
    queue.worker_seen(database, "w")
    assert client.get("/readyz").json()["status"] == "ok"
    queue.worker_gone(database, "w")
    client.post(f"/v1/studies/{study_id}/cancel")
    assert client.get("/readyz").json()["status"] == "ok"


def test_the_catalogue_is_served(database) -> None:
    client = make_client(database)
    rows = client.get("/v1/optimizers").json()["items"]
    assert {"sgd", "adamw", "lion"} <= {row["name"] for row in rows}
    assert client.get("/v1/optimizers/adamw").json()["state_bytes_per_parameter"] == 8.0
    check_problem(client.get("/v1/optimizers/adamv"), 404, "not_found")
    assert {row["name"] for row in client.get("/v1/schedules").json()["items"]} >= {"constant", "cosine", "one_cycle"}


def test_the_sdk_speaks_to_a_real_server(database) -> None:
    from workers.embedded import serve_in_thread

    with serve_in_thread(make_client(database).app) as url, Client(url, OWN_KEY) as sdk:
        study_id = sdk.create_study(SPEC, idempotency_key="a")["id"]
        assert sdk.create_study(SPEC, idempotency_key="a")["id"] == study_id
        with pytest.raises(ApiError) as refused:
            sdk.create_study({**SPEC, "optimizrs": 1})
        assert refused.value.errors[0]["pointer"] == "/optimizrs"
        seen: list[dict] = []
        listener = threading.Thread(target=lambda: seen.extend(sdk.events(study_id)))
        listener.start()
        finish(database, study_id)
        listener.join(timeout=120)
        assert not listener.is_alive()
        assert [event["id"] for event in seen] == list(range(1, len(seen) + 1))
        assert seen[-1]["type"] in {"study.state", "recommendation"}
        assert sdk.recommendation(study_id)["verdict"] in {"better", "no_difference", "inconclusive"}
    with Client("http://127.0.0.1:1") as nobody, pytest.raises(Unreachable):
        nobody.get_study("x")


def test_a_parameter_that_does_not_exist_is_refused_by_name(database) -> None:
    client = make_client(database)
    for path in ("/v1/studies?sttus=failed", "/v1/studies/none/export?formt=json", "/v1/keys?a=b"):
        problem = check_problem(client.get(path), 422, "invalid_parameter")
        assert problem["errors"][0]["pointer"] == "/" + path.partition("?")[2].partition("=")[0]


@pytest.mark.parametrize(("room", "reads"), [(hub, "look"), (StudyRepository, "heads")])
def test_a_study_that_ends_between_two_reads_of_its_stream_sends_its_last_events(
    database, monkeypatch, room, reads
) -> None:
    client = make_client(database)
    study_id = client.post("/v1/studies?wait=30", json=SPEC).json()["id"]
    read, calls = getattr(room, reads), iter(range(1000))

    def read_and_then_end(*arguments):
        found = read(*arguments)
        if next(calls) == 1:
            finish(database, study_id)
        return found

    monkeypatch.setattr(room, reads, read_and_then_end)
    text = client.get(f"/v1/studies/{study_id}/events").text
    assert "event: recommendation" in text
    assert text.endswith("event: end\ndata: {}\n\n")


def test_the_sdk_takes_up_a_stream_that_was_cut_and_says_when_nobody_sends_its_end() -> None:
    event = "id: {0}\nevent: stage\ndata: {{}}\n\n".format
    answers = iter([event(1) + event(2), event(3), "", event(4) + "event: end\ndata: {}\n\n"])
    asked: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("last-event-id"))
        return httpx2.Response(200, text=next(answers, ""), headers={"Content-Type": "text/event-stream"})

    with Client("http://x", transport=httpx2.MockTransport(answer)) as sdk:
        assert [event["id"] for event in sdk.events("s")] == [1, 2, 3, 4]
        assert asked == [None, "2", "3", "3"]
        with pytest.raises(Unreachable, match="stopped before the study ended"):
            list(sdk.events("s"))


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been slept, which pass at once."""
    naps: list[float] = []
    clock = time.monotonic
    monkeypatch.setattr(time, "sleep", naps.append)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(naps))
    return naps


def sdk_of(*answers: httpx2.Response | type[Exception]) -> Client:
    """An SDK whose server gives these answers in turn, and the last for ever."""
    left = list(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        now = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(now, httpx2.Response):
            return httpx2.Response(now.status_code, headers=now.headers, content=now.content)
        raise now("no")

    return Client("http://x", transport=httpx2.MockTransport(answer))


BUSY = httpx2.Response(503, json={"code": "overloaded", "detail": "later"}, headers={"Retry-After": "7"})
MADE = {"id": "s", "status": "queued", "error": None}
DONE = httpx2.Response(200, json=MADE)


def test_the_sdk_asks_again_when_the_server_says_so(slept: list[float]) -> None:
    assert sdk_of(BUSY, BUSY, DONE).get_study("s") == MADE
    assert slept == [7.0, 7.0]
    slept.clear()
    assert sdk_of(BUSY, httpx2.ConnectError, BUSY, DONE).create_study(SPEC, idempotency_key="k") == MADE
    assert len(slept) == 3
    slept.clear()
    limited = httpx2.Response(429, json={"code": "rate_limited", "detail": "slower"}, headers={"Retry-After": "20"})
    assert sdk_of(limited, DONE).inspect(SPEC) == MADE
    assert slept == [20.0]


def test_the_sdk_gives_a_busy_server_a_minute_and_an_absent_one_seconds(slept: list[float]) -> None:
    with pytest.raises(ApiError) as busy:
        sdk_of(BUSY).get_study("s")
    assert (busy.value.status, busy.value.code) == (503, "overloaded")
    assert 50 <= sum(slept) <= 60
    slept.clear()
    with pytest.raises(Unreachable):
        sdk_of(httpx2.ConnectError).get_study("s")
    assert sum(slept) < 10


def test_the_sdk_repeats_nothing_that_may_have_happened(slept: list[float]) -> None:
    for answer in (BUSY, httpx2.ReadError):
        for call in (lambda sdk: sdk.create_study(SPEC), lambda sdk: sdk.resume("s"), lambda sdk: sdk.delete("s")):
            with pytest.raises((ApiError, Unreachable)):
                call(sdk_of(answer, DONE))
    assert slept == []
    assert sdk_of(httpx2.ConnectError, DONE).create_study(SPEC) == MADE


def test_a_stream_waits_for_a_busy_server(slept: list[float]) -> None:
    stream = {"Content-Type": "text/event-stream"}
    whole = httpx2.Response(
        200, text="retry: 5\n\n: ping\n\nid: 1\nevent: stage\ndata: {}\n\nevent: end\ndata: {}\n\n", headers=stream
    )
    assert list(sdk_of(BUSY, whole).events("s")) == [{"id": 1, "type": "stage", "data": {}}]
    assert slept == [7.0]
    with pytest.raises(Unreachable, match="overloaded: later"):
        list(sdk_of(BUSY).events("s"))
    gone = httpx2.Response(404, json={"code": "study_not_found", "detail": "no"})
    with pytest.raises(ApiError):
        list(sdk_of(gone).events("s"))
