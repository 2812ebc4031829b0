"""Tables as a stranger writes them, and what is understood of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from optim_core.data import understand
from optim_core.data.prepare import Understood
from optim_core.spec.validation import parse_spec


def understood(folder: Path, table: dict[str, Any] | pd.DataFrame | str, **rest: Any) -> Understood:
    """A table (or the text of one) whose target is ``y``; ``rest``: parts of the spec."""
    path = folder / "t.csv"
    path.write_text(table) if isinstance(table, str) else pd.DataFrame(table).to_csv(path, index=False)
    dataset = {"kind": "file", "path": str(path), "target": "y", **rest.pop("dataset", {})}
    return understand(parse_spec({"model": "mlp", "dataset": dataset, **rest}))


def said(found: Understood, *parts: str) -> bool:
    """Whether one sentence has all of ``parts``."""
    return any(all(part in sentence for part in parts) for sentence in found.report)


def used(found: Understood) -> list[str]:
    return [column.name for column in found.columns]
