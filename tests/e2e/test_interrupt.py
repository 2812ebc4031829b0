"""Ctrl-C ends a search in the best answer there is; twice, or SIGTERM, keeps the study, and resuming continues it to the
answer that an undisturbed run gives. And the terminal itself.

Workers hold still in the stage that is to be disturbed, so that however slow the machine, the signal finds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.e2e.cli_support import SCRIPT, TIMEOUT_S, answer_of, environment, timeless, tiny_spec, whichopt, write_spec

STUDY: dict[str, Any] = {"training": {"steps": 400}, "budget": {"trials": 6, "seeds": 2}}
HOLDING = Path(__file__).parent / "held"
HELD = "held"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def held_in(folder: Path, stage: str) -> dict[str, str]:
    """The environment of a command whose workers hold still in a stage, until ``let_go`` or a request to stop."""
    (folder / "held").touch()
    path = os.pathsep.join([str(HOLDING), *filter(None, [os.environ.get("PYTHONPATH")])])
    return environment(folder, PYTHONPATH=path, HELD_STAGE=stage, HELD_WHILE=str(folder / "held"))


def let_go(folder: Path) -> None:
    (folder / "held").unlink(missing_ok=True)


def start(folder: Path, *arguments: str, stage: str = "search") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(SCRIPT), *arguments], cwd=folder, env=held_in(folder, stage), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def wait_until_held(folder: Path) -> None:
    """Until a worker has come to the stage. What is shown may lag behind: workers begin what was planned ahead."""
    wait_until((folder / "reached").exists, "a worker in that stage", TIMEOUT_S)


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Lines of standard error up to one that contains ``word``."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if word in line:
            return seen
    raise AssertionError(f"{word!r} never came: {seen}")


def test_ctrl_c_ends_the_search_in_an_answer(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, tiny_spec(**{**STUDY, "budget": {"trials": 60}})).name
    process = start(tmp_path, "recommend", spec, "--json")
    wait_until_held(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    read_until(process, "searching no more")
    let_go(tmp_path)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    answer = json.loads(out)
    assert answer["verdict"] in ("inconclusive", "better", "no_difference")
    assert answer["cost"]["trials"] < 60
    assert answer["score"]["runs"] >= 1


# Types Ctrl-C when this module is first asked for.
EARLY = """
import os, signal, sys
class Early:
    def find_spec(self, name, *rest):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Early())
