"""Lines of the evidence's tables, and whether a share misses a goal by more than sampling error explains."""

from __future__ import annotations

import math
from typing import Any

# Standard errors that a single share may lie beyond its goal: about a hundred shares are looked at.
SIGMAS = 3.3
HEAD = (
    f"{'source, rows, folds':38}{'metric':10}{'rival':10}{'seeds':>6}{'truth/mg':>9}{'covers':>8}{'claims':>8}{'wrong':>7}"
    f"{'half/mg':>9}{'2 mg':>6}{'3 mg':>6}{'trainings':>10}"
)


def above(count: float, n: int, rate: float, sigmas: float = SIGMAS) -> bool:
    """Whether a count of n lies above a rate by more than so many standard errors of that rate."""
    return count > n * rate + sigmas * math.sqrt(n * rate * (1 - rate))


def line(cell: str, row: dict[str, Any]) -> str:
    """A row of the table: shares of the tables; half widths and power in margins; claims in either direction."""
    n, margin = row["tables"], row["margin"]
    head = f"{cell:38}{row['metric']:10}{row['rival']:10}{row['seeds']!s:>6}{row['truth'] / margin:9.1f}"
    claims = f"{sum(row['claims']) / n:8.3f}"
    if row["seeds"] == "looks":
        return f"{head}{'':8}{claims}{'':28}{row['trainings']:10.1f}"
    wrong = "" if row["wrong"] is None else f"{row['wrong'] / n:.3f}"
    return (
        f"{head}{row['covered'] / n:8.3f}{claims}{wrong:>7}{row['half'] / margin:9.1f}"
        f"{row['power']['2']:6.2f}{row['power']['3']:6.2f}{row['trainings']:10}"
    )
