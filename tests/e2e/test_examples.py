"""The example programs, run as a person runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "airfoil_self_noise.dat"


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def airfoil() -> Path:
    """The measurements, which are not part of this repository."""
    given = os.environ.get("WHICHOPT_AIRFOIL")
    path = Path(given) if given else ROOT.parent / "shared" / "data" / NAME
    if not path.is_file():
        pytest.skip(f"{path} is absent, so the airfoil example is UNTESTED (set WHICHOPT_AIRFOIL)")
    return path


def test_trace_2d_prints_the_published_numbers(tmp_path: Path) -> None:
    picture = tmp_path / "runs.png"
    done = run("trace_2d.py", picture)
    assert done.returncode == 0, done.stderr
    rows = [row.split() for row in done.stdout.replace(",", "").splitlines()[1:]]
    # … x1 x2 published-x1 published-x2
    assert [row[-4:-2] for row in rows] == [row[-2:] for row in rows]
    assert len(rows) == 4
    assert "-1673.365109" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_airfoil_medians_lie_in_their_bands(airfoil: Path) -> None:
    done = run("airfoil.py", airfoil)
    assert done.returncode == 0, done.stderr
    rows = [[float(part) for part in line.split()] for line in done.stdout.splitlines()[1:]]
    # 5 and 95 % of 400 simulated runs of each setting.
    bands = {(0.02, 0.5): (0.2424, 0.2478), (0.02, 0.9): (0.2459, 0.2828), (0.004, 0.9): (0.2423, 0.2475)}
    assert [(lr, momentum) for lr, momentum, *_ in rows] == list(bands)
    for lr, momentum, median, lowest, highest, _ in rows:
        low, high = bands[lr, momentum]
        assert low <= median <= high
        # The closed-form minimum is 0.241688; nothing trained can lie below it.
        assert 0.2416 < lowest < median < highest
    assert [row[-1] for row in rows] == [0.2455, 0.2520, 0.2429]
    assert rows[1][2] > rows[0][2]


@pytest.mark.parametrize("content", [None, "1 2 3\n4 5 6\n", "no,table"])
def test_airfoil_says_where_the_table_is_from(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / NAME
    if content is not None:
        path.write_text(content)
    done = run("airfoil.py", path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "UCI Machine Learning Repository" in done.stderr


def test_examples_without_what_they_need() -> None:
    assert run("airfoil.py").returncode == 2
    done = run("trace_2d.py", "runs.svg")
    assert (done.returncode, done.stdout) == (2, "")
