"""Models as people write them, from their files to an answer, and in which form they trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cli.asked import Asked, spec_document, with_absolute_path
from service.client import Client
from service.settings import Settings
from tests.e2e.cli_support import answer_of, whichopt
from tests.e2e.own_files import LIBRARIES, TASKS, write_net_and_data, write_task
from workers.embedded import Embedded, embedded

SMALL = {"training": {"steps": 12, "batch_size": 16}, "search": {"optimizers": ["momentum"]}}
TIMEOUT_S = 240.0

AT_ONCE = "batched: the whole module for many trials at once, proven equal to training it alone"
# What was found out about each: form, metric, words of the data's report.
FOUND: dict[str, tuple[str, str, str]] = {
    "resnet": (AT_ONCE, "accuracy", "Splits as given: 96 for training"),
    "gpt": (AT_ONCE, "perplexity", "model(x, targets=y)"),
    "tagger": (AT_ONCE, "accuracy", "words=…, lengths=…"),
    "two_inputs": (AT_ONCE, "mae", "numbers=…, street=…"),
    "vae": (AT_ONCE, "loss", "the model's own"),
    "control_flow": ("sequential: ", "f1", "started afresh for each seed"),
    "transformer": (AT_ONCE, "perplexity", "model(x1, x2)"),
}

Ask = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """One API and one worker for all studies of this module."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("home"), poll_s=0.05)
    with embedded(settings, workers=1, wait_for_focus=True) as running:
        yield running


@pytest.fixture
def ask(stack: Embedded) -> Ask:
    """A task file → the answer of a small study of it."""

    def answered(task: Path) -> dict[str, Any]:
        document = with_absolute_path({**spec_document(Asked(spec=task, budget="12 trials")), **SMALL})
        with Client(stack.url, stack.key) as client:
            study = client.create_study(document)["id"]
            stack.focus(study)
            deadline = time.monotonic() + TIMEOUT_S
            while (row := client.get_study(study))["status"] in ("queued", "running"):
                assert time.monotonic() < deadline, row
                time.sleep(0.05)
            assert row["status"] == "completed", row["error"]
            return client.recommendation(study)

    return answered


def check(answer: dict[str, Any], form: str, metric: str, report: str) -> None:
    assert answer["engine"].startswith(form), answer["engine"]
    assert answer["metric"]["name"] == metric
    assert report in " ".join(answer["dataset"]["report"]), answer["dataset"]["report"]
    assert {row["optimizer"] for row in answer["league"]} == {"adamw", "momentum"}
    assert answer["cost"]["trials"] == 12
    assert answer["score"]["runs"] >= 5


# The others, too, as long proofs.
USUAL = ("two_inputs", "control_flow", "tagger")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in USUAL else [pytest.mark.slow]) for n in TASKS])
def test_a_model_as_people_write_it_gets_an_answer(tmp_path: Path, ask: Ask, name: str) -> None:
    answer = ask(write_task(tmp_path, TASKS[name]))
    check(answer, *FOUND[name])
    if name == "control_flow":
        assert "differs between trials" in answer["engine"]


@pytest.mark.slow  # importing the libraries takes longer than training
@pytest.mark.parametrize("name", LIBRARIES)
def test_models_of_libraries_get_an_answer(tmp_path: Path, ask: Ask, name: str) -> None:
    source, metric = LIBRARIES[name]
    check(ask(write_task(tmp_path, source)), AT_ONCE, metric, "Loss: ")


def test_a_net_and_data_in_two_files_through_the_command(tmp_path: Path) -> None:
    options = write_net_and_data(tmp_path)
    done = whichopt(
        tmp_path, "recommend", *options, "--budget", "6 trials", "--optimizers", "momentum", "--seed", "1", "--json"
    )
    answer = answer_of(done)
    assert answer["engine"].startswith(AT_ONCE)
    assert answer["metric"]["name"] == "accuracy"
    assert "Splits as given: 120 for training" in " ".join(answer["dataset"]["report"])
    assert "Traceback" not in done.stderr


def test_a_task_file_through_the_command_which_trains_one_by_one(tmp_path: Path) -> None:
    training = f"training = {SMALL['training']!r}\n"
    task = write_task(tmp_path, TASKS["control_flow"] + training)
    answer = answer_of(
        whichopt(tmp_path, "recommend", task.name, "--budget", "8 trials", "--optimizers", "momentum", "--json")
    )
    assert answer["engine"].startswith("sequential: ")
    assert "differs between trials" in answer["engine"]
    assert answer["trained"]["steps"] == 12
