"""Options on how a table is read, and a table from a pipe, which is kept where later processes find it."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optim_core.data import inspect
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec
from service.cli.errors import CommandError
from service.cli.reading import Reading, keep_piped, with_reading

FRAME = pd.DataFrame({"a": np.arange(60) * 0.5, "y": [i % 2 for i in range(60)]})


def changed(dataset: dict[str, Any], folder: Path, **options: str) -> dict[str, Any]:
    return with_reading({"dataset": dataset}, Reading(**options), folder=lambda: folder)["dataset"]


def test_the_options_are_those_of_the_spec(tmp_path: Path) -> None:
    dataset = {"kind": "file", "path": "t.csv", "target": "y"}
    assert changed(dataset, tmp_path) == dataset
    found = changed(dataset, tmp_path, sep="tab", decimal=",", encoding="latin-1", na="?, -999,")
    assert found == dataset | {"sep": "\t", "decimal": ",", "encoding": "latin-1", "na": ["?", "-999"]}
    FileDataset.model_validate(found)
    assert changed(dataset, tmp_path, na="")["na"] == []
    with pytest.raises(CommandError, match="--sep"):
        changed({"kind": "builtin", "name": "iris"}, tmp_path, sep=";")


def written(kind: str) -> tuple[bytes, str]:
    out = io.BytesIO()
    match kind:
        case "csv":
            return FRAME.to_csv(index=False).encode(), ".csv"
        case "gzip":
            return gzip.compress(FRAME.to_csv(index=False).encode()), ".csv.gz"
        case "utf-16":
            return FRAME.to_csv(index=False).encode("utf-16"), ".csv"
        case "json lines":
            return FRAME.to_json(orient="records", lines=True).encode(), ".json"
        case "json lines in gzip":
            return gzip.compress(FRAME.to_json(orient="records", lines=True).encode()), ".json.gz"
        case "records":
            return FRAME.to_json(orient="records", indent=2).encode(), ".json"
        case "parquet":
            FRAME.to_parquet(out, index=False)
            return out.getvalue(), ".parquet"
        case "feather":
            FRAME.to_feather(out)
            return out.getvalue(), ".arrow"
        case "spreadsheet":
            FRAME.to_excel(out, index=False)
            return out.getvalue(), ".xlsx"
        case "npz":
            np.savez(out, a=FRAME["a"].to_numpy(), y=FRAME["y"].to_numpy())
            return out.getvalue(), ".npz"
        case _:
            rows = FRAME.to_csv(index=False, header=False)
            return f"% a comment\n@RELATION t\n@ATTRIBUTE a REAL\n@ATTRIBUTE y REAL\n@DATA\n{rows}".encode(), ".arff"


@pytest.mark.parametrize(
    "kind",
    [
        "csv",
        "gzip",
        "utf-16",
        "json lines",
        "json lines in gzip",
        "records",
        "parquet",
        "feather",
        "spreadsheet",
        "npz",
        "arff",
    ],
)
def test_a_table_from_a_pipe_is_kept_by_its_content(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, suffix = written(kind)
    paths = []
    for _ in range(2):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        paths.append(changed({"kind": "file", "path": "-", "target": "y"}, tmp_path)["path"])
    assert paths == [str(tmp_path / "piped" / f"{hashlib.sha256(content).hexdigest()}{suffix}")] * 2
    assert [path.name for path in (tmp_path / "piped").iterdir()] == [Path(paths[0]).name]
    spec = StudySpec(model=CatalogueModel(name="mlp"), dataset=FileDataset(path=paths[0], target="y"))
    assert inspect(spec.dataset, spec).columns == {"a": "number"}


def test_what_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="nothing came"):
        keep_piped(io.BytesIO(b""), tmp_path)
    monkeypatch.setattr("optim_core.data.limits.MAX_FILE_BYTES", 10)
    with pytest.raises(CommandError, match="more than 10 bytes"):
        keep_piped(io.BytesIO(b"x" * 11), tmp_path)
    assert list(tmp_path.iterdir()) == []
