"""Workers run a person's own code where they may, tell its errors, and notice data that changed under a study."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optim_core.own.entrypoint import UserModules
from optim_core.spec.errors import DataError
from optim_core.spec.problem import StudySpec
from optim_core.spec.states import StudyState
from optim_core.spec.trial import UnitSpec
from service.db import Database
from service.operations import planning, studies
from service.settings import Settings
from tests.db.support import make_unit
from tests.e2e.cli_support import write_table
from workers import training
from workers.ahead import Ahead
from workers.local import as_environment
from workers.runner import Outcome, run_one

SETTINGS = Settings(lease_s=30.0, heartbeat_s=0.2, data_roots=[Path("/")])
OWN_PROCESS = SETTINGS.model_copy(update={"own_process": True})
PROBE = UnitSpec(key="probe", kind="probe", rung=0, horizon=1, split="validation", trials=[])


@pytest.fixture(autouse=True)
def problems(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker that has just started."""
    path = list(sys.path)
    monkeypatch.setattr(training, "_problems", training.ProblemCache())
    yield
    UserModules()
    sys.path[:] = path


def study_of(database: Database, spec: StudySpec, unit: UnitSpec) -> str:
    study_id = studies.create_study(database, spec).id
    assert planning.apply_plan(database, study_id, [unit], "test") == 1
    return study_id


def own_study(database: Database, folder: Path, source: str) -> str:
    (folder / "user.py").write_text(source)
    part = {"kind": "python", "entrypoint": "user.py:it", "folder": str(folder)}
    return study_of(database, StudySpec.model_validate({"model": part, "dataset": part}), PROBE)


def failure(database: Database, study_id: str) -> tuple[str, str]:
    study = studies.get_study(database, study_id)
    assert study.status == StudyState.FAILED
    assert study.error is not None
    return study.error.code, study.error.message


def test_an_error_of_theirs_ends_the_study_at_once(database: Database, tmp_path: Path) -> None:
    study_id = own_study(database, tmp_path, "x = 1\nraise ValueError('no')\n")
    assert run_one(database, OWN_PROCESS, "w") == (Outcome.FAILED, study_id)
    code, message = failure(database, study_id)
    assert code == "user_code_error"
    first, _, trace = message.partition("\n")
    assert first == "user.py, line 2: ValueError: no"
    assert trace.startswith("Traceback")


def test_exit_ends_the_study_and_not_the_worker(database: Database, tmp_path: Path) -> None:
    study_id = own_study(database, tmp_path, "exit(1)\n")
    assert run_one(database, OWN_PROCESS, "w") == (Outcome.FAILED, study_id)
    assert failure(database, study_id)[1].startswith("user.py, line 1: it called exit()")


def test_a_servers_worker_asks_again_whether_it_may(database: Database, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    study_id = own_study(database, tmp_path, f"open({str(marker)!r}, 'w').close()\nit = 1\n")
    ahead = Ahead(database, SETTINGS)
    assert ahead.make_ready([study_id])
    assert run_one(database, SETTINGS, "w") == (Outcome.FAILED, study_id)
    assert failure(database, study_id)[0] == "entrypoint_not_allowed"
    assert not marker.exists()


def test_getting_ready_survives_what_theirs_does(database: Database, tmp_path: Path) -> None:
    study_id = own_study(database, tmp_path, "exit(1)\n")
    assert Ahead(database, OWN_PROCESS).make_ready([study_id])
    assert studies.get_study(database, study_id).status == StudyState.QUEUED


def test_settings_reach_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHICHOPT_PYTHON_ENTRYPOINTS", "lab.nets, other")
    given = Settings().model_copy(update={"own_process": True})
    assert given.python_entrypoints == ["lab.nets", "other"]
    code = "from service.settings import Settings; s = Settings(); print(s.python_entrypoints, s.own_process)"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, **as_environment(given)},
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "['lab.nets', 'other'] True"


def table_spec(path: Path, **training_options: Any) -> StudySpec:
    raw = {
        "model": {"kind": "catalogue", "name": "linear"},
        "dataset": {"kind": "file", "path": str(path), "target": "price"},
    }
    return StudySpec.model_validate({**raw, "training": {"steps": 100, **training_options}})


def hash_of(spec: StudySpec) -> str:
    return training.source_of(spec, "cpu", None).problem().data_hash


