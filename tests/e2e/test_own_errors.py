"""What goes wrong in a person's own code: one clear line that names their file and line, an exit code, clean output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.cli_support import TIMEOUT_S, answer_of, whichopt
from tests.e2e.own_files import write_task
from tests.e2e.test_interrupt import read_until, start

TASK = """
import torch
from torch import nn
from torch.utils.data import Dataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.steps = nn.Linear(4, 3), 0

    def forward(self, x):
        return self.layer(x)  # FORWARD


class Rows(Dataset):
    def __len__(self):
        return 120

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        x = torch.randn(4, generator=g)
        return x, int(x[:3].argmax())  # SAMPLE


model = Net
data = Rows()
training = {"steps": 12, "batch_size": 16}
"""
FORWARD, SAMPLE = "return self.layer(x)  # FORWARD", "return x, int(x[:3].argmax())  # SAMPLE"
ASK = ["recommend", "task.py", "--budget", "6 trials", "--optimizers", "momentum", "--json"]


def task_with(place: str, *lines: str) -> str:
    """The task with a line of it replaced by others."""
    assert TASK.count(place) == 1
    return TASK.replace(place, ("\n        " if place in (FORWARD, SAMPLE) else "\n").join(lines))


def line_of(source: str, text: str) -> int:
    return 1 + next(i for i, line in enumerate(source.splitlines()) if text in line)


def check(done: subprocess.CompletedProcess[str], code: int = 3) -> str:
    """The last line of standard error of a command that has no answer."""
    assert done.returncode == code, done.stderr
    [error] = json.loads(done.stdout)["errors"]
    assert error["message"] in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def before_model(*lines: str) -> str:
    return task_with("model = Net", *lines, "model = Net")


# Fails once training has begun, whoever counts the calls before.
LATE = task_with(
    FORWARD, "global calls", "calls += self.training", "if calls > 60:", "    raise ValueError('far in')",
    "return self.layer(x)",
).replace("class Net", "calls = 0\n\n\nclass Net").replace('"steps": 12', '"steps": 100')  # fmt: skip

# Source; a word in the line at fault; where, and what is said of it.
CASES: dict[str, tuple[str, str, str, str]] = {
    "import": (
        before_model("import nothing_there"), "import nothing", "",
        ": ModuleNotFoundError: No module named 'nothing_there'",
    ),
    "shape": (
        task_with(FORWARD, "return self.layer(x[:, :3])"), "x[:, :3]", "in forward",
        "RuntimeError: mat1 and mat2 shapes",
    ),
    "late": (LATE, "far in", "in forward", "ValueError: far in"),
    "sample": (
        task_with(SAMPLE, "if i == 77:", "    raise OSError('a broken image')", "return x, 1"), "broken image",
        "in __getitem__", "OSError: a broken image",
    ),
    "loss": (
        before_model("def loss(outputs, targets):", "    return outputs.nothing"), "outputs.nothing", "in loss",
        "AttributeError: 'Tensor' object has no attribute 'nothing'",
    ),
    "metric": (
        before_model("def score(outputs, targets):", "    return {}[0]", "metric = score, 'max'"), "{}[0]", "in score",
        "KeyError: 0",
    ),
    "exit": (task_with(FORWARD, "exit(0)"), "exit(0)", "in forward", "it called exit()"),
    "cuda": (
        task_with(FORWARD, "return self.layer(x.cuda())"), "x.cuda()", "in forward", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_error_in_their_code_is_one_line(tmp_path: Path, name: str) -> None:
    source, at, where, said = CASES[name]
    write_task(tmp_path, source)
    last = check(whichopt(tmp_path, *ASK, env={"CUDA_VISIBLE_DEVICES": ""}))
    assert f"failed: user_code_error: task.py, line {line_of(source, at)}" in last
    assert where in last
    assert said in last
    assert "(traceback: " in last


NOTHING = "/model: the model has no weights to train"
REFUSED = {
    "no_weights": (task_with("self.layer, self.steps = nn.Linear(4, 3), 0", "pass").replace(FORWARD, "return x[:, :3] * 2"),
                   NOTHING),
    "all_frozen": (TASK.replace("self.layer, self.steps = nn.Linear(4, 3), 0",
                                "self.layer = nn.Linear(4, 3).requires_grad_(False)"), NOTHING),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_said_in_a_line(tmp_path: Path, name: str) -> None:
    source, said = REFUSED[name]
    write_task(tmp_path, source)
    place = f" (task.py, line {line_of(source, 'def __init__')}, in __init__)"
    assert f"{said}{place}" in check(whichopt(tmp_path, *ASK))


def test_a_loss_that_is_nan_from_the_start_is_said(tmp_path: Path) -> None:
    source = task_with(FORWARD, "return self.layer(x) * float('nan')")
    write_task(tmp_path, source)
    place = f"user_code_error: task.py, line {line_of(source, 'def forward')}, in forward"
    assert f"{place}: the outputs and the loss are NaN before" in check(whichopt(tmp_path, *ASK))


def test_a_name_that_is_missing_is_said_before_anything_starts(tmp_path: Path) -> None:
    write_task(tmp_path, TASK.replace("data = Rows()", "dat = Rows()"))
    assert "task.py defines no 'data'" in check(whichopt(tmp_path, *ASK), code=2)


def test_what_they_print_stays_out_of_the_answer(tmp_path: Path) -> None:
    source = task_with(FORWARD, "print('in forward')", "return self.layer(x)").replace(SAMPLE, f"print('s'); {SAMPLE}")
    write_task(tmp_path, "print('on import')\n" + source)
    done = whichopt(tmp_path, *ASK)
    answer = answer_of(done)
    assert "in forward" in done.stderr
    replayed = whichopt(tmp_path, "replay", answer["study"], "--json")
    assert replayed.returncode == 0, replayed.stderr
    assert json.loads(replayed.stdout)["identical"]


def test_state_across_calls_trains_one_after_the_other_or_equal(tmp_path: Path) -> None:
    write_task(tmp_path, task_with(FORWARD, "self.steps += 1", "return self.layer(x) * (1 + 1 / self.steps)"))
    answer_of(whichopt(tmp_path, *ASK))


FOREVER = {
    "forward": (task_with(FORWARD, "while True:", "    x = x + 1  # HERE"), "in forward"),
    "sample": (task_with(SAMPLE, "import time; time.sleep(3600)  # HERE"), "in __getitem__"),
}


@pytest.mark.parametrize("name", FOREVER)
def test_a_call_that_does_not_come_back_ends_the_study(tmp_path: Path, name: str) -> None:
    source, where = FOREVER[name]
    write_task(tmp_path, source)
    last = check(whichopt(tmp_path, *ASK, env={"WHICHOPT_HANG_S": "0.5"}))
    found = re.search(r"user_code_error: task\.py, line (\d+), (in \w+): it has been there for 5 s", last)
    assert found, last
    assert found[2] == where
    assert abs(int(found[1]) - line_of(source, "HERE")) <= 1


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ("import os; os._exit(5)", "ended with exit status 5"),
        ("import ctypes; ctypes.string_at(0)", "was ended by SIGSEGV"),
    ],
)
def test_code_that_ends_the_process_ends_the_study_as_their_error(tmp_path: Path, line: str, how: str) -> None:
    write_task(tmp_path, task_with(FORWARD, f"{line}  # HERE", "return self.layer(x)"))
    last = check(whichopt(tmp_path, *ASK))
    assert f"user_code_error: the worker process {how} in attempt 2 while it ran your code" in last


def test_ctrl_c_ends_an_endless_loop_within_seconds(tmp_path: Path) -> None:
    write_task(tmp_path, FOREVER["forward"][0])
    process = start(tmp_path, *ASK)
    read_until(process, "measuring")
    time.sleep(1)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (130, "")
    assert "the study is kept. Go on with: " in err.splitlines()[-1]
    # Otherwise the worker is waited for until it is killed, half a minute.
    assert time.monotonic() - began < 25
