"""A loop of one's own against a running server: the SDK from the first ask to the verdict."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.client import ApiError, Client, Study, Trial, Unreachable
from service.client.reporter import Reporter
from service.db import Database
from service.operations import events
from tests.conftest import wait_until
from tests.workers.loop_server import SPEC, loop_server, score

FAST = {"lease_s": 2.0, "heartbeat_s": 0.3, "sweep_s": 0.2}
FAR = {"lease_s": 60.0, "heartbeat_s": 15.0}


def train(trial: Trial) -> None:
    for step in range(trial.steps):
        if not trial.report(step + 1, 1 / (1 + step)):
            return
    trial.tell(score(trial.configuration, trial.seed, trial.steps))


def drain(study: Study, client_id: str) -> None:
    with study:
        for trial in study.trials(client_id):
            train(trial)


def together(url: str, study_id: str, names: list[str]) -> None:
    def one(name: str) -> None:
        with Client(url) as client:
            drain(client.study(study_id), name)

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def all_trials(client: Client, study_id: str) -> list[dict[str, Any]]:
    return client.trials(study_id, limit=500)["items"]


def test_four_clients_bring_a_study_to_its_verdict(sqlite: Database, tmp_path: Path) -> None:
    with loop_server(sqlite, tmp_path, **FAR) as client:
        study = client.study(SPEC)
        together(str(client.base_url), study.id, ["a", "b", "c", "d"])
        answer = study.recommendation()
        assert client.get_study(study.id)["status"] == "completed"
        assert answer["verdict"] in ("better", "no_difference", "inconclusive")
        assert answer["recommended"]["optimizer"] == "adamw"
        assert answer["metric"]["name"] == "score"
        trials = all_trials(client, study.id)
        assert {t["state"] for t in trials} <= {"completed", "pruned"}
        assert {t["stage"] for t in trials} >= {"portfolio", "screen", "confirm"}
        assert len(client.trial(study.id, trials[-1]["number"])["curve"]) == 20
        assert {c["id"] for c in client.clients(study.id)} == {"a", "b", "c", "d"}
        # Screening and confirmation have seeds that the search never used.
        seeds = {t["stage"]: {x["seed"] for x in trials if x["stage"] == t["stage"]} for t in trials}
        assert not seeds["screen"] & (seeds["portfolio"] | seeds["confirm"])


def test_what_the_loop_raises_fails_its_trial_and_goes_on_to_its_caller(sqlite: Database, tmp_path: Path) -> None:
    with loop_server(sqlite, tmp_path, **FAR) as client:
        study = client.study(SPEC)

        def run() -> None:
            with study:
                for trial in study.trials("a"):
                    if trial.number == 2:
                        raise RuntimeError("out of memory")
                    train(trial)

        with pytest.raises(RuntimeError, match="out of memory"):
            run()
        assert client.trial(study.id, 2)["state"] == "failed"
        # A loop that forgets to tell is a failure too, and the one that was asked next goes on.
        with study:
            trials = study.trials("a")
            forgotten = next(trials)
            train(next(trials))
        assert client.trial(study.id, forgotten.number)["state"] == "failed"


def test_ctrl_c_leaves_the_trial_to_whoever_comes_back(sqlite: Database, tmp_path: Path) -> None:
    with loop_server(sqlite, tmp_path, **FAR) as client:
        study = client.study(SPEC)
        held = []

        def run() -> None:
            with study:
                for trial in study.trials("a"):
                    held.append(trial)
                    trial.report(7, 0.5)
                    wait_until(lambda: bool(client.trial(study.id, 0)["curve"]), "the report")
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run()
        [before], again = held, next(study.trials("a"))
        assert (again.number, again.attempt, again.resume_from) == (before.number, 1, 7)
        assert again.checkpoint_path("here") == before.checkpoint_path("here")
        again.leave()


def test_a_number_that_is_not_finite_stops_the_loop_at_once(sqlite: Database, tmp_path: Path) -> None:
    with loop_server(sqlite, tmp_path, **FAR) as client:
        study = client.study(SPEC)
        with study:
            trials = study.trials("a")
            trial = next(trials)
            assert trial.report(1, 0.5)
            assert not trial.report(2, math.nan)
            following = next(trials)
            assert client.trial(study.id, trial.number)["diverged_at_step"] == 2
            assert following.number != trial.number
            following.tell(math.inf)
            assert client.trial(study.id, following.number)["state"] == "diverged"


def test_a_cancelled_study_stops_its_loops(sqlite: Database, tmp_path: Path) -> None:
    with loop_server(sqlite, tmp_path, **FAST) as client:
        study = client.study(SPEC)
        with study:
            for trial in study.trials("a"):
                client.cancel(study.id)
                step = 0
                while trial.report(min(step, trial.steps), 0.1):
                    step += 1
                    time.sleep(0.01)
                assert not trial.tell(1.0)
        with pytest.raises(ApiError) as refused:
            study.recommendation()
        assert refused.value.code == "study_cancelled"


CHILD = """
import sys, time
from service.client import Client
with Client(sys.argv[1]) as client, client.study(sys.argv[2]) as study:
    for trial in study.trials("doomed"):
        trial.report(5, 0.5)
        time.sleep(1)
        print("holds", trial.number, flush=True)
        time.sleep(600)
