"""Exports, on both databases: what each format holds, that memory does not grow, and that Optuna opens its own."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path

import optuna
import pandas as pd
import pytest

from optim_core.spec.rowscores import pack
from service.db import Database
from service.operations import planning, queue, studies
from service.operations.excluding import exclude_trial
from service.operations.export import export
from tests.api.api_support import check_problem, make_client
from tests.db.support import claim, make_probe, make_result, make_spec, make_unit, study_with_units


def some(database: Database, trials: int = 3) -> str:
    """A study of ``trials`` searched trials (the second diverged, the third left out), two that wait and two confirmed."""
    study = study_with_units(database, [make_unit("a", list(range(trials)))])
    got = claim(database)
    queue.complete_unit(
        database, got.unit_id, got.token, make_result(got.unit, diverged=(1,), probe=make_probe(metric="loss"))
    )
    waiting = make_unit("b", [trials, trials + 1])
    planning.apply_plan(database, study, [make_unit("one", [trials + 2, trials + 3], stage="confirm"), waiting], "more")
    got = claim(database)
    result = make_result(got.unit)
    rows = {"test": pack([0.5, 0.25, 1.0], "f")}
    scored = [one.model_copy(update={"rows": rows}) for one in result.trials]
    queue.complete_unit(database, got.unit_id, got.token, result.model_copy(update={"trials": scored}))
    exclude_trial(database, study, 2, "odd")
    return study


def whole(database: Database, study: str, fmt: str, rows: bool = False) -> bytes:
    return b"".join(export(database, study, fmt, rows))


def test_a_reason_is_no_formula_of_a_spreadsheet(database: Database) -> None:
    study = some(database)
    exclude_trial(database, study, 2, '=HYPERLINK("http://x")')
    lines = list(csv.DictReader(io.StringIO(whole(database, study, "csv").decode())))
    assert lines[2]["excluded"] == '\'=HYPERLINK("http://x")'
    assert json.loads(whole(database, study, "json"))["trials"][2]["excluded"] == '=HYPERLINK("http://x")'


def test_csv_parquet_and_json_hold_the_same(database: Database) -> None:
    study = some(database)
    lines = list(csv.DictReader(io.StringIO(whole(database, study, "csv").decode())))
    assert [line["number"] for line in lines] == [str(n) for n in range(7)]
    assert [line["excluded"] for line in lines] == ["", "", "odd", "", "", "", ""]
    assert lines[5]["test.rows"] == "3"
    table = pd.read_parquet(io.BytesIO(whole(database, study, "parquet")))
    assert list(table.columns) == list(lines[0])
    assert table["number"].tolist() == list(range(7))
    assert table["hp.lr"].tolist() == [float(line["hp.lr"]) for line in lines]
    document = json.loads(whole(database, study, "json"))
    assert document["study"]["id"] == study
    assert [trial["number"] for trial in document["trials"]] == list(range(7))


def test_rows_of_confirmed_runs(database: Database) -> None:
    study = some(database)
    lines = list(csv.DictReader(io.StringIO(whole(database, study, "csv", rows=True).decode())))
    assert [(line["number"], line["row"], line["value"]) for line in lines[:3]] == [
        ("5", "0", "0.5"), ("5", "1", "0.25"), ("5", "2", "1.0"),
    ]  # fmt: skip
    table = pd.read_parquet(io.BytesIO(whole(database, study, "parquet", rows=True)))
    assert table["value"].tolist() == [float(line["value"]) for line in lines]
    assert len(json.loads(whole(database, study, "json", rows=True))["runs"]) == 2


def test_optuna_opens_its_storage(database: Database, tmp_path: Path) -> None:
    study = some(database)
    file = tmp_path / "optuna.db"
    file.write_bytes(whole(database, study, "optuna"))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = f"sqlite:///{file}"
    loaded = optuna.load_study(study_name=f"whichopt-{study}", storage=storage)
    states = [trial.state.name for trial in loaded.trials]
    assert states == ["COMPLETE", "FAIL", "FAIL", "WAITING", "WAITING"]
    # Runs on test rows stand by themselves, or the best value of one would be that of the other.
    confirmed = optuna.load_study(study_name=f"whichopt-{study}-confirmed", storage=storage)
    assert [trial.state.name for trial in confirmed.trials] == ["COMPLETE", "COMPLETE"]
    assert [trial.number for trial in confirmed.trials] == [0, 1]
    assert {trial.user_attrs["split"] for trial in confirmed.trials} == {"test"}
    assert {trial.user_attrs["split"] for trial in loaded.trials} == {"validation"}
    first = loaded.trials[0]
    assert (first.params["optimizer"], first.value) == ("adamw", 1.0)
    assert first.user_attrs["stage"] == "search"
    assert loaded.trials[2].user_attrs["excluded"] == "odd"
    assert loaded.user_attrs["spec"]["model"]["name"] == "mlp"
    assert len(loaded.trials_dataframe()) == 5
    # It goes on from there.
    loaded.add_trial(optuna.trial.create_trial(value=2.0))
    loaded.tell(loaded.ask(), 3.0)
    assert len(optuna.load_study(study_name=f"whichopt-{study}", storage=storage).trials) == 6


@pytest.mark.parametrize("rows", [True, False])
def test_a_table_without_rows_has_its_columns(database: Database, rows: bool) -> None:
    empty = studies.create_study(database, make_spec()).id
    columns = whole(database, empty, "csv", rows).decode().strip().split(",")
    assert {"number", "optimizer", "roles"} < set(columns)
    assert ("data_row" in columns) == rows
    assert pd.read_parquet(io.BytesIO(whole(database, empty, "parquet", rows))).columns.tolist() == columns
    # The same, and first, where there are rows.
    full = whole(database, some(database), "csv", rows).decode().split("\n")[0].split(",")
    assert [name for name in full if name in columns] == columns


@pytest.mark.parametrize("fmt", ["csv", "parquet", "json", "optuna"])
def test_memory_does_not_grow_with_the_study(database: Database, fmt: str) -> None:
    study = some(database, trials=2500)
    for _ in export(database, study, fmt, False):
        break  # what is imported the first time
    tracemalloc.start()
    try:
        size = sum(map(len, export(database, study, fmt, False)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 50_000
    # A page of trials, a group of rows and a piece of the file; 2,500 trials take 10 MB and more.
    assert peak < (16 << 20 if fmt == "parquet" else 6 << 20)


def test_the_api_of_exports(database: Database) -> None:
    study, client = some(database), make_client(database)
    answer = client.get(f"/v1/studies/{study}/export")
    assert answer.headers["content-disposition"] == f'attachment; filename="{study}.csv"'
    assert answer.text.startswith("number,optimizer,")
    check_problem(client.get(f"/v1/studies/{study}/export?format=exe"), 422, "invalid_parameter")
    check_problem(client.get(f"/v1/studies/{study}/export?format=optuna&rows=true"), 422, "invalid_parameter")
    check_problem(client.get("/v1/studies/nothing/export"), 404, "study_not_found")
