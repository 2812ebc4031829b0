"""What a confirmed run scored on its splits and rows is kept and can be read; on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from optim_core.spec.rowscores import pack
from service.db import Database
from service.operations import queue, rowscores, studies
from service.operations.errors import NotFound
from tests.db.support import claim, make_probe, make_result, make_unit, study_with_units

SPLITS: dict[str, tuple[Any, float | None]] = {
    "accuracy": ([1, 0, 1, 1], 0.75), "mae": ([0.5, 1.0], 0.75), "rmse": ([1.0, 4.0], 2.5**0.5), "loss": ([0.25], 0.25),
    "f1": ([0, 1, 1], None),
}  # fmt: skip


@pytest.mark.parametrize("metric", SPLITS)
def test_a_confirmed_run_keeps_what_it_scored(database: Database, metric: str) -> None:
    values, score = SPLITS[metric]
    unit = make_unit("c", [0, 1], stage="confirm").model_copy(update={"fold": 4})
    unit = unit.model_copy(
        update={"trials": [t.model_copy(update={"roles": ["adamw_tuned", "rival"]}) for t in unit.trials]}
    )
    study_id = study_with_units(
        database, [make_unit("probe", []).model_copy(update={"kind": "probe"}), unit, make_unit("s", [2])]
    )
    probed = claim(database)
    result = make_result(probed.unit, probe=make_probe(metric=metric))
    assert queue.complete_unit(database, probed.unit_id, probed.token, result)
    got = claim(database)
    packed = pack(values, "B" if metric in ("accuracy", "f1") else "f")
    own = [
        t.model_copy(update={"rows": {"test": packed, "validation": packed}}) for t in make_result(got.unit).trials[:1]
    ]
    result = make_result(got.unit, diverged=(1,))
    targets = {"test": pack([1, 1, 0], "B"), "validation": pack([0, 0, 0], "B")} if metric == "f1" else {}
    ended = result.model_copy(update={"trials": [*own, result.trials[1]], "targets": targets})
    assert queue.complete_unit(database, got.unit_id, got.token, ended)

    confirmed, diverged, waiting = studies.list_trials(database, study_id).items
    assert (confirmed.split, confirmed.fold, confirmed.roles) == ("test", 4, ["adamw_tuned", "rival"])
    assert list(confirmed.scores) == ["test", "validation"]
    for one in confirmed.scores.values():
        assert (one.metric, one.rows) == (None if score is None else pytest.approx(score, rel=1e-12), len(values))
    assert diverged.scores == {}
    assert (waiting.split, waiting.fold, waiting.roles, waiting.scores) == ("validation", None, [], {})
    assert studies.get_trial(database, study_id, 0).scores == confirmed.scores

    splits = rowscores.run_rows(database, study_id, 0).splits
    assert {name: (s.fold, s.values) for name, s in splits.items()} == {"test": (4, values), "validation": (0, values)}
    assert splits["validation"].targets == ([0, 0, 0] if metric == "f1" else None)
    assert rowscores.run_rows(database, study_id, 1).splits == {}
    assert rowscores.run_rows(database, study_id, 2).splits == {}
    for number in (3, -1, 2**70):
        with pytest.raises(NotFound):
            rowscores.run_rows(database, study_id, number)
