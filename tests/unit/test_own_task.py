"""A person's model and data as a task: networks by seed, losses, horizon, hash, and what is refused."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from optim_core.own.source import OwnSource
from optim_core.own.task import OwnTask
from optim_core.own.user_code import UserCodeError
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import StudySpec
from optim_core.tasks.build import build_problem
from optim_core.tasks.task import Judge, Task
from optim_core.vmapped import Streams
from tests.unit.own_cases import F64, Augmented, Counting, blobs, line, study, task_of

X, Y = blobs(100)


def _weights(model: nn.Module) -> list[Tensor]:
    return [t.detach().clone() for t in model.state_dict().values()]


def _same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(_weights(a), _weights(b), strict=True))


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.noise = float(np.random.rand()) + random.random()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(self.norm(self.first(x)).relu(), 0.1, self.training))


class _Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x)


def _typed(task: OwnTask) -> tuple[Task, Judge]:
    """For the type checker: both protocols are met."""
    return task, task.judge


@pytest.mark.parametrize("model", [_Net, lambda: _Net(), _Net(), line, _Lazy])
def test_a_seed_is_a_start_whatever_ran_before(model: Any) -> None:
    task = task_of(model, (X, Y))
    before = Streams()
    first, again, other = (task.make_model(seed) for seed in (0, 0, 1))
    assert not before.moved()
    assert first.training
    assert _same(first, again)
    assert not _same(first, other)
    assert first is not again
    torch.rand(5)
    assert [_same(a, b) for a, b in zip((first, other), task.make_models([0, 1]), strict=True)] == [True, True]
    if isinstance(first, _Net):
        assert first.noise == again.noise != other.noise or isinstance(model, nn.Module)
    assert task.parameter_count == sum(p.numel() for p in first.parameters())


def test_a_module_is_copied_and_stays_as_it_is() -> None:
    given = _Net()
    before = _weights(given)
    task = task_of(given, (X, Y))
    model = task.make_model(0)
    with torch.no_grad():
        model.first.weight.zero_()  # type: ignore[union-attr, operator]
    assert all(torch.equal(a, b) for a, b in zip(before, _weights(given), strict=True))
    assert any("started afresh for each seed" in sentence for sentence in task.data_report)


def test_a_module_is_copied_whatever_a_hook_has_kept_of_a_forward_pass() -> None:
    given = _Net()
    given.first.register_forward_hook(lambda _m, _i, output: setattr(given, "kept", output))
    x = torch.from_numpy(X)
    given(x)
    assert given.kept.grad_fn is not None  # type: ignore[union-attr]
    assert task_of(given, (X, Y)).make_model(0)(x).shape == (len(x), 3)
    given.eval()
    torch.func.vmap(given)(x[None])  # what is kept now is no tensor outside
    assert task_of(given, (X, Y)).make_model(0)(x).shape == (len(x), 3)


class _Bare(nn.Module):
    """A weight that nothing starts afresh."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w


def test_a_module_that_cannot_be_started_afresh_keeps_its_weights() -> None:
    given = _Bare()
    task = task_of(given, (X, Y))
    assert _same(task.make_model(0), given)
    assert _same(task.make_model(0), task.make_model(1))
    assert any("vary only data order and dropout" in sentence for sentence in task.data_report)


def test_frozen_weights_stay_frozen_and_as_they_came() -> None:
    given = _Net()
    given.first.requires_grad_(False)
    task = task_of(given, (X, Y))
    model = task.make_model(5)
    assert not model.first.weight.requires_grad  # type: ignore[union-attr]
    assert torch.equal(model.first.weight, given.first.weight)  # type: ignore[arg-type, union-attr]
    assert not torch.equal(model.last.weight, given.last.weight)  # type: ignore[arg-type, union-attr]
    assert "40 of 83 weights are frozen." in task.data_report


def test_what_the_model_may_ask_of_the_data() -> None:
    asked = {}

    def make(in_features: int, classes: int, depth: int = 1) -> nn.Module:
        asked.update(in_features=in_features, classes=classes, depth=depth)
        return nn.Sequential(nn.Flatten(), nn.Linear(in_features, classes))

    images = X.reshape(100, 1, 2, 2)
    for data in ((images, Y), Counting(images, Y), {"input": images, "label": Y}):
        task_of(make, data)
        assert asked == {"in_features": 4, "classes": 3, "depth": 1}


