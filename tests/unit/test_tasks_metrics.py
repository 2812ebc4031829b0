"""Every metric equals scikit-learn's, for each trial of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from optim_core.tasks import metrics


def chances(outputs: torch.Tensor) -> np.ndarray:
    return outputs.double().softmax(dim=-1).numpy()


def auroc(y: np.ndarray, outputs: torch.Tensor) -> float:
    if outputs.shape[-1] == 2:
        return float(reference.roc_auc_score(y, chances(outputs)[:, 1]))
    return float(reference.roc_auc_score(y, chances(outputs), multi_class="ovr", average="macro"))


CLASSIFICATION = {
    "accuracy": lambda y, o: reference.accuracy_score(y, o.argmax(-1).numpy()),
    "f1": lambda y, o: reference.f1_score(y, o.argmax(-1).numpy(), average="macro", zero_division=0),
    "auroc": auroc,
    "loss": lambda y, o: reference.log_loss(y, chances(o), labels=list(range(o.shape[-1]))),
}
REGRESSION = {
    "rmse": lambda y, o: reference.root_mean_squared_error(y, o.numpy()),
    "mae": lambda y, o: reference.mean_absolute_error(y, o.numpy()),
    "r2": lambda y, o: reference.r2_score(y, o.numpy()),
    "loss": lambda y, o: reference.mean_squared_error(y, o.numpy()),
}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), classes=st.integers(2, 6), rows=st.integers(12, 80), trials=st.integers(1, 4),
    levels=st.sampled_from([2, 5, 1000]),
)  # fmt: skip
def test_classification(seed: int, classes: int, rows: int, trials: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % classes
    # Few levels make ties, which a ranking has to count half.
    outputs = torch.randint(0, levels, (trials, rows, classes), generator=generator).float() / levels
    for name, ours in metrics.CLASSIFICATION.items():
        expected = [CLASSIFICATION[name](y.numpy(), trial) for trial in outputs]
        np.testing.assert_allclose(ours(outputs.double(), y).numpy(), expected, atol=1e-6, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 80), trials=st.integers(1, 4), scale=st.floats(0.01, 1000))
def test_regression(seed: int, rows: int, trials: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(rows, generator=generator, dtype=torch.float64) * scale
    outputs = y + torch.randn(trials, rows, generator=generator, dtype=torch.float64)
    for name, ours in metrics.REGRESSION.items():
        expected = [REGRESSION[name](y.numpy(), trial) for trial in outputs]
        np.testing.assert_allclose(ours(outputs, y).numpy(), expected, rtol=1e-6, err_msg=name)


def test_f1_of_classes_that_are_never_right() -> None:
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    outputs = torch.nn.functional.one_hot(torch.tensor([0, 0, 2, 2, 1, 1]), 4).double()[None]
    expected = CLASSIFICATION["f1"](y.numpy(), outputs[0])
    assert metrics.f1(outputs, y).item() == pytest.approx(expected)


def test_auroc_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.arange(50) % 5
    outputs = torch.randn(3, 50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = metrics.auroc(outputs, y)
    monkeypatch.setattr(metrics, "_CHUNK", 60)
    torch.testing.assert_close(metrics.auroc(outputs, y), whole)


def test_r2_of_a_constant_target() -> None:
    y = torch.ones(4, dtype=torch.float64)
    outputs = torch.stack([torch.ones(4, dtype=torch.float64), torch.arange(4, dtype=torch.float64)])
    assert metrics.r2(outputs, y).tolist() == [1.0, 0.0]
