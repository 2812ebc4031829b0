"""A server of this project for a benchmark, as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(folder: Path, *arguments: str, **more: str) -> Iterator[tuple[str, int]]:
    """``whichopt serve`` with its data in ``folder`` until the block ends: its address, and the id of its process.

    ``more``: environment variables. The key of its own account is the file ``key`` in the folder. Raises RuntimeError where it
    does not start.
    """
    environment = {**os.environ, "WHICHOPT_DATA_DIR": str(folder), "WHICHOPT_PORT": "0", **more}
    command = [sys.executable, "-m", "workers.cli", "serve", *arguments]
    # Into a file: a pipe that nobody reads would fill up and hold the server.
    log = folder / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(command, stderr=written, env=environment)
        try:
            # Where it listens it notes for commands; what it logs depends on its level.
            while not (found := list((folder / "serving").glob("[!.]*"))):
                if process.poll() is not None:
                    raise RuntimeError(f"the server did not start: {log.read_text()}")
                time.sleep(0.1)
            yield f"http://{found[0].name}", process.pid
        finally:
            process.terminate()
            process.wait(60)