_ONE = nn.Linear(4, 3)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda depth: nn.Linear(4, depth), "no value for depth"),
        (lambda: [nn.Linear(4, 3)], "gives a list, not a torch.nn.Module"),
        ("net", "the model is a str"),
        (lambda: _ONE, "the same module each time"),
        (lambda: nn.Linear(4, 3).requires_grad_(False), "no weights to train"),
        (nn.Identity, "no weights to train"),
        (lambda: nn.Linear(4, 3, dtype=torch.cfloat), "weight is complex: studies train real weights"),
    ],
)
def test_what_is_no_model_is_refused(model: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        task_of(model, (X, Y)).make_model(0)


def test_classes_are_not_known_of_numbers() -> None:
    with pytest.raises(SpecError, match="the data does not say classes"):
        task_of(line, (X, X[:, 0]))


def test_what_goes_wrong_in_their_model_is_theirs() -> None:
    def broken() -> nn.Module:
        raise RuntimeError("no weights here")

    with pytest.raises(UserCodeError, match="RuntimeError: no weights here"):
        task_of(broken, (X, Y))


def test_everything_is_in_the_tasks_precision() -> None:
    task = task_of(lambda: _Net().half(), (X.astype(np.float64), Y), dtype=F64)
    model = task.make_model(0)
    assert {p.dtype for p in model.parameters()} == {F64}
    assert task.batch(torch.arange(4))[0].dtype == F64
    assert task.loss_on(model, task.batch(torch.arange(4))).dtype == F64


def test_the_training_loss_is_torchs_for_one_and_for_many() -> None:
    task = task_of(line, (X, Y), training={"label_smoothing": 0.1})
    model, rows = task.make_model(0), torch.tensor([[1, 5, 2], [4, 4, 0]])
    batch = task.batch(rows)
    for k in range(2):
        x, y = task.batch(rows[k])
        assert torch.equal(batch[0][k], x)
        by_hand = F.cross_entropy(model(x), y, label_smoothing=0.1)
        assert torch.allclose(task.loss_on(model, (x, y)), by_hand)
        assert torch.allclose(task.loss_on(model, (x, y), 0.3), F.cross_entropy(model(x), y, label_smoothing=0.3))
    task.loss_on(model, (x, y)).backward()
    assert model.weight.grad is not None
    taken = list(task.batches(iter(rows)))
    assert torch.equal(taken[1][0], batch[0][1])
    assert len(task.example()[0]) == 7


@pytest.mark.parametrize("training", [{"steps": 33}, {"epochs": 3}, {}, {"batch_size": 32}])
def test_horizons_are_those_of_tables(training: dict[str, Any]) -> None:
    task = task_of(line, (X, Y), training=training)
    assert task.steps_per_epoch == 60 // training.get("batch_size", 8)
    expected = {"steps": 33, "epochs": 3 * 7}
    assert task.full_horizon == next((expected[name] for name in training if name in expected), 200)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_objective_is_that_of_tables(metric: str) -> None:
    task = task_of(line, (X, Y), metric=metric)
    problem = build_problem(study().model_copy(update={"metric": metric}))
    for value, loss in ((0.9, 0.3), (0.9, 0.4), (0.0, 5.0), (math.nan, 1.0), (0.5, math.inf)):
        assert task.objective(value, loss) == problem.objective(value, loss)
    assert task.direction == problem.direction


def test_errors_are_searched_in_units_of_the_targets_deviation() -> None:
    y = 1000 * X[:, 0]
    task = task_of(lambda: nn.Linear(4, 1), (X, y))
    assert task.metric == "rmse"
    train = task.call.targets(task.splits.train.whole())
    assert task.objective(500.0, 1.0) == pytest.approx(500 / float(train.double().std(correction=0)), rel=1e-6)


def test_the_hash_follows_data_code_and_fold() -> None:
    def of(data: Any, fold: int | None = None, **more: Any) -> str:
        return OwnSource(study(**more.pop("study", {})), line, data, **more).problem(fold).data_hash

    other = X.copy()
    other[7] += 1
    base = of((X, Y))
    assert base == of((X.copy(), Y)) == of((X, Y), 0)
    changed = [
        of((other, Y)),
        of((X, Y), 1),
        of((X, Y), source_hash="f"),
        of((X, Y), study={"seed": 1}),
        of(Counting(X, Y)),
    ]
    assert len({base, *changed}) == 6


def test_a_dataset_is_read_once_for_all_folds_and_trials() -> None:
    data = Counting(X, Y)
    source = OwnSource(study(), line, data)
    tasks = [source.problem(fold) for fold in range(5)]
    for task in tasks:
        list(task.batches(torch.arange(60).view(5, 12)))
        task.judge.targets("test")
    # Once to be kept, and at most a few times before to see what there is and what it is called.
    assert max(data.reads) <= 5
    assert sorted(data.reads)[50] == 1
    assert {task.folds for task in tasks} == {5}


def test_a_curriculum_goes_by_a_linear_teacher_where_one_can_read_the_samples() -> None:
    task = task_of(line, (X, Y))
    easiest, hardest = task.ranking("easiest", 0), task.ranking("hardest", 0)
    assert sorted(easiest.tolist()) == list(range(60)) == sorted(task.ranking("random", 0).tolist())
    assert easiest[0] != hardest[0]
    tokens = np.random.default_rng(0).integers(0, 3, (100, 5))
    tagger = lambda: nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 3))  # noqa: E731
    with pytest.raises(SpecError, match="take order: random"):
        task_of(tagger, (tokens, tokens), training={"curriculum": {"order": "easiest"}})
    assert task_of(tagger, (tokens, tokens), training={"curriculum": {"order": "random"}}).metric == "perplexity"


