"""Models of another kind on the arrays that the networks get: whoever needs no network should learn it here.

scikit-learn's own, at its defaults but for ``penalty`` and without tuning: logistic or ridge regression, and gradient-boosted
trees.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from optim_core.spec.trial import ReferenceName, Split
from optim_core.tasks.build import Problem
from optim_core.tasks.row_scores import row_scores
from optim_core.tasks.teacher import one_hot

# Rows that are fitted to at most, drawn at random.
MOST_ROWS = 50_000
# Seconds of a fit by size, on one core of 2020: what it takes at all; of trees for each tree, for each of its features (whose
# histograms are 256 wide) and for each cell; of the line for each cell, some hundred iterations.
_FIT_S, _TREE_S, _FEATURE_S, _TREE_CELL_S, _LINE_CELL_S, _TREES = 0.05, 5e-4, 7e-5, 1e-8, 1e-7, 100
# With so many rows a feature nothing has to be held back, and a penalty of so much a row only keeps the solution unique.
_MANY_ROWS, _SLIGHT = 10, 1e-6
# The log of a chance that is nil.
_NEVER = -math.log(2.0**52)


def reference_seconds(problem: Problem) -> dict[ReferenceName, float] | None:
    """What each should take, by size alone; None for images, of which columns of pixels say little."""
    if problem.train.x.ndim != 2:
        return None
    rows, features = min(len(problem.train.y), MOST_ROWS), _width(problem)
    outputs = problem.outputs if problem.outputs > 2 else 1
    tree = _TREE_S + _FEATURE_S * features + _TREE_CELL_S * rows * features
    return {
        "linear": _FIT_S + _LINE_CELL_S * rows * features * outputs,
        "trees": _FIT_S + _TREES * outputs * tree,
    }


def _width(problem: Problem) -> int:
    own = problem.cardinalities
    return problem.train.x.shape[1] - len(own) + sum(own)


def reference_rows(problem: Problem, name: ReferenceName) -> tuple[int, dict[Split, np.ndarray]]:
    """(training rows that it was fitted to, split → what is stored of each row), see ``row_scores``. The same at each call."""
    x, y, w = (None if t is None else t.cpu().numpy() for t in _rows(problem, "train"))
    assert x is not None
    assert y is not None
    if problem.class_weights is not None:
        each = problem.class_weights.cpu().numpy()[y]
        w = each if w is None else w * each
    if len(y) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(0).choice(len(y), MOST_ROWS, replace=False))
        x, y, w = x[chosen], y[chosen], None if w is None else w[chosen]
    model = _model(name, *x.shape, classes=problem.classes is not None)
    with warnings.catch_warnings():
        # That its last digit is still moving changes nothing here.
        warnings.simplefilter("ignore")
        model.fit(x, y, sample_weight=w)
    found: dict[Split, np.ndarray] = {}
    splits: tuple[Split, ...] = ("test", "validation")
    for split in splits:
        x, y, w = _rows(problem, split)
        found[split] = row_scores(problem, _outputs(problem, model, x)[None], y, w)[0]
    return len(problem.train.y) if len(problem.train.y) <= MOST_ROWS else MOST_ROWS, found


def _rows(problem: Problem, split: str) -> tuple[Tensor, Tensor, Tensor | None]:
    x, y, w = problem.split(split)
    return one_hot(x, problem.cardinalities), y, w


def _outputs(problem: Problem, model, x: Tensor) -> Tensor:
    """(n, C) logs of chances or (n, 1) predictions, as a network gives them."""
    rows = x.cpu().numpy()
    if problem.classes is None:
        return torch.from_numpy(model.predict(rows)).double()[:, None].to(x.device)
    chances = model.predict_proba(rows)
    logs = torch.full((len(rows), problem.outputs), _NEVER, dtype=torch.float64)
    # A rare class may be in none of the rows that were drawn.
    logs[:, torch.from_numpy(model.classes_)] = torch.from_numpy(np.log(np.maximum(chances, math.exp(_NEVER)))).double()
    return logs.to(x.device)


def penalty(rows: int, features: int) -> float:
    """Of ridge regression: scikit-learn's default, or next to none where rows are many, so that a sum of columns shows."""
    return _SLIGHT * rows if rows >= _MANY_ROWS * features else 1.0


def _model(name: ReferenceName, rows: int, features: int, *, classes: bool):
    # It takes as long to import as torch, and few steps of a study need it.
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge

    if name == "linear":
        return LogisticRegression() if classes else Ridge(penalty(rows, features))
    # All rows are trained on, whatever their number.
    trees = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return trees(early_stopping=False, random_state=0)  # type: ignore[arg-type]
