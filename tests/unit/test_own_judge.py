"""Metrics of people's modules against scikit-learn and by hand; what is stored of each row."""

from __future__ import annotations

from collections import UserDict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.own import judge as judging
from optim_core.own import own_metric
from optim_core.own.jackknife import MOST_BLOCKS, blocks_of, pseudo_values
from optim_core.own.kinds import METRICS
from optim_core.own.source import OwnSource
from optim_core.own.user_code import UserCodeError
from optim_core.recommend.row_scores import row_scores
from optim_core.spec.errors import DataError, SpecError
from tests.unit.own_cases import blobs, line, looped, study, task_of, vectorised

K = 3


def _outputs(task: Any, models: list[nn.Module], split: str = "validation") -> tuple[list[Any], Any]:
    samples = getattr(task.splits, split)
    batch = samples.batch(torch.arange(len(samples)))
    with torch.no_grad():
        return [task.call(model.eval(), batch) for model in models], task.call.targets(batch)


def _scored(task: Any, split: str = "validation") -> tuple[Any, Any, list[Any], Any, dict[int, np.ndarray]]:
    """(losses, values, outputs, targets, rows), the same looped and vectorised."""
    models = [task.make_model(seed) for seed in range(K)]
    run = looped(task, models)
    losses, values = task.judge.score(split, run, K)
    again = task.judge.score(split, vectorised(task, models), K)
    torch.testing.assert_close(again, (losses, values), rtol=1e-5, atol=1e-6)
    assert losses.dtype == values.dtype == torch.float64
    return losses, values, *_outputs(task, models, split), task.judge.rows(split, run, range(K), K)


@pytest.mark.parametrize("metric", METRICS["classes"])
def test_classes(metric: str) -> None:
    task = task_of(line, blobs(), metric=metric)
    losses, values, outputs, y, rows = _scored(task)
    expected = {
        "accuracy": lambda o: sk.accuracy_score(y, o.argmax(1)),
        "f1": lambda o: sk.f1_score(y, o.argmax(1), average="macro"),
        "auroc": lambda o: sk.roc_auc_score(y, o.double().softmax(1), multi_class="ovr"),
        "loss": lambda o: float(F.cross_entropy(o, y)),
        "perplexity": lambda o: float(F.cross_entropy(o, y).exp()),
        "log_loss": lambda o: sk.log_loss(y, o.double().softmax(1)),
        "balanced_accuracy": lambda o: sk.balanced_accuracy_score(y, o.argmax(1)),
        "average_precision": lambda o: sk.average_precision_score(y, o.double().softmax(1)),
    }[metric]
    assert task.task == "classification"
    assert task.metric == metric
    assert values.tolist() == pytest.approx([expected(o) for o in outputs], rel=1e-5)
    assert losses.tolist() == pytest.approx([float(F.cross_entropy(o, y)) for o in outputs], rel=1e-5)
    truth = task.judge.targets("validation")
    for i in range(K):
        folds, goal = [rows[i][None, None].astype(np.float64)], None if truth is None else [truth]
        read = row_scores(folds, metric, goal)
        # scikit-learn counts a class that is only predicted; here every class is in the truth.
        assert read.value == pytest.approx(float(values[i]), rel=1e-5)
    small = metric in ("accuracy", "balanced_accuracy", "f1")
    assert rows[0].dtype == (np.uint8 if small else np.float32)


@pytest.mark.parametrize("metric", METRICS["number"])
@pytest.mark.parametrize("column", [True, False])
def test_numbers(metric: str, column: bool) -> None:
    x, _ = blobs()
    y = (x @ np.array([1.0, -2.0, 0.5, 3.0]) + 5).astype(np.float32)
    task = task_of(lambda in_features: nn.Linear(in_features, 1), (x, y[:, None] if column else y), metric=metric)
    _, values, outputs, goal, rows = _scored(task)
    goal = goal.reshape(-1).double()
    expected = {
        "rmse": sk.root_mean_squared_error,
        "mae": sk.mean_absolute_error,
        "r2": sk.r2_score,
        "mape": sk.mean_absolute_percentage_error,
        "loss": sk.mean_squared_error,
    }[metric]
    assert task.task == "regression"
    assert values.tolist() == pytest.approx([expected(goal, o.reshape(-1).double()) for o in outputs], rel=1e-6)
    truth = task.judge.targets("validation")
    read = row_scores([rows[0][None, None].astype(np.float64)], metric, None if truth is None else [truth])
    assert read.value == pytest.approx(float(values[0]), rel=1e-5)


