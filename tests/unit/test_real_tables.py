"""Ten real tables: our linear model and MLP, trained by AdamW, beside scikit-learn's on the same rows of the same folds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
import statsmodels.api as sm
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor

from optim_core.engine import run_pack
from optim_core.recommend.interval import difference
from optim_core.recommend.row_scores import row_scores as pooled
from optim_core.spec.problem import FOLDS, StudySpec
from optim_core.spec.rowscores import unpack
from optim_core.spec.trial import Configuration, TrialParams, UnitSpec
from optim_core.tasks import Problem, ProblemSource
from optim_core.tasks.row_scores import row_scores

RATES, EPOCHS, HIDDEN = (1e-3, 3e-3, 1e-2, 3e-2, 0.1), 60, 32
# Twenty comparisons.
ALPHA = 0.05 / 20


def bundled(name: str) -> Callable[[], tuple[pd.DataFrame, str]]:
    def load() -> tuple[pd.DataFrame, str]:
        return getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame, "target"

    return load


def affairs() -> tuple[pd.DataFrame, str]:
    table = sm.datasets.fair.load_pandas().data.iloc[::4]
    return table.assign(any=np.where(table.affairs > 0, "yes", "no")).drop(columns="affairs"), "any"


def visits() -> tuple[pd.DataFrame, str]:
    return sm.datasets.randhie.load_pandas().data.iloc[::16], "mdvis"


def of_statsmodels(name: str, target: str) -> Callable[[], tuple[pd.DataFrame, str]]:
    return lambda: (getattr(sm.datasets, name).load_pandas().data, target)


TABLES = {
    "iris": bundled("iris"), "wine": bundled("wine"), "breast_cancer": bundled("breast_cancer"),
    "diabetes": bundled("diabetes"), "affairs": affairs, "vote": of_statsmodels("anes96", "vote"), "visits": visits,
    "food": of_statsmodels("engel", "foodexp"), "cancer": of_statsmodels("cancer", "cancer"),
    "travel": of_statsmodels("modechoice", "choice"),
}  # fmt: skip


def source(folder: Path, name: str, model: str) -> ProblemSource:
    table, target = TABLES[name]()
    classes = len(table[target].unique()) <= 3
    path = folder / "t.csv"
    table.to_csv(path, index=False)
    return ProblemSource(StudySpec.model_validate({
        "model": {"kind": "catalogue", "name": model, **({"hidden": [HIDDEN]} if model == "mlp" else {})},
        "dataset": {"kind": "file", "path": str(path), "target": target},
        "task": "classification" if classes else "regression",
        "metric": "accuracy" if classes else "rmse",
        "training": {"batch_size": 16, "epochs": EPOCHS},
    }))  # fmt: skip


def ours(problem: Problem) -> np.ndarray:
    """Row scores of the test split, at the learning rate that is best on the validation split."""
    trials = [
        TrialParams(number=i, seed=0, stage="confirm", origin="test", configuration=Configuration(
            optimizer="adamw", schedule={"name": "cosine"},
            hyperparameters={"lr": lr, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}))
        for i, lr in enumerate(RATES)
    ]  # fmt: skip
    unit = UnitSpec(
        key="u", kind="confirm", rung=0, horizon=problem.full_horizon, split="test", fold=problem.fold, trials=trials
    )
    rows = [trial.rows for trial in run_pack(problem, unit).trials if trial.rows]
    best = min(rows, key=lambda one: (-1 if problem.classes else 1) * np.mean(unpack(one["validation"])))
    return np.array(unpack(best["test"]), dtype=np.float64)


def theirs(problem: Problem, model: str) -> np.ndarray:
    classes = problem.classes is not None
    if model == "linear":
        found = LogisticRegression() if classes else Ridge()
    else:
        kind = MLPClassifier if classes else MLPRegressor
        found = kind(hidden_layer_sizes=(HIDDEN,), max_iter=300, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.fit(problem.train.x.numpy(), problem.train.y.numpy())
    x = problem.test.x.numpy()
    outputs = found.predict_proba(x) if classes else found.predict(x)[:, None]  # type: ignore[union-attr]
    return row_scores(problem, torch.from_numpy(np.asarray(outputs))[None], problem.test.y)[0].astype(np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["linear", "mlp"])
@pytest.mark.parametrize("name", TABLES)
def test_our_models_are_as_good_as_scikit_learns(name: str, model: str, tmp_path: Path) -> None:
    data = source(tmp_path, name, model)
    problems = [data.problem(fold) for fold in range(FOLDS)]
    own, other = ([each(p)[None, None] for p in problems] for each in (ours, lambda p: theirs(p, model)))
    metric = problems[0].metric
    apart = difference(own, other, metric, alpha=ALPHA)
    print(
        f"{name} {model}: {pooled(own, metric).value:.4g} {pooled(other, metric).value:.4g} [{apart.low:.3g}, {apart.high:.3g}]"
    )
    assert apart.high >= 0
