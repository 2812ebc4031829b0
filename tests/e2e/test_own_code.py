"""A person's own files through the real command: one clear line, their file and line, and clean standard output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cli_support import SCRIPT, TIMEOUT_S, environment, tiny_spec, whichopt, write_spec, write_table
from tests.e2e.test_interrupt import read_until, start, wait_until_held

OWN = ["--model", "user.py:Net", "--data", "user.py:data", "--budget", "5s", "--json"]
NET = "import torch\nclass Net(torch.nn.Linear):\n    pass\n"


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    if "--json" in done.args:
        [error] = json.loads(done.stdout)["errors"]
        assert error["message"] in done.stderr
    else:
        assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


ERRORS = [
    (NET + "import nothing_of_that_name\ndata = 1\n", "user.py, line 4: ModuleNotFoundError: No module named"),
    (NET + "def data():\n    raise ValueError('no rows')\n", "user.py, line 5, in data: ValueError: no rows"),
    (NET + "data = 1\nexit()\n", "user.py, line 5: it called exit()"),
    (NET + "print('a word of theirs', flush=True)\nimport os\nos.system('echo another')\ndata = 1 / 0\n",
     "user.py, line 7: ZeroDivisionError: division by zero"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), ERRORS, ids=["import", "function", "exit", "print"])
def test_an_error_of_theirs_is_one_line_with_their_file(tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / "user.py").write_text(source)
    done = whichopt(tmp_path, "recommend", *OWN)
    assert done.returncode == 3, done.stderr
    assert f"failed: user_code_error: {expected}" in last_line(done)
    if "print" in source:
        assert "a word of theirs" in done.stderr
        assert "another" in done.stderr


def test_verbose_shows_their_traceback(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(NET + "def data():\n    return 1 / 0\n")
    done = whichopt(tmp_path, "recommend", *OWN, "--verbose")
    assert done.returncode == 3
    assert json.loads(done.stdout)["errors"][0]["code"] == "user_code_error"
    assert "    return 1 / 0\n" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("user.py, line 5, in data: ZeroDivisionError: division by zero")
    study = re.search(r"study (\w+) failed", done.stderr)
    assert study
    assert "    return 1 / 0\n" in whichopt(tmp_path, "studies", "show", study[1]).stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "user.py:Nett", "--data", "user.py:data"], "user.py defines no 'Nett'; did you mean 'Net'?"),
        (["--model", "usr.py:Net", "--data", "user.py:data"], "there is no file 'usr.py'; did you mean 'user.py'?"),
        (["--model", "user.py:Net", "--data", "digits"], "a model of your own and data of your own go together"),
        (["task.ipynb"], "is a notebook"),
        (["user.py"], "user.py defines neither 'model' nor 'make_model'"),
    ],
)
def test_a_slip_is_said_before_anything_starts(tmp_path: Path, arguments: list[str], expected: str) -> None:
    (tmp_path / "user.py").write_text("open('ran', 'w')\n" + NET + "data = 1\n")
    done = whichopt(tmp_path, "recommend", *arguments)
    assert done.returncode == 2, done.stderr
    assert expected in last_line(done)
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "home").exists()


def test_init_writes_a_task_once(tmp_path: Path) -> None:
    done = whichopt(tmp_path, "init")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "whichopt: task.py is written; ask with: whichopt recommend task.py\n"
    assert subprocess.run([sys.executable, "task.py"], cwd=tmp_path, check=False).returncode == 0
    again = whichopt(tmp_path, "init")
    assert again.returncode == 2
    assert "exists already" in last_line(again)


def test_a_server_does_not_run_files(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(NET + "data = 1\n")
    server = subprocess.Popen(
        [str(SCRIPT), "serve", "--port", "0", "--no-worker"], cwd=tmp_path, text=True, stderr=subprocess.PIPE,
        # Whoever sets it for a server means something else than a command does.
        env=environment(tmp_path, WHICHOPT_OWN_PROCESS="1"),
    )  # fmt: skip
    try:
        address = re.search(r"http://\S+", read_until(server, "serving on"))
        assert address
        done = whichopt(tmp_path, "recommend", *OWN, "--server", address[0])
        assert done.returncode == 2
        assert last_line(done) == (
            "whichopt: /model/entrypoint: a server runs no files: install the module there, or ask without a server"
        )
    finally:
        server.terminate()
        server.communicate(timeout=TIMEOUT_S)


@pytest.mark.slow  # half a minute on a busy core; tests/workers has the same without processes
def test_a_table_that_changed_while_the_study_was_paused_is_said(tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.csv")
    dataset = {"kind": "file", "path": "table.csv", "target": "price"}
    slow = tiny_spec(dataset=dataset, training={"steps": 4000}, budget={"trials": 6, "seeds": 2})
    process = start(tmp_path, "recommend", write_spec(tmp_path, slow).name, "--json")
    wait_until_held(tmp_path)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT_S)
    study = re.search(r"studies resume (\w+)", err)
    assert study, err
    table.write_text(table.read_text().replace("red", "blue", 1))
    done = whichopt(tmp_path, "studies", "resume", study[1], "--json")
    assert done.returncode == 3
    assert last_line(done) == (
        f"whichopt: study {study[1]} failed: data_changed: /dataset: the data file changed since this study began; "
        "start a new study"
    )
