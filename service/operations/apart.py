"""Uploaded bytes are taken apart in a child process: without our secrets, with limits, and its result comes back in a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from optim_core.spec.errors import DataError, SpecError
from optim_core.spec.placed import FILE_NAMES
from optim_core.spec.problem import StudySpec
from service.operations.errors import ServiceError
from service.operations.inspection import Inspection

# The largest table that is allowed takes a minute to read on a slow machine.
WALL_S = 240.0
MOST_RESULT = 16 * 2**20
# Of the environment nothing else: no database, no key, no proxy.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")


def look_into(path: Path, name: str, fmt: str) -> str:
    """See ``upload_check.content_of``."""
    return run({"job": "content", "path": str(path), "name": name, "format": fmt})


def inspect(spec: StudySpec, roots: Sequence[str] | None) -> Inspection:
    """See ``inspection.inspect``; whose files were uploaded and are ``placed``."""
    job = {"job": "inspect", "spec": spec.model_dump(mode="json"), "roots": None if roots is None else list(roots),
           "names": dict(FILE_NAMES.get())}  # fmt: skip
    return Inspection.model_validate(run(job))


def run(job: dict[str, Any], wall_s: float = WALL_S) -> Any:
    """What ``apart_child`` makes of a job. Raises the SpecError or ServiceError that it met; DataError ``too_large_unpacked``
    where that took too much memory, ``malformed_table`` where it took too long or ended the process.
    """
    with tempfile.TemporaryDirectory(prefix="whichopt-") as folder:
        (Path(folder) / "job").write_text(json.dumps(job))
        process = subprocess.Popen(
            # -P: nothing in a folder that somebody else may write to is imported.
            [sys.executable, "-P", "-m", "service.operations.apart_child"],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            status = process.wait(wall_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return _result(Path(folder) / "result", status)


def _environment() -> dict[str, str]:
    # The same modules as here, wherever these come from.
    found = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**found, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}


def _result(file: Path, status: int | None) -> Any:
    if status != 0 or not file.is_file() or file.stat().st_size > MOST_RESULT:
        how = "it took too long" if status in (None, -signal.SIGXCPU) else "that ended the process which tried"
        raise DataError(f"the file could not be read: {how}", code="malformed_table", pointer="/dataset/path")
    found = json.loads(file.read_bytes())
    if "error" not in found:
        return found["result"]
    error = found["error"]
    if "status" in error:
        raise ServiceError(error["status"], error["code"], error["message"], error["errors"])
    kind = DataError if error["data"] else SpecError
    raise kind(error["message"], code=error["code"], pointer=error["pointer"])
