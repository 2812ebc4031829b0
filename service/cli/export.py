"""Trials and row scores of a study as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from service.client import Client

RUN_COLUMNS = ("number", "optimizer", "roles", "rung", "seed", "fold")


def all_trials(client: Client, study_id: str) -> list[dict[str, Any]]:
    """Every trial, by number."""
    rows, cursor = [], None
    while True:
        page = client.trials(study_id, cursor=cursor, limit=200)
        rows += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows


def write_trials(trials: list[dict[str, Any]], out: TextIO) -> None:
    """One line a trial; hyperparameters become columns ``hp.lr`` …, the schedule ``schedule.name`` …, scores ``test.metric`` …
    Several roles are separated by spaces.
    """
    flat = [_flat(trial) for trial in trials]
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in flat for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)


def _flat(trial: dict[str, Any]) -> dict[str, Any]:
    given = trial["configuration"]
    plain = {key: value for key, value in trial.items() if not isinstance(value, dict | list)}
    parts = {"hp": given["hyperparameters"], "schedule": given["schedule"], "technique": given["techniques"],
             **trial["scores"]}  # fmt: skip
    columns = {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}
    return {**plain, "roles": " ".join(trial["roles"]), **columns}


def with_rows(client: Client, study_id: str, trials: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The confirmed runs, each with its ``splits``: what it scored on each row."""
    for trial in trials:
        if trial["stage"] == "confirm" and trial["metric"] is not None:
            yield {**trial, "splits": client.rows(study_id, trial["number"])["splits"]}


def write_rows(runs: Iterable[dict[str, Any]], out: TextIO) -> None:
    """One line a run and row. ``row``: its place in the fold ``row_fold``, the same for every run."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*RUN_COLUMNS, "split", "row_fold", "row", "value", "target"])
    for run in runs:
        named = [" ".join(run[name]) if name == "roles" else run[name] for name in RUN_COLUMNS]
        for split, scored in run["splits"].items():
            targets = scored["targets"] or [None] * len(scored["values"])
            for row, (value, target) in enumerate(zip(scored["values"], targets, strict=True)):
                writer.writerow([*named, split, scored["fold"], row, value, target])
