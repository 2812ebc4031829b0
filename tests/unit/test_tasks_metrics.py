"""Every metric equals scikit-learn's, for each trial of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from optim_core.tasks import metrics, ranked


def chances(outputs: torch.Tensor) -> np.ndarray:
    return outputs.double().softmax(dim=-1).numpy()


def auroc(y: np.ndarray, outputs: torch.Tensor, w: np.ndarray | None) -> float:
    if outputs.shape[-1] == 2:
        return float(reference.roc_auc_score(y, chances(outputs)[:, 1], sample_weight=w))
    return float(reference.roc_auc_score(y, chances(outputs), multi_class="ovr", average="macro", sample_weight=w))


def average_precision(y: np.ndarray, outputs: torch.Tensor, w: np.ndarray | None) -> float:
    scores = chances(outputs)
    found = reference.average_precision_score(y, scores[:, 1] if outputs.shape[-1] == 2 else scores, sample_weight=w)
    return float(found)


def log_loss(y: np.ndarray, o: torch.Tensor, w: np.ndarray | None) -> float:
    return reference.log_loss(y, chances(o), labels=list(range(o.shape[-1])), sample_weight=w)


def codes(o: torch.Tensor) -> np.ndarray:
    return o.argmax(-1).numpy()


# Truth, one trial's outputs, sample weights or None → scikit-learn's number.
CLASSIFICATION = {
    "accuracy": lambda y, o, w: reference.accuracy_score(y, codes(o), sample_weight=w),
    "balanced_accuracy": lambda y, o, w: reference.balanced_accuracy_score(y, codes(o), sample_weight=w),
    "f1": lambda y, o, w: reference.f1_score(y, codes(o), average="macro", zero_division=0, sample_weight=w),
    "auroc": auroc,
    "average_precision": average_precision,
    "loss": log_loss,
    "log_loss": log_loss,
}
REGRESSION = {
    "rmse": lambda y, o, w: reference.root_mean_squared_error(y, o.numpy(), sample_weight=w),
    "mae": lambda y, o, w: reference.mean_absolute_error(y, o.numpy(), sample_weight=w),
    "mape": lambda y, o, w: reference.mean_absolute_percentage_error(y, o.numpy(), sample_weight=w),
    "r2": lambda y, o, w: reference.r2_score(y, o.numpy(), sample_weight=w),
    "loss": lambda y, o, w: reference.mean_squared_error(y, o.numpy(), sample_weight=w),
}


def weights_of(rows: int, generator: torch.Generator, weighted: bool) -> torch.Tensor | None:
    return torch.rand(rows, generator=generator, dtype=torch.float64) + 0.05 if weighted else None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), classes=st.integers(2, 6), rows=st.integers(12, 80), trials=st.integers(1, 4),
    levels=st.sampled_from([2, 5, 1000]), weighted=st.booleans(),
)  # fmt: skip
def test_classification(seed: int, classes: int, rows: int, trials: int, levels: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % classes
    # Few levels make ties, which a ranking has to count half.
    outputs = torch.randint(0, levels, (trials, rows, classes), generator=generator).double() / levels
    w = weights_of(rows, generator, weighted)
    for name, ours in metrics.CLASSIFICATION.items():
        expected = [CLASSIFICATION[name](y.numpy(), trial, None if w is None else w.numpy()) for trial in outputs]
        np.testing.assert_allclose(ours(outputs, y, w).numpy(), expected, atol=1e-9, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(2, 80), trials=st.integers(1, 4), scale=st.floats(0.01, 1000),
    weighted=st.booleans(),
)  # fmt: skip
def test_regression(seed: int, rows: int, trials: int, scale: float, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(rows, generator=generator, dtype=torch.float64) * scale
    outputs = y + torch.randn(trials, rows, generator=generator, dtype=torch.float64)
    w = weights_of(rows, generator, weighted)
    for name, ours in metrics.REGRESSION.items():
        expected = [REGRESSION[name](y.numpy(), trial, None if w is None else w.numpy()) for trial in outputs]
        np.testing.assert_allclose(ours(outputs, y, w).numpy(), expected, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_certain_mistake_costs_what_scikit_learn_says() -> None:
    y, outputs = torch.tensor([0, 1, 1]), torch.tensor([[[0.0, 500.0], [0.0, 1.0], [0.0, 2.0]]], dtype=torch.float64)
    assert metrics.log_loss(outputs, y).item() == pytest.approx(log_loss(y.numpy(), outputs[0], None), abs=1e-9)
    assert metrics.cross_entropy(outputs, y).item() > 100


def test_f1_of_classes_that_are_never_right() -> None:
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    outputs = torch.nn.functional.one_hot(torch.tensor([0, 0, 2, 2, 1, 1]), 4).double()[None]
    expected = CLASSIFICATION["f1"](y.numpy(), outputs[0], None)
    assert metrics.f1(outputs, y).item() == pytest.approx(expected)


@pytest.mark.parametrize("metric", [metrics.auroc, metrics.average_precision])
def test_ranks_in_pieces_are_the_same(metric: metrics.Function, monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.arange(50) % 5
    outputs = torch.randn(3, 50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = metric(outputs, y, None)
    monkeypatch.setattr(ranked, "_CHUNK", 60)
    torch.testing.assert_close(metric(outputs, y, None), whole)


def test_r2_of_a_constant_target() -> None:
    y = torch.ones(4, dtype=torch.float64)
    outputs = torch.stack([torch.ones(4, dtype=torch.float64), torch.arange(4, dtype=torch.float64)])
    assert metrics.r2(outputs, y).tolist() == [1.0, 0.0]
