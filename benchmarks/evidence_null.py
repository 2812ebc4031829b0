"""Null: the same configuration twice, with seeds of its own each time. Whoever is called better is called so wrongly."""

from __future__ import annotations

from typing import Any

from benchmarks.evidence_cells import Cell, measure, metrics_of
from benchmarks.evidence_report import HEAD, above, line

_MOST = 0.05
# Source, rows of a fold, folds. Five folds: all are test rows; one: a declared split.
CELLS = (
    ("rules", 10, 5), ("skewed", 20, 5), ("rings", 50, 5), ("rare", 60, 5), ("blobs", 60, 5), ("waves", 100, 5),
    ("rings deep", 100, 5), ("near", 250, 5),
    ("rules", 36, 1), ("skewed", 60, 1), ("blobs", 120, 1), ("waves", 300, 1), ("near", 500, 1), ("rings", 2000, 1),
)  # fmt: skip
QUICK = (("rings", 30, 5), ("skewed", 36, 1))


def null(quick: bool, seed: int) -> dict[str, Any]:
    """All cells, or two small ones. Goal: an interval that leaves out 0, in either direction, in at most 5 % of tables."""
    print(f"\nNull: the same configuration twice\n{HEAD}")
    cells, missed = [], []
    for source, rows, folds in QUICK if quick else CELLS:
        found = measure(cell_of(source, rows, folds, 100 if quick else 200), seed + 1, ("null",))
        cells.append(found)
        for row in found["pairs"]:
            print(line(found["name"], row), flush=True)
            if above(sum(row["claims"]), row["tables"], _MOST):
                missed.append(
                    f"{found['name']}, {row['metric']}, seeds {row['seeds']}: {sum(row['claims'])} of {row['tables']} tables"
                )
    claims = sum(sum(row["claims"]) for cell in cells for row in cell["pairs"])
    judged = sum(row["tables"] for cell in cells for row in cell["pairs"])
    print(f"claims in {claims / judged:.3f} of all {judged} comparisons of equals")
    if claims > _MOST * judged and not quick:
        missed.append(f"claims in {claims / judged:.3f} of all comparisons of equals")
    return {"cells": cells, "claims": claims, "judged": judged, "missed": missed}


def cell_of(source: str, rows: int, folds: int, tables: int) -> Cell:
    """A cell of the usual looks: two seeds on five folds, then twelve, scored on validation rows too; five and ten on one."""
    wide, seeds = (2, (2, 12)) if folds > 1 else (1, (5, 10))
    return Cell(source, rows, folds, seeds, wide, metrics_of(source), tables, max(500, rows))
