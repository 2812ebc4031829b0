"""A study of a person's own model goes on after a pause or a kill, is replayed, and is refused once their code has changed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli_support import TIMEOUT_S, answer_of, timeless, whichopt
from tests.e2e.own_files import SKIP_MLP, write_net_and_data
from tests.e2e.test_interrupt import start, wait_until_held

LONG = 'training = {"steps": 600, "batch_size": 16}\n'
TASK = "from my_net import Net as model\nfrom my_data import splits as data\n" + LONG
ASK = ["recommend", "task.py", "--budget", "6 trials", "--optimizers", "momentum", "--json"]


def paused(folder: Path) -> str:
    """The id of a study that SIGTERM has stopped amid its search."""
    process = started(folder)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    study = re.search(r"studies resume (\w+)", err)
    assert study, err
    return study[1]


def started(folder: Path) -> subprocess.Popen[str]:
    write_net_and_data(folder)
    (folder / "task.py").write_text(TASK)
    process = start(folder, *ASK)
    wait_until_held(folder)
    return process


@pytest.mark.slow  # two whole studies; the same of a ready-made network is in test_interrupt
def test_after_a_pause_the_answer_is_the_undisturbed_one(tmp_path: Path) -> None:
    study = paused(tmp_path)
    resumed = answer_of(whichopt(tmp_path, "studies", "resume", study, "--json"))
    other = tmp_path / "undisturbed"
    other.mkdir()
    write_net_and_data(other)
    (other / "task.py").write_text(TASK)
    undisturbed = answer_of(whichopt(other, *ASK))
    assert timeless(resumed) == timeless(undisturbed)


def test_a_replay_has_the_score_while_the_code_is_the_same(tmp_path: Path) -> None:
    write_net_and_data(tmp_path)
    (tmp_path / "task.py").write_text(TASK.replace("600", "12"))
    answer = answer_of(whichopt(tmp_path, *ASK))
    study = answer["study"]
    replayed = whichopt(tmp_path, "replay", study, "--json")
    assert replayed.returncode == 0, replayed.stderr
    found = json.loads(replayed.stdout)
    assert found["reproduced"]
    assert found["stored"] == answer["score"]["mean"]

    (tmp_path / "my_net.py").write_text(SKIP_MLP.replace("0.1", "0.2"))
    changed = whichopt(tmp_path, "replay", study)
    assert (changed.returncode, changed.stdout) == (3, "")
    assert "the data set is not the one of the study any more" in changed.stderr.splitlines()[-1]


def test_a_killed_command_leaves_a_study_that_goes_on(tmp_path: Path) -> None:
    process = started(tmp_path)
    process.kill()
    process.communicate()
    listed = json.loads(whichopt(tmp_path, "studies", "list", "--json").stdout)
    answer_of(whichopt(tmp_path, "studies", "resume", listed[0]["id"], "--json"))


@pytest.mark.parametrize(
    "file",
    ["my_net.py", pytest.param("my_data.py", marks=pytest.mark.slow), pytest.param("task.py", marks=pytest.mark.slow)],
)
def test_code_that_changed_while_the_study_was_paused_is_refused(tmp_path: Path, file: str) -> None:
    study = paused(tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text() + "\n# another word\n")
    done = whichopt(tmp_path, "studies", "resume", study, "--json")
    assert done.returncode == 3
    [error] = json.loads(done.stdout)["errors"]
    assert error["code"] == "data_changed"
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"whichopt: study {study} failed: data_changed: /dataset: your code or your data changed since this study began; "
        "start a new study (are the data drawn without a seed?)"
    )
