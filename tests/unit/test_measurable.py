"""What is said where accuracy says little: in the report before training, and in the answer."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from optim_core.data import inspect
from optim_core.data.measurable import imbalance
from optim_core.spec.metrics import IMBALANCED
from optim_core.spec.problem import BOUNDS, MAXIMISED, METRICS_OF_TASK, NAMED_METRICS, PERFECT, sign_of
from optim_core.spec.validation import parse_spec
from service.cli.render import recommendation
from tests.web.web_answers import sample_recommendation


def test_a_class_of_one_percent_is_told_before_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{v:.3f},{'yes' if i % 100 == 0 else 'no'}" for i, v in enumerate(rng.normal(size=1000))]
    (tmp_path / "t.csv").write_text("\n".join(["a,sick", *lines]) + "\n")
    raw = {"model": {"kind": "catalogue", "name": "linear"},
           "dataset": {"kind": "file", "path": str(tmp_path / "t.csv"), "target": "sick"}}  # fmt: skip
    spec = parse_spec(raw)
    found = inspect(spec.dataset, spec)
    assert found.metric == "accuracy", "proposed, not changed in silence"
    assert (
        "Accuracy of always saying 'no': 0.99; consider the metric balanced_accuracy or average_precision."
        in found.report
    )
    spec = parse_spec({**raw, "metric": "average_precision"})
    assert not any("consider the metric" in line for line in inspect(spec.dataset, spec).report)


@pytest.mark.parametrize(("rows", "said"), [(20, True), (19, False)])
def test_from_which_share_on(rows: int, said: bool) -> None:
    y = np.array([0] * (4 * rows) + [1] * 20)
    assert (len(imbalance("accuracy", y, ["a", "b"])) == 1) == said
    assert (4 * rows / len(y) >= IMBALANCED) == said


def test_every_metric_has_bounds_and_a_direction() -> None:
    assert set(NAMED_METRICS) <= set(BOUNDS)
    for metric in NAMED_METRICS:
        low, high = BOUNDS[metric]
        assert sign_of(metric) == (1 if metric in MAXIMISED else -1)
        # What is perfect is the end that it is better towards, 0 for errors.
        assert PERFECT.get(metric, 0.0) == (high if metric in MAXIMISED else low)
    assert set(METRICS_OF_TASK["classification"] + METRICS_OF_TASK["regression"]) <= set(NAMED_METRICS)


def test_the_command_line_shows_other_models_beside_the_network() -> None:
    answer = sample_recommendation("s").document()
    out = io.StringIO()
    recommendation(answer, Console(file=out, width=120))
    shown = out.getvalue()
    assert "gradient-boosted trees  0.9721 [0.9681, 0.9761], untuned" in shown
    assert "logistic regression     0.9402 [0.9362, 0.9442], untuned" in shown
    assert answer["reference"]["sentence"].split(":")[0][:60] in " ".join(shown.split())
    # Of answers of earlier versions there is none.
    recommendation({key: value for key, value in answer.items() if key != "reference"}, Console(file=io.StringIO()))