@pytest.mark.parametrize("metric", METRICS["binary"])
def test_one_score_for_two_classes(metric: str) -> None:
    x, y = blobs(classes=2)
    task = task_of(lambda: nn.Linear(4, 1), (x, y), metric=metric)
    _, values, outputs, goal, rows = _scored(task)
    z = [o.reshape(-1).double() for o in outputs]
    expected = {
        "accuracy": lambda o: sk.accuracy_score(goal, o > 0),
        "f1": lambda o: sk.f1_score(goal, o > 0, average="macro"),
        "auroc": lambda o: sk.roc_auc_score(goal, o),
        "loss": lambda o: sk.log_loss(goal, o.sigmoid()),
        "log_loss": lambda o: sk.log_loss(goal, o.sigmoid()),
        "balanced_accuracy": lambda o: sk.balanced_accuracy_score(goal, o > 0),
        "average_precision": lambda o: sk.average_precision_score(goal, o),
    }[metric]
    assert values.tolist() == pytest.approx([expected(o) for o in z], rel=1e-6)
    assert len(rows) == K


@pytest.mark.parametrize("metric", ["accuracy", "f1", "loss"])
def test_columns_of_yes_and_no(metric: str) -> None:
    x, _ = blobs()
    y = (x[:, :3] > 0.3).astype(np.float32)
    task = task_of(lambda: nn.Linear(4, 3), (x, y), metric=metric)
    _, values, outputs, goal, rows = _scored(task)
    expected = {
        "accuracy": lambda o: float(((o > 0) == goal.bool()).double().mean()),
        "f1": lambda o: sk.f1_score(goal, o > 0, average="macro"),
        "loss": lambda o: float(F.binary_cross_entropy_with_logits(o.double(), goal.double())),
    }[metric]
    assert task.metric == ("score" if metric == "f1" else metric)
    assert task.shown_metric == metric
    assert values.tolist() == pytest.approx([expected(o) for o in outputs], rel=1e-6)
    # Influence values: their mean is the metric.
    assert [rows[i].mean() for i in range(K)] == pytest.approx(values.tolist(), rel=1e-5)


class _Tagger(nn.Module):
    def __init__(self, last: bool = True) -> None:
        super().__init__()
        self.embed, self.head, self.last = nn.Embedding(11, 6), nn.Linear(6, 5), last

    def forward(self, tokens: Tensor) -> Tensor:
        out = self.head(self.embed(tokens))
        return out if self.last else out.mT


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("metric", ["accuracy", "loss", "perplexity"])
def test_tokens_of_which_some_are_ignored(metric: str, last: bool) -> None:
    rng = np.random.default_rng(0)
    tokens, tags = rng.integers(0, 11, (60, 7)), rng.integers(0, 5, (60, 7))
    tags[np.arange(7) >= rng.integers(2, 8, 60)[:, None]] = -100
    task = task_of(lambda: _Tagger(last), (tokens, tags), metric=metric)
    losses, values, outputs, goal, rows = _scored(task)
    counted = goal != -100
    scores = [o if last else o.mT for o in outputs]
    loss = [float(F.cross_entropy(o.flatten(0, 1), goal.flatten())) for o in scores]
    right = [float((o.argmax(-1) == goal)[counted].double().mean()) for o in scores]
    assert losses.tolist() == pytest.approx(loss, rel=1e-5)
    assert values.tolist() == pytest.approx({"accuracy": right, "loss": loss}.get(metric, np.exp(loss)), rel=1e-5)
    read = [row_scores([rows[i][None, None].astype(np.float64)], metric).value for i in range(K)]
    assert read == pytest.approx(values.tolist(), rel=1e-5)
    # By hand: A + (n/N)(r − A t) of a row with t tokens that count, r of them right.
    if metric == "accuracy":
        hits = ((scores[0].argmax(-1) == goal) & counted).sum(1).double()
        by_hand = right[0] + len(goal) / counted.sum() * (hits - right[0] * counted.sum(1))
        assert rows[0] == pytest.approx(by_hand.numpy(), rel=1e-5)


def test_a_tagger_is_scored_by_accuracy_and_a_language_model_by_perplexity() -> None:
    tokens = np.random.default_rng(0).integers(0, 5, (40, 6))
    assert task_of(_Tagger, (np.where(tokens > 2, 10, tokens), tokens)).metric == "accuracy"
    assert task_of(_Tagger, (tokens[:, :-1], tokens[:, 1:])).metric == "perplexity"


