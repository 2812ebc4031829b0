"""The benchmark of people's modules and the check for a GPU run, and say what they found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu_check, own_modules


def test_people_s_modules_are_timed_against_their_own_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "own.json"
    own_modules.main(["--quick", "--only", "two", "--out", str(out)])
    (row,) = json.loads(out.read_text())["rows"]
    assert row["equal"] is True
    assert row["ratios"]["plain"] == 1
    assert {"K=1", "K=4"} < set(row["ratios"])
    assert "two_inputs" in capsys.readouterr().out


def test_without_cuda_there_is_nothing_to_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu_check.main([]) == 0
    assert capsys.readouterr().out == "no CUDA here: nothing to check\n"


def test_a_part_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(gpu_check, "networks", broken)
    monkeypatch.setattr(gpu_check, "study", lambda on: {"headline": on})
    monkeypatch.setattr(gpu_check, "OWN", ("two_inputs",))
    out = tmp_path / "check.json"
    assert gpu_check.main(["--device", "cpu", "--out", str(out)]) == 1
    found = json.loads(out.read_text())
    assert found["networks"] == {"error": "RuntimeError: out of luck"}
    assert found["study"] == {"headline": "cpu"}
    assert found["own modules"][0]["model"] == "two_inputs"
