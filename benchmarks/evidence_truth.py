"""Truth: sources with a law, and rows held out of which the expected difference is known."""

from __future__ import annotations

from typing import Any

from benchmarks.evidence_cells import LEVELS, TEETH, measure
from benchmarks.evidence_null import cell_of
from benchmarks.evidence_report import HEAD, above, line

_RIVALS = ("nesterov", "slower")
CELLS = (
    ("rules", 36, 5), ("skewed", 50, 5), ("rings", 50, 5), ("rare", 80, 5), ("blobs", 80, 5), ("near", 100, 5),
    ("waves", 120, 5), ("rings deep", 120, 5), ("skewed", 200, 5),
    ("rules", 60, 1), ("blobs", 150, 1), ("rings", 400, 1), ("waves", 300, 1),
)  # fmt: skip
QUICK = (("waves", 40, 5), ("rings", 40, 5), ("rules", 40, 1))


def truth(quick: bool, seed: int) -> dict[str, Any]:
    """All cells, or three small ones. Goals: intervals cover in 95 %; the wrong one is called better in at most 2.5 %; of all
    calls at least 95 % are right."""
    print(f"\nTruth: expected differences over tables, training sets and seeds, from rows held out\n{HEAD}")
    cells, missed = [], []
    for source, rows, folds in QUICK if quick else CELLS:
        found = measure(cell_of(source, rows, folds, 80 if quick else 200), seed + 2, _RIVALS)
        cells.append(found)
        for row in found["pairs"]:
            print(line(found["name"], row), flush=True)
            where = f"{found['name']}, {row['metric']}, {row['rival']}, seeds {row['seeds']}"
            if "covered" in row and above(row["tables"] - row["covered"], row["tables"], 0.05):
                missed.append(f"{where}: covers {row['covered']} of {row['tables']}")
            if row.get("wrong") and above(row["wrong"], row["tables"], 0.025):
                missed.append(f"{where}: the worse one called better in {row['wrong']} of {row['tables']}")
        for row in found["scores"]:
            print(
                f"{found['name']:38}{row['metric']:10}{'(score)':10}{row['seeds']:6}{'':9}{row['covered'] / row['tables']:8.3f}"
            )
            if above(row["tables"] - row["covered"], row["tables"], 0.05):
                missed.append(
                    f"{found['name']}, {row['metric']}, the score itself: covers {row['covered']} of {row['tables']}"
                )
    together = overall([row for cell in cells for row in cell["pairs"]])
    for name, row in together["designs"].items():
        print(
            f"{name}: covers {row['covered']:.3f}, least {row['least']:.3f}; power at 2 and 3 margins "
            f"{row['power2']:.2f} {row['power3']:.2f}"
        )
    print(f"of {together['claims']} calls {together['right']:.4f} right")
    print(
        "truth below the quantiles " + "  ".join(f"{q:g}: {u:.3f}" for q, u in zip(LEVELS, together["u"], strict=True))
    )
    print("right in the direction of a probability from " + "  ".join(
        f"{low:g}: {right:.3f} of {n}" for low, (n, right) in zip(TEETH, together["teeth"], strict=False) if n
    ))  # fmt: skip
    if together["right"] < 0.95:
        missed.append(f"only {together['right']:.3f} of all calls are right")
    missed += [
        f"{name}: covers {row['covered']:.3f} over all"
        for name, row in together["designs"].items()
        if not quick and row["covered"] < 0.945
    ]
    return {"cells": cells, "together": together, "missed": missed}


def overall(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage and power by design, calls that are right, and the calibration of the probability."""
    judged = [row for row in rows if "covered" in row]
    designs: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys((row["trainings"], row["seeds"]) for row in judged):
        own = [row for row in judged if (row["trainings"], row["seeds"]) == name]
        shares = [row["covered"] / row["tables"] for row in own]
        designs[f"{name[0] // name[1]} folds × {name[1]} seeds".replace("1 folds", "1 fold")] = {
            "covered": sum(shares) / len(shares),
            "least": min(shares),
            "power2": sum(row["power"]["2"] for row in own) / len(own),
            "power3": sum(row["power"]["3"] for row in own) / len(own),
        }
    known = [row for row in judged if row["wrong"] is not None]
    claims, wrong = sum(sum(row["claims"]) for row in known), sum(row["wrong"] for row in known)
    teeth = []
    for place in range(len(TEETH) - 1):
        n, right = (sum(row["teeth"][place][part] for row in known) for part in (0, 1))
        teeth.append([n, right / n if n else 0.0])
    return {
        "designs": designs,
        "claims": claims,
        "right": 1 - wrong / claims if claims else 1.0,
        "u": [sum(row["u"][i] for row in judged) / len(judged) for i in range(len(LEVELS))],
        "teeth": teeth,
    }
