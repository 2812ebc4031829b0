"""The benchmark of the step's time runs, and its result has the shape that its readers expect. No time is judged here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.optimizer_step import COLUMNS, GRADIENT, main
from benchmarks.step_references import FUSED, PACKAGE, TORCH, references
from benchmarks.step_timing import ratio

# One with every rival, one with numbers of its own per run, one that treats matrices apart.
NAMES = ["adamw", "prodigy", "muon"]


def test_quick_mode_gives_ratios_and_the_catalogues_state_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    assert main(["--quick", "--only", ",".join(NAMES), "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["device"]["cpu"]
    assert result["device"]["threads"] == 1
    assert [row["optimizer"] for row in result["rows"]] == NAMES
    for row in result["rows"]:
        assert set(row["ratios"]) == set(references(row["optimizer"]))
        assert set(row["ratios"]) <= set(COLUMNS)
        for found in row["ratios"].values():
            assert 0 < found["low"] <= found["median"] <= found["high"]
            assert math.isfinite(found["high"])
        assert all(value > 0 for value in row["microseconds"].values())
        assert row["state_bytes"] == row["catalogue_bytes"] > 0
        assert row["finite"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)
    assert printed.count("equal") == len(NAMES)


def test_every_rival_is_a_method_of_the_catalogue() -> None:
    assert set(TORCH) | set(PACKAGE) <= set(GRADIENT)
    assert set(FUSED) <= set(TORCH)


def test_the_ratio_of_equal_samples_is_one_and_of_doubled_ones_two() -> None:
    samples = [1.0 + 0.01 * i for i in range(50)]
    same, double = ratio(samples, samples), ratio([2 * x for x in samples], samples)
    assert (same.low, same.median, same.high) == (1, 1, 1)
    assert (double.low, double.median, double.high) == (2, 2, 2)
