"""Pages of a study of a person's own loop: who trains it, and no words of an engine that it does not have."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from service.app import create_app
from service.db import Database
from service.dispatch.null import NullDispatcher
from service.settings import Settings
from tests.own_key import AS_OWNER, OWN_KEY
from tests.workers.loop_server import SPEC, loop_server, score


def test_an_external_study_is_shown_like_any_other(tmp_path: Path, sqlite: Database) -> None:
    app = create_app(Settings(allowed_hosts=["testserver"]), sqlite, NullDispatcher(), OWN_KEY)
    pages = TestClient(app, headers=AS_OWNER)
    with loop_server(sqlite, tmp_path) as client, client.study({**SPEC, "metric": "val_bpb"}) as study:
        for trial in study.trials("node-3"):
            trial.report(3, 0.5, 0.4)
            if trial.number == 2:
                running = pages.get(f"/studies/{study.id}")
                assert running.status_code == 200
                assert "node-3" in running.text
                assert "own loop" in running.text
                assert pages.get(f"/studies/{study.id}/trials/2").status_code == 200
                assert pages.get(f"/studies/{study.id}/live").json()["fragments"]["clients"].count("node-3") == 1
            trial.tell(score(trial.configuration, trial.seed, trial.steps))
        answered = pages.get(f"/studies/{study.id}")
        assert answered.status_code == 200
        assert "val_bpb" in answered.text
        for word in ("packs trained together", "whichopt replay", "What was done to the data", ">0 rows"):
            assert word not in answered.text
        assert pages.get("/").status_code == 200
        figures = pages.get(f"/studies/{study.id}/live").json()["figures"]
        assert figures["curves_value"]["data"]
        assert figures["confirmation"]["data"]
