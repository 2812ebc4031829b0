"""The evidence's benchmark: its networks train as torch trains them, its parts run and say what they miss."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import evidence
from benchmarks.evidence_nets import Setting, forward, initial, train
from benchmarks.evidence_null import QUICK, cell_of
from benchmarks.evidence_report import above
from benchmarks.evidence_runs import Design, configuration, confirm, stored
from benchmarks.evidence_sources import SOURCES, tables

sys.path.insert(0, str(Path(__file__).parent))
from evidence_sources import auroc_values


@pytest.mark.parametrize("optimizer", ["adamw", "nesterov"])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_many_networks_train_as_each_does_in_torch(optimizer: str, outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [p.double() for p in initial(3, (4, 5, 6, outputs), generator)]
    x = torch.randn(10, 3, 8, 4, generator=generator).double()
    y = torch.randn(10, 3, 8, generator=generator).double()
    if outputs > 1:
        y = (y > 0).long() + (y > 1) * (outputs > 2)
    ours = train(start, lambda step: (x[step], y[step]), 10, Setting(optimizer, 0.05))
    for one in range(3):
        layers = [nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, outputs)]
        model = nn.Sequential(*layers).double()
        parameters = list(model.parameters())
        for place in range(0, 6, 2):
            parameters[place].data = start[place][one].T.clone()
            parameters[place + 1].data = start[place + 1][one, 0].clone()
        if optimizer == "adamw":
            opt: torch.optim.Optimizer = torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.01)
        else:
            opt = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 10)
        for step in range(10):
            opt.zero_grad()
            out = model(x[step, one])
            if outputs == 1:
                loss = 0.5 * (out[:, 0] - y[step, one]).square().mean()
            else:
                loss = nn.functional.cross_entropy(out, y[step, one])
            loss.backward()
            opt.step()
            scheduler.step()
        mine = forward([p[one : one + 1] for p in ours], x[0, one : one + 1])[-1][0]
        torch.testing.assert_close(mine, model(x[0, one]).detach(), atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("name", list(SOURCES))
def test_tables_are_cut_into_folds_with_their_share_of_each_class(name: str) -> None:
    x, y = tables(SOURCES[name], np.random.default_rng(0), 3, 5, 40)
    assert x.shape[:3] == (3, 5, 40)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()
    if SOURCES[name].classes:
        counts = np.stack([(y == c).sum(axis=2) for c in range(SOURCES[name].classes)])
        assert np.ptp(counts, axis=2).max() <= 1
        assert (counts > 0).all()


def test_a_run_is_never_scored_on_rows_that_it_was_trained_on() -> None:
    """Networks that know their training rows by heart would be right on others only by chance: labels here are random."""
    design = Design(12, 5, 2, batch=36, steps=600)
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        law = SOURCES["rings"]
        noise = type(law)(lambda _, n: (rng.standard_normal((n, 6)).astype(np.float32), rng.random(n) < 0.5), 2, (64,))
        patch.setitem(SOURCES, "rings", noise)
        runs = confirm("rings", design, {"a": (Setting("adamw", 0.03), 0)}, 6, 20, 0)
    right = stored("accuracy", runs.outputs["a"].folds, np.stack([runs.y, np.roll(runs.y, -1, 1)], 2)[:, :, None])
    assert right.shape == (6, 5, 2, 2, 12)
    assert abs(right.mean() - 0.5) < 0.06


@pytest.mark.parametrize("classes", [2, 3])
def test_stored_influence_values_are_those_of_every_pair_of_rows(classes: int) -> None:
    rng = np.random.default_rng(1)
    y = np.r_[np.arange(classes), rng.integers(0, classes, 30)]
    outputs = np.round(rng.standard_normal((2, 3, len(y), classes)), 1)
    chances = torch.from_numpy(outputs).softmax(-1).numpy()
    np.testing.assert_allclose(stored("auroc", outputs, y), auroc_values(y, chances), atol=1e-12)


def test_wide_configurations_hold_the_next_folds_runs() -> None:
    values = np.arange(5 * 4 * 2 * 3).reshape(5, 4, 2, 3)
    folds = configuration(values, 5, 2, range(2))
    assert [f.shape for f in folds] == [(2, 2, 3)] * 5
    assert np.array_equal(folds[2][0], values[2, :2, 0])
    assert np.array_equal(folds[2][1], values[1, :2, 1])
    assert np.array_equal(folds[0][1], values[4, :2, 1])


def test_goals_allow_for_sampling_error_only() -> None:
    assert not above(18, 200, 0.05, 3)
    assert above(20, 200, 0.05, 3)


def test_the_command_writes_its_parts_and_fails_when_a_goal_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("null", "truth"):
        monkeypatch.setattr(f"benchmarks.evidence_{part}.QUICK", (("rules", 12, 1),))
        monkeypatch.setattr(f"benchmarks.evidence_{part}.cell_of", lambda *a: cell_of(*a[:3], 12))
    out = tmp_path / "result.json"
    assert evidence.main(["--quick", "--only", "null,truth", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["device"]["threads"] == 1
    assert set(result["parts"]) == {"null", "truth"}
    for part in result["parts"].values():
        assert part["missed"] == []
        assert part["seconds"] > 0
        for cell in part["cells"]:
            assert {row["seeds"] for row in cell["pairs"]} == {5, 10, "looks"}
    assert "All goals reached" in capsys.readouterr().out
    monkeypatch.setitem(evidence.PARTS, "null", lambda *_: {"missed": ["half of all tables"]})
    assert evidence.main(["--only", "null", "--quick", "--out", str(out)]) == 1
    again = json.loads(out.read_text())["parts"]
    assert again["truth"] == result["parts"]["truth"]
    assert again["null"]["missed"] == ["half of all tables"]
    assert "MISSED null: half of all tables" in capsys.readouterr().out


def test_the_quick_form_has_five_folds_and_one() -> None:
    assert {folds for _, _, folds in QUICK} == {1, 5}
