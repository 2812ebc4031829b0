"""Texts and specs of texts for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optim_core.spec.problem import StudySpec
from optim_core.spec.validation import parse_spec

SENTENCE = "The quick brown fox jumps over the lazy dog, and the dog sleeps on. "


def text_spec(path: Path | None = None, **changes: Any) -> StudySpec:
    """A study of the file, or of the bundled text. ``changes``: parts of the spec; those of data set and model are added."""
    dataset: dict[str, Any] = {"kind": "builtin", "name": "python_docs"}
    if path is not None:
        dataset = {"kind": "file", "path": str(path), "format": "text"}
    return parse_spec(
        {
            "model": {"kind": "catalogue", "name": "transformer", **changes.pop("model", {})},
            "dataset": {**dataset, **changes.pop("dataset", {})},
            "training": {"batch_size": 4, **changes.pop("training", {})},
            "budget": {"trials": 4},
            **changes,
        }
    )


def written(folder: Path, content: str | bytes, name: str = "notes.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
