"""Weights of rows and classes: in the training loss alone and K at a time, in metrics, in what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from optim_core.data import prepare, understand
from optim_core.engine import run_pack
from optim_core.recommend.row_scores import row_scores
from optim_core.spec.errors import DataError
from optim_core.spec.rowscores import unpack
from optim_core.spec.trial import Configuration, Form, TrialParams, UnitSpec
from optim_core.spec.validation import SpecErrors, parse_spec
from optim_core.stacked import losses as stacked
from optim_core.tasks import build_problem, losses
from optim_core.tasks.judge import TableJudge

K, ROWS, CLASSES = 3, 17, 4


def table(folder: Path, *, classes: bool = True, weight: list[str] | None = None) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 3))
    y = x @ [1.0, -2.0, 0.5] + rng.normal(size=240)
    target = np.where(y > 1.8, "yes", "no") if classes else np.round(y, 4).astype(str)
    weights = weight or [f"{w:.3f}" for w in rng.uniform(0.2, 3, 240)]
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{w},{t}" for (a, b, c), w, t in zip(x, weights, target, strict=True)]
    path = folder / "t.csv"
    path.write_text("\n".join(["a,b,c,importance,y", *lines]) + "\n")
    return path


def spec_of(path: Path, **changes: Any) -> Any:
    training = {"batch_size": 16, "epochs": 2, **changes.pop("training", {})}
    dataset = {"kind": "file", "path": str(path), "target": "y", "weight": "importance", **changes.pop("dataset", {})}
    return parse_spec({"model": {"kind": "catalogue", "name": "mlp", "hidden": [8]}, "dataset": dataset,
                       "training": training, **changes})  # fmt: skip


# The loss


def batch(shared: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (ROWS,) if shared else (K, ROWS)
    scores = torch.randn(K, ROWS, CLASSES, generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, shape, generator=generator)
    w = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
    return scores, y, w, torch.tensor([0.5, 1.0, 7.0, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_are_torchs(smoothing: float) -> None:
    scores, y, _, classes = batch(shared=True)
    expected = F.cross_entropy(scores[0], y, weight=classes, label_smoothing=smoothing)
    torch.testing.assert_close(losses.class_loss(scores[0], y, smoothing, None, classes), expected)
    given = torch.tensor(smoothing, dtype=torch.float64)
    torch.testing.assert_close(losses.class_loss(scores[0], y, given, None, classes), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_row_of_weight_three_is_three_rows(smoothing: float) -> None:
    scores, y, _, classes = batch(shared=True)
    times = torch.arange(ROWS) % 3 + 1
    more, goal = scores[0].repeat_interleave(times, 0), y.repeat_interleave(times)
    expected = F.cross_entropy(more, goal, weight=classes, label_smoothing=smoothing)
    torch.testing.assert_close(losses.class_loss(scores[0], y, smoothing, times.double(), classes), expected)
    numbers, target = more[:, :1], goal.double()
    expected = F.mse_loss(numbers[:, 0], target)
    torch.testing.assert_close(losses.number_loss(scores[0, :, :1], y.double(), times.double()), expected)


def test_weighted_squares_are_torchs() -> None:
    scores, y, w, _ = batch(shared=True)
    expected = F.mse_loss(scores[0, :, 0], y.double(), weight=w)
    torch.testing.assert_close(losses.number_loss(scores[0, :, :1], y.double(), w), expected)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64)])
@pytest.mark.parametrize(("by_row", "by_class"), [(True, True), (True, False), (False, True)])
def test_stacked_losses_and_gradients_are_those_of_each_trial(
    shared: bool, smoothing: Any, by_row: bool, by_class: bool
) -> None:
    scores, y, w, classes = batch(shared)
    each, of_classes = w if by_row else None, classes if by_class else None
    found, gradient = stacked.cross_entropy(scores.mT.contiguous(), y, smoothing, each, of_classes)
    for k in range(K):
        own = scores[k].clone().requires_grad_()
        share = smoothing[k] if isinstance(smoothing, torch.Tensor) else smoothing
        goal, weight = (t if t is None or shared else t[k] for t in (y, each))
        assert goal is not None
        loss = losses.class_loss(own, goal, share, weight, of_classes)
        loss.backward()
        torch.testing.assert_close(found[k], loss.detach())
        torch.testing.assert_close(gradient[k].T, own.grad)


@pytest.mark.parametrize("shared", [True, False])
def test_stacked_squares_and_gradients_are_those_of_each_trial(shared: bool) -> None:
    scores, y, w, _ = batch(shared)
    outputs, goal = scores[..., :1], y.double()
    found, gradient = stacked.squared_error(outputs.mT.clone(), goal, w)
    for k in range(K):
        own = outputs[k].clone().requires_grad_()
        loss = losses.number_loss(own, goal if shared else goal[k], w if shared else w[k])
        loss.backward()
        torch.testing.assert_close(found[k], loss.detach())
        torch.testing.assert_close(gradient[k].T, own.grad)


# A study


@pytest.mark.parametrize("classes", [True, False])
def test_training_k_at_a_time_is_training_alone(tmp_path: Path, classes: bool) -> None:
    training = {"class_weights": "balanced"} if classes else {}
    spec = spec_of(table(tmp_path, classes=classes), training=training)
    problem = build_problem(spec, torch.float64)
    trials = [
        TrialParams(number=i, seed=i // 2, stage="search", origin="test", configuration=Configuration(
            optimizer="adamw", hyperparameters={"lr": lr, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
            schedule={"name": "constant"}))
        for i, lr in enumerate((1e-3, 1e-2, 3e-2))
    ]  # fmt: skip

    def train(engine: Any) -> list[float | None]:
        unit = UnitSpec(key="u", kind="train", rung=0, horizon=18, split="validation", trials=trials,
                        form=Form(engine=engine, width=3))  # fmt: skip
        return [trial.loss for trial in run_pack(problem, unit).trials]

    assert train("batched") == pytest.approx(train("sequential"), rel=1e-9)
    # And the weights do change what is learned.
    plain = build_problem(spec_of(table(tmp_path, classes=classes), dataset={"weight": None}), torch.float64)
    assert plain.train.x.shape[1] == problem.train.x.shape[1] + 1


def test_full_batch_methods_weigh_rows_as_the_blocks_of_mini_batches_do(tmp_path: Path) -> None:
    from optim_core.engine import direct

    spec = spec_of(table(tmp_path), training={"class_weights": {"yes": 5}})
    problem = build_problem(spec, torch.float64)
    trial = TrialParams(number=0, seed=0, stage="search", origin="test", configuration=Configuration(
        optimizer="lbfgs", hyperparameters={"weight_decay": 0.0}, schedule={"name": "constant"}))  # fmt: skip
    whole = direct.FullBatch(problem, trial)
    expected = problem.loss_on(problem.make_model(0), problem.train).item()
    assert whole.value(whole.start) == pytest.approx(expected)
    whole._blocks = 5
    assert whole.value(whole.start) == pytest.approx(expected)
    assert whole.value_and_gradient(whole.start)[0] == pytest.approx(expected)
    assert whole.values(np.stack([whole.start] * 2)) == pytest.approx([expected] * 2)


@pytest.mark.parametrize(("classes", "metric"), [
    (True, "accuracy"), (True, "balanced_accuracy"), (True, "log_loss"), (True, "f1"), (True, "auroc"),
    (True, "average_precision"), (False, "rmse"), (False, "r2"), (False, "mae"),
])  # fmt: skip
def test_metrics_of_weighted_rows_follow_from_what_is_stored(tmp_path: Path, classes: bool, metric: str) -> None:
    """As scikit-learn's with ``sample_weight``: see test_tasks_metrics."""
    problem = build_problem(spec_of(table(tmp_path, classes=classes), metric=metric), torch.float64)
    judge, models = TableJudge(problem), [problem.make_model(seed).eval() for seed in range(2)]

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.stack([model(x) for model in models])

    _, values = judge.score("test", run, 2)
    plain, _ = problem.evaluate_batched(run(problem.test.x), problem.test.y), None
    assert not torch.allclose(plain[1], values)
    targets, weights = judge.targets("test"), judge.weights("test")
    for k, rows in judge.rows("test", run, [0, 1], 2).items():
        stored = [rows[None, None].astype(float)]
        found = row_scores(
            stored, metric, targets if targets is None else [targets], weights if weights is None else [weights]
        )
        assert found.value == pytest.approx(float(values[k]), rel=1e-5)
    trivial = judge.trivial("test")
    assert trivial is not None
    assert len(trivial) == len(problem.test.y)


