"""A study in one file: its trials as CSV, Parquet, JSON or an Optuna storage, and the row scores of its confirmed runs.

Everything is read a page at a time and given out as it is read, so that memory does not grow with the study.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from optim_core.spec.keys import canonical_json
from service.db import Database
from service.operations.rowscores import run_rows
from service.operations.studies import get_study, list_trials
from service.operations.views import TrialView

FORMATS = ("csv", "parquet", "json", "optuna")
MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "json": "application/json",
    "optuna": "application/vnd.sqlite3",
}
SUFFIXES = {"csv": "csv", "parquet": "parquet", "json": "json", "optuna": "db"}
RUN_COLUMNS = ("number", "optimizer", "roles", "rung", "seed", "fold")
# What a table has even where it has no rows.
ROW_COLUMNS = (*RUN_COLUMNS, "split", "row_fold", "row", "data_row", "value", "target", "weight")
TRIAL_COLUMNS = (
    *(name for name in TrialView.model_fields if name not in ("configuration", "roles", "scores")),
    "roles",
)
PAGE = 200

Row = dict[str, Any]


def export(db: Database, study_id: str, fmt: str, rows: bool) -> Iterator[bytes]:
    """The bytes of a file in one of ``FORMATS``. ``rows``: what each confirmed run scored on each row, in place of the trials;
    not for ``optuna``. NotFound before the first piece.
    """
    study = get_study(db, study_id)
    every = partial(trials, db, study_id)
    if fmt == "optuna":
        from service.operations.optuna_file import optuna_storage

        return optuna_storage(study, every)
    if fmt == "json":
        kept = (
            partial(_runs, db, study_id, every) if rows else (lambda: (one.model_dump(mode="json") for one in every()))
        )
        return _json(study.model_dump(mode="json"), "runs" if rows else "trials", kept())
    table = partial(_row_table, db, study_id, every) if rows else (lambda: map(flat, every()))
    always = ROW_COLUMNS if rows else TRIAL_COLUMNS
    if fmt == "csv":
        return _csv(table, _columns(table, always))
    from service.operations.parquet import parquet

    return parquet(table, always)


def trials(db: Database, study_id: str) -> Iterator[TrialView]:
    """Every trial, by number."""
    cursor = None
    while True:
        page = list_trials(db, study_id, cursor=cursor, limit=PAGE)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return


def flat(trial: TrialView) -> Row:
    """A trial as a row: hyperparameters become ``hp.lr`` …, the schedule ``schedule.name`` …, scores ``test.metric`` …; several
    roles are separated by spaces.
    """
    document = trial.model_dump(mode="json")
    given = document["configuration"]
    plain = {key: value for key, value in document.items() if not isinstance(value, dict | list)}
    parts = {"hp": given["hyperparameters"], "schedule": given["schedule"], "technique": given["techniques"],
             **document["scores"]}  # fmt: skip
    columns = {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}
    return {**plain, "roles": " ".join(document["roles"]), **columns}


def _runs(db: Database, study_id: str, every: Callable[[], Iterator[TrialView]]) -> Iterator[Row]:
    """The confirmed runs, each with its ``splits``: what it scored on each row."""
    for trial in every():
        if trial.stage == "confirm" and trial.metric is not None:
            scored = run_rows(db, study_id, trial.number).model_dump(mode="json")
            yield {**trial.model_dump(mode="json"), "splits": scored["splits"]}


def _row_table(db: Database, study_id: str, every: Callable[[], Iterator[TrialView]]) -> Iterator[Row]:
    """One row a run and row of the data. ``row``: its place in the fold ``row_fold``, the same for every run;
    ``data_row``: which data row of the table it is, the first being 1.
    """
    for run in _runs(db, study_id, every):
        named = {name: " ".join(run[name]) if name == "roles" else run[name] for name in RUN_COLUMNS}
        for split, scored in run["splits"].items():
            none = [None] * len(scored["values"])
            columns = [scored[name] or none for name in ("places", "values", "targets", "weights")]
            for row, (place, value, target, weight) in enumerate(zip(*columns, strict=True)):
                yield {**named, "split": split, "row_fold": scored["fold"], "row": row, "data_row": place,
                       "value": value, "target": target, "weight": weight}  # fmt: skip


def _columns(table: Callable[[], Iterator[Row]], always: Sequence[str]) -> list[str]:
    """``always`` and all columns that any row has, in the order in which they first occur."""
    found: dict[str, None] = dict.fromkeys(always)
    for row in table():
        found.update(dict.fromkeys(row))
    return list(found)


def _csv(table: Callable[[], Iterator[Row]], columns: list[str]) -> Iterator[bytes]:
    out = io.StringIO()
    # A study that runs may have got more columns since they were counted.
    writer = csv.DictWriter(out, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in table():
        writer.writerow({name: _plain(value) for name, value in row.items()})
        if out.tell() > 1 << 16:
            yield _taken(out)
    yield _taken(out)


def _plain(value: Any) -> Any:
    """A text that a spreadsheet would work out, such as ``=HYPERLINK(…)``, as the text that it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _taken(out: io.StringIO) -> bytes:
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text.encode()


def _json(study: Row, name: str, items: Iterator[Row]) -> Iterator[bytes]:
    yield f'{{"study":{canonical_json(study)},"{name}":['.encode()
    for position, item in enumerate(items):
        yield f"{',' if position else ''}{canonical_json(item)}".encode()
    yield b"]}\n"
