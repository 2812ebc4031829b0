"""How much memory control groups allow this process: a container sees the whole machine's, and is ended at its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def memory_limit(root: Path = Path("/")) -> int | None:
    """The smallest limit in bytes of version 1 or 2, of this process's group and of those around it; None without one.

    ``root``: of the file system, another one in tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    return min((limit for line in lines for limit in _limits(line, root / "sys/fs/cgroup")), default=None)


def _limits(line: str, mounted: Path) -> Iterator[int]:
    """``line``: hierarchy:controllers:path; version 2 has no controllers there."""
    _, controllers, path = line.split(":", 2)
    if controllers == "":
        top, name = mounted, "memory.max"
    elif "memory" in controllers.split(","):
        top, name = mounted / "memory", "memory.limit_in_bytes"
    else:
        return
    # Inside of a container the path may be one outside, which is not there; its own group is then the top.
    group = top if ".." in path else top / path.lstrip("/")
    for folder in (group, *group.parents):
        # "max" is no number, and the top of a machine has no such file.
        with suppress(OSError, ValueError):
            yield int((folder / name).read_text())
        if folder == top:
            return
