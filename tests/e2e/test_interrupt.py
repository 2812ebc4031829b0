"""Ctrl-C keeps the study; resuming continues it to the answer that an undisturbed run gives. And the terminal itself."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

from tests.e2e.cli_support import SCRIPT, answer_of, environment, timeless, tiny_spec, whichopt, write_spec

SLOW: dict[str, Any] = {"training": {"steps": 4000}, "budget": {"trials": 6, "seeds": 2}}
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(SCRIPT), *arguments], cwd=folder, env=environment(folder), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Lines of standard error up to one that contains ``word``."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if word in line:
            return seen
    raise AssertionError(f"{word!r} never came: {seen}")


def test_ctrl_c_keeps_the_study_and_resume_finishes_it(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, tiny_spec(**SLOW)).name
    process = start(tmp_path, "recommend", spec, "--json")
    read_until(process, "searching")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
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


def test_sigterm_keeps_the_study_too(tmp_path: Path) -> None:
    process = start(tmp_path, "recommend", write_spec(tmp_path, tiny_spec(**SLOW)).name)
    read_until(process, "defaults")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "the study is kept" in err


def test_a_killed_command_leaves_a_study_that_resumes(tmp_path: Path) -> None:
    process = start(tmp_path, "recommend", write_spec(tmp_path, tiny_spec(**SLOW)).name)
    read_until(process, "defaults")
    process.kill()
    process.communicate()
    listed = whichopt(tmp_path, "studies", "list", "--json").stdout
    study_id = re.search(r'"id": "([0-9a-f]+)"', listed)
    assert study_id
    answer_of(whichopt(tmp_path, "studies", "resume", study_id[1], "--json"))


def on_terminal(folder: Path, *arguments: str, interrupt_at: str | None = None) -> tuple[int, str]:
    """Run a command on a pseudo terminal of 100 columns; returns its exit status and all that it wrote."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(
            SCRIPT, [str(SCRIPT), *arguments], {**environment(folder), "TERM": "xterm-256color", "COLUMNS": "100"}
        )
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    seen, deadline, sent = b"", time.monotonic() + 240, False
    while time.monotonic() < deadline:
        if select.select([master], [], [], 1.0)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            seen += part
            if interrupt_at is not None and not sent and interrupt_at.encode() in seen:
                os.write(master, b"\x03")
                sent = True
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    return status, seen.decode()


def test_the_answer_on_a_terminal(tmp_path: Path) -> None:
    write_spec(tmp_path, tiny_spec())
    status, raw = on_terminal(tmp_path, "recommend", "spec.yaml")
    text = ANSI.sub("", raw)
    assert status == 0, text
    # The bar while it runs, in place; the answer after it.
    for part in ("measuring", "trials", "best"):
        assert part in text[: text.index("League of optimizers")]
    for part in ("optimizer", "settings", "schedule", "score", "tuned AdamW", "League of optimizers", "momentum",
                 "Data", "Split 1,797 rows", "import torch", "scheduler", "Cost:", "whichopt replay"):  # fmt: skip
        assert part in text, part
    assert "\x1b[" in raw
    assert "Traceback" not in text
    verdict = next(word for word in ("better", "no difference", "ndecided", "adamw", "AdamW") if word in text)
    assert text.index(verdict) < text.index("League of optimizers")


def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    write_spec(tmp_path, tiny_spec(**SLOW))
    status, raw = on_terminal(tmp_path, "recommend", "spec.yaml", interrupt_at="searching")
    text = ANSI.sub("", raw)
    assert status == 130, text
    assert "the study is kept. Go on with: WHICHOPT_DATA_DIR=" in text.replace("\r\n", "")
    assert "Traceback" not in text