@pytest.mark.parametrize("fold", [None, 2])
def test_a_unit_is_not_trained_on_other_data_than_the_probe_saw(
    database: Database, tmp_path: Path, fold: int | None
) -> None:
    path = write_table(tmp_path / "table.csv")
    before = path.read_text()
    spec = table_spec(path)
    unit = make_unit("a", [0, 1], stage="confirm").model_copy(update={"fold": fold, "data_hash": hash_of(spec)})
    study_id = study_of(database, spec, unit)
    path.write_text(before.replace("red", "blue", 1))
    assert run_one(database, SETTINGS, "w") == (Outcome.FAILED, study_id)
    assert failure(database, study_id) == (
        "data_changed", "/dataset: the data file changed since this study began; start a new study",
    )  # fmt: skip
    # The file is put back: the study goes on, in the same worker.
    path.write_text(before)
    studies.resume_study(database, study_id)
    assert run_one(database, SETTINGS, "w") == (Outcome.DONE, study_id)


def test_a_worker_that_holds_the_data_goes_on_with_them(database: Database, tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.csv")
    spec = table_spec(path)
    seen = hash_of(spec)
    study_id = study_of(database, spec, make_unit("a", [0, 1]).model_copy(update={"data_hash": seen}))
    planning.apply_plan(database, study_id, [make_unit("b", [2, 3]).model_copy(update={"data_hash": seen})], "more")
    assert run_one(database, SETTINGS, "w") == (Outcome.DONE, study_id)
    write_table(path, rows=210)
    assert run_one(database, SETTINGS, "w") == (Outcome.DONE, study_id)


@pytest.mark.parametrize("what", ["table", "weights", "link"])
def test_a_worker_asks_again_where_files_lie(database: Database, tmp_path: Path, what: str) -> None:
    """Others may write to the database, and a path that was checked may lead elsewhere by now."""
    allowed, outside = tmp_path / "in", write_table(tmp_path / "outside.csv")
    allowed.mkdir()
    inside = write_table(allowed / "table.csv")
    spec = table_spec(outside if what == "table" else inside)
    if what == "weights":
        spec = table_spec(inside, fine_tune={"weights": "/etc/passwd"})
    if what == "link":
        inside.unlink()
        inside.symlink_to(outside)
    settings = SETTINGS.model_copy(update={"data_roots": [allowed]})
    study_id = study_of(database, spec, PROBE)
    Ahead(database, settings).make_ready([study_id])
    assert run_one(database, settings, "w") == (Outcome.FAILED, study_id)
    code, message = failure(database, study_id)
    assert code == "path_not_allowed"
    assert message.startswith("/training/fine_tune/weights: " if what == "weights" else "/dataset/path: ")
    assert "root:" not in message


def test_without_a_word_about_it_workers_read_below_their_folder(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    settings = SETTINGS.model_copy(update={"data_roots": None})
    assert settings.roots is not None
    assert [root for root in settings.roots if not root.startswith("!")] == [str(tmp_path / "home")]
    assert f"!{settings.data_dir}" in settings.roots
    assert settings.model_copy(update={"own_process": True}).roots is None
    study_id = study_of(database, table_spec(write_table(tmp_path / "table.csv")), PROBE)
    assert run_one(database, settings, "w") == (Outcome.FAILED, study_id)
    assert failure(database, study_id)[0] == "path_not_allowed"


def test_units_of_earlier_versions_have_no_hash_and_are_trained(database: Database, tmp_path: Path) -> None:
    study_id = study_of(database, table_spec(write_table(tmp_path / "table.csv")), make_unit("a", [0, 1]))
    assert run_one(database, SETTINGS, "w") == (Outcome.DONE, study_id)


def test_what_changed_is_said_by_its_name(tmp_path: Path) -> None:
    weights = table_spec(tmp_path / "x.csv", fine_tune={"weights": "w.pt"})
    assert "the data file or the file of weights changed" in training.changed(weights)
    part = {"kind": "python", "entrypoint": "user.py:it"}
    assert "without a seed" in training.changed(StudySpec.model_validate({"model": part, "dataset": part}))


def test_own_models_have_no_table(tmp_path: Path) -> None:
    part = {"kind": "python", "entrypoint": "user.py:it", "folder": str(tmp_path)}
    with pytest.raises(DataError, match="no table"):
        training.ProblemSource(StudySpec.model_validate({"model": part, "dataset": part}))