def test_what_was_done_is_said_and_the_column_is_no_feature(tmp_path: Path) -> None:
    problem = build_problem(spec_of(table(tmp_path), training={"class_weights": "balanced"}))
    assert problem.train.x.shape[1] == 3
    assert "Rows count as much as 'importance' says, in the training loss and in the metric." in problem.data_report
    expected = compute_class_weight("balanced", classes=np.arange(2), y=problem.train.y.numpy())
    assert problem.class_weights is not None
    assert problem.class_weights.tolist() == pytest.approx(expected)
    said = f"The training loss weighs classes: 'no {expected[0]:.3g}', 'yes {expected[1]:.3g}'. Metrics do not."
    assert said in problem.data_report
    by_name = build_problem(spec_of(table(tmp_path), training={"class_weights": {"yes": 9}}))
    assert by_name.class_weights is not None
    assert by_name.class_weights.tolist() == [1.0, 9.0]


def test_rows_of_weight_0_are_left_out(tmp_path: Path) -> None:
    path = table(tmp_path, weight=["0", *["2.5"] * 238, "0.0"])
    arrays = prepare(spec_of(path))
    assert len(arrays.y_train) + len(arrays.y_val) + len(arrays.y_test) == 238
    assert "Left out 2 rows of weight 0." in arrays.report
    assert arrays.weights is not None
    assert np.concatenate(arrays.weights).tolist() == [2.5] * 238
    assert arrays.hash != prepare(spec_of(table(tmp_path, weight=["0", *["1.5"] * 238, "0"]))).hash


