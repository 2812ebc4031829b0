"""A table of a million rows: the memory that reading takes, beside that of the table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROWS, COLUMNS = 1_000_000, 30
PROGRAM = r"""
import re, sys
from pathlib import Path
from optim_core.data import inspect
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec
dataset = FileDataset(path=sys.argv[1], target="y")
found = inspect(dataset, StudySpec(model=CatalogueModel(name="mlp"), dataset=dataset))
assert len(found.columns) == 29, found
# Of this program alone: what getrusage says begins with the process that started it.
print(1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]))
"""


@pytest.mark.slow
def test_reading_takes_at_most_four_times_the_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {f"x{i}": np.round(rng.normal(size=ROWS) * 10, 3) for i in range(COLUMNS - 4)}
    columns["gap"] = np.where(rng.random(ROWS) < 0.1, np.nan, columns["x0"])
    frame = pd.DataFrame(columns).assign(
        city=rng.choice(["Berlin", "Paris", "Rome"], ROWS),
        day=(np.datetime64("2015-01-01") + rng.integers(0, 3000, ROWS)).astype(str),
        y=np.round(rng.normal(size=ROWS), 3),
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    del frame, columns
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "t.csv")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= 4 * 8 * ROWS * COLUMNS