@pytest.mark.parametrize(
    ("wishes", "pointer"),
    [
        ({"training": {"label_smoothing": 0.1}}, "/training/label_smoothing"),
        ({"search": {"techniques": {"label_smoothing": [0.1]}}}, "/search/techniques/label_smoothing"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(wishes: dict[str, Any], pointer: str) -> None:
    spec = study().model_dump(mode="json", exclude_none=True)
    for name, value in wishes.items():
        spec[name] |= value
    with pytest.raises(SpecError) as caught:
        OwnSource(StudySpec.model_validate(spec), lambda: nn.Linear(4, 1), (X, X[:, 0])).problem()
    assert caught.value.pointer == pointer


def test_start_weights_from_a_file(tmp_path: Any) -> None:
    trained = _Net()
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    task = task_of(_Net, (X, Y), training={"fine_tune": {"weights": str(tmp_path / "w.pt"), "freeze": 1}})
    model = task.make_model(3)
    assert _same(model, trained)
    assert not model.first.weight.requires_grad  # type: ignore[union-attr]
    assert any("weights start from the file" in sentence for sentence in task.data_report)


def test_what_was_found_is_said() -> None:
    report = task_of(line, (X, Y)).data_report
    assert (
        "Samples go in as model(x). Loss: cross_entropy (targets are class codes). Metric: accuracy, larger is better."
        in report
    )
    task = task_of(line, (X, Y))
    assert task.judge.minority == pytest.approx(np.bincount(Y).min() / 100)


class _Bert(nn.Module):
    """In the style of transformers, with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 8), nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        hidden = (self.words(input_ids) * attention_mask[..., None]).sum(1)
        logits = self.head(hidden)
        return {"logits": logits} | ({} if labels is None else {"loss": F.cross_entropy(logits, labels)})


def _pad(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    longest = max(len(s["ids"]) for s in samples)
    ids = torch.tensor([s["ids"] + [0] * (longest - len(s["ids"])) for s in samples])
    mask = torch.tensor([[1] * len(s["ids"]) + [0] * (longest - len(s["ids"])) for s in samples])
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([s["label"] for s in samples])}


def test_a_text_classifier_with_a_collate_fn_from_end_to_end() -> None:
    rng = np.random.default_rng(0)
    texts = [{"ids": rng.integers(1, 20, 1 + i % 6).tolist(), "label": i % 2} for i in range(80)]
    task = task_of(_Bert, DataLoader(texts, collate_fn=_pad, batch_size=4))  # type: ignore[arg-type]
    assert any("batches of 8 in the study's own order" in sentence for sentence in task.data_report)
    assert "Samples are read while training, once for all trials of a pack." in task.data_report
    assert (task.loss.name, task.metric, task.task) == ("own", "accuracy", "classification")
    model = task.make_model(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    for batch in task.batches(torch.randperm(48)[:40].view(5, 8)):
        optimizer.zero_grad()
        task.loss_on(model, batch).backward()
        optimizer.step()

    def run(batch: Any) -> Any:
        with torch.no_grad():
            return {name: part[None] for name, part in task.judge.of(model.eval(), batch).items()}

    losses, values = task.judge.score("test", run, 1)
    assert losses.isfinite().all()
    assert 0 <= float(values) <= 1
    assert task.judge.rows("test", run, [0], 1)[0].dtype == np.uint8


def test_augmented_data_train_by_step_and_score_alike() -> None:
    task = task_of(line, (Augmented(X, Y), (X[:20], Y[:20]), (X[20:40], Y[20:40])))
    rows = torch.arange(8)
    a, b, c = (batch[0] for batch in task.batches([rows] * 3, first=10))
    assert not torch.equal(a, b)
    assert torch.equal(task.batch(rows, 12)[0], c)