@pytest.mark.parametrize("bad", ["", "-1", "much", "inf"])
def test_a_weight_that_is_none_is_refused(tmp_path: Path, bad: str) -> None:
    path = table(tmp_path, weight=["1", "1", bad, *["1"] * 237])
    with pytest.raises(DataError, match="in data row 3; weights are numbers from 0 on") as caught:
        prepare(spec_of(path))
    assert caught.value.pointer == "/dataset/weight"


def test_weights_of_an_archive(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "t.npz"
    w = rng.uniform(1, 2, 90)
    np.savez(path, x=rng.normal(size=(90, 4)), y=np.arange(90) % 2, importance=w)
    arrays = prepare(spec_of(path))
    assert arrays.x_train.shape[1] == 4
    assert arrays.weights is not None
    assert np.sort(np.concatenate(arrays.weights)) == pytest.approx(np.sort(w))
    np.savez(path, x=rng.normal(size=(90, 4)), y=np.arange(90) % 2, importance=w[:5])
    with pytest.raises(DataError, match="have the shape"):
        prepare(spec_of(path))


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path)
    with pytest.raises(DataError, match="there is no column 'importanc'; did you mean 'importance'"):
        prepare(spec_of(path, dataset={"weight": "importanc"}))
    with pytest.raises(DataError, match="there is no class 'yse'; did you mean 'yes'"):
        build_problem(spec_of(path, training={"class_weights": {"yse": 2.0}}))
    with pytest.raises(SpecErrors, match="is the weight of rows, and neither target nor feature"):
        spec_of(path, dataset={"features": ["a", "importance"]})
    with pytest.raises(SpecErrors):
        spec_of(path, training={"class_weights": {"yes": 0}})
    numbers = table(tmp_path, classes=False)
    with pytest.raises(DataError, match="class_weights need classes"):
        build_problem(spec_of(numbers, training={"class_weights": "balanced"}))


