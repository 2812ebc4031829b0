"""Where a benchmark was measured, and where its results go."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def device(*packages: str) -> dict[str, Any]:
    """The processor and what ran on it; ``packages``: whose versions are told besides torch's, None when not installed."""
    found = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    return {
        "cpu": found.group(1).strip() if found else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{package: _version(package) for package in packages},
    }


def device_slug(where: dict[str, Any]) -> str:
    """A file name for a device."""
    words = re.sub(r"\((r|tm)\)|\bcpu\b|@.*", " ", str(where["cpu"]).lower())
    return re.sub(r"[^a-z0-9]+", "-", f"{words} {where['cores']} cores").strip("-")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""