class _Causal(nn.Module):
    """Works its loss out as transformers do: position t predicts label t + 1."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 6), nn.Linear(6, 11)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(self.embed(input_ids))
        if labels is None:
            return {"logits": logits}
        return {"loss": F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()), "logits": logits}


def test_the_rows_of_a_loss_of_the_models_own_are_found_when_it_is_a_usual_one() -> None:
    tokens = np.random.default_rng(0).integers(0, 11, (60, 7))
    task = task_of(_Causal, {"input_ids": tokens, "labels": tokens})
    assert task.loss.name == "own"
    assert task.metric == "perplexity"
    losses, values, outputs, goal, rows = _scored(task)
    loss = [float(F.cross_entropy(o["logits"][:, :-1].flatten(0, 1), goal[:, 1:].flatten())) for o in outputs]
    assert losses.tolist() == pytest.approx(loss, rel=1e-5)
    assert values.tolist() == pytest.approx(np.exp(loss), rel=1e-5)
    assert rows[1].shape == (len(task.splits.validation),)
    assert np.exp(rows[1].mean(dtype=np.float64)) == pytest.approx(float(values[1]), rel=1e-5)


class _Variational(nn.Module):
    """Three outputs and a loss that only a function of its own knows."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = nn.Linear(4, 4), nn.Linear(2, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = self.there(x).chunk(2, dim=-1)
        return self.back(mean), mean, spread


