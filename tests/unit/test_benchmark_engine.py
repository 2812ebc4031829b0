"""The benchmarks of engine and study run, and their results have the shape that their readers expect. No time is judged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks import engine, study
from benchmarks.engine_limits import floor_seconds, needs
from benchmarks.engine_rivals import Ours, Plain
from benchmarks.engine_workloads import WORKLOADS, make_problem, plain_model
from optim_core.spec.trial import Form


def test_quick_mode_of_the_engine_gives_rates_and_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    assert engine.main(["--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    (row,) = result["rows"]
    assert set(row["rates"]) == {"plain", "torch.func", "K=1", "K=1 own batches", "K=4", "K=4 own batches"}
    for rates in row["rates"].values():
        assert len(rates) == 2
        assert all(rate > 0 and math.isfinite(rate) for rate in rates)
    assert row["ratios"]["plain"] == 1
    assert row["best"] in row["ratios"]
    assert row["floor_us"] > 0
    assert "trial-steps/s" in capsys.readouterr().out


@pytest.mark.slow
def test_quick_mode_of_the_study_trains_the_same_plan_twice(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    assert study.main(["--quick", "--out", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["engine"]["trials"] == row["sequential"]["trials"] > 0
    assert row["engine"]["train_steps"] == row["sequential"]["train_steps"] > 0
    assert sum(row["profile"].values()) == pytest.approx(1)
    assert 0 < row["overhead"] < 1


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_is_the_same_task_for_all(name: str) -> None:
    problem = make_problem(name)
    plain = plain_model(problem)
    assert sum(p.numel() for p in plain.parameters()) == problem.parameter_count
    assert plain(problem.train.x[:2]).shape == (2, problem.outputs)
    need = needs(problem)
    assert need["flops"] > 0
    seconds, bound = floor_seconds(need, {"flops": 1e11, "bytes": 1e10})
    assert seconds > 0
    assert bound in ("arithmetic", "memory")
    before = torch.get_num_threads()
    for rival in (Plain(problem), Ours(problem, 2, Form(engine="batched", width=8), shared=False)):
        rival.steps(2)
    assert torch.get_num_threads() == before
