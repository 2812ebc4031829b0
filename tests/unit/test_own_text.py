"""A text as a task of the engine: samples, splits, scores and a short study."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from optim_core.engine import run_pack
from optim_core.own.text_source import text_source
from optim_core.recommend.row_scores import row_scores
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import StudySpec
from optim_core.spec.rowscores import unpack
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Form, TrialParams, UnitSpec
from tests.unit.text_cases import SENTENCE, text_spec, written

SMALL = {"width": 16, "depth": 1, "heads": 2}


def story(sentences: int = 120) -> str:
    """Sentences in a random order, so that more than one has to be learned."""
    rng = np.random.default_rng(0)
    words = SENTENCE.replace(",", "").replace(".", "").split()
    return " ".join(" ".join(rng.permutation(words)) + "." for _ in range(sentences))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path, story())


def test_samples_are_blocks_and_targets_come_one_token_later(path: Path) -> None:
    source = text_source(text_spec(path, dataset={"block": 16}, model=SMALL))
    raw = path.read_bytes()
    assert source.problem().folds == 5
    for fold in range(5):
        splits = source.problem(fold).splits
        x, y = splits.test.whole()
        assert (x[:, 1:] == y[:, :-1]).all()
        # The piece, but for what is left over at its end.
        piece = raw[fold * (len(raw) // 5) :][: y.numel() + 1]
        assert bytes(y.flatten().tolist()) == piece[1:]
        assert bytes([int(x[0, 0])]) == piece[:1]


def test_what_a_task_says_of_itself(path: Path) -> None:
    task = text_source(text_spec(path, dataset={"block": 16, "unit": "characters"}, model=SMALL)).problem()
    assert (task.task, task.metric, task.direction) == ("own", "perplexity", "minimize")
    said = " ".join(task.data_report)
    assert "different ones, in UTF-8" in said
    assert "five contiguous pieces" in said
    assert "Metric: perplexity, smaller is better." in said
    assert task.batchable == (True, "")
    x, _ = task.batch(torch.arange(2))
    assert task.make_model(3)(x).shape == (2, 16, len(set(path.read_text())))
    one, same, other = (task.make_model(seed).tokens.weight for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_hash_knows_text_and_cut(path: Path) -> None:
    def hashed(**dataset: object) -> str:
        return text_source(text_spec(path, dataset=dataset, model=SMALL)).problem().data_hash

    first = hashed(block=16)
    assert hashed(block=16) == first
    assert hashed(block=8) != first
    path.write_bytes(path.read_bytes().replace(b"fox", b"cat"))
    assert hashed(block=16) != first


def test_one_split_of_its_own(path: Path) -> None:
    source = text_source(text_spec(path, dataset={"block": 16}, model=SMALL, training={"test_fraction": 0.1}))
    task = source.problem()
    assert task.folds == 1
    assert task.rows["train"] > task.rows["validation"] > task.rows["test"]
    with pytest.raises(ValueError, match="no folds"):
        source.problem(1)


def test_a_model_that_is_too_large_is_refused(path: Path) -> None:
    model = {"width": 1024, "depth": 32}
    with pytest.raises(SpecError) as caught:
        text_source(text_spec(path, model=model))
    assert (caught.value.code, caught.value.pointer) == ("model_too_large", "/model")


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_short_study_learns_more_than_how_often_each_byte_is(path: Path, dropout: float) -> None:
    training = {"steps": 150, "batch_size": 16}
    task = text_source(
        text_spec(path, dataset={"block": 16}, model={**SMALL, "dropout": dropout}, training=training)
    ).problem(1)
    pack = [
        TrialParams(
            number=i, seed=7 + i, stage="confirm", origin="test",
            configuration=default_configuration("adamw", task.spec.search).model_copy(
                update={"hyperparameters": {**default_configuration("adamw", task.spec.search).hyperparameters, "lr": lr}}
            ),
        )
        for i, lr in enumerate((1e-2, 1e-2, 1e-6))
    ]  # fmt: skip
    unit = UnitSpec(
        key="k", kind="confirm", rung=0, horizon=150, split="test", fold=1, trials=pack,
        form=Form(engine="batched", width=3),
    )  # fmt: skip
    result = run_pack(task, unit)
    shares = np.bincount(np.frombuffer(path.read_bytes(), np.uint8)) / len(path.read_bytes())
    entropy = -sum(p * math.log(p) for p in shares if p > 0)
    first, second, untrained = result.trials
    for trial in (first, second):
        assert trial.loss < entropy - 0.3
        assert trial.metric == pytest.approx(math.exp(trial.loss), rel=1e-6)
    assert untrained.loss > 5.4
    # Rows are blocks; what is stored of them gives the perplexity again.
    rows = np.array(unpack(first.rows["test"]), dtype=np.float64)
    assert len(rows) == task.rows["test"]
    assert row_scores([rows[None, None]], "perplexity").value == pytest.approx(first.metric, rel=1e-5)
    # So does the answer that learned only how often each byte is.
    trivial = task.judge.trivial("test")
    assert trivial is not None
    assert float(trivial.mean()) == pytest.approx(entropy, abs=0.05)


def test_the_loss_is_in_nats_over_all_tokens(path: Path) -> None:
    task = text_source(text_spec(path, dataset={"block": 16}, model=SMALL), dtype=torch.float64).problem()
    model, batch = task.make_model(0).eval(), task.splits.validation.whole()
    with torch.no_grad():
        x, y = batch
        expected = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        parts = {name: part[None] for name, part in task.judge.of(model, batch).items()}
    loss, value = task.judge.score("validation", lambda _: parts, 1)
    assert float(loss) == pytest.approx(float(expected), rel=1e-9)
    assert float(value) == pytest.approx(math.exp(float(expected)), rel=1e-9)


def test_the_example_can_be_learned() -> None:
    example = Path(__file__).parents[2] / "examples" / "text.yaml"
    task = text_source(StudySpec.model_validate(yaml.safe_load(example.read_text()))).problem()
    model, some = task.make_model(0), task.splits.validation.batch(torch.arange(64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        rows = torch.randint(task.rows["train"], (task.batch_size,), generator=generator)
        optimizer.zero_grad()
        task.loss_on(model, task.batch(rows)).backward()
        optimizer.step()
    with torch.no_grad():
        # How often each byte is, is worth about 3.45.
        assert float(task.loss_on(model.eval(), some)) < 3.05
