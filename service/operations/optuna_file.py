"""A study as an SQLite file that Optuna opens as a storage. Written as SQL: this half of the service has no Optuna, and through
it a study of 10⁵ trials would take an hour.
"""

from __future__ import annotations

import json
import math
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optim_core.spec.states import TrialState
from service.operations.views import StudyDetail, TrialView

# What Optuna 5 expects of a storage: the columns that it reads, its own version and its migrations'.
_SCHEMA = """
CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name VARCHAR(512) NOT NULL UNIQUE);
CREATE TABLE study_directions (study_direction_id INTEGER PRIMARY KEY, direction VARCHAR(8) NOT NULL,
  study_id INTEGER NOT NULL, objective INTEGER NOT NULL, UNIQUE (study_id, objective));
CREATE TABLE study_user_attributes (study_user_attribute_id INTEGER PRIMARY KEY, study_id INTEGER, "key" VARCHAR(512),
  value_json TEXT, UNIQUE (study_id, "key"));
CREATE TABLE study_system_attributes (study_system_attribute_id INTEGER PRIMARY KEY, study_id INTEGER, "key" VARCHAR(512),
  value_json TEXT, UNIQUE (study_id, "key"));
CREATE TABLE trials (trial_id INTEGER PRIMARY KEY, number INTEGER, study_id INTEGER, state VARCHAR(8) NOT NULL,
  datetime_start DATETIME, datetime_complete DATETIME);
CREATE INDEX ix_trials_study_id ON trials (study_id);
CREATE TABLE trial_user_attributes (trial_user_attribute_id INTEGER PRIMARY KEY, trial_id INTEGER, "key" VARCHAR(512),
  value_json TEXT, UNIQUE (trial_id, "key"));
CREATE TABLE trial_system_attributes (trial_system_attribute_id INTEGER PRIMARY KEY, trial_id INTEGER, "key" VARCHAR(512),
  value_json TEXT, UNIQUE (trial_id, "key"));
CREATE TABLE trial_params (param_id INTEGER PRIMARY KEY, trial_id INTEGER, param_name VARCHAR(512), param_value FLOAT,
  distribution_json TEXT, UNIQUE (trial_id, param_name));
CREATE TABLE trial_values (trial_value_id INTEGER PRIMARY KEY, trial_id INTEGER NOT NULL, objective INTEGER NOT NULL,
  value FLOAT, value_type VARCHAR(7) NOT NULL, UNIQUE (trial_id, objective));
CREATE TABLE trial_intermediate_values (trial_intermediate_value_id INTEGER PRIMARY KEY, trial_id INTEGER NOT NULL,
  step INTEGER NOT NULL, intermediate_value FLOAT, intermediate_value_type VARCHAR(7) NOT NULL, UNIQUE (trial_id, step));
CREATE TABLE trial_heartbeats (trial_heartbeat_id INTEGER PRIMARY KEY, trial_id INTEGER NOT NULL UNIQUE,
  heartbeat DATETIME NOT NULL);
CREATE TABLE version_info (version_info_id INTEGER PRIMARY KEY, schema_version INTEGER, library_version VARCHAR(256));
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
"""
_SCHEMA_VERSION, _LIBRARY, _REVISION = 12, "5.0.0", "v3.2.0.a"
# Diverged trials have no value in Optuna; it calls trials without one failed.
_STATES = {
    TrialState.COMPLETED: "COMPLETE", TrialState.PRUNED: "PRUNED", TrialState.RUNNING: "RUNNING",
    TrialState.WAITING: "WAITING",
}  # fmt: skip
_PIECE = 1 << 18


def optuna_storage(study: StudyDetail, trials: Callable[[], Iterator[TrialView]]) -> Iterator[bytes]:
    """The bytes of the file: the study ``whichopt-ID`` of what was searched, whose values are the metric on validation rows,
    and where there are any ``whichopt-ID-confirmed`` of the confirmation runs, on test rows, so that no best value mixes them.

    Each trial has what it was trained with as parameters ``optimizer``, ``lr`` …, its metric as its value, and ``number``,
    ``stage``, ``split``, ``seed``, ``loss`` … as user attributes. ``trials`` is gone through twice.
    """
    with tempfile.TemporaryDirectory(prefix="whichopt-") as folder:
        path = Path(folder) / "optuna.db"
        connection = sqlite3.connect(path)
        try:
            # Nobody else has the file, and one that is cut off is thrown away.
            connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
            _write(connection, study, trials)
            connection.commit()
        finally:
            connection.close()
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece


