"""A workload as files: the table that the tools may see, the spec for it, and the arrays that rivals and the judge train on.

A quarter of the rows is set aside for the judge before any tool sees the table. All rows are encoded as Whichopt encodes
them, fitted on its training rows. Rivals train on the same rows as Whichopt's search and choose by all the others that
Whichopt sees, so nobody has more rows than another.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.race.tables import Features
from benchmarks.race.workloads import Workload
from optim_core.data.prepare import Arrays, understand
from optim_core.data.split import SplitRows
from optim_core.spec.problem import StudySpec

SET_ASIDE = 0.25
TARGET = "target"


def write(workload: Workload, folder: Path, seed: int) -> None:
    """Write the given table, ``spec.json`` (without a budget), ``arrays.npz`` and ``task.json`` into ``folder``, once.

    ``seed`` draws synthetic tables, the rows used and those set aside, and is the spec's. Raises RuntimeError when the
    rows set aside would not be encoded as the others are.
    """
    if (folder / "task.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    features, target = workload.table(seed)
    used = np.random.default_rng([seed, 0]).permutation(np.flatnonzero(pd.notna(target)))[: workload.rows]
    features, target = _take(features, used), target[used]
    given, aside = cut(target, seed, classes=workload.task == "classification")
    spec = _spec(workload, _save(folder / "given", _take(features, given), target[given]), seed)
    every = np.concatenate([given, aside])
    path = _save(folder / "every", _take(features, every), target[every])
    arrays = encode(spec, path, len(given), len(every))
    path.unlink()
    np.savez(
        folder / "arrays.npz",
        x_train=arrays.x_train, y_train=arrays.y_train, x_choose=arrays.x_val, y_choose=arrays.y_val,
        x_judge=arrays.x_test, y_judge=arrays.y_test,
    )  # fmt: skip
    task = {
        "model": spec["model"], "task": arrays.task, "metric": arrays.metric,
        "outputs": len(arrays.classes) if arrays.classes is not None else 1, "y_scale": list(arrays.y_scale),
        "cardinalities": list(arrays.cardinalities), "batch_size": workload.batch_size, "steps": workload.steps,
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec, indent=1))
    (folder / "task.json").write_text(json.dumps(task, indent=1))


def cut(target: np.ndarray, seed: int, *, classes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ascending row numbers given to the tools, and those set aside: at random, or the same share of each class."""
    rng = np.random.default_rng([seed, 1])
    labels = np.unique(target, return_inverse=True)[1] if classes else np.zeros(len(target), int)
    parts = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    aside = np.concatenate([part[: round(SET_ASIDE * len(part))] for part in parts])
    return np.setdiff1d(np.arange(len(target)), aside), np.sort(aside)


def encode(spec: dict[str, Any], every: Path, given: int, rows: int) -> Arrays:
    """The arrays of the table ``every`` of ``rows`` rows, whose first ``given`` are the spec's table, split so: training as
    the spec's search has it, validation = the other given rows, test = the rest.
    """
    parsed = StudySpec.model_validate({**spec, "budget": {"seconds": 1.0}})
    alone = understand(parsed)
    searched = alone.splits[0]
    split = SplitRows(
        train=searched.train,
        validation=np.sort(np.concatenate([searched.validation, searched.test])),
        test=np.arange(given, rows),
    )
    table = parsed.dataset.model_copy(update={"path": str(every)})
    arrays = replace(understand(parsed.model_copy(update={"dataset": table})), splits=[split]).arrays()
    seen = alone.arrays()
    if not (np.array_equal(arrays.x_train, seen.x_train) and np.array_equal(arrays.y_train, seen.y_train)):
        raise RuntimeError("the rows set aside change how the training rows are encoded")
    return arrays


def _spec(workload: Workload, path: Path, seed: int) -> dict[str, Any]:
    return {
        "model": {"kind": "catalogue", **workload.model},
        "dataset": {"kind": "file", "path": str(path), "target": TARGET},
        "task": workload.task,
        "metric": workload.metric,
        "training": {"batch_size": workload.batch_size, "steps": workload.steps},
        "seed": seed,
    }


def _take(features: Features, rows: np.ndarray) -> Features:
    return features.iloc[rows].reset_index(drop=True) if isinstance(features, pd.DataFrame) else features[rows]


def _save(stem: Path, features: Features, target: np.ndarray) -> Path:
    """A CSV for a frame, an NPZ for images."""
    if isinstance(features, pd.DataFrame):
        path = stem.with_suffix(".csv")
        features.assign(**{TARGET: target}).to_csv(path, index=False)
    else:
        path = stem.with_suffix(".npz")
        np.savez(path, images=features, target=target)
    return path.resolve()