"""


def test_kill_9_in_a_trial_it_is_given_out_once_more_and_the_verdict_is_reached(
    sqlite: Database, tmp_path: Path
) -> None:
    with loop_server(sqlite, tmp_path, **FAST) as client:
        study = client.study(SPEC)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(client.base_url), study.id], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )  # fmt: skip
        assert child.stdout is not None
        word, _, number = child.stdout.readline().partition(" ")
        assert word == "holds"
        # It lives for longer than a lease by its heartbeats alone.
        time.sleep(2.5)
        assert [c["late"] for c in client.clients(study.id)] == [False]
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        together(str(client.base_url), study.id, ["heir", "other"])
        assert client.get_study(study.id)["status"] == "completed"
        assert client.trial(study.id, int(number))["state"] in ("completed", "pruned")
        told = [
            e for e in events.events_after(sqlite, study.id, 0, 5000) if e.type in ("unit.started", "unit.requeued")
        ]
        starts = Counter(e.data["unit"] for e in told if e.type == "unit.started")
        assert sorted(starts.values(), reverse=True)[:2] == [2, 1]
        assert [e.data["code"] for e in told if e.type == "unit.requeued"] == ["client_lost"]
        assert {t["state"] for t in all_trials(client, study.id)} <= {"completed", "pruned"}


def test_a_server_that_is_away_is_waited_for_and_nothing_is_lost() -> None:
    sent: list[dict[str, Any]] = []
    away = threading.Event()
    away.set()

    def send(points: list[dict[str, Any]]) -> dict[str, Any]:
        if away.is_set():
            raise OSError("nobody there")
        sent.extend(points)
        return {"go_on": True, "reason": None}

    reporter = Reporter(send, 0.01)
    for step in range(2500):
        reporter.add({"step": step, "loss": 1.0})
    time.sleep(0.1)
    assert sent == []
    assert not reporter.stopped.is_set()
    away.clear()
    wait_until(lambda: len(sent) == 2500, "the points")
    reporter.close(flush=True)
    assert [p["step"] for p in sent] == list(range(2500))


def test_specs_and_keys_are_shared_by_processes(sqlite: Database, tmp_path: Path) -> None:
    with loop_server(sqlite, tmp_path) as client:
        assert client.study(SPEC, key="run-7").id == client.study(SPEC, key="run-7").id
        assert client.study(SPEC).id != client.study(SPEC).id


def test_the_built_optimizer_is_the_one_that_was_asked_for(sqlite: Database, tmp_path: Path) -> None:
    import torch

    techniques = {"search": {"optimizers": ["adamw"], "techniques": {"clip_norm": [1.0]}, "schedules": ["cosine"]}}
    with loop_server(sqlite, tmp_path, **FAR) as client, client.study({**SPEC, **techniques}) as study:
        trial = next(study.trials("a"))
        model = torch.nn.Linear(3, 1)
        optimizer, scheduler = trial.build(model)
        lr = float(trial.hyperparameters["lr"])
        assert trial.schedule["name"] == "cosine"
        assert max(group["lr"] for group in optimizer.param_groups) == pytest.approx(lr, rel=0.2)
        for _ in range(trial.steps):
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            scheduler.step()
        assert optimizer.param_groups[0]["lr"] < 0.1 * lr
        trial.tell(1.0)


def test_after_the_last_step_the_weights_that_count_are_in_place(sqlite: Database, tmp_path: Path) -> None:
    import torch

    wanted = {"search": {"optimizers": ["adamw"], "techniques": {"ema": [0.9]}, "schedules": ["cosine"]}}
    with loop_server(sqlite, tmp_path, **FAR) as client, client.study({**SPEC, **wanted}) as study:
        trial = next(study.trials("a"))

        def steps(model: Any, built: Any, count: int) -> None:
            for _ in range(count):
                model(torch.ones(1, 3)).sum().backward()
                built[0].step()
                built[1].step()

        models = [torch.nn.Linear(3, 1) for _ in range(3)]
        for model in models[1:]:
            model.load_state_dict(models[0].state_dict())
        plain, whole, resumed = (trial.build(model) for model in models)
        plain[0].register_step_post_hook(lambda optimizer, *_: optimizer.train())
        steps(models[0], plain, trial.steps)
        plain[0].eval()
        steps(models[1], whole, trial.steps - 1)
        before = models[1].weight.detach().clone()
        whole[0].eval()
        # In the middle the trained weights are there, as of any optimizer.
        assert not torch.equal(models[1].weight, before)
        whole[0].train()
        steps(models[1], whole, 1)
        torch.testing.assert_close(models[1].weight, models[0].weight)
        # A process that takes the last steps from a checkpoint; one that takes more of them than the run has.
        steps(models[2], resumed, trial.steps - 2)
        again = trial.build(models[2])
        for mine, saved in zip(again, resumed, strict=True):
            mine.load_state_dict(saved.state_dict())
        steps(models[2], again, 2)
        torch.testing.assert_close(models[2].weight, models[0].weight)
        steps(models[2], again, 1)
        assert not torch.equal(models[2].weight, models[0].weight)
        trial.tell(1.0)
        assert not trial.report(trial.steps, 1.0)


def test_a_step_that_the_run_does_not_have_costs_that_point_alone(
    sqlite: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    with loop_server(sqlite, tmp_path, **FAR) as client, client.study(SPEC) as study:
        trials = study.trials("a")
        trial = next(trials)
        for step in (-1, 0, np.int64(5), torch.tensor(5), trial.steps, trial.steps + 1, 10_000):
            assert trial.report(step, 0.5)
        for wrong in ("3", 3.7, None, True, np.bool_(True), torch.tensor(True)):
            with pytest.raises(TypeError, match="whole number"):
                trial.report(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="is a number"):
            trial.report(3, "0.5")  # type: ignore[arg-type]
        assert trial.tell(0.5)
        assert [p["step"] for p in client.trial(study.id, trial.number)["curve"]] == [0, 5, trial.steps]
        assert sum("is not reported" in r.message for r in caplog.records) == 1
        assert repr(trial).startswith(f"<Trial {trial.number}: adamw, lr 0.001")
        # The same again is no news, another value is refused.
        assert trial.tell(0.5)
        assert not trial.tell(0.6)
        assert not trial.fail("no")
        assert client.trial(study.id, trial.number)["metric"] == 0.5


def test_a_refusal_is_final_and_what_comes_after_it_is_sent() -> None:
    sent: list[int] = []

    def send(points: list[dict[str, Any]]) -> dict[str, Any]:
        if any(p["step"] == 7 for p in points):
            raise ApiError(422, "step_out_of_range", "no", [], {})
        sent.extend(p["step"] for p in points)
        return {"go_on": True, "reason": None}

    reporter = Reporter(send, 60.0)
    reporter.add({"step": 7})
    reporter.close(flush=True)
    reporter.add({"step": 8})
    reporter.close(flush=True)
    assert sent == [8]
    assert not reporter.stopped.is_set()
    # What is left after more than one batch is sent too.
    for step in range(10, 2510):
        reporter.add({"step": step})
    reporter.close(flush=True)
    assert len(sent) == 2501
    assert Reporter(send, 60.0).add({"step": 1, "loss": 1e200}) is None


def test_a_trial_that_nobody_knows_any_more_stops() -> None:
    def gone(points: list[dict[str, Any]]) -> dict[str, Any]:
        raise ApiError(404, "study_not_found", "deleted", [], {})

    reporter = Reporter(gone, 60.0)
    reporter.add({"step": 1})
    reporter.close(flush=True)
    assert reporter.stopped.is_set()


def test_a_loop_that_was_left_is_no_sign_of_life_and_its_successor_has_the_trial(
    sqlite: Database, tmp_path: Path
) -> None:
    with loop_server(sqlite, tmp_path, **FAST) as client:
        study = client.study(SPEC)
        left = None
        for trial in study.trials("a"):
            left = trial
            break
        assert left is not None
        again = next(trials := study.trials("a"))
        assert again.number == left.number
        assert left.told == {}
        assert again.report(1, 0.5)
        # The variable outlives its loop: the lease does not.
        del trials
        wait_until(lambda: [c["late"] or c["trial"] for c in client.clients(study.id)] == [None], "the lease's end")
        other = next(kept := study.trials("b"))
        assert other.number == left.number
        assert other.tell(0.5)
        del kept


def test_a_second_process_of_one_name_is_told_so(
    sqlite: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with loop_server(sqlite, tmp_path, **FAR) as client, client.study(SPEC) as study:
        held = next(trials := study.trials("node"))
        found: list[Trial] = []

        def second() -> None:
            found.append(next(iter(client.study(study.id).trials("node"))))

        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        wait_until(lambda: any("another process trains as node" in r.message for r in caplog.records), "the warning")
        assert found == []
        held.give_back()
        thread.join(30)
        assert [t.number for t in found] == [held.number]
        found[0].give_back()
        del trials


def test_a_loop_that_forgets_to_tell_hears_of_it(
    sqlite: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with loop_server(sqlite, tmp_path, **FAR) as client:
        study = client.study({**SPEC, "budget": {"trials": 2}})
        for _ in study.trials("a"):
            pass
        assert any("without trial.tell" in r.message for r in caplog.records)
        error = client.get_study(study.id)["error"]
        assert "without trial.tell" in error["message"]
        assert "diverged" not in error["message"]


def test_a_server_that_is_away_is_waited_for_when_a_study_begins(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loop_server(sqlite, tmp_path, **FAR) as client:
        whole, away = Client.create_study, iter([True, True])

        def flaky(self: Client, *arguments: Any) -> dict[str, Any]:
            if next(away, False):
                raise Unreachable("nobody there")
            return whole(self, *arguments)

        monkeypatch.setattr(Client, "create_study", flaky)
        study = client.study(SPEC, key="k")
        assert study.price is not None
        assert "14 trials of the search" in study.price
        assert study.id == client.study(SPEC, key="k").id


def test_absurd_numbers_end_in_an_answer_or_one_line(sqlite: Database, tmp_path: Path) -> None:
    values = [1e308, -1e308, math.nan, math.inf, 0.0, 1e200, 9e29, -9e29]
    with loop_server(sqlite, tmp_path, **FAR) as client, client.study({**SPEC, "budget": {"trials": 8}}) as study:
        for trial in study.trials("a"):
            trial.report(1, value=values[trial.number % len(values)])
            trial.tell(values[trial.number % len(values)])
        found = client.get_study(study.id)
        assert found["status"] in ("completed", "failed")
        assert found["error"] is None or found["error"]["code"] != "internal_error"
