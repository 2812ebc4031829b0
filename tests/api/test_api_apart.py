"""The child that takes uploads apart: without a network wherever the kernel allows that, at work where it does not."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optim_core.spec.errors import DataError
from service.operations import apart, no_network
from tests.conftest import wait_until

# Whether a process may have a network of its own here, asked without our code.
ALLOWED = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000 | 0x40000000) != 0)"
LEAVES = """
import socket, sys
from service.operations.no_network import leave_the_network
capabilities = lambda: next(l for l in open("/proc/self/status") if l.startswith("CapEff")).split()[1]
before, left = capabilities(), leave_the_network()
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
    reached = True
except OSError:
    reached = False
print(left, reached, before == capabilities(), int(capabilities(), 16) == 0)
"""


@pytest.fixture(scope="module")
def allowed() -> bool:
    return subprocess.run([sys.executable, "-c", ALLOWED]).returncode == 0


def test_whoever_left_the_network_reaches_nobody(allowed: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        done = subprocess.run([sys.executable, "-c", LEAVES, port], capture_output=True, text=True, check=True)
    left, reached, same_capabilities, none = (word == "True" for word in done.stdout.split())
    assert (left, reached) == (allowed, not allowed)
    assert none if allowed else same_capabilities


def test_the_child_leaves_the_network_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    plain = subprocess.Popen

    def seen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        child = plain(*arguments, **options)
        wait_until(lambda: not allowed or network_of(child.pid) != network_of("self"), "a network of its own")
        started.append(child)
        child.kill()  # its job is not what this looks at
        return child

    monkeypatch.setattr(apart.subprocess, "Popen", seen)
    with pytest.raises(DataError, match="ended the process"):
        apart.run({"job": "content", "path": str(tmp_path / "t.csv"), "name": "t.csv", "format": "csv"})
    assert len(started) == 1


def network_of(process: int | str) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


def test_where_the_kernel_refuses_everything_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        def unshare(self, flags: int) -> int:
            return -1

    monkeypatch.setattr(no_network.ctypes, "CDLL", lambda name: Refuses())
    assert no_network.leave_the_network() is False
    monkeypatch.setattr(no_network.ctypes, "CDLL", lambda name: object())  # no unshare: another system
    assert no_network.leave_the_network() is False