@pytest.mark.parametrize(
    ("given", "pointer", "words"),
    [
        ({"a": -3}, "/training/class_weights/a", "should be greater than 0"),
        ({"a": "x"}, "/training/class_weights/a", "should be a valid number"),
        ("balancd", "/training/class_weights", "did you mean 'balanced'"),
        ([1, 2], "/training/class_weights", "should be balanced, or a mapping of names to numbers"),
        (3, "/training/class_weights", "should be balanced, or a mapping of names to numbers"),
    ],
)
def test_of_a_union_the_true_reason_is_told_once(tmp_path: Path, given: Any, pointer: str, words: str) -> None:
    with pytest.raises(SpecErrors, match=words) as caught:
        spec_of(table(tmp_path), training={"class_weights": given})
    assert [error.pointer for error in caught.value.errors] == [pointer]


@pytest.mark.parametrize("key", [0, "0"])
def test_class_weights_are_checked_and_said_before_anything_trains(tmp_path: Path, key: Any) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "n.csv"
    path.write_text("a,importance,y\n" + "".join(f"{v:.4f},1,{i % 2}\n" for i, v in enumerate(rng.normal(size=60))))
    found = understand(spec_of(path, training={"class_weights": {key: 3}}))
    assert any("'0 3', '1 1'" in sentence for sentence in found.report)
    with pytest.raises(DataError, match="there is no class '2'; the classes are '0', '1'") as caught:
        understand(spec_of(path, training={"class_weights": {0: 1, 2: 5}}))
    assert caught.value.pointer == "/training/class_weights/2"
    numbers = table(tmp_path, classes=False)
    with pytest.raises(DataError, match="class_weights need classes"):
        understand(spec_of(numbers, training={"class_weights": "balanced"}))


def test_a_confirmation_keeps_the_weights_of_its_rows(tmp_path: Path) -> None:
    problem = build_problem(spec_of(table(tmp_path), metric="accuracy"))
    trial = TrialParams(number=0, seed=0, stage="confirm", origin="test", configuration=Configuration(
        optimizer="sgd", hyperparameters={"lr": 0.1, "weight_decay": 0.0}, schedule={"name": "constant"}))  # fmt: skip
    unit = UnitSpec(key="u", kind="confirm", rung=0, horizon=9, split="test", trials=[trial])
    result = run_pack(problem, unit)
    assert problem.test.w is not None
    assert list(unpack(result.weights["test"])) == pytest.approx(problem.test.w.tolist())
    rows = np.array(unpack(result.trials[0].rows["test"]))
    assert result.trials[0].metric == pytest.approx(np.average(rows, weights=problem.test.w.numpy()))


def test_the_weighted_loss_is_what_logistic_regression_minimises() -> None:
    """Another golden reference: at scikit-learn's weighted optimum our weighted gradient is nil."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(200, 3)), rng.uniform(0.1, 4, 200)
    y = (x[:, 0] + rng.normal(size=200) > 0.7).astype(np.int64)
    line = LogisticRegression(C=np.inf, class_weight={0: 1.0, 1: 3.0}, tol=1e-10, max_iter=1000).fit(
        x, y, sample_weight=w
    )
    scores = torch.tensor(line.decision_function(x))
    own = torch.stack([torch.zeros_like(scores), scores], 1).requires_grad_()
    loss = losses.class_loss(own, torch.tensor(y), 0.0, torch.tensor(w), torch.tensor([1.0, 3.0], dtype=torch.float64))
    assert loss.item() == pytest.approx(
        log_loss(y, line.predict_proba(x), sample_weight=w * np.where(y == 1, 3.0, 1.0))
    )
    loss.backward()
    assert own.grad is not None
    assert np.abs(x.T @ own.grad[:, 1].numpy()).max() < 1e-5
