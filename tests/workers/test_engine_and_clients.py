"""The same study by the engine and by four clients that run the same code: the same trials, the same verdict."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from optim_core import engine
from optim_core.recommend import recommend
from optim_core.recommend.history import probe_report
from optim_core.search import Finish, Plan, plan
from optim_core.spec.recommendation import Recommendation
from optim_core.spec.rowscores import unpack
from optim_core.spec.states import UnitState
from optim_core.spec.trial import StudyView, TrialParams, UnitResult, UnitSpec, UnitView
from optim_core.spec.validation import parse_spec
from optim_core.tasks import build_problem
from service.client import Client, Run
from service.db import Database
from service.operations import planning
from tests.workers.loop_server import loop_server

STEPS = 30
COMMON: dict[str, Any] = {
    "metric": "loss", "search": {"optimizers": ["adamw", "sgd"]}, "budget": {"trials": 20, "seeds": 3}, "seed": 3,
}  # fmt: skip
ENGINE = {
    **COMMON, "model": {"kind": "catalogue", "name": "linear"}, "dataset": {"kind": "builtin", "name": "iris"},
    # A split of its own, as a loop has: one, not five folds in turn.
    "training": {"steps": STEPS, "validation_fraction": 0.25, "test_fraction": 0.25},
}  # fmt: skip
CLIENTS = {**COMMON, "model": {"kind": "external", "steps": STEPS}}


def by_the_engine(problem: Any) -> StudyView:
    units: list[UnitView] = []
    while True:
        view = StudyView(study_id="s", spec=parse_spec(ENGINE), units=units, elapsed_s=0.0, device_s=0.0)
        step = plan(view)
        if isinstance(step, Finish):
            assert step.failure is None
            return view
        if isinstance(step, Plan):
            units += [UnitView(spec=u, state=UnitState.QUEUED) for u in step.units]
        i = next(i for i, u in enumerate(units) if u.state == UnitState.QUEUED)
        spec = units[i].spec
        units[i] = UnitView(spec=spec, state=UnitState.DONE, result=result_of(problem, spec))


def result_of(problem: Any, unit: UnitSpec) -> UnitResult:
    if unit.kind == "probe":
        return engine.probe(problem)
    return engine.run_reference(problem, unit) if unit.kind == "reference" else engine.run_pack(problem, unit)


def train(problem: Any, run: Run) -> Any:
    """One run by the same engine, as a person's own loop would do it."""
    given = {
        "number": run.number,
        "configuration": run.configuration,
        "seed": run.seed,
        "stage": run.stage,
        "origin": "asked",
    }
    unit = UnitSpec(
        key="one", kind="confirm" if run.split == "test" else "train", rung=run.rung, horizon=run.steps, split=run.split,  # type: ignore[arg-type]
        trials=[TrialParams.model_validate(given)],
    )  # fmt: skip
    return engine.run_pack(problem, unit).trials[0]


def by_clients(
    problem: Any, train_rows: int, database: Database, folder: Path, *, rows: bool
) -> tuple[StudyView, dict[str, Any]]:
    # The network itself is trained by one client at a time; asking and telling are not.
    training = threading.Lock()

    def client(url: str, study_id: str, name: str) -> None:
        with Client(url) as connection, connection.study(study_id) as study:
            for trial in study.trials(name):
                with training:
                    result = train(problem, trial)
                if result.metric is None:
                    trial.tell(float("nan"))
                    continue
                scores = list(unpack(result.rows["test"])) if rows and "test" in result.rows else None
                trial.tell(result.metric, loss=result.loss, rows=scores)

    with loop_server(database, folder) as connection:
        model = {**CLIENTS["model"], "train_rows": train_rows}
        study = connection.study({**CLIENTS, "model": model})
        threads = [threading.Thread(target=client, args=(connection.base_url, study.id, f"node-{i}")) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(200)
            assert not thread.is_alive()
        return planning.study_view(database, study.id), study.recommendation()


def asked(view: StudyView) -> list[tuple[Any, ...]]:
    """Every run by (rung, number): what was trained, in which stage, with which seed."""
    found = [
        (u.spec.kind, u.spec.rung, u.spec.horizon, t.number, t.configuration, t.seed, t.stage, t.origin, t.roles)
        for u in view.units
        for t in u.spec.trials
    ]
    return sorted(found, key=lambda run: (run[3], run[1]))


@pytest.mark.parametrize("rows", [False, True])
def test_proposals_are_the_same_and_verdicts_agree(sqlite: Database, tmp_path: Path, rows: bool) -> None:
    problem = build_problem(parse_spec(ENGINE), device="cpu")
    own = by_the_engine(problem)
    train_rows = probe_report(own).train_rows
    theirs, answer = by_clients(problem, train_rows, sqlite, tmp_path, rows=rows)
    assert asked(theirs) == asked(own)
    expected: Recommendation = recommend(own)
    assert answer["verdict"] == expected.verdict
    assert answer["recommended"]["optimizer"] == expected.recommended.optimizer
    assert answer["recommended"]["hyperparameters"] == expected.recommended.hyperparameters
    assert answer["score"]["mean"] == pytest.approx(expected.score.mean, rel=1e-4)
    assert answer["effect"]["difference"] == pytest.approx(expected.effect.difference, rel=1e-3, abs=1e-6)
    if rows:
        assert answer["score"]["rows"] == expected.score.rows
