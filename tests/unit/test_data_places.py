"""Row scores name the row of the person's file, whatever was left out before."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from optim_core.engine import run_pack
from optim_core.spec.rowscores import unpack
from optim_core.spec.validation import parse_spec
from optim_core.tasks import ProblemSource
from service.operations import export
from tests.unit.test_engine import trial, unit


def table(folder: Path) -> tuple[Path, np.ndarray]:
    """A table with rows without target, of weight 0, and a total at the end; and the target of each row of the file."""
    rng = np.random.default_rng(0)
    y = rng.normal(50, 9, 90).round(3)
    rows = [
        [f"{v:.4f}", "n", "0" if i in (7, 8) else "1", f"{t}"] for i, (v, t) in enumerate(zip(y + 1, y, strict=True))
    ]
    rows[3][3] = rows[60][3] = ""
    rows.append(["", "Total", "1", f"{y.sum():.3f}"])
    path = folder / "t.csv"
    path.write_text("a,kind,w,y\n" + "".join(",".join(row) + "\n" for row in rows))
    return path, y


@pytest.mark.parametrize("fold", [0, 3])
def test_each_score_says_its_data_row(tmp_path: Path, fold: int) -> None:
    path, y = table(tmp_path)
    source = ProblemSource(parse_spec({
        "model": "linear", "dataset": {"path": str(path), "target": "y", "weight": "w"}, "metric": "r2",
        "training": {"batch_size": 8},
    }))  # fmt: skip
    confirmation = unit([trial(0, "adamw", lr=0.01)], 5).model_copy(
        update={"kind": "confirm", "split": "test", "fold": fold}
    )
    result = run_pack(source.problem(fold), confirmation)
    seen: set[int] = set()
    for split in ("validation", "test"):
        places = np.array(unpack(result.places[split]))  # type: ignore[index]
        np.testing.assert_allclose(unpack(result.targets[split]), y[places - 1], rtol=1e-5)  # type: ignore[index]
        seen |= set(places.tolist())
    assert not seen & {4, 8, 9, 61, 91}
    assert max(seen) > 80


def test_the_export_has_the_data_row(monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"number": 1, "optimizer": "adamw", "roles": ["rival"], "rung": 0, "seed": 0, "fold": 2}
    scored = {"fold": 2, "values": [1, 0], "targets": None, "weights": None, "places": None}
    runs = [{**run, "splits": {"test": {**scored, "places": [5, 91]}, "validation": scored}}]
    monkeypatch.setattr(export, "_runs", lambda *_: iter(runs))
    monkeypatch.setattr(export, "get_study", lambda *_: None)
    text = b"".join(export.export(None, "s", "csv", rows=True)).decode()  # type: ignore[arg-type]
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["row"], row["data_row"], row["value"]) for row in rows] == [
        ("0", "5", "1"), ("1", "91", "0"), ("0", "", "1"), ("1", "", "0"),
    ]  # fmt: skip