sys.argv[0] = "whichopt"
from workers.cli import main
main()
"""


@pytest.mark.parametrize(
    "module", ["typer", "service.settings", "optim_core.spec.validation", "service.client", "service.app"]
)
def test_ctrl_c_while_it_starts_is_one_line(tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY.format(module=module), "recommend", "--model", "mlp", "--data", "digits"],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "whichopt: interrupted: nothing was asked yet\n"


def test_ctrl_c_while_a_server_is_asked_says_where_to_look(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = start(tmp_path, "recommend", write_spec(tmp_path, tiny_spec(**STUDY)).name, "--server", address)
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert (
        err == f"whichopt: interrupted: look whether the study was stored: whichopt studies list --server {address}\n"
    )


def test_a_study_paused_on_its_way_to_an_early_answer_is_finished(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, tiny_spec(**{**STUDY, "budget": {"trials": 60}})).name
    process = start(tmp_path, "recommend", spec, "--json")
    wait_until_held(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    read_until(process, "searching no more")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    study_id = shlex.split(err.strip().splitlines()[-1])[-1]
    answer = answer_of(whichopt(tmp_path, "studies", "finish", study_id, "--json"))
    assert answer["study"] == study_id
    assert answer["cost"]["trials"] < 60


def test_sigterm_keeps_the_study_and_resume_finishes_it(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, tiny_spec(**STUDY)).name
    process = start(tmp_path, "recommend", spec, "--json")
    wait_until_held(tmp_path)
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    assert out == ""
    command = re.search(r"Go on with: (.*)$", err.strip().splitlines()[-1])
    assert command, err
    words = shlex.split(command[1])
    assert words[0] == f"WHICHOPT_DATA_DIR={tmp_path / 'home'}"
    assert words[1:4] == ["whichopt", "studies", "resume"]
    study_id = words[4]
    assert '"paused"' in whichopt(tmp_path, "studies", "show", study_id, "--json").stdout

    resumed = answer_of(whichopt(tmp_path, "studies", "resume", study_id, "--json"))
    other = tmp_path / "undisturbed"
    other.mkdir()
    undisturbed = answer_of(whichopt(other, "recommend", tmp_path / spec, "--json"))
    assert timeless(resumed) == timeless(undisturbed)


def test_a_killed_command_leaves_a_study_that_resumes(tmp_path: Path) -> None:
    process = start(tmp_path, "recommend", write_spec(tmp_path, tiny_spec(**STUDY)).name, stage="portfolio")
    wait_until_held(tmp_path)
    process.kill()
    process.communicate()
    listed = whichopt(tmp_path, "studies", "list", "--json").stdout
    study_id = re.search(r'"id": "([0-9a-f]+)"', listed)
    assert study_id
    answer_of(whichopt(tmp_path, "studies", "resume", study_id[1], "--json"))


def on_terminal(folder: Path, *arguments: str, interrupt_at: Sequence[str] = ()) -> tuple[int, str]:
    """Run a command on a pseudo terminal of 100 columns; returns its exit status and all that it wrote.

    ``interrupt_at``: when Ctrl-C is typed, one after the other: ``HELD`` once a worker stands still, else at these words.
    """
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(folder)
        held = held_in(folder, "search") if interrupt_at else environment(folder)
        os.execve(SCRIPT, [str(SCRIPT), *arguments], {**held, "TERM": "xterm-256color", "COLUMNS": "100"})
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    seen, deadline, words = b"", time.monotonic() + TIMEOUT_S, list(interrupt_at)
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            seen += part
        if words and ((folder / "reached").exists() if words[0] == HELD else words[0].encode() in seen):
            os.write(master, b"\x03")
            words.pop(0)
        if b"searching no more" in seen and not words:
            let_go(folder)
    else:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    return status, seen.decode()


def test_the_answer_on_a_terminal(tmp_path: Path) -> None:
    write_spec(tmp_path, tiny_spec())
    status, raw = on_terminal(tmp_path, "recommend", "spec.yaml")
    text = ANSI.sub("", raw)
    assert status == 0, text
    # The bar while it runs, in place; the answer after it.
    for part in ("measuring", "trials", "full trainings"):
        assert part in text[: text.index("League of optimizers")]
    for part in ("optimizer", "settings", "schedule", "score", "AdamW at its best", "League of optimizers", "momentum",
                 "Data", "Split 1,797 rows", "import torch", "scheduler", "Cost:", "whichopt replay"):  # fmt: skip
        assert part in text, part
    assert "\x1b[" in raw
    assert "Traceback" not in text
    verdict = next(word for word in ("better", "no difference", "ndecided", "adamw", "AdamW") if word in text)
    assert text.index(verdict) < text.index("League of optimizers")


def test_ctrl_c_on_a_terminal_ends_the_search_and_answers(tmp_path: Path) -> None:
    write_spec(tmp_path, tiny_spec(**STUDY))
    status, raw = on_terminal(tmp_path, "recommend", "spec.yaml", interrupt_at=[HELD])
    text = ANSI.sub("", raw)
    assert status == 0, text
    assert "searching no more" in text
    assert "League of optimizers" in text
    assert "Traceback" not in text


def test_ctrl_c_twice_on_a_terminal_keeps_the_study(tmp_path: Path) -> None:
    write_spec(tmp_path, tiny_spec(**STUDY))
    status, raw = on_terminal(tmp_path, "recommend", "spec.yaml", interrupt_at=[HELD, "searching no more"])
    text = ANSI.sub("", raw)
    assert status == 130, text
    assert "the study is kept. Go on with: WHICHOPT_DATA_DIR=" in text.replace("\r\n", "")
    assert "Traceback" not in text