def _elbo(outputs: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    again, mean, spread = outputs
    divergence = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(-1).mean()
    return (again - x).square().sum(-1).mean() + divergence


@pytest.mark.parametrize("rows", [90, 2000])
def test_a_loss_that_is_a_function(rows: int) -> None:
    x, _ = blobs(rows)
    task = task_of(_Variational, x, loss=_elbo)
    losses, values, outputs, targets, kept = _scored(task)
    assert (task.metric, task.task) == ("loss", "own")
    assert torch.equal(losses, values)
    # A mean over rows is the mean over blocks of them.
    assert losses.tolist() == pytest.approx([float(_elbo(o, targets)) for o in outputs], rel=1e-5)
    assert kept[0].mean() == pytest.approx(float(losses[0]), rel=1e-5)
    assert len(kept[0]) <= judging.FUNCTION_BLOCKS
    assert task.judge.trivial("validation") is None


class _Scored(nn.Module):
    """A loss of its own that is no usual one."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 1)

    def forward(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        out = self.line(x).squeeze(-1)
        return out, (out - target).abs().pow(1.5).mean()


def test_a_fold_is_cut_into_the_same_blocks_in_both_its_turns() -> None:
    # Folds of 257 and of 256 rows: a row each or two, if each run cut by its own.
    x, _ = blobs(1283)
    source = OwnSource(study(), _Variational, x, loss=_elbo)
    tasks = [source.problem(fold) for fold in range(5)]
    for fold in range(5):
        turns = ((tasks[fold], "test"), (tasks[fold - 1], "validation"))
        kept = [task.judge.rows(split, looped(task, [task.make_model(0)]), [0], 1)[0] for task, split in turns]
        assert kept[0] == pytest.approx(kept[1])


def test_a_loss_of_the_models_own_that_is_no_usual_one_runs_for_each_block() -> None:
    x, _ = blobs(700)
    task = task_of(_Scored, (x, x.sum(1)))
    losses, _, outputs, _, kept = _scored(task)
    assert losses.tolist() == pytest.approx([float(o[1]) for o in outputs], rel=1e-5)
    assert len(kept[0]) <= judging.MODULE_BLOCKS
    assert kept[0].mean() == pytest.approx(float(losses[0]), rel=1e-5)


def _hits(outputs: Tensor, y: Tensor) -> float:
    return sk.accuracy_score(y, outputs.argmax(1))


def _macro(outputs: Tensor, y: Tensor) -> Tensor:
    return torch.tensor(sk.f1_score(y, outputs.argmax(1), average="macro"))


@pytest.mark.parametrize("metric", [_hits, _macro])
def test_a_metric_of_their_own(metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(line, blobs(700), metric=(metric, "max"))
    _, values, outputs, y, rows = _scored(task)
    assert (task.metric, task.direction, task.shown_metric) == ("score", "maximize", metric.__name__)
    assert values.tolist() == pytest.approx([float(metric(o, y)) for o in outputs])
    assert [rows[i].mean() for i in range(K)] == pytest.approx(values.tolist(), rel=1e-6)
    assert len(rows[0]) == MOST_BLOCKS
    if metric is _hits:
        means = [float((outputs[0].argmax(1) == y)[block].double().mean()) for block in blocks_of(len(y))]
        assert rows[0] == pytest.approx(means, abs=0.01)
    # Where one pass cannot keep the outputs of all, several do.
    monkeypatch.setattr(own_metric, "MOST_KEPT", 1)
    monkeypatch.setattr(judging, "MOST_KEPT", 1)
    models = [task.make_model(seed) for seed in range(K)]
    assert task.judge.score("validation", looped(task, models), K)[1].tolist() == values.tolist()


class _Named(NamedTuple):
    scores: Tensor
    width: Tensor
    nothing: None = None


class _Object:
    def __init__(self, scores: Tensor) -> None:
        self.scores, self.name = scores, "mine"


class _Any(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.line, self.form = nn.Linear(4, 3), form

    def forward(self, x: Tensor) -> Any:
        scores = self.line(x)
        return {
            "pair": lambda: (scores.mean(), scores),
            "named": lambda: _Named(scores, scores.norm()),
            "mapping": lambda: UserDict(scores=scores, width=scores.norm(), text="a"),
            "object": lambda: _Object(scores),
        }[self.form]()


@pytest.mark.parametrize(
    ("form", "scores"),
    [
        ("pair", lambda o: o[1]),
        ("named", lambda o: o.scores),
        ("mapping", lambda o: o["scores"]),
        ("object", lambda o: o.scores),
    ],
)
def test_functions_of_their_own_see_outputs_as_the_module_gives_them(form: str, scores: Any) -> None:
    def loss(outputs: Any, y: Tensor) -> Tensor:
        return F.cross_entropy(scores(outputs), y)

    def metric(outputs: Any, y: Tensor) -> float:
        return _hits(scores(outputs), y)

    task = task_of(lambda: _Any(form), blobs(700), loss=loss, metric=(metric, "max"))
    losses, values, outputs, y, _ = _scored(task)
    assert losses.tolist() == pytest.approx([float(loss(o, y)) for o in outputs], rel=1e-5)
    assert values.tolist() == pytest.approx([metric(o, y) for o in outputs])


def test_a_metric_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = blobs()
    with pytest.raises(SpecError, match="direction"):
        task_of(line, data, metric=_hits)
    with pytest.raises(SpecError, match="choose one of accuracy, loss, f1, auroc"):
        task_of(line, data, metric="rmse")
    task = task_of(line, data, metric=(lambda outputs, y: outputs, "min"))
    with pytest.raises(SpecError, match="gives a tensor of shape"):
        task.judge.score("test", looped(task, [task.make_model(0)]), 1)
    task = task_of(line, data, metric=(lambda outputs, y: 1 / 0, "min"))
    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        task.judge.score("test", looped(task, [task.make_model(0)]), 1)
    monkeypatch.setattr(own_metric, "MOST_OF_A_TRIAL", 10)
    with pytest.raises(SpecError, match="wants all outputs together"):
        task_of(line, data, metric=(_hits, "max"))


@pytest.mark.parametrize("metric", ["accuracy", "auroc", "loss", (_hits, "max")])
def test_a_trial_that_is_not_finite_is_nan_alone(metric: Any) -> None:
    task = task_of(line, blobs(), metric=metric)
    models = [task.make_model(seed) for seed in range(K)]
    whole = task.judge.score("test", looped(task, models), K)
    with torch.no_grad():
        models[1].weight[0, 0] = torch.inf  # type: ignore[index]
    run = vectorised(task, models)
    losses, values = task.judge.score("test", run, K)
    assert losses.isnan().tolist() == values.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(losses[::2], whole[0][::2], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(values[::2], whole[1][::2], rtol=1e-6, atol=1e-7)
    assert sorted(task.judge.rows("test", run, range(K), K)) == [0, 2]


def test_what_is_scored_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(line, blobs(), metric="auroc", dtype=torch.float64)
    models = [task.make_model(seed) for seed in range(K)]
    sizes = []

    def run(batch: Any) -> Any:
        sizes.append(len(batch[0]))
        return looped(task, models)(batch)

    whole = task.judge.score("test", run, K)
    monkeypatch.setattr(judging, "MOST_VALUES", 5 * K * 4)
    torch.testing.assert_close(task.judge.score("test", run, K), whole, rtol=1e-9, atol=1e-12)
    assert sizes[0] == 18
    assert set(sizes[1:]) == {5, 3}


@pytest.mark.parametrize("metric", ["accuracy", "loss", "f1", "auroc"])
def test_what_one_answer_scores(metric: str) -> None:
    x, y = blobs(120)
    y[:50] = 2
    source = OwnSource(study(), line, (x, y), metric=metric)
    task = source.problem(1)
    train, test = (task.call.targets(s.whole()).numpy() for s in (task.splits.train, task.splits.test))
    shares = np.bincount(train) / len(train)
    found = task.judge.trivial("test")
    expected: dict[str, Any] = {
        "accuracy": (test == shares.argmax()).mean(),
        "loss": -np.log(shares)[test].mean(),
        "auroc": 0.5,
        "f1": shares.argmax(),
    }
    assert found is not None
    assert found.mean() == pytest.approx(expected[metric], rel=1e-6)


@pytest.mark.parametrize(("metric", "targets", "message"), [
    ("mape", np.arange(90.0).astype(np.float32), "mape is undefined where a target is 0"),
    ("average_precision", np.array([0] * 89 + [1]), "average_precision needs samples of two classes"),
    ("auroc", np.array([0] * 89 + [1]), "auroc needs samples of two classes"),
])  # fmt: skip
def test_what_a_metric_cannot_score_is_refused(metric: str, targets: np.ndarray, message: str) -> None:
    x, _ = blobs(90)
    source = OwnSource(study(), lambda: nn.Linear(4, 1 if metric == "mape" else 2), (x, targets), metric=metric)

    def score_all() -> None:
        for task in map(source.problem, range(5)):
            task.judge.score("test", looped(task, [task.make_model(k) for k in range(K)]), K)

    with pytest.raises(DataError, match=message):
        score_all()


@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_one_answer_of_numbers_is_the_mean(metric: str) -> None:
    x, _ = blobs()
    task = task_of(lambda: nn.Linear(4, 1), (x, x.sum(1)), metric=metric)
    train, test = (task.call.targets(s.whole()).double() for s in (task.splits.train, task.splits.test))
    off = (test - train.mean()).numpy()
    found = task.judge.trivial("test")
    assert found == pytest.approx(off**2 if metric == "rmse" else abs(off), rel=1e-5)


def test_one_answer_of_tokens_is_the_most_frequent() -> None:
    tags = np.random.default_rng(0).choice(5, (60, 7), p=[0.1, 0.5, 0.2, 0.1, 0.1])
    task = task_of(_Tagger, (tags, tags), metric="accuracy")
    found = task.judge.trivial("test")
    assert found is not None
    truth = task.call.targets(task.splits.test.whole())
    assert found.mean() == pytest.approx(float((truth == 1).double().mean()))
    own = task_of(_Tagger, (tags, tags), metric="perplexity").judge.trivial("test")
    assert own is not None
    assert np.exp(own.mean()) < 5


def test_one_answer_of_tokens_stays_finite_where_one_was_never_seen() -> None:
    tags = np.zeros((60, 7), dtype=np.int64)
    tags[:, 0] = np.arange(60) % 3
    found = task_of(_Tagger, (tags, tags), metric="perplexity").judge.trivial("test")
    assert found is not None
    assert np.isfinite(found).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 300), st.integers(0, 2**31 - 1))
def test_pseudo_values_of_a_mean_are_the_means_of_blocks(rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=rows) ** 3

    def mean(some: Tensor) -> float:
        return float(values[some.numpy()].mean())

    found = pseudo_values(mean, rows)
    means = np.array([values[block.numpy()].mean() for block in blocks_of(rows)])
    assert found.mean() == pytest.approx(values.mean(), rel=1e-9, abs=1e-12)
    moved = found - means
    # Blocks of one size are not moved, others all by the same.
    assert moved == pytest.approx(np.full(len(moved), values.mean() - means.mean()), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 200), st.integers(0, 2**31 - 1))
def test_pseudo_values_of_anything_have_the_metric_as_their_mean(rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(rows, 2))

    def ratio(some: Tensor) -> float:
        top, bottom = np.exp(values[some.numpy()]).sum(0)
        return float(top / bottom)

    found = pseudo_values(ratio, rows)
    assert len(found) == min(rows, MOST_BLOCKS)
    assert found.mean() == pytest.approx(ratio(torch.arange(rows)), rel=1e-9)
