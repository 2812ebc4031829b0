"""What a script of ``whichopt agent`` started ends with it: also what left its session, and also when the agent is killed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the script and all that it starts inherit; its value is the agent's own.
RESULT = "WHICHOPT_RESULT"
# The end of the agent, however it came, is the end of its input.
_GUARD = "import sys; from service.cli.agent_ends import end_marked; sys.stdin.read(); end_marked(sys.argv[1])"


def end_marked(mark: str) -> None:
    """Kill every process of this account that has ``mark`` as its ``RESULT``."""
    for process in psutil.process_iter():
        # Another account's, or gone meanwhile.
        with suppress(psutil.Error):
            if process.environ().get(RESULT) == mark:
                process.kill()


@contextmanager
def guarded(mark: str) -> Iterator[None]:
    """Around the agent's work: a process of its own ends what is marked, when this one ends without doing so."""
    command = [sys.executable, "-c", _GUARD, mark]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - our own
    try:
        yield
    finally:
        guard.communicate()
