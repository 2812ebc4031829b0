"""``whichopt.recommend`` in a script or a notebook: closures and tensors, Ctrl-C, errors, threads, nothing left behind."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import whichopt
from optim_core.own import live
from optim_core.own.entrypoint import UserModules
from optim_core.spec.errors import SpecError
from service.cli import progress
from tests.e2e.own_files import write_net_and_data
from workers import training

SMALL: dict[str, Any] = {
    "budget": "6 trials", "optimizers": ["momentum"], "training": {"steps": 12, "batch_size": 16}, "progress": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that asks for the first time; whatever is left in its folders, threads or names afterwards is a fault."""
    monkeypatch.setattr(training, "_problems", training.ProblemCache())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = list(sys.path)
    yield
    UserModules()
    sys.path[:] = path
    assert not live._objects
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("whichopt-")] == []
    assert "study" not in {thread.name for thread in threading.enumerate()}


def rows() -> tuple[Tensor, Tensor]:
    x = torch.randn(150, 4, generator=torch.Generator().manual_seed(0))
    return x, x[:, :3].argmax(1)


def make_net(in_features: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(in_features, 8), nn.ReLU(), nn.Linear(8, classes))


def test_a_closure_and_tensors_get_an_answer_twice() -> None:
    width = 6
    answers = [
        whichopt.recommend(lambda: nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3)), rows(), **SMALL)
        for _ in range(2)
    ]
    assert answers[0].verdict == "inconclusive"
    assert answers[0].recommended == answers[1].recommended
    assert answers[0].document["score"] == answers[1].document["score"]
    assert answers[0].document["study"] is None


def test_loss_and_metric_of_ones_own() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, label_smoothing=0.2)

    def right(outputs: Tensor, targets: Tensor) -> float:
        return float((outputs.argmax(1) == targets).double().mean())

    answer = whichopt.recommend(make_net, rows(), loss=loss, metric=(right, "max"), **SMALL)
    assert answer.document["metric"]["direction"] == "maximize"
    named = whichopt.recommend(make_net, rows(), loss="cross_entropy", metric="f1", **SMALL)
    assert named.document["metric"]["name"] == "f1"


def test_names_of_a_network_and_of_data() -> None:
    answer = whichopt.recommend("linear", "digits", **SMALL)
    assert answer.document["metric"]["name"] == "accuracy"


def test_from_a_thread() -> None:
    found: list[whichopt.Answer] = []
    thread = threading.Thread(target=lambda: found.append(whichopt.recommend(make_net, rows(), **SMALL)))
    thread.start()
    thread.join()
    assert found[0].headline


class Interrupting:
    """Ctrl-C as soon as a stage is shown, as often as there are stages."""

    def __init__(self, *stages: str) -> None:
        self.stages, self.closed = list(stages), False

    def show(self, study: dict[str, Any]) -> None:
        if self.stages and study["progress"]["stage"] == self.stages[0]:
            self.stages.pop(0)
            raise KeyboardInterrupt

    def close(self) -> None:
        self.closed = True


def test_ctrl_c_ends_the_search_in_the_best_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Interrupting("search")
    monkeypatch.setattr(progress, "display", lambda: shown)
    answer = whichopt.recommend(make_net, rows(), **{**SMALL, "budget": "5000 trials", "progress": True})
    assert answer.document["cost"]["trials"] < 5000
    assert answer.verdict == "inconclusive"
    assert shown.closed


@pytest.mark.parametrize("stages", [("probe",), ("queued",), ("search", "confirm")])
def test_ctrl_c_before_there_is_anything_or_twice_is_ctrl_c(monkeypatch: pytest.MonkeyPatch, stages: tuple) -> None:
    shown = Interrupting(*stages)
    monkeypatch.setattr(progress, "display", lambda: shown)
    steps = {"steps": 400, "batch_size": 16}
    with pytest.raises(KeyboardInterrupt):
        whichopt.recommend(make_net, rows(), **{**SMALL, "budget": "500 trials", "training": steps, "progress": True})
    assert shown.closed


def test_an_error_of_theirs_is_a_study_that_failed() -> None:
    def broken() -> nn.Module:
        raise ValueError("no such thing")

    with pytest.raises(whichopt.StudyFailed) as failed:
        whichopt.recommend(broken, rows(), **SMALL)
    assert failed.value.code == "user_code_error"
    assert str(failed.value).splitlines()[0].endswith(", in broken: ValueError: no such thing")
    with pytest.raises(whichopt.StudyFailed) as failed:
        whichopt.recommend(make_net, 3, **SMALL)
    assert failed.value.code == "unsupported_data"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": "soon"}, "soon"),
        ({"optimizers": ["adamm"]}, "adamm"),
        ({"training": {"stepps": 3}}, "stepps"),
        ({"loss": "mean"}, "mean"),
        ({"metric": "accurate"}, "accurate"),
        ({"metric": lambda o, t: 0.0}, "max"),
        ({"metric": (lambda o, t: 0.0, "up")}, "up"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        whichopt.recommend(make_net, rows(), **{**SMALL, **changes})
    assert said in f"{refused.value.pointer} {refused.value}"
    assert "\n" not in str(refused.value)


def test_files_and_data_in_words_go_together() -> None:
    with pytest.raises(SpecError, match="own"):
        whichopt.recommend(make_net, "digits", **SMALL)
    with pytest.raises(SpecError, match="own"):
        whichopt.recommend("mlp", rows(), **SMALL)
    with pytest.raises(SpecError, match="no bundled data set; did you mean 'digits'"):
        whichopt.recommend("mlp", "digit", **SMALL)
    with pytest.raises(SpecError, match="target"):
        whichopt.recommend("mlp", "table.csv", **SMALL)


def test_texts_lead_to_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = write_net_and_data(tmp_path)
    answer = whichopt.recommend(options[1], options[3], **SMALL)
    assert answer.document["dataset"]["rows"] == {"train": 120, "validation": 40, "test": 40}


def test_a_call_that_does_not_come_back_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHICHOPT_HANG_S", "0.05")

    class Endless(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            while True:
                input = input + 1

    with pytest.raises(whichopt.StudyFailed, match="in forward: it has been there for") as failed:
        whichopt.recommend(lambda: Endless(4, 3), rows(), **SMALL)
    assert failed.value.code == "user_code_error"