def _write(db: sqlite3.Connection, study: StudyDetail, trials: Callable[[], Iterator[TrialView]]) -> None:
    db.execute("INSERT INTO version_info VALUES (1, ?, ?)", (_SCHEMA_VERSION, _LIBRARY))
    db.execute("INSERT INTO alembic_version VALUES (?)", (_REVISION,))
    _write_study(db, study, 1, "")
    distributions = _distributions(trials)
    began = _time(study.started_at or study.created_at)
    ended = _time(study.finished_at or study.started_at or study.created_at)
    # Study → its trials so far: Optuna counts those of each.
    written = {1: 0}
    for trial in trials():
        place = 2 if trial.stage == "confirm" else 1
        if place not in written:
            _write_study(db, study, place, "-confirmed")
        number = written.setdefault(place, 0)
        written[place] += 1
        _write_trial(db, trial, (place, number), distributions, (began, ended))


def _write_study(db: sqlite3.Connection, study: StudyDetail, place: int, suffix: str) -> None:
    db.execute("INSERT INTO studies VALUES (?, ?)", (place, f"whichopt-{study.id}{suffix}"))
    direction = (study.direction or "minimize").upper()
    db.execute("INSERT INTO study_directions VALUES (?, ?, ?, 0)", (place, direction, place))
    told = {"spec": study.spec, "metric": study.metric, "verdict": study.verdict, "winner": study.winner}
    for key, value in told.items():
        db.execute(
            'INSERT INTO study_user_attributes (study_id, "key", value_json) VALUES (?, ?, ?)',
            (place, key, json.dumps(value)),
        )


def _write_trial(
    db: sqlite3.Connection, trial: TrialView, place: tuple[int, int], distributions: dict[str, dict[str, Any]],
    times: tuple[str, str],
) -> None:  # fmt: skip
    """``place``: of which study, and its number there."""
    state = "FAIL" if trial.excluded is not None else _STATES.get(trial.state, "FAIL")
    if state in ("COMPLETE", "PRUNED") and trial.metric is None:
        state = "FAIL"
    over = state in ("COMPLETE", "PRUNED", "FAIL")
    key = trial.number + 1
    db.execute(
        "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?)",
        (key, place[1], place[0], state, None if state == "WAITING" else times[0], times[1] if over else None),
    )
    if trial.metric is not None:
        db.execute(
            "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, 'FINITE')",
            (key, trial.metric),
        )
    for name, value in _parameters(trial).items():
        known = distributions[name]
        stored = known["attributes"]["choices"].index(value) if "choices" in known["attributes"] else value
        db.execute(
            "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)",
            (key, name, float(stored), json.dumps(known)),
        )
    attributes = {
        "number": trial.number,
        "stage": trial.stage, "split": trial.split, "origin": trial.origin, "rung": trial.rung, "seed": trial.seed,
        "fold": trial.fold, "roles": trial.roles, "steps": trial.steps, "loss": trial.loss,
        "diverged_at_step": trial.diverged_at_step, "excluded": trial.excluded,
        "scores": {split: score.model_dump() for split, score in trial.scores.items()},
    }  # fmt: skip
    db.executemany(
        'INSERT INTO trial_user_attributes (trial_id, "key", value_json) VALUES (?, ?, ?)',
        [(key, name, json.dumps(value)) for name, value in attributes.items()],
    )


def _parameters(trial: TrialView) -> dict[str, Any]:
    given = trial.configuration
    schedule = {name if name == "schedule" else f"schedule.{name}": value for name, value in (
        ("schedule" if name == "name" else name, value) for name, value in given["schedule"].items())}  # fmt: skip
    techniques = {f"technique.{name}": value for name, value in given["techniques"].items()}
    return {"optimizer": given["optimizer"], **given["hyperparameters"], **schedule, **techniques}


def _distributions(trials: Callable[[], Iterator[TrialView]]) -> dict[str, dict[str, Any]]:
    """Parameter → the distribution that holds all of its values, as Optuna writes one: of numbers their range, else choices."""
    numbers: dict[str, tuple[float, float]] = {}
    choices: dict[str, list[Any]] = {}
    for trial in trials():
        for name, value in _parameters(trial).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                low, high = numbers.get(name, (math.inf, -math.inf))
                numbers[name] = (min(low, value), max(high, value))
            elif value not in choices.setdefault(name, []):
                choices[name].append(value)
    ranges = {
        name: {
            "name": "FloatDistribution",
            "attributes": {"step": None, "low": float(low), "high": float(high), "log": low > 0},
        }
        for name, (low, high) in numbers.items()
    }
    named = {
        name: {"name": "CategoricalDistribution", "attributes": {"choices": found}} for name, found in choices.items()
    }
    return {**ranges, **named}


def _time(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
