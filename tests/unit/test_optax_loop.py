"""The example in JAX, in a process of its own: JAX starts threads, and others could not fork any more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # compiles for longer than it trains
def test_the_example_in_jax_takes_the_steps_that_were_asked_for() -> None:
    cases = Path(__file__).with_name("optax_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
