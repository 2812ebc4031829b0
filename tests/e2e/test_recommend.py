"""``whichopt recommend`` from the command line to the answer, embedded: API, worker process, SQLite."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.e2e.cli_support import SCRIPT, answer_of, environment, tiny_spec, whichopt, write_spec, write_table


def recomputed(table: str, *arguments: str) -> dict[str, list[float]]:
    """Optimizer, or role of AdamW → scores of its configurations, by the program in the README from the table alone."""
    readme = (Path(__file__).parents[2] / "service" / "README.md").read_text()
    program = readme.partition("**Export.**")[2].partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], input=table, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    found: dict[str, list[float]] = {}
    for line in done.stdout.splitlines():
        optimizer, roles, score = line.split(",")
        for name in roles.split() if optimizer == "adamw" else [optimizer]:
            found.setdefault(name, []).append(float(score))
    return found


def check_scores(answer: dict[str, Any], found: dict[str, list[float]]) -> None:
    """They are the answer's scores, to rounding in the last digits."""
    best = max if answer["metric"]["direction"] == "maximize" else min
    assert found["adamw_default"] == [pytest.approx(answer["baselines"]["adamw_default"]["mean"], rel=1e-12)]
    assert best(found["adamw_tuned"]) == pytest.approx(answer["baselines"]["adamw_tuned"]["mean"], rel=1e-12)
    rivals = [row for row in answer["league"] if row["confirmed"] is not None and row["optimizer"] != "adamw"]
    assert rivals
    for row in rivals:
        assert found[row["optimizer"]] == [pytest.approx(row["confirmed"]["mean"], rel=1e-12)]


def test_digits_from_a_spec_file(tmp_path: Path) -> None:
    done = whichopt(tmp_path, "recommend", write_spec(tmp_path, tiny_spec()), "--json")
    answer = answer_of(done)
    assert answer["metric"] == {"name": "accuracy", "direction": "maximize", "split": "test"}
    assert answer["score"]["mean"] > 0.3
    assert {row["optimizer"] for row in answer["league"]} == {"adamw", "momentum"}
    assert answer["cost"]["trials"] == 8
    assert (answer["verdict"], answer["reason"]) == ("inconclusive", "not_enough_search")
    assert "too few for a verdict" in done.stderr
    assert "done" in done.stderr
    assert "Traceback" not in done.stderr

    listed = whichopt(tmp_path, "studies", "list")
    assert answer["study"] in listed.stdout
    again = whichopt(tmp_path, "studies", "show", answer["study"], "--json")
    assert answer_of(again) == answer
    table = whichopt(tmp_path, "studies", "export", answer["study"])
    assert len(table.stdout.splitlines()) == 1 + answer["cost"]["trials"] + answer["cost"]["confirmation_runs"]
    check_scores(answer, recomputed(table.stdout))
    rows = list(csv.DictReader(io.StringIO(whichopt(tmp_path, "studies", "export", answer["study"], "--rows").stdout)))
    default = [float(row["value"]) for row in rows if "adamw_default" in row["roles"].split()]
    assert len(default) == 2 * answer["score"]["runs"] // 5 * answer["score"]["rows"]
    assert np.mean(default) == pytest.approx(answer["baselines"]["adamw_default"]["mean"], rel=1e-12)

    program = (
        "import torch\nmodel = torch.nn.Linear(3, 1)\n" + answer["snippet"]
        + "\nfor _ in range(5):\n    optimizer.zero_grad()\n    model(torch.ones(2, 3)).sum().backward()\n"
        "    optimizer.step()\n    scheduler.step()\nprint('trained')\n"
    )  # fmt: skip
    trained = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert trained.stdout == "trained\n", trained.stderr

    replayed = whichopt(tmp_path, "replay", answer["study"])
    assert replayed.returncode == 0, replayed.stderr
    assert "bit for bit" in replayed.stderr

    assert whichopt(tmp_path, "studies", "delete", answer["study"]).returncode == 0
    assert answer["study"] not in whichopt(tmp_path, "studies", "list").stdout


def test_regression_on_a_csv_file(tmp_path: Path) -> None:
    table = write_table(tmp_path / "houses.csv")
    done = whichopt(
        tmp_path, "recommend", "--model", "mlp", "--data", table.name, "--target", "price",
        "--budget", "6 trials", "--optimizers", "nesterov", "--seed", "3", "--json",
    )  # fmt: skip
    answer = answer_of(done)
    assert answer["metric"]["name"] == "rmse"
    assert math.isfinite(answer["score"]["mean"])
    assert any("colour" in sentence for sentence in answer["dataset"]["report"])
    check_scores(answer, recomputed(whichopt(tmp_path, "studies", "export", answer["study"]).stdout, "rmse"))
    # Of other data nothing is trained again.
    write_table(table, rows=190)
    replayed = whichopt(tmp_path, "replay", answer["study"])
    assert (replayed.returncode, replayed.stdout) == (3, "")
    assert replayed.stderr.splitlines() == [
        "whichopt: the data set is not the one of the study any more; nothing was trained"
    ]


def test_classification_on_a_csv_file(tmp_path: Path) -> None:
    table = write_table(tmp_path / "kinds.csv")
    dataset = {"kind": "file", "path": str(table), "target": "kind"}
    spec = write_spec(tmp_path, tiny_spec(dataset=dataset, metric="f1"))
    answer = answer_of(whichopt(tmp_path, "recommend", spec, "--json"))
    assert answer["metric"]["name"] == "f1"
    assert answer["score"]["mean"] > 0.5
    rows = json.loads(whichopt(tmp_path, "studies", "export", answer["study"], "--rows", "--format", "json").stdout)
    assert rows["study"]["spec"]["dataset"]["target"] == "kind"
    splits = [s for run in rows["runs"] if "adamw_default" in run["roles"] for s in run["splits"].values()]
    pooled = [np.concatenate([s[part] for s in splits]) for part in ("targets", "values")]
    assert f1_score(*pooled, average="macro") == pytest.approx(answer["baselines"]["adamw_default"]["mean"], rel=1e-12)


@pytest.mark.parametrize("arguments", [["optimizers"], ["optimizers", "--json"], ["optimizers", "adam", "--json"]])
def test_a_closed_pipe_ends_quietly(tmp_path: Path, arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [SCRIPT, *arguments], env=environment(tmp_path), stdout=write_end, stderr=subprocess.PIPE, check=False
    )
    os.close(write_end)
    assert done.stderr == b""
    assert done.returncode == 0


def test_a_study_without_any_answer_is_exit_code_3(tmp_path: Path) -> None:
    search = {"optimizers": ["adamw"], "ranges": {"adamw": {"lr": [1e8, 1e8]}}}
    done = whichopt(tmp_path, "recommend", write_spec(tmp_path, tiny_spec(search=search)), "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["errors"][0]["code"] == "all_trials_failed"
    assert "all_trials_failed" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
